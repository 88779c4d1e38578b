package main

import (
	"bytes"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// domain is a program that executes its arguments and, if the first one says so, in a
// domain of Landlock that forbids one thing which nobody here does: with it, a sandbox
// can be made all the same.
const domain = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0) # PR_SET_NO_NEW_PRIVS
if sys.argv[1] == "in":
    bind_tcp = (ctypes.c_uint64 * 2)(0, 1)
    rules = libc.syscall(444, bind_tcp, 16, 0)
    if rules < 0 or libc.syscall(446, rules, 0) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    os.close(rules)
os.execv(sys.argv[2], sys.argv[2:])
`

// TestWarmDomains has a caller that Landlock keeps from something in a session that it
// does not, and the other way round: the caller does without it. The control is the same
// caller without Landlock, in a session without it.
func TestWarmDomains(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // there is no front, which is what asks workers
	}
	const create, version = 444, 1
	if abi, _, _ := unix.Syscall(create, 0, 0, version); int(abi) < 4 {
		t.Skip("this kernel has no Landlock that could forbid to bind a port")
	}
	const script = `
for n in 1 2 3; do
	python3 -c "$DOMAIN" $1 "$SBX" run -- echo $1 $2 $n || exit
done
"$SBX" warm --count
`
	f := newFronted(t)
	for _, c := range []struct{ caller, session, want string }{
		{"out", "out", "out out 1\nout out 2\nout out 3\nanswered 3, declined 0\n"},
		{"in", "out", "in out 1\nin out 2\nin out 3\nanswered 0, declined 3\n"},
		{"out", "in", "out in 1\nout in 2\nout in 3\nanswered 3, declined 0\n"}, // it is in the same one
		{"in", "in", "in in 1\nin in 2\nin in 3\nanswered 0, declined 3\n"},     // it is in one in that
	} {
		cmd := exec.Command("python3", "-c", domain, c.session, f.command, "warm", "--jobs", "1", "sh", "-c", script, "sh", c.caller, c.session)
		cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX="+f.command, "DOMAIN="+domain)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if out, err := cmd.Output(); err != nil || string(out) != c.want || stderr.Len() > 0 {
			t.Errorf("%s, session %s: %v\n%s%s, want\n%s", c.caller, c.session, err, out, stderr.String(), c.want)
		}
	}
}
