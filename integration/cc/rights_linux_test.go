package cc_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestRights has one user call with and without the group that a file may be read by:
// whoever may not read it is told nothing of it, and whoever may is not told what came
// of a call that could not.
func TestRights(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	if os.Geteuid() != 0 {
		return // it is tested as root, who can be anybody
	}
	const user, group = 65534, 54321
	w := newWorld(t)
	w.must(os.Chmod(filepath.Dir(w.top), 0o755)) // others are to get in
	program := filepath.Join(w.top, "sbx-action")
	w.host("cp", command, program)
	w.write("../secret.h", "#define A 7\n")
	w.must(os.Chown(filepath.Join(w.top, "secret.h"), 0, group))
	w.must(os.Chmod(filepath.Join(w.top, "secret.h"), 0o640))
	w.write("a.c", "#include \"../secret.h\"\nint a = A;\n")
	w.script("read", "cat ../secret.h >out 2>/dev/null || echo nothing >out")
	w.script("ask", "if test -r ../secret.h; then echo yes; else echo no; fi >out")
	for _, name := range []string{w.dir, filepath.Join(w.top, "home")} {
		w.must(os.Chown(name, user, user))
	}
	call := func(in bool, args ...string) (out string, at cc.Reason) {
		t.Helper()
		w.settle()
		before := w.lines()
		w.remove("out")
		w.remove("a.o")
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = w.dir
		cmd.Env = []string{"HOME=" + filepath.Join(w.top, "home"), "SBX_CACHE=" + filepath.Join(w.top, "home", "cache"), "PATH=/usr/bin:/bin", "PWD=" + w.dir, "SBX_WARM=off"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		if in {
			cmd.SysProcAttr.Credential.Groups = []uint32{group}
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		data, _ := os.ReadFile(w.path("out"))
		object, _ := os.ReadFile(w.path("a.o"))
		out = string(data) + string(object)
		if err != nil {
			out = "failed"
			if !strings.Contains(stderr.String(), "Permission denied") {
				t.Errorf("%q: %v, %s", args, err, stderr.String())
			}
		}
		for k, n := range w.lines() {
			if n > before[k] {
				at = k.r
			}
		}
		return out, at
	}
	w.cache = filepath.Join(w.top, "home", "cache")
	for _, args := range [][]string{{"gcc", "-c", "a.c"}, {"--any", "--no-stdin", "./read"}, {"--any", "--no-stdin", "./ask"}} {
		bare := args
		if args[0] == "--any" {
			bare = args[2:]
		}
		want := map[bool]string{}
		want[false], _ = call(false, bare...)
		want[true], _ = call(true, bare...)
		if want[false] == want[true] {
			t.Fatalf("control: %q: %q with and without the group", args, want[true])
		}
		atOnce := false
		for _, in := range []bool{false, false, true, true, false, true, true, false, true} {
			for range 12 { // until the front answers, if it does
				got, at := call(in, append([]string{program, "cc"}, args...)...)
				if got != want[in] {
					t.Errorf("%q, in the group: %v: %q, want %q", args, in, got, want[in])
				}
				if at == cc.AtOnce {
					atOnce = true
					break
				}
				if !in || atOnce {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
		if args[0] == "gcc" && !atOnce {
			t.Error("the front answers none of the compiles")
		}
	}
}

// TestBarred has root call in a project of somebody else, who may not do what root may
// with one file or directory: what root alone would give is what it gives, each time.
func TestBarred(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it is about root
	}
	const user = 54321
	for _, c := range []struct {
		name, barred string
		mode         os.FileMode
		args         []string
	}{
		{"a header", "h.h", 0o600, []string{"gcc", "-E", "-P", "a.c"}},
		{"a header, clang", "h.h", 0o600, []string{"clang", "-E", "-P", "a.c"}},
		{"a directory", "d", 0o700, []string{"gcc", "-E", "-P", "a.c"}},
		{"what is read", "h.h", 0o600, []string{"--any", "--no-stdin", "sh", "-c", "cat h.h 2>/dev/null || echo no >out"}},
		{"what is asked for", "h.h", 0o600, []string{"--any", "--no-stdin", "sh", "-c", "test -r h.h || echo no >out"}},
		{"what is listed", "d", 0o711, []string{"--any", "--no-stdin", "sh", "-c", "ls d 2>/dev/null || echo no >out"}},
		{"what is written", "h.h", 0o644, []string{"--any", "--no-stdin", "sh", "-c", "(echo x >>h.h) 2>/dev/null || echo no >out"}},
		{"what is made", "d", 0o755, []string{"--any", "--no-stdin", "sh", "-c", "(echo x >d/new) 2>/dev/null || echo no >out"}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			w := newWorld(t)
			w.flags = []string{"--cache-failures"}
			w.write("h.h", "int h;\n")
			w.write("d/x.h", "int x;\n")
			w.write("a.c", "#include \"h.h\"\n#if __has_include(\"d/x.h\")\nint there;\n#endif\n")
			bare := c.args
			if bare[0] == "--any" {
				bare = bare[2:]
			}
			set := func(owner int) { // what was put back is root's
				w.must(filepath.WalkDir(w.dir, func(p string, _ os.DirEntry, err error) error {
					w.must(err)
					return os.Chown(p, user, user)
				}))
				w.must(os.Chown(w.path(c.barred), owner, owner))
				w.must(os.Chmod(w.path(c.barred), c.mode))
			}
			for _, owner := range []int{user, 0, 0} { // with the right, as the control, and without
				w.cache = filepath.Join(w.top, fmt.Sprint("cache", owner))
				set(owner)
				want := w.bare(bare)
				set(owner)
				got, outcome, reason := w.wrapped(c.args)
				if got.differs(want) != "" || (reason == cc.ReasonBarred) != (owner == 0) {
					t.Errorf("of %d: ended with %s (%s): %s", owner, outcome, reason, got.differs(want))
				}
			}
		})
	}
}
