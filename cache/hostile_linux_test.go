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
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// inNamespace lets the child mount what it likes, as root or not.
func inNamespace(c *exec.Cmd) *exec.Cmd {
	c.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return c
}

// mountSmall mounts a file system of 1 MiB that nobody else sees.
func mountSmall(dir string) error {
	return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"))
}

func TestFullDisk(t *testing.T) { runChild(t, inNamespace(child(t, "full", t.TempDir()))) }

// childFull fills the disk, wants clear errors and whole things, and then a
// trim that makes room.
func childFull(ctx context.Context, dir string, _ []string) error {
	if err := mountSmall(dir); err != nil {
		return fmt.Errorf("cannot mount a tmpfs, which this test needs: %w", err)
	}
	s, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	content := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d ", i), 10000) }
	var last error
	n := 0
	for ; n < 1000; n++ {
		d, err := s.PutBytes(ctx, action.BLAKE3, content(n))
		if err == nil {
			err = s.PutResult(ctx, keyOf(n), &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}})
		}
		if err != nil {
			last = err
			break
		}
	}
	if !errors.Is(last, syscall.ENOSPC) || !strings.Contains(last.Error(), dir) || !strings.Contains(last.Error(), "cache trim") {
		return fmt.Errorf("after %d blobs: %w; want an error that says what to do", n, last)
	}
	for _, put := range []func() error{
		func() error { return s.Put(ctx, action.Sum(action.SHA256, content(n)), bytes.NewReader(content(n))) },
		func() error {
			return s.Put(ctx, action.Sum(action.SHA256, make([]byte, 1<<20)), bytes.NewReader(make([]byte, 1<<20)))
		},
		func() error { return s.PutNote(ctx, keyOf(0), make([]byte, 1<<18)) },
		func() error {
			_, err := s.PutLayer(ctx, "layer", nil, func(path string) error {
				return os.WriteFile(path, make([]byte, 1<<20), 0o600)
			})
			return err
		},
	} {
		if err := put(); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("on a full disk: %w", err)
		}
	}
	// Everything that was put is there, and nothing half.
	for i := range n {
		if _, err := s.Result(ctx, keyOf(i)); err != nil {
			return err
		}
		old := time.Now().Add(-48 * time.Hour)
		err := os.Chtimes(s.BlobDir()+s.BlobPath(action.Sum(action.BLAKE3, content(i))), old, time.Time{})
		if err == nil {
			err = os.Chtimes(dir+"/result"+cache.BlobPath(keyOf(i)), old, time.Time{})
		}
		if err != nil {
			return err
		}
	}
	report, err := s.Verify(ctx, nil)
	if err != nil || len(report.Damaged) > 0 {
		return fmt.Errorf("verify: %+v, %w", report, err)
	}
	if _, err := s.Trim(ctx, cache.Policy{MaxSize: 200 << 10}); err != nil {
		return err
	}
	_, err = s.PutBytes(ctx, action.BLAKE3, content(n))
	return err
}

func TestReadOnlyDisk(t *testing.T) { runChild(t, inNamespace(child(t, "readonly", t.TempDir()))) }

func childReadOnly(ctx context.Context, dir string, _ []string) error {
	if err := mountSmall(dir); err != nil {
		return fmt.Errorf("cannot mount a tmpfs, which this test needs: %w", err)
	}
	s, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return err
	}
	d, err := s.PutBytes(ctx, action.BLAKE3, []byte("x"))
	if err == nil {
		err = s.PutResult(ctx, keyOf(0), &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}})
	}
	if err == nil {
		err = s.Close()
	}
	old := time.Now().Add(-48 * time.Hour) // so that a use wants to mark it
	if err := errors.Join(err, os.Chtimes(s.BlobDir()+s.BlobPath(d), old, time.Time{})); err != nil {
		return err
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	return checkReadOnly(ctx, dir, cache.Options{}, d)
}

// checkReadOnly wants reads to work, and changes to say why they do not.
func checkReadOnly(ctx context.Context, dir string, opts cache.Options, d action.Digest) error {
	s, err := cache.Open(dir, opts)
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := s.Open(ctx, d)
	if err != nil {
		return err
	}
	f.Close()
	if _, err := s.Result(ctx, keyOf(0)); err != nil || !s.Has(ctx, d) {
		return fmt.Errorf("reading: %w", err)
	}
	if e, err := s.Open(ctx, action.Sum(action.SHA256, nil)); err != nil {
		return err
	} else if data, err := io.ReadAll(e); err != nil || len(data) > 0 {
		return fmt.Errorf("the empty blob: %q, %w", data, err)
	}
	if _, err := s.Stat(ctx); err != nil {
		return err
	}
	if r, err := s.Verify(ctx, nil); err != nil || len(r.Damaged) > 0 {
		return fmt.Errorf("verify: %+v, %w", r, err)
	}
	if _, err := s.PutBytes(ctx, action.BLAKE3, []byte("x")); err != nil {
		return fmt.Errorf("put of what is present: %w", err)
	}
	for name, change := range map[string]func() error{
		"PutBytes":  func() error { _, err := s.PutBytes(ctx, action.BLAKE3, []byte("y")); return err },
		"Put":       func() error { return s.Put(ctx, action.Sum(action.BLAKE3, []byte("z")), strings.NewReader("z")) },
		"PutResult": func() error { return s.PutResult(ctx, keyOf(1), &action.Result{}) },
		"PutNote":   func() error { return s.PutNote(ctx, keyOf(1), nil) },
		"PutLayer": func() error {
			_, err := s.PutLayer(ctx, "layer", nil, func(path string) error { return os.Mkdir(path, 0o700) })
			return err
		},
		"Lock": func() error { _, err := s.Lock(ctx, keyOf(1)); return err },
		"Trim": func() error { _, err := s.Trim(ctx, cache.Policy{}); return err },
		"Sync": func() error { return s.Sync(ctx) },
	} {
		if err := change(); !errors.Is(err, cache.ErrReadOnly) {
			return fmt.Errorf("%s = %w; want ErrReadOnly", name, err)
		}
	}
	return nil
}

func TestReadOnlyOption(t *testing.T) {
	s := newStore(t)
	d, err := s.PutBytes(t.Context(), action.BLAKE3, []byte("x"))
	if err == nil {
		err = s.PutResult(t.Context(), keyOf(0), &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}})
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	before := listing(t, s.Dir())
	if err := checkReadOnly(t.Context(), s.Dir(), cache.Options{ReadOnly: true}, d); err != nil {
		t.Error(err)
	}
	if after := listing(t, s.Dir()); after != before {
		t.Errorf("it was changed:\n%s\nbefore:\n%s", after, before)
	}
	// One that is not there holds nothing, and stays away.
	none := openStore(t, filepath.Join(t.TempDir(), "none"), cache.Options{ReadOnly: true})
	if _, err := none.Result(t.Context(), keyOf(0)); !errors.Is(err, action.ErrMiss) {
		t.Errorf("Result = %v", err)
	}
	if u, err := none.Stat(t.Context()); err != nil || u.Total().N != 0 {
		t.Errorf("Stat = %v, %v", u, err)
	}
	if _, err := os.Lstat(none.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a read-only store was made: %v", err)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Lstat(path, &st)
		fmt.Fprintln(&b, path, d.Type(), st.Size, st.Ctim)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestForeignOwner: as root we make a store that a user opens; as a user we
// take the right away from ourselves.
func TestForeignOwner(t *testing.T) {
	s := newStore(t)
	if _, err := s.PutBytes(t.Context(), action.BLAKE3, []byte("x")); err != nil {
		t.Fatal(err)
	}
	c := child(t, "foreign", s.Dir())
	want := "no permission for the cache in " + s.Dir()
	if os.Geteuid() == 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		want = fmt.Sprintf("the cache in %s belongs to user 0 and you are user 65534: choose another with --cache or SBX_CACHE", s.Dir())
		// The path to it and the program must be open to everybody.
		for dir := filepath.Dir(s.Dir()); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				break
			}
		}
		c.Path = openToAll(t, c.Path)
	} else if err := os.Chmod(s.Dir(), 0); err != nil {
		t.Fatal(err)
	} else {
		defer os.Chmod(s.Dir(), 0o700)
	}
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s\nwant %s", err, out, want)
	}
}

// openToAll returns a copy of the program that other users can run.
func openToAll(t *testing.T, exe string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cachetest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, err := os.ReadFile(exe)
	to := filepath.Join(dir, "test")
	if err := errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(to, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return to
}

func childForeign(_ context.Context, dir string, _ []string) error {
	_, err := cache.Open(dir, cache.Options{})
	return err
}

func TestOtherVersion(t *testing.T) {
	for _, tt := range []struct{ name, file, data, want string }{
		{"newer", "VERSION", "sbx-action cache 2\n", `has format "2", this program knows "1"`},
		{"much newer", "VERSION", "sbx-action cache 12345\n", `has format "1`},
		{"empty", "VERSION", "", `begins with ""`},
		{"other", "VERSION", "something else entirely", `begins with "something`},
		{"not a cache", "thesis.tex", "precious", `holds "thesis.tex" and no VERSION`},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, tt.file)
		if err := os.WriteFile(path, []byte(tt.data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := cache.Open(dir, cache.Options{})
		if !errors.Is(err, cache.ErrVersion) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: Open = %v; want %s", tt.name, err, tt.want)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != tt.data {
			t.Errorf("%s: %s was changed to %q", tt.name, tt.file, got)
		}
	}
	if _, err := cache.Open("", cache.Options{}); err == nil {
		t.Error("Open without a directory succeeds")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(file, cache.Options{}); err == nil || !strings.Contains(err.Error(), "cannot be a cache") {
		t.Errorf("Open of a file = %v", err)
	}
}

// TestInTheWay puts something else in the place of each file of a store.
func TestInTheWay(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"directory": func(p string) error { return errors.Join(os.Mkdir(p, 0o755), os.WriteFile(p+"/f", nil, 0o644)) },
		"link":      func(p string) error { return os.Symlink("/dev/zero", p) },
		"FIFO":      func(p string) error { return unix.Mkfifo(p, 0o644) },
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o644) },
		"file for its directory": func(p string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(p)), os.WriteFile(filepath.Dir(p), []byte("x"), 0o644))
		},
		"link for the directory above": func(p string) error {
			up := filepath.Dir(filepath.Dir(p))
			return errors.Join(os.RemoveAll(up), os.Symlink("/dev/zero", up))
		},
	} {
		s := newStore(t)
		ctx := t.Context()
		key, res := exampleResult(t, s)
		fill := func() error {
			_, err := s.PutBytes(ctx, action.BLAKE3, make([]byte, 5000))
			_, err2 := s.PutLayer(ctx, "l", nil, func(p string) error { return os.Mkdir(p, 0o700) })
			return errors.Join(err, err2, s.PutResult(ctx, key, res), s.PutNote(ctx, key, []byte("note")))
		}
		if err := fill(); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := filepath.WalkDir(s.Dir(), func(p string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			kind, _, _ := strings.Cut(strings.TrimPrefix(p, s.Dir()+"/"), "/")
			if info, err := e.Info(); err != nil || info.Size() == 0 || !strings.Contains("blob result note layer", kind) {
				return err
			}
			n++
			return errors.Join(os.Remove(p), put(p))
		})
		if err != nil || n != 4 {
			t.Fatalf("%s: %d places, %v", name, n, err)
		}
		_, err1 := s.Result(ctx, key)
		_, err2 := s.Note(ctx, key)
		if _, err := s.Layer(ctx, "l"); !errors.Is(err, action.ErrMiss) {
			t.Errorf("%s: Layer = %v", name, err)
		}
		if _, err := s.Stat(ctx); err != nil {
			t.Errorf("%s: Stat: %v", name, err)
		}
		if _, err3 := s.Open(ctx, res.Files[0].Digest); !errors.Is(err1, action.ErrMiss) || !errors.Is(err2, action.ErrMiss) || !errors.Is(err3, action.ErrMiss) {
			t.Errorf("%s: Result = %v, Note = %v, Open = %v", name, err1, err2, err3)
		}
		if err := fill(); err != nil {
			t.Errorf("%s: written again: %v", name, err)
			continue
		}
		if _, err := s.Layer(ctx, "l"); err != nil {
			t.Errorf("%s: afterwards Layer = %v", name, err)
		}
		_, err1 = s.Result(ctx, key)
		if note, err2 := s.Note(ctx, key); err1 != nil || err2 != nil || string(note) != "note" {
			t.Errorf("%s: afterwards Result = %v, Note = %q, %v", name, err1, note, err2)
		}
	}
}

// TestVersionHeals: a store says in another file, too, that it is one.
func TestVersionHeals(t *testing.T) {
	s := newStore(t)
	if err := s.PutNote(t.Context(), keyOf(1), []byte("note")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), "VERSION")
	for name, damage := range map[string]func() error{
		"empty":     func() error { return os.WriteFile(path, nil, 0o644) },
		"cut short": func() error { return os.WriteFile(path, []byte("sbx-action cache 1"), 0o644) },
		"garbage":   func() error { return os.WriteFile(path, []byte("\x00\x00 something"), 0o644) },
		"directory": func() error { return errors.Join(os.Mkdir(path, 0o755), os.WriteFile(path+"/f", nil, 0o644)) },
		"link":      func() error { return os.Symlink("/dev/zero", path) },
		"gone":      func() error { return nil }, // for an instant, while another process heals a directory
	} {
		if err := errors.Join(os.RemoveAll(path), damage()); err != nil {
			t.Fatal(err)
		}
		if again, err := cache.Open(s.Dir(), cache.Options{ReadOnly: true}); err != nil {
			t.Errorf("%s: read-only: %v", name, err)
		} else if _, err := again.Note(t.Context(), keyOf(1)); err != nil {
			t.Errorf("%s: read-only: %v", name, err)
		}
		warned := 0
		openStore(t, s.Dir(), cache.Options{Warn: func(error) { warned++ }})
		if got, err := os.ReadFile(path); err != nil || string(got) != "sbx-action cache 1\n" || warned != 1 {
			t.Errorf("%s: VERSION is %q, %v; %d warnings", name, got, err, warned)
		}
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("sbx-action cache 2\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(s.Dir(), cache.Options{}); !errors.Is(err, cache.ErrVersion) {
		t.Errorf("of another version: %v", err)
	}
}

func TestRemovedUnderneath(t *testing.T) {
	s := newStore(t)
	key, res := exampleResult(t, s)
	for round := range 3 {
		if _, err := s.Result(t.Context(), key); !errors.Is(err, action.ErrMiss) {
			t.Errorf("round %d: Result = %v", round, err)
		}
		unlock, err := s.Lock(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		exampleResult(t, s)
		if err := s.PutResult(t.Context(), key, res); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if _, err := s.PutLayer(t.Context(), "l", nil, func(p string) error { return os.Mkdir(p, 0o700) }); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if _, err := s.Result(t.Context(), key); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := os.RemoveAll(s.Dir()); err != nil {
			t.Fatal(err)
		}
		unlock()
		if _, err := s.Trim(t.Context(), cache.Policy{MaxSize: 1}); err != nil {
			t.Errorf("round %d: Trim: %v", round, err)
		}
		if u, err := s.Stat(t.Context()); err != nil || u.Total().N != 0 {
			t.Errorf("round %d: Stat = %v, %v", round, u, err)
		}
	}
}

func TestModes(t *testing.T) {
	for _, umask := range []string{"0", "022", "077"} {
		out := runChild(t, child(t, "umask", cache.TempStoreDir(t), umask))
		if want := "store -rwx------ blob -r--r--r--\n"; strings.Replace(out, "drwx", "-rwx", 1) != want {
			t.Errorf("umask %s: %s, want %s", umask, out, want)
		}
		group := filepath.Join(t.TempDir(), "group")
		if err := errors.Join(os.Mkdir(group, 0o700), os.Chmod(group, 0o770|os.ModeSetgid)); err != nil {
			t.Fatal(err)
		}
		runChild(t, child(t, "umask", group, umask))
		for name, want := range map[string]os.FileMode{
			"VERSION": 0o444, "locks": 0o660, "log": 0o664,
			"blob": os.ModeDir | os.ModeSetgid | 0o775, "blob/blake3": os.ModeDir | os.ModeSetgid | 0o775,
		} {
			if info, err := os.Stat(filepath.Join(group, name)); err != nil || info.Mode() != want {
				t.Errorf("a group's, umask %s: %s: %v, %v, want %v", umask, name, info.Mode(), err, want)
			}
		}
	}
}

// TestLocksAreNoLink: who may write in a store cannot have others write elsewhere.
func TestLocksAreNoLink(t *testing.T) {
	dir := cache.TempStoreDir(t)
	locks, outside := filepath.Join(dir, "locks"), filepath.Join(t.TempDir(), "made")
	lock := func() error {
		unlock, err := openStore(t, dir, cache.Options{}).Lock(t.Context(), action.Sum(action.BLAKE3, []byte("x")))
		if err == nil {
			unlock()
		}
		return err
	}
	if err := lock(); err != nil {
		t.Fatalf("control: %v", err)
	}
	if err := errors.Join(os.Remove(locks), os.Symlink(outside, locks)); err != nil {
		t.Fatal(err)
	}
	if err := lock(); err == nil {
		t.Error("a link is taken for the locks")
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was made outside of the store")
	}
}

func childUmask(ctx context.Context, dir string, args []string) error {
	var mask int
	fmt.Sscanf(args[0], "%o", &mask)
	syscall.Umask(mask)
	s, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return err
	}
	d, err := s.PutBytes(ctx, action.BLAKE3, []byte("x"))
	if err != nil {
		return err
	}
	unlock, err := s.Lock(ctx, d)
	if err != nil {
		return err
	}
	unlock()
	if err := s.Close(); err != nil {
		return err
	}
	store, err := os.Stat(dir)
	if err != nil {
		return err
	}
	blob, err := os.Stat(s.BlobDir() + s.BlobPath(d))
	if err == nil {
		fmt.Println("store", store.Mode(), "blob", blob.Mode())
	}
	return err
}
