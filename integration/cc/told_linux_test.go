package cc_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// refuse makes the kernel refuse something to this process and its children, as the
// filters of containers do: "observation" is seccomp's notification and ptrace,
// "sandboxes" are namespaces and mounts. Then it becomes args.
func refuse(what string, args []string) error {
	runtime.LockOSThread()
	const clone3 = 435
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	give := func(v uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v} }
	errno := func(e syscall.Errno) unix.SockFilter { return give(0x00050000 | uint32(e)) }
	is := func(v uint32, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jf: no}
	}
	filter := []unix.SockFilter{load(0)}
	switch what {
	case "observation":
		filter = append(filter,
			is(unix.SYS_PTRACE, 1), errno(unix.EPERM),
			is(unix.SYS_SECCOMP, 3), load(24), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, Jf: 1}, errno(unix.EINVAL))
	case "sandboxes":
		for _, nr := range []uint32{unix.SYS_UNSHARE, unix.SYS_MOUNT, unix.SYS_SETNS, unix.SYS_PIVOT_ROOT, unix.SYS_FSMOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT} {
			filter = append(filter, is(nr, 1), errno(unix.EPERM))
		}
		filter = append(filter,
			is(clone3, 1), errno(unix.ENOSYS),
			is(unix.SYS_CLONE, 3), load(16), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x7e020000, Jf: 1}, errno(unix.EPERM))
	default:
		return fmt.Errorf("refuse what: %q", what)
	}
	filter = append(filter, give(0x7fff0000))
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// blind makes calls of this world go where something is refused.
func (w *world) blind(what string) {
	self, err := os.Executable()
	w.must(err)
	w.env["SBX_TEST_REFUSE"] = what
	w.front = []string{self}
}

// TestBlind shows that where nothing can be observed, the compiler is asked, that
// --stats says so, and that what is then not known is not cached.
func TestBlind(t *testing.T) {
	for _, what := range []string{"observation", "sandboxes"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.write("a.c", usesA)
			w.write("inc/a.h", "#define A 1\n")
			w.mkdir("early")
			call := words("gcc -Wall -MD -Iearly -Iinc -c a.c -o a.o")
			want := w.bare(call)
			w.expect("control: it can be observed", call, want, cc.Miss)
			w.blind(what)
			w.told("a result that was observed counts", call, want, cc.Hit, "")
			call = append(call, "-O1")
			want = w.bare(call)
			w.told("at first", call, want, cc.Miss, cc.ReasonTold)
			w.told("again", call, want, cc.Hit, cc.ReasonTold)
			out, _ := w.tool("cc", "--stats")
			if strings.Count(out, string(cc.ReasonTold)) != 2 {
				t.Errorf("--stats does not say so: %s", out)
			}
			w.told("what only observation tells", words("gcc -MD -c a.c -Iinc -fplugin=x"), w.bare(words("gcc -MD -c a.c -Iinc -fplugin=x")), cc.Broken, "nothing can be observed here")
			// Where it can be observed, such a result is not enough.
			w.front = nil
			w.expect("it can be observed again", call, want, cc.Miss)
			call[len(call)-1], w.flags = "-O2", []string{"--backend", "bubblewrap"}
			w.told("by a backend that shows nothing at its place", call, w.bare(call), cc.Miss, cc.ReasonTold)
			call[len(call)-1], w.flags = "-O3", nil // what one backend cannot, another can
			w.told("by ours after that", call, w.bare(call), cc.Miss, "not seen before")
		})
	}
}

// told runs a call and wants it to end so.
func (w *world) told(what string, call []string, want effect, outcome cc.Outcome, reason cc.Reason) {
	w.t.Helper()
	got, o, r := w.wrapped(call)
	if diff := got.differs(want); diff != "" {
		w.t.Errorf("%s: %s", what, diff)
	}
	if o != outcome || r != reason {
		w.t.Errorf("%s: ended with %s (%s), want %s (%s)", what, o, r, outcome, reason)
	}
}

// TestBlindMutations changes things that a call depends on, as [TestMutations] does,
// where nothing can be observed: what is a hit must be the compiler's result.
func TestBlindMutations(t *testing.T) {
	var asked atomic.Int32
	t.Run("all", func(t *testing.T) { blindMutations(t, &asked) })
	if n := asked.Load(); n < 20 && !testing.Short() {
		t.Errorf("the compiler was asked for %d of them", n)
	}
}

func blindMutations(t *testing.T, asked *atomic.Int32) {
	for i, m := range mutations() {
		if call := cc.Parse(cc.Unknown, "/", strings.Fields(m.call)); m.root || m.watched || call.Kind != cc.Compile || testing.Short() && i%16 != 0 {
			continue // those that are executed in any case, or change what others see
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for name, content := range m.files {
				w.write(name, content)
			}
			if m.make != nil {
				m.make(w)
			}
			w.blind("sandboxes")
			args := strings.Fields(strings.ReplaceAll(m.call, "$PWD", w.dir))
			check := func(when string) cc.Reason {
				want := w.bare(args)
				got, outcome, reason := w.wrapped(args)
				if diff := got.differs(want); diff != "" {
					t.Errorf("%s: %s (%s %s)", when, diff, outcome, reason)
				}
				return reason
			}
			check("at first")
			if check("unchanged") == cc.ReasonTold {
				asked.Add(1)
			}
			before := w.tree()
			m.change(w)
			check("changed")
			check("changed, again")
			if m.back != nil {
				m.back(w)
			} else {
				w.restore(before)
			}
			check("changed back")
		})
	}
}
