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

// Closed says whether a standard descriptor, from 0 to 2, is one that our caller has
// closed: the entry has put /dev/null into its place, opened the wrong way.
func Closed(fd int) bool {
	wrong := unix.O_RDONLY
	if fd == 0 {
		wrong = unix.O_WRONLY
	}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	var st unix.Stat_t
	return err == nil && mode&unix.O_ACCMODE == wrong && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// Exact has the calling thread sleep as exactly as our caller does, and will close what
// our caller has closed. What is executed right after it inherits that. What runs in a
// sandbox needs none of this: the helper has its own.
func Exact() {
	for fd := range 3 {
		if Closed(fd) {
			unix.CloseOnExec(fd)
		}
	}
	if slack > 0 {
		_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack, 0)
	}
}
