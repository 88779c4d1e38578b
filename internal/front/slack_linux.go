package front

import "golang.org/x/sys/unix"

// slack is by how many nanoseconds the kernel may wake our caller too late, which we
// have inherited; 0: our threads have it, too.
var slack uintptr

// learnSlack gives the first thread back what the entry took from it: sysmon, for which
// that was done, is there, and has what it shall have.
func learnSlack() {
	_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, 0, 0) // as it was at the start
	if n, _, err := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0); err == 0 {
		slack = n
	}
}

// Exact has the calling thread sleep as exactly as our caller does. What is executed
// right after it inherits that. What runs in a sandbox needs none of this: the helper
// has its own.
func Exact() {
	if slack > 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack, 0)
	}
}
