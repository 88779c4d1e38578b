package cc_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestRestricted has somebody call who may look at a header and not read it.
func TestRestricted(t *testing.T) {
	w := newWorld(t)
	header := filepath.Join(w.top, "h/h.h")
	w.mkdir("../h")
	w.must(os.WriteFile(header, []byte("#define A 1\n"), 0o644))
	w.write("a.c", "#include <h.h>\nint a = A;\n")
	args := []string{"gcc", "-I" + filepath.Dir(header), "-c", "a.c"}
	want := w.bare(args)
	w.expect("control: seen", args, want, cc.Miss)
	w.expect("control: hit", args, want, cc.Hit)
	w.atOnce("control: by the front", args, want)
	done := make(chan struct{})
	go func() { // no Fatal in here
		defer close(done)
		runtime.LockOSThread() // for ever: what it starts is restricted as it is
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			t.Error(err)
			return
		}
		if got, outcome, _ := w.wrapped(args); outcome != cc.Hit || got.differs(want) != "" {
			t.Errorf("control: without new privileges: %s, %s", outcome, got.differs(want))
		}
		allow(t, "/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev", w.dir, w.cache, command)
		bare := w.bare(args)
		if bare.code == 0 {
			t.Error("control: the compiler can read the header")
		}
		for range 2 {
			if got, outcome, reason := w.wrapped(args); got.differs(bare) != "" || reason != cc.ReasonDomain {
				t.Errorf("%s (%s): %s", outcome, reason, got.differs(bare))
			}
		}
	}()
	<-done
}

// allow keeps this thread, and what it starts, from all files but those and what is below
// them.
func allow(t *testing.T, files ...string) {
	const (
		all    = unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1
		ofFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	)
	handled := uint64(all)
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	for _, name := range files {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil || errno != 0 {
			t.Errorf("%s: %v, %v", name, err, errno)
			return
		}
		access := uint64(ofFile)
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			access = all
		}
		rule := struct {
			access uint64
			fd     int32
		}{access, int32(fd)}
		_, _, errno = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, rules, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
		unix.Close(fd)
	}
	if errno == 0 {
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0)
	}
	unix.Close(int(rules))
	if errno != 0 {
		t.Error("restrict:", errno)
	}
}
