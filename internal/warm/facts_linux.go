package warm

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// statusNames are the lines of /proc/PID/status that must be equal.
var statusNames = []string{
	"TracerPid", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
	"Speculation_Store_Bypass", "SpeculationIndirectBranch", "THP_enabled", "Cpus_allowed", "Mems_allowed",
}

var namespaces = []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"}

// optional are files that not every kernel has.
var optional = []string{"cgroup", "oom_score_adj", "coredump_filter", "attr/current", "loginuid"}

// limits is how many limits of resources Linux has.
const limits = 16

// Facts is what a command inherits from the process that starts it, and what is
// shown of the host, besides what a caller passes on. Two processes with equal facts
// can stand for each other. Key rings and memory policies are not among them, as the
// kernel tells nobody of those; for Landlock see proof_linux.go.
//
// The soft limit of open files is not among them either: Go changes its own, and a
// sandbox has one of its own.
type Facts struct {
	text   string // of files in /proc, of names of namespaces
	limits [limits]unix.Rlimit
	sched  unix.SchedAttr
	io     int
	root   place
	exe    place
	when   [4]int64 // mtime and ctime of exe
}

type place struct{ major, minor, mount, inode uint64 }

// FactsOf returns the facts of the process with that number. It fails if they cannot be read: then the process is somebody else's.
func FactsOf(pid int) (*Facts, error) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	defer unix.Close(dir)
	f, text, buf := &Facts{}, make([]byte, 0, 2048), make([]byte, 8192)
	status, err := read(dir, "status", buf)
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	for line := range bytes.Lines(status) {
		if name, _, _ := bytes.Cut(line, []byte(":")); slices.Contains(statusNames, string(name)) {
			text = append(text, line...)
		}
	}
	for _, name := range namespaces {
		n, err := unix.Readlinkat(dir, "ns/"+name, buf)
		if err != nil && err != unix.ENOENT {
			return nil, fmt.Errorf("look at the namespaces of process %d: %w", pid, err)
		}
		text = append(append(text, buf[:max(n, 0)]...), '\n')
	}
	for _, name := range optional {
		data, err := read(dir, name, buf)
		if err == unix.ESRCH {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		text = append(append(text, data...), 0)
	}
	f.text = string(text)
	for i := range f.limits {
		if err := unix.Prlimit(pid, i, nil, &f.limits[i]); err != nil {
			return nil, fmt.Errorf("look at the limits of process %d: %w", pid, err)
		}
	}
	f.limits[unix.RLIMIT_NOFILE].Cur = 0
	attr, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("look at how process %d is scheduled: %w", pid, err)
	}
	f.sched = *attr
	const process = 1
	prio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, process, uintptr(pid), 0)
	if errno == 0 {
		f.io = int(prio)
	}
	var st unix.Statx_t
	if f.root, err = placeOf(dir, "root", &st); err != nil {
		return nil, fmt.Errorf("look at the root directory of process %d: %w", pid, err)
	}
	if f.exe, err = placeOf(dir, "exe", &st); err != nil {
		return nil, fmt.Errorf("look at the program of process %d: %w", pid, err)
	}
	f.when = [4]int64{st.Mtime.Sec, int64(st.Mtime.Nsec), st.Ctime.Sec, int64(st.Ctime.Nsec)}
	return f, nil
}

func placeOf(dir int, name string, st *unix.Statx_t) (place, error) {
	const mountID = 0x1000 // STATX_MNT_ID
	if err := unix.Statx(dir, name, 0, unix.STATX_BASIC_STATS|mountID, st); err != nil {
		return place{}, err
	}
	return place{uint64(st.Dev_major), uint64(st.Dev_minor), st.Mnt_id, st.Ino}, nil
}

// read reads a small file of /proc.
func read(dir int, name string, buf []byte) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf)
	return buf[:max(n, 0)], err
}

// Differs says in what two processes differ, for people; or "".
func (f *Facts) Differs(g *Facts) string {
	switch {
	case f.exe != g.exe || f.when != g.when:
		return "it is another sbx-action"
	case f.text != g.text:
		return "its user, rights, namespaces, control group or processors are other ones"
	case f.root != g.root:
		return "its root directory is another one"
	case f.limits != g.limits:
		return "its limits are other ones"
	case f.sched != g.sched || f.io != g.io:
		return "its priority is another one"
	}
	return ""
}

// started are variables that a Go program reads once, when it starts.
var started = []string{"TZ", "ZONEINFO", "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK"}

// Startup returns what this process was told at its start of what Go reads then.
func Startup() (list []string) {
	for _, name := range started {
		if v, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+v)
		}
	}
	return list
}
