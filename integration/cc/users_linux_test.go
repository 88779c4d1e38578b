package cc_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUsers has two users of one store. What they write and what their calls end with is
// the compiler's, whatever the store allows; that of a group takes what each of them adds.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it is tested as root, who can be anybody
	}
	const group = 54321
	w := newWorld(t)
	w.must(os.Chmod(filepath.Dir(w.top), 0o755)) // others are to get in
	program := filepath.Join(w.top, "sbx-action")
	w.host("cp", command, program)
	call := func(store string, user, umask int, args ...string) string {
		t.Helper()
		cmd := exec.Command("sh", append([]string{"-c", fmt.Sprintf(`umask %o; "$@"`, umask), "sh", program}, args...)...)
		cmd.Dir = filepath.Join(w.top, fmt.Sprint(user))
		cmd.Env = []string{"HOME=/nonexistent", "SBX_CACHE=" + filepath.Join(w.top, store), "PATH=/usr/bin:/bin", "SBX_WARM=off"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user), Groups: []uint32{group}}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v: %s", err, out)
		}
		return string(out)
	}
	const first, second = 54321, 54322
	for _, user := range []int{first, second} {
		w.write(fmt.Sprintf("../%d/a.c", user), "int a;\n")
		w.must(os.Chown(filepath.Join(w.top, fmt.Sprint(user)), user, user))
	}
	for _, c := range []struct {
		store  string
		mode   os.FileMode
		umask  int
		shared bool
	}{
		{"group", 0o770 | os.ModeSetgid, 0o022, true},
		{"private", 0o770 | os.ModeSetgid, 0o077, true},
		{"sticky", 0o770 | os.ModeSetgid | os.ModeSticky, 0o002, false},
		{"readable", 0o755, 0o022, false},
	} {
		dir := filepath.Join(w.top, c.store)
		w.must(os.Mkdir(dir, 0o700))
		w.must(os.Chown(dir, first, group))
		w.must(os.Chmod(dir, c.mode))
		for _, step := range []struct {
			user int
			args string
		}{{first, "-O1"}, {second, "-O1"}, {second, "-O2"}, {second, "-O2"}, {first, "-O2"}} {
			w.settle()
			_ = os.Remove(filepath.Join(w.top, fmt.Sprint(step.user), "a.o")) // which may be of another umask
			if out := call(c.store, step.user, c.umask, "cc", "gcc", "-c", "a.c", step.args); out != "" {
				t.Errorf("%s: user %d says %s", c.store, step.user, out)
			}
		}
		stats := call(c.store, second, c.umask, "cc", "--stats")
		if c.mode&0o020 == 0 { // nothing of that user can be counted
			if !strings.Contains(stats, "nothing is added here: the cache cannot be written: "+dir) {
				t.Errorf("%s: %s", c.store, stats)
			}
			continue
		}
		hits, unkept := "from the cache            2 ", "the cache cannot be written"
		if !c.shared {
			hits = "from the cache            1 "
		}
		if !strings.Contains(stats, hits) || strings.Contains(stats, unkept) == c.shared {
			t.Errorf("%s: the second user: %s", c.store, stats)
		}
		stats = call(c.store, first, c.umask, "cc", "--stats")
		if has := strings.Contains(stats, "from the cache            1 "); has != c.shared {
			t.Errorf("%s: the first user: %s", c.store, stats)
		}
		if out := call(c.store, second, c.umask, "cache", "trim", "--max-age", "1s"); strings.Contains(out, "removed 0") != c.shared && c.shared {
			t.Errorf("%s: trim: %s", c.store, out)
		}
	}
}
