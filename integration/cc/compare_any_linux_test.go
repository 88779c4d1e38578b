package cc_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// An anyRow is a script of the shell in which $ANY stands in front of a program. It is run
// in each of the states that its outputs may be in when it begins (see anyStates), bare and
// through us, and has to have the same effect.
type anyRow struct {
	name  string
	files map[string]string // besides anyFiles
	setup string            // a script that makes what is there before, besides the files
	call  string

	// How the calls in the states end, a letter each: see anyStates, or several of these,
	// with a bar between them, where it depends on the machine: who looks for users' names
	// may ask for /run/systemd. What depends on who we are has another one for who is
	// not root.
	want, user string

	mask func(text string) string // of what no two bare runs have alike, such as a process's number
}

// anyFiles are what each row begins with: "p/" is the project, in which calls start, "home/"
// is beside it, and "out/" is a directory elsewhere.
var anyFiles = map[string]string{
	"p/i": "one\ntwo\n", "p/j": "three\n", "p/src/a.c": "int f(void) { return 1; }\n", "home/rc": "rc\n", "out/log": "log\n",
}

// anyStates are the states: the outputs are not there, twice; as a bare call left them, twice;
// and so, with times of tomorrow.
var anyStates = []string{"absent", "absent", "present", "present", "newer"}

// A node is what is at a path.
type node struct {
	mode   fs.FileMode
	owner  string
	data   string // also the target of a link
	size   int64
	other  string // of several names that a file has, the first
	xattrs string
}

// An anyWorld is where rows are run.
type anyWorld struct {
	*world
	out string
}

func (w *anyWorld) at(name string) string {
	if rest, ok := strings.CutPrefix(name, "out/"); ok {
		return filepath.Join(w.out, rest)
	}
	return filepath.Join(w.top, name)
}

// nodes are what is at all places that rows may change.
func (w *anyWorld) nodes() map[string]node {
	w.t.Helper()
	list, first := map[string]node{}, map[uint64]string{}
	for _, root := range []struct{ name, at string }{{"p", w.dir}, {"home", w.at("home")}, {"out", w.out}, {"tmp", w.at("tmp")}} {
		w.must(filepath.WalkDir(root.at, func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			n := node{mode: info.Mode(), owner: fmt.Sprint(st.Uid, ":", st.Gid)}
			rel, _ := filepath.Rel(root.at, p)
			name := filepath.Join(root.name, rel)
			switch {
			case e.Type() == fs.ModeSymlink:
				n.data, err = os.Readlink(p)
			case e.Type().IsRegular():
				n.size = st.Size
				if st.Nlink > 1 {
					if first[st.Ino] == "" {
						first[st.Ino] = name
					}
					n.other = first[st.Ino]
				}
				var data []byte
				if st.Size < 8<<20 {
					if data, err = os.ReadFile(p); errors.Is(err, fs.ErrPermission) {
						err = nil
					}
				}
				n.data = string(data)
				var value [64]byte
				if k, err := unix.Getxattr(p, "user.kept", value[:]); err == nil {
					n.xattrs = string(value[:k])
				}
			}
			list[name] = n
			return err
		}))
	}
	return list
}

// reset makes the world what it is before a call in the state.
func (w *anyWorld) reset(r *anyRow, state string) {
	w.t.Helper()
	for _, dir := range []string{w.dir, w.at("home"), w.out, w.at("tmp")} {
		_ = exec.Command("chmod", "-R", "u+rwx", dir).Run()
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			w.must(os.RemoveAll(filepath.Join(dir, e.Name())))
		}
		w.must(os.MkdirAll(dir, 0o755))
	}
	for name, text := range anyFiles {
		w.put(name, text)
	}
	for name, text := range r.files {
		w.put(name, text)
	}
	if r.setup != "" {
		w.sh(r.setup, "")
	}
	if state == "absent" {
		return
	}
	before := w.nodes()
	w.sh(r.call, "")
	if state != "newer" {
		return
	}
	at := time.Now().Add(24 * time.Hour)
	for name, n := range w.nodes() {
		if before[name] != n && (n.mode.IsRegular() || n.mode.IsDir()) {
			dir, rest, _ := strings.Cut(name, "/")
			_ = os.Chtimes(w.at(dir+"/"+rest), at, at)
		}
	}
}

func (w *anyWorld) put(name, text string) {
	w.t.Helper()
	p := w.at(name)
	w.must(os.MkdirAll(filepath.Dir(p), 0o755))
	w.must(os.WriteFile(p, []byte(text), 0o644))
	if strings.HasPrefix(text, "#!") {
		w.must(os.Chmod(p, 0o755))
	}
	w.must(os.Chtimes(p, timeLongAgo, timeLongAgo))
}

type anyEffect struct {
	code           int
	stdout, stderr string
	nodes          map[string]node
}

// sh runs a script in the project, with front in front of its calls.
func (w *anyWorld) sh(script, front string) anyEffect {
	w.t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "ANY='"+front+"'\n"+script)
	cmd.Dir = w.dir
	cmd.Env = []string{
		"HOME=" + w.at("home"), "PWD=" + cmd.Dir, "SBX_CACHE=" + w.cache, "PATH=" + os.Getenv("PATH"), "SBX_WARM=off", "LC_ALL=C",
		"OUT=" + w.out, "USER=me", "T=" + w.at("tmp"), "PYTHONDONTWRITEBYTECODE=1",
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		w.t.Fatalf("%q: %v", script, err)
	}
	e := anyEffect{stdout: stdout.String(), stderr: stderr.String(), nodes: w.nodes()}
	e.code = cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		e.code = 1000 + int(ws.Signal())
	}
	return e
}

// differs says in what the effect is another one.
func (e *anyEffect) differs(o *anyEffect, mask func(string) string) string {
	switch {
	case e.code != o.code:
		return fmt.Sprintf("exit code %d, want %d; standard error %q, want %q", e.code, o.code, e.stderr, o.stderr)
	case mask(e.stdout) != mask(o.stdout):
		return fmt.Sprintf("standard output %.300q, want %.300q", e.stdout, o.stdout)
	case mask(e.stderr) != mask(o.stderr):
		return fmt.Sprintf("standard error %.300q, want %.300q", e.stderr, o.stderr)
	}
	if got, want := slices.Sorted(maps.Keys(e.nodes)), slices.Sorted(maps.Keys(o.nodes)); !slices.Equal(got, want) {
		return fmt.Sprintf("left %.300q, want %.300q", got, want)
	}
	for _, name := range slices.Sorted(maps.Keys(o.nodes)) {
		got, want := e.nodes[name], o.nodes[name]
		got.data, want.data = mask(got.data), mask(want.data)
		if got != want {
			return fmt.Sprintf("%s is %.300q, want %.300q", name, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
		}
	}
	return ""
}

// ended is how the calls since before ended, a letter each, with reasons.
func (w *anyWorld) ended(before map[totalKey]int64) (letters, reasons string) {
	for k, n := range w.totals() {
		if n == before[k] {
			continue
		}
		letters += map[cc.Outcome]string{cc.Hit: "H", cc.Miss: "M", cc.Unkept: "U", cc.Failed: "F", cc.Plain: "P", cc.Broken: "B"}[k.o]
		if k.r != "" {
			reasons += " " + letters[len(letters)-1:] + ":" + string(k.r)
		}
	}
	return letters, reasons
}

func compareAny(t *testing.T, rows []anyRow) {
	t.Parallel()
	for i, r := range rows {
		if testing.Short() && i%8 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(r.name, " ", "-"), func(t *testing.T) {
			out, err := os.MkdirTemp("/var/tmp", "sbx-any-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(out) })
			w := &anyWorld{newWorld(t), out}
			mask := r.mask
			if mask == nil {
				mask = func(s string) string { return s }
			}
			all, late := "", false
			for i, state := range anyStates {
				w.reset(&r, state)
				want := w.sh(r.call, "")
				w.reset(&r, state)
				w.settle()
				before := w.totals()
				got := w.sh(r.call, command+" cc --any ")
				ends, reasons := w.ended(before)
				all += ends
				if diff := got.differs(&want, mask); diff != "" {
					t.Errorf("call %d, %s: %s (%s%s)", i+1, state, diff, ends, reasons)
				}
				t.Logf("%s: %s%s", state, ends, reasons)
				if strings.Contains(reasons, "something else") {
					t.Errorf("call %d, %s: it is counted without a reason", i+1, state)
				}
				late = late || strings.Contains(reasons, "changed meanwhile")
			}
			want := r.want
			if os.Geteuid() != 0 && r.user != "" {
				want = r.user
			}
			// Where the clock stood still although we waited, nothing could be kept.
			if !late && !slices.Contains(strings.Split(want, "|"), all) {
				t.Errorf("ended %s, want %s", all, want)
			}
		})
	}
}
