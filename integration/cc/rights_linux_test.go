package cc_test

import (
	"bytes"
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
