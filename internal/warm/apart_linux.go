package warm

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Ninja, and others that want to end all that a command has started, put each command
// into a process group of its own. The build is then the process that did so, the parent
// of the group's leader, if that
//
//   - is in the same session of the kernel's, and of the same user: cron, an ssh or
//     container daemon, sudo and tmux begin a session for what they start;
//   - is no shell with jobs, which a user types at for hours: a process that hands the
//     terminal to its jobs must not be stopped when it takes it back, so it ignores
//     SIGTTOU, or catches or blocks it; nobody else has a reason to. And its job has
//     the terminal, if it is in the foreground;
//   - is not the first process of all, to which those go whose parent has ended.
//
// The miss is to be the leader, or what the leader, a shell that was given a line, has
// started. What runs the jobs of several builds may start these so, too: then a leader
// has a second miss, and the count of its parent's begins again.

// fields are what the kernel says of a process in /proc/PID/stat.
type fields struct{ parent, group, session, terminal int } // terminal: the group in its foreground

// fieldsOf reads them. A process that cannot be seen has none.
func fieldsOf(pid int) (f fields, ok bool) {
	text, ok := procFile(pid, "stat", 1024)
	if !ok {
		return f, false
	}
	// The name may hold spaces and parentheses.
	words := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(words) < 6 {
		return f, false
	}
	for i, to := range []*int{1: &f.parent, 2: &f.group, 3: &f.session, 5: &f.terminal} {
		if to == nil {
			continue
		}
		n, err := strconv.Atoi(words[i])
		if err != nil {
			return f, false
		}
		*to = n
	}
	return f, true
}

// procFile reads the beginning of a file in /proc/PID. It opens nothing that stays open.
func procFile(pid int, name string, most int) (string, bool) {
	if pid <= 0 {
		return "", false
	}
	data, err := read(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/"+name, make([]byte, most))
	return string(data), err == nil
}

// parentOf returns the parent of a process, or 0.
func parentOf(pid int) int {
	if pid == os.Getpid() {
		return os.Getppid()
	}
	f, _ := fieldsOf(pid)
	return f.parent
}

// apart says whether this process may be a command that has a group of its own.
func apart(leader int) bool {
	if leader == os.Getpid() {
		return true
	}
	if leader != os.Getppid() {
		return false
	}
	args, _ := procFile(leader, "cmdline", 256)
	words := strings.SplitN(args, "\x00", 3)
	return len(words) == 3 && words[1] == "-c"
}

// runs says whether a process, which has not ended, runs a build of which a group's
// leader is a command.
func runs(pid, leader int) bool {
	command, ok1 := fieldsOf(leader)
	f, ok2 := fieldsOf(pid)
	status, ok3 := procFile(pid, "status", 4096)
	if !ok1 || !ok2 || !ok3 || command.parent != pid || pid <= 1 {
		return false
	}
	if f.group == leader || f.session != command.session || command.session == leader || command.terminal == leader {
		return false
	}
	return sameUser(status) && !hasJobs(status)
}

// sameUser says whether a process of which that is /proc/PID/status is one of this user's.
func sameUser(status string) bool {
	for line := range strings.Lines(status) {
		if words := strings.Fields(line); len(words) == 5 && words[0] == "Uid:" {
			return words[1] == strconv.Itoa(os.Getuid()) && words[2] == strconv.Itoa(os.Geteuid())
		}
	}
	return false
}

// hasJobs says whether it is that of a shell with jobs.
func hasJobs(status string) bool {
	seen := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigBlk" && name != "SigIgn" && name != "SigCgt" {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil || set>>(unix.SIGTTOU-1)&1 != 0 {
			return true
		}
		seen++
	}
	return seen != 3
}
