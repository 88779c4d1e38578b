package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// The tests of this package are also their own children: processes that use a
// store, and may be killed, or live where the disk is full or read-only.
const childEnv = "SBX_CACHE_TEST_CHILD"

var children = map[string]func(ctx context.Context, dir string, args []string) error{
	"write":    childWrite,
	"build":    childBuild,
	"lock":     childLock,
	"full":     childFull,
	"readonly": childReadOnly,
	"foreign":  childForeign,
	"umask":    childUmask,
}

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children[name](context.Background(), os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, name, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, append([]string{dir}, args...)...)
	c.Env = append(os.Environ(), childEnv+"="+name)
	c.SysProcAttr = &syscall.SysProcAttr{}
	return c
}

func runChild(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("child: %v\n%s", err, out)
	}
	return string(out)
}

// blobOf returns the content that every writer gives to number i.
func blobOf(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "blob %d\n", i), 1+i%7*i%7*9000)
}

func keyOf(i int) action.Digest { return action.Sum(action.BLAKE3, fmt.Append(nil, i)) }

// childWrite writes results and what they name for ever, or as often as it is
// told, and reads what it wrote.
func childWrite(ctx context.Context, dir string, args []string) error {
	s, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	for i := 0; len(args) == 0 || strconv.Itoa(i) != args[0]; i++ {
		n := i % 50
		d := action.Sum(action.BLAKE3, blobOf(n))
		if i%2 == 0 {
			_, err = s.PutBytes(ctx, action.BLAKE3, blobOf(n))
		} else {
			err = s.Put(ctx, d, bytes.NewReader(blobOf(n)))
		}
		if err != nil {
			return err
		}
		res := &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}, ExitCode: int32(n)}
		if err := s.PutResult(ctx, keyOf(n), res); err != nil {
			return err
		}
		if _, err := s.Result(ctx, keyOf(n)); err != nil {
			return err
		}
		if err := s.PutNote(ctx, keyOf(n), blobOf(n)); err != nil {
			return err
		}
		_, err := s.PutLayer(ctx, fmt.Sprint("layer", n), []action.Digest{d}, func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/f", blobOf(n), 0o444), os.Chmod(path, 0o755))
		})
		if err != nil {
			return err
		}
		if i%50 == 49 {
			if _, err := s.Trim(ctx, cache.Policy{MaxSize: 1}); err != nil && !errors.Is(err, cache.ErrBusy) {
				return err
			}
		}
	}
	return nil
}

// checkStore wants everything of childWrite to be whole or missing.
func checkStore(t *testing.T, dir string) {
	t.Helper()
	s := openStore(t, dir, cache.Options{Warn: func(err error) { t.Error(err) }})
	for n := range 50 {
		d := action.Sum(action.BLAKE3, blobOf(n))
		f, err := s.Open(t.Context(), d)
		if err == nil {
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, blobOf(n)) {
				t.Errorf("blob %d has %d bytes, %v", n, len(got), err)
			}
			f.Close()
		} else if !errors.Is(err, action.ErrMiss) {
			t.Errorf("Open: %v", err)
		}
		if res, err := s.Result(t.Context(), keyOf(n)); err == nil {
			if res.ExitCode != int32(n) || res.Files[0].Digest != d {
				t.Errorf("result %d is %+v", n, res)
			}
		} else if !errors.Is(err, action.ErrMiss) {
			t.Errorf("Result: %v", err)
		}
		if note, err := s.Note(t.Context(), keyOf(n)); err == nil && !bytes.Equal(note, blobOf(n)) {
			t.Errorf("note %d has %d bytes", n, len(note))
		} else if err != nil && !errors.Is(err, action.ErrMiss) {
			t.Errorf("Note: %v", err)
		}
		if path, err := s.Layer(t.Context(), fmt.Sprint("layer", n)); err == nil {
			if got, err := os.ReadFile(path + "/f"); err != nil || !bytes.Equal(got, blobOf(n)) {
				t.Errorf("layer %d has %d bytes, %v", n, len(got), err)
			}
		} else if !errors.Is(err, action.ErrMiss) {
			t.Errorf("Layer: %v", err)
		}
	}
}

// TestKill kills writers at any instant.
func TestKill(t *testing.T) {
	dir := cache.TempStoreDir(t)
	written := 0
	for round := 0; round < 25 || written < 20 && round < 200; round++ {
		var cmds []*exec.Cmd
		for range 2 {
			c := child(t, "write", dir)
			var out bytes.Buffer
			c.Stderr = &out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if out.Len() > 0 {
					t.Errorf("round %d: the child failed before it was killed: %s", round, &out)
				}
			}()
			cmds = append(cmds, c)
		}
		// What it does meanwhile is what is tested, not how far it gets.
		time.Sleep(time.Duration(5+7*min(round, 50)) * time.Millisecond)
		for _, c := range cmds {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // it was killed
		}
		checkStore(t, dir)
		if round >= 24 { // on a busy machine they do not get far
			u, err := openStore(t, dir, cache.Options{}).Stat(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			written = int(u.Results.N)
		}
	}
	s := openStore(t, dir, cache.Options{})
	report, err := s.Verify(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Damaged) > 0 {
		t.Errorf("damaged: %+v", report.Damaged)
	}
	if report.Checked.Results.N < 20 {
		t.Errorf("only %+v was written: the test is broken itself", report.Checked)
	}
	if _, err := s.Trim(t.Context(), cache.Policy{}); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, e := range names { // who died before it had its lock is swept a minute later
		if _, err := os.Stat(filepath.Join(dir, "tmp", e.Name(), "lock")); err == nil {
			left++
		}
	}
	if left > 1 { // ours
		t.Errorf("the dead left %v", names)
	}
}

// TestManyProcesses lets them write, trim and remove the same things.
func TestManyProcesses(t *testing.T) {
	dir := cache.TempStoreDir(t)
	done := make(chan bool)
	for range 6 {
		go func() {
			defer func() { done <- true }()
			runChild(t, child(t, "build", dir, "100"))
		}()
	}
	for range 6 {
		<-done
	}
	checkStore(t, dir)
}

// childBuild does what many runs at once do: a hit, or under the lock a miss.
func childBuild(ctx context.Context, dir string, args []string) error {
	rounds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for i := range rounds {
		s, err := cache.Open(dir, cache.Options{})
		if err != nil {
			return err
		}
		n := i % 50
		unlock, err := s.Lock(ctx, keyOf(n))
		if err != nil {
			return err
		}
		if _, err := s.Result(ctx, keyOf(n)); errors.Is(err, action.ErrMiss) {
			d, err := s.PutBytes(ctx, action.BLAKE3, blobOf(n))
			if err != nil {
				return err
			}
			res := &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}, ExitCode: int32(n)}
			if err := s.PutResult(ctx, keyOf(n), res); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		unlock()
		if i%10 == 5 {
			if _, err := s.Trim(ctx, cache.Policy{MaxSize: 1}); err != nil && !errors.Is(err, cache.ErrBusy) {
				return err
			}
		}
		if _, err := s.Result(ctx, keyOf(n)); err != nil { // nothing of this hour goes
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}
