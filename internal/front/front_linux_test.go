package front

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/internal/rebuildtest"
)

// TestRebuild makes the object from its source and compares.
func TestRebuild(t *testing.T) { rebuildtest.Test(t, "front_linux_amd64.syso") }

// TestKey compares the keys that C and Go make of the same calls.
func TestKey(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	some := func(list []string) string {
		s := list[rnd.IntN(len(list))]
		return s[:rnd.IntN(len(s)+1)] + strings.Repeat("x", rnd.IntN(3))
	}
	for range 60 {
		args := []string{"sbx-action", "cc"}
		for range rnd.IntN(6) {
			args = append(args, some([]string{"gcc", "", "-Dä=\n", "--cachex", "long" + strings.Repeat("y", 99)}))
		}
		env := []string{"SBX_CACHE=/x", "FRONT_TEST=key"}
		for range rnd.IntN(20) {
			env = append(env, some(ignoredNames)+some([]string{"", "=", "=1", "AB=2"}))
		}
		for _, n := range ignoredNames {
			env = append(env, n, n+"1", "x"+n)
		}
		cmd := exec.Cmd{Path: harness, Args: args, Env: env, Dir: dir}
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		// What os/exec passes on: the last of those with the same name.
		if want := Key(args, cmd.Environ(), dir, false); !bytes.Equal(got, want) {
			t.Fatalf("%q %q:\nC  %q\nGo %q", args, env, got, want)
		}
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.memo())
	before := w.outputs()
	what, out := w.call()
	if what != "answered" || out != "said\nwarned\n" {
		t.Fatalf("%s, said %q", what, out)
	}
	want := `a.c -rw-r--r-- "int a;\n"` + "\n" + `a.d -rwxr-xr-x "a.o: a.c\n"` + "\n" + `a.o -rw-r--r-- "object\n"`
	if got := w.outputs(); got != want || got == before {
		t.Errorf("outputs:\n%s\nwant:\n%s", got, want)
	}
	if stats, _ := os.ReadFile(w.store + "/stat/cc1"); string(stats) != "hit\n" {
		t.Errorf("statistics: %q", stats)
	}
	// Once more: what is there stays, with a new time; what is not as it will be is
	// replaced.
	old := time.Unix(1_000_000_000, 0)
	w.must(os.Chtimes(w.dir+"/a.o", old, old))
	w.write(w.dir+"/a.d", "something else")
	ino := idOf(t, w.dir+"/a.o").Ino
	if what, _ := w.call(); what != "answered" || w.outputs() != want {
		t.Errorf("again: %s\n%s", what, w.outputs())
	}
	if id := idOf(t, w.dir+"/a.o"); id.Ino != ino || id.MTime == old.UnixNano() {
		t.Errorf("an output that was there was made again, or has no new time")
	}
}

// TestStale changes one thing after another: none of them is answered, and nothing
// but the change is left behind.
func TestStale(t *testing.T) {
	t.Parallel()
	same := func(name, text string) func(*world) { // of the same size and time
		return func(w *world) {
			info, err := os.Stat(name)
			w.must(err)
			w.must(os.WriteFile(name, []byte(text), 0o644))
			w.must(os.Chtimes(name, info.ModTime(), info.ModTime()))
		}
	}
	for _, c := range []struct {
		name, want string
		change     func(w *world)
	}{
		{"source", "stale", func(w *world) { same(w.dir+"/a.c", "int b;\n")(w) }},
		{"source's permissions", "stale", func(w *world) { w.must(os.Chmod(w.dir+"/a.c", 0o600)) }},
		{"a link", "stale", func(w *world) {
			w.must(os.Rename(w.dir+"/a.c", w.dir+"/z.c"))
			w.must(os.Symlink("z.c", w.dir+"/a.c"))
		}},
		{"directory's permissions", "stale", func(w *world) { w.must(os.Chmod(w.dir, 0o700)) }},
		{"a header appears", "stale", func(w *world) { w.write(w.dir+"/a.h", "") }},
		{"another header appears", "stale", func(w *world) { w.write(w.dir+"/c.h", "") }},
		{"a dangling link appears", "stale", func(w *world) { w.must(os.Symlink("nowhere", w.dir+"/b.h")) }},
		{"a name in a directory", "stale", func(w *world) { w.write(w.store+"/y", "") }},
		{"we are called gcc", "stale", func(w *world) { w.must(os.Symlink(harness, w.dir+"/gcc")) }},
		{"result replaced", "stale", func(w *world) { w.must(os.Remove(w.store + "/result")); w.write(w.store+"/result", "R") }},
		{"result gone", "stale", func(w *world) { w.must(os.Remove(w.store + "/result")) }},
		{"version", "stale", func(w *world) { w.write(w.store+"/VERSION", "2") }},
		{"blob gone", "stale", func(w *world) { w.must(os.Remove(w.store + "/blob")) }},
		{"blob replaced", "unable", func(w *world) { w.must(os.Remove(w.store + "/blob")); w.write(w.store+"/blob", "OBJECT\n") }},
		{"blob is a link", "unable", func(w *world) {
			w.must(os.Rename(w.store+"/blob", w.store+"/blob2"))
			w.must(os.Symlink("blob2", w.store+"/blob"))
		}},
		{"blob cut", "unable", func(w *world) { w.must(os.Truncate(w.store+"/blob", 3)) }},
		{"no statistics", "unable", func(w *world) { w.must(os.Remove(w.store + "/stat/cc1")) }},
		{"statistics to be folded", "unable", func(w *world) { w.write(w.store+"/stat/cc1", strings.Repeat("x", 101)) }},
		{"statistics are a pipe", "unable", func(w *world) {
			w.must(os.Remove(w.store + "/stat/cc1"))
			w.must(unix.Mkfifo(w.store+"/stat/cc1", 0o644))
		}},
		{"statistics are a link", "unable", func(w *world) {
			w.must(os.Remove(w.store + "/stat/cc1"))
			w.must(os.Symlink(w.store+"/history", w.store+"/stat/cc1"))
		}},
		{"output is a directory", "stale", func(w *world) { w.must(os.Mkdir(w.dir+"/a.o", 0o755)) }},
		{"output is a pipe", "stale", func(w *world) { w.must(unix.Mkfifo(w.dir+"/a.o", 0o644)) }},
		{"other output is a link", "unable", func(w *world) { w.must(os.Symlink("a.c", w.dir+"/a.d")) }},
		{"other output has two names", "unable", func(w *world) {
			w.write(w.dir+"/a.d", "a.o: a.c\n")
			w.must(os.Link(w.dir+"/a.d", w.dir+"/b.d"))
		}},
		{"other output is a pipe", "unable", func(w *world) { w.must(unix.Mkfifo(w.dir+"/a.d", 0o644)) }},
		{"memo writable by others", "bad", func(w *world) { w.must(os.Chmod(w.file(w.memo()), 0o666)) }},
		{"memo is a link", "no memo", func(w *world) {
			name := w.file(w.memo())
			w.must(os.Rename(name, name+"x"))
			w.must(os.Symlink(name+"x", name))
		}},
		{"memo is a directory", "bad", func(w *world) {
			name := w.file(w.memo())
			w.must(os.Remove(name))
			w.must(os.Mkdir(name, 0o755))
		}},
		{"memo is a pipe", "bad", func(w *world) {
			name := w.file(w.memo())
			w.must(os.Remove(name))
			w.must(unix.Mkfifo(name, 0o644))
		}},
		{"another argument", "no memo", func(w *world) { w.args = append(w.args, "-O2") }},
		{"another variable", "no memo", func(w *world) { w.env = append(w.env, "CPATH=x") }},
		{"settings", "no memo", func(w *world) { w.env = append(w.env, "SBX_CC_RECACHE=1") }},
		{"another order", "no memo", func(w *world) { slices.Reverse(w.env) }},
		{"another directory", "no memo", func(w *world) { w.dir = w.store }},
		{"another store", "no memo", func(w *world) { w.env[0] += "x" }},
		{"another command", "not ours", func(w *world) { w.args[1] = "why" }},
		{"memo of another call", "no memo", func(w *world) {
			m := w.memo()
			from := w.file(m)
			w.args = append(w.args, "-O2")
			m.key = Key(w.args, w.env, w.dir, false)
			w.must(os.MkdirAll(filepath.Dir(w.file(m)), 0o755))
			w.must(os.Rename(from, w.file(m)))
		}},
		{"blob's owner", "unable", func(w *world) {
			if os.Geteuid() != 0 { // only root can give it away
				w.must(os.Remove(w.store + "/blob"))
				w.write(w.store+"/blob", "OBJECT\n")
				return
			}
			w.must(os.Chown(w.store+"/blob", 65534, 65534))
		}},
		{"result's owner", "stale", func(w *world) {
			if os.Geteuid() != 0 {
				w.must(os.Remove(w.store + "/result"))
				return
			}
			w.must(os.Chown(w.store+"/result", 65534, 65534))
		}},
		{"owner", "bad", func(w *world) {
			if os.Geteuid() != 0 { // only root can give it away
				w.must(os.Chmod(w.file(w.memo()), 0o666))
				return
			}
			w.must(os.Chown(w.file(w.memo()), 65534, 65534))
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(w.memo())
			c.change(w)
			before := w.outputs()
			if what, out := w.call(); what != c.want || out != "" {
				t.Errorf("%s, said %q, want %s", what, out, c.want)
			}
			if after := w.outputs(); after != before {
				t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// TestHistory has a record dated.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	rec := append([]byte("sbH1"), make([]byte, 100)...)
	copy(rec[40:], "what happened")
	binary.LittleEndian.PutUint32(rec[4:], uint32(len(rec)-12))
	m.Append(Append{File: "history", Most: 1 << 20, Dated: true, Data: rec})
	w.put(m)
	began := time.Now()
	if what, _ := w.call(); what != "answered" {
		t.Fatal(what)
	}
	got, err := os.ReadFile(w.store + "/history")
	w.must(err)
	if len(got) != len(rec) {
		t.Fatalf("%d bytes, want %d", len(got), len(rec))
	}
	at := time.Unix(0, int64(binary.LittleEndian.Uint64(got[14:])))
	if at.Before(began) || at.After(time.Now()) {
		t.Errorf("dated %v", at)
	}
	if want := crc32.Update(crc32.ChecksumIEEE(got[4:8]), crc32.IEEETable, got[12:]); binary.LittleEndian.Uint32(got[8:]) != want {
		t.Error("the checksum is wrong")
	}
	copy(rec[14:], got[14:22])
	copy(rec[8:], got[8:12])
	if !bytes.Equal(got, rec) {
		t.Error("something else has changed")
	}
}

// TestUsed marks what was not used for long.
func TestUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	w.put(m)
	long := time.Now().Add(-time.Hour)
	files := []string{w.store + "/result", w.store + "/blob", w.file(m)}
	mtimes := map[string]int64{}
	for _, f := range files {
		mtimes[f] = idOf(t, f).MTime
		w.must(os.Chtimes(f, long, time.Unix(0, mtimes[f])))
	}
	if what, _ := w.call(); what != "answered" {
		t.Fatal(what)
	}
	for _, f := range files {
		var st unix.Stat_t
		w.must(unix.Lstat(f, &st))
		if time.Since(time.Unix(st.Atim.Unix())) > 10*time.Minute || st.Mtim.Nano() != mtimes[f] {
			t.Errorf("%s was used last at %v, and written at %v", f, time.Unix(st.Atim.Unix()), st.Mtim)
		}
	}
}

// TestParallel has many at a time make the same outputs: each of them is whole at
// every moment.
func TestParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := strings.Repeat("0123456789abcdef", 20_000)
	w.write(w.store+"/blob", text)
	m := w.memo()
	w.put(m)
	errs := make(chan error)
	for i := range 64 {
		go func() {
			if i%4 == 0 {
				os.Remove(w.dir + "/a.o")
			}
			cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
			out, err := cmd.Output()
			if err == nil && string(out) != "said\n" {
				err = fmt.Errorf("said %q", out)
			}
			if code := cmd.ProcessState.ExitCode(); code == 99 {
				err = nil // left to Go, because another one was faster
			}
			if data, rerr := os.ReadFile(w.dir + "/a.o"); rerr == nil && string(data) != text {
				err = fmt.Errorf("an output of %d bytes", len(data))
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	entries, err := os.ReadDir(w.dir)
	w.must(err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// TestLone has Go started with one processor: its stack has one more variable, and all
// else that was there.
func TestLone(t *testing.T) {
	t.Parallel()
	aux := "1=-100\n2=0\n3=100\n0=7\n"
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"FRONT_TEST=lone", "A=1"}, "2 words moved, 3 arguments, the last is b\n3 variables, the last is GOMAXPROCS=1\n" + aux},
		{[]string{"FRONT_TEST=lone", "A=1", "XGOMAXPROCS=1", "GOMAXPROCS"}, "2 words moved, 3 arguments, the last is b\n5 variables, the last is GOMAXPROCS=1\n" + aux},
		{[]string{"FRONT_TEST=lone", "GOMAXPROCS=5", "A=1"}, "0 words moved, 3 arguments, the last is b\n3 variables, the last is A=1\n" + aux},
		{[]string{"FRONT_TEST=lone", "GOMAXPROCS="}, "0 words moved, 3 arguments, the last is b\n2 variables, the last is GOMAXPROCS=\n" + aux},
	} {
		cmd := exec.Cmd{Path: harness, Args: []string{"sbx-action", "", "b"}, Env: c.env}
		got, err := cmd.CombinedOutput()
		if err != nil || string(got) != c.want {
			t.Errorf("%q: %v\n%swant\n%s", c.env, err, got, c.want)
		}
	}
}
