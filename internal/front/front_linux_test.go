package front

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/internal/rebuildtest"
)

// harness is the front as an ordinary program, built with the sanitizers.
var harness string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if runtime.GOARCH != "amd64" {
		return 0 // there is no front
	}
	dir, err := os.MkdirTemp("", "sbx-front-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1
	}
	harness = filepath.Join(dir, "harness")
	build := exec.Command("gcc", "-std=gnu11", "-O1", "-g", "-fno-builtin", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", harness, "src/test_front.c")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

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

// A world is a store, a directory to be in, and a call.
type world struct {
	t          *testing.T
	store, dir string
	args, env  []string
}

const recordHead = 36

func newWorld(t *testing.T) *world {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: filepath.Join(top, "store"), dir: filepath.Join(top, "work")}
	w.args = []string{"sbx-action", "cc", "gcc", "-c", "a.c"}
	w.env = []string{"SBX_CACHE=" + w.store, "PWD=" + w.dir}
	w.write(filepath.Join(w.store, "VERSION"), "1")
	w.write(filepath.Join(w.store, "result"), "r")
	w.write(filepath.Join(w.store, "blob"), "object\n")
	w.write(filepath.Join(w.store, "stat", "cc1"), "")
	w.write(filepath.Join(w.store, "history"), "")
	w.write(filepath.Join(w.dir, "a.c"), "int a;\n")
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, text string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(name), 0o755))
	w.must(os.WriteFile(name, []byte(text), 0o644))
}

func idOf(t *testing.T, path string) ID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return ID{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Mode}
}

// memo is one with something of every kind.
func (w *world) memo() *Memo {
	m := NewMemo(w.args, w.env, w.dir)
	m.key = Key(w.args, w.env, w.dir, false)
	m.exe, m.Root = harness, "/"
	m.Unchanged(w.dir+"/a.c", idOf(w.t, w.dir+"/a.c"))
	m.Directory(w.dir, 0o755)
	m.Meta(w.dir+"/a.c", 0o100644, 7)
	m.Nothing(w.dir + "/a.h")
	m.Something(w.dir + "/a.c")
	m.Ordinary(w.dir + "/a.o")
	m.Self("gcc", false)
	m.Self(harness, true)
	m.Elsewhere(w.store)
	id, perm := idOf(w.t, w.store), uint32(0o755)
	m.Without(w.store, &id, &perm, []string{"x", "y"})
	m.Without(w.dir, nil, nil, []string{"b.h", "c.h"})
	m.Kept(w.store, "VERSION")
	m.Result(w.store, "result")
	m.Used("blob")
	m.Output(w.store, Output{Path: strings.TrimPrefix(w.dir, "/") + "/a.o", Blob: "blob"})
	m.Output(w.store, Output{Path: strings.TrimPrefix(w.dir, "/") + "/a.d", Data: []byte("a.o: a.c\n"), Executable: true})
	m.Stdout, m.Stderr = []byte("said\n"), []byte("warned\n")
	m.Append(Append{File: "stat/cc1", Most: 100, Data: []byte("hit\n")})
	return m
}

func (w *world) file(m *Memo) string {
	sum := fmt.Sprintf("%x", m.Name())
	return filepath.Join(w.store, "note", "blake3", sum[:2], sum)
}

func (w *world) put(m *Memo) []byte {
	w.t.Helper()
	data, err := m.Encode()
	w.must(err)
	data = append(append([]byte("sbN1"), make([]byte, recordHead-4)...), data...)
	w.write(w.file(m), string(data))
	return data
}

// call returns "answered", or why not, and what is on standard output and error.
func (w *world) call() (what, out string) {
	w.t.Helper()
	cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err == nil {
		return "answered", stdout.String() + stderr.String()
	}
	if code := cmd.ProcessState.ExitCode(); code != 99 || stderr.Len() > 0 {
		w.t.Fatalf("the front ended with %d, %q", code, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), stderr.String()
}

func (w *world) outputs() string {
	var list []string
	entries, err := os.ReadDir(w.dir)
	w.must(err)
	for _, e := range entries {
		info, err := e.Info()
		w.must(err)
		var data []byte
		if info.Mode().IsRegular() {
			data, err = os.ReadFile(filepath.Join(w.dir, e.Name()))
			w.must(err)
		}
		list = append(list, fmt.Sprintf("%s %v %q", e.Name(), info.Mode(), data))
	}
	return strings.Join(list, "\n")
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
	// A link in its place is replaced, and what it leads to is left alone.
	w.must(os.Remove(w.dir + "/a.d"))
	w.must(os.Symlink("a.c", w.dir+"/a.d"))
	if what, _ := w.call(); what != "answered" || w.outputs() != want {
		t.Errorf("over a link: %s\n%s", what, w.outputs())
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

// TestDamage cuts a memo at all lengths, changes its bytes, and makes it one of
// another boot or program.
func TestDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	data := w.put(m)
	before := w.outputs()
	try := func(what string, data []byte) {
		w.write(w.file(m), string(data))
		if got, _ := w.call(); got == "answered" || got == "unable" {
			t.Errorf("%s: %s", what, got)
		}
	}
	for n := 0; n < len(data); n += 1 + n/16 {
		try(fmt.Sprintf("cut at %d", n), data[:n])
	}
	for at := recordHead; at < len(data); at += 37 {
		bad := bytes.Clone(data)
		bad[at] ^= 1
		try(fmt.Sprintf("byte %d", at), bad)
	}
	try("zeros", make([]byte, len(data)))
	for what, at := range map[string]int{"another boot": 16, "another program": 16 + 36} {
		bad := bytes.Clone(data)
		bad[recordHead+at]++
		binary.LittleEndian.PutUint64(bad[recordHead+8:], sum(bad[recordHead+16:]))
		try(what, bad)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	w.write(w.file(m), string(data))
	if got, _ := w.call(); got != "answered" {
		t.Errorf("control: %s", got)
	}
}

// TestHostile gives the parser memos with right sums and wrong bytes.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := filepath.Join(filepath.Dir(w.store), "seed")
	n := 20000
	if testing.Short() {
		n = 2000
	}
	w.env = append(w.env, fmt.Sprintf("FRONT_TEST=fuzz:%d:%s", n, name))
	data := w.put(w.memo())
	w.write(name, string(data))
	cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var parsed, held, prepared, all int
	if _, err := fmt.Sscanf(string(out), "%d parsed %d held %d prepared %d", &all, &parsed, &held, &prepared); err != nil || all != n || prepared == 0 || parsed == all {
		t.Errorf("%q: %v: the test does not reach what it is for", out, err)
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

// TestFull runs out of space in the middle of an output.
func TestFull(t *testing.T) { // nothing else runs meanwhile
	w := newWorld(t)
	w.write(w.store+"/blob", strings.Repeat("x", 200_000))
	w.put(w.memo())
	before := w.outputs()
	// As good as a full disk: a limit, and no signal for it.
	var limit unix.Rlimit
	w.must(unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = 100_000
	signal.Ignore(unix.SIGXFSZ)
	w.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	what, out := w.call()
	w.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	signal.Reset(unix.SIGXFSZ)
	if what != "unable" || out != "" {
		t.Errorf("%s, said %q", what, out)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	if what, _ := w.call(); what != "answered" {
		t.Errorf("with space: %s", what)
	}
}

// TestSizeLimit has a limit of the size of files that is lower than the size of the
// statistics, whose default end is a signal: it must not end a hit whose outputs fit,
// and what does not fit is left to Go with no signal waiting for it.
func TestSizeLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	w.write(w.store+"/history", strings.Repeat("x", 5000))
	m.Append(Append{File: "history", Most: 1 << 20, Data: []byte("more")})
	w.put(m)
	limited := func(blocks string) (what string) {
		cmd := exec.Command("sh", append([]string{"-c", "ulimit -f " + blocks + `; exec "$0" "$@"`, harness}, w.args[1:]...)...)
		cmd.Dir, cmd.Env = w.dir, w.env
		out, err := cmd.Output()
		if err == nil {
			return "answered"
		}
		if cmd.ProcessState.ExitCode() != 99 {
			t.Errorf("%v: it ended with %v", cmd.Args, err)
		}
		return strings.TrimSpace(string(out))
	}
	w.args[0] = harness
	m.key = Key(w.args, w.env, w.dir, false)
	w.put(m)
	if what := limited("2"); what != "answered" { // of 512 bytes, or 1024
		t.Errorf("the outputs fit: %s", what)
	}
	if data, err := os.ReadFile(w.dir + "/a.o"); err != nil || string(data) != "object\n" {
		t.Errorf("the output: %q, %v", data, err)
	}
	w.write(w.store+"/blob", strings.Repeat("x", 5000))
	large := w.memo()
	large.key = m.key
	w.put(large)
	before := w.outputs()
	if what := limited("2"); what != "unable" {
		t.Errorf("the outputs do not fit: %s", what)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// TestClosed has standard descriptors that are closed, whose numbers outputs would get.
func TestClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.memo())
	before := w.outputs()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	w.must(err)
	defer null.Close()
	for closed := range 4 {
		files := []*os.File{null, null, null}
		if closed < 3 {
			files[closed] = nil
		}
		p, err := os.StartProcess(harness, w.args, &os.ProcAttr{Dir: w.dir, Env: w.env, Files: files})
		w.must(err)
		state, err := p.Wait()
		w.must(err)
		if answered := state.ExitCode() == 0; answered != (closed == 3) {
			t.Errorf("with descriptor %d closed: %v", closed, state)
		}
		if after := w.outputs(); closed < 3 && after != before {
			t.Errorf("with descriptor %d closed:\n%s", closed, after)
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

// TestEncode says of what there cannot be a memo.
func TestEncode(t *testing.T) {
	for what, f := range map[string]func(*Memo){
		"path":   func(m *Memo) { m.Nothing("/" + strings.Repeat("x", 5000)) },
		"name":   func(m *Memo) { m.Without("/", nil, nil, []string{"a/b"}) },
		"output": func(m *Memo) { m.Output("/", Output{Path: "/etc/passwd"}) },
		"outputs": func(m *Memo) {
			for range 65 {
				m.Output("/", Output{Path: "x"})
			}
		},
		"blob":   func(m *Memo) { m.Output("/nowhere", Output{Path: "x", Blob: "y"}) },
		"record": func(m *Memo) { m.Result("/nowhere", "y") },
		"key":    func(m *Memo) { m.key = make([]byte, 1<<20) },
		"size":   func(m *Memo) { m.Stdout = make([]byte, 5<<20) },
		"appends": func(m *Memo) {
			for range 5 {
				m.Append(Append{})
			}
		},
	} {
		m := NewMemo([]string{"x"}, nil, "/")
		f(m)
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
