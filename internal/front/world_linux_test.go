package front

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

// size is the size of a file of the store.
func (w *world) size(name string) int64 {
	w.t.Helper()
	info, err := os.Stat(filepath.Join(w.store, name))
	w.must(err)
	return info.Size()
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
	m.Output(w.store, Output{Path: strings.TrimPrefix(w.dir, "/") + "/a.o", Blob: "blob", Size: w.size("blob")})
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
