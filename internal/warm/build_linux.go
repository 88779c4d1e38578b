package warm

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Without [Variable], a miss belongs to a build: that is its process group, as a shell
// makes one of each command that is typed, and of all that this starts. A build that
// misses again and again gets a session by itself. It ends with the group's leader, which
// is the command that was typed. A miss that is the leader belongs to no such build, but
// perhaps to one whose commands have groups of their own: see apart_linux.go.
//
// The directory of such a session has a name that the front knows: of the user and the
// process with which it ends. The number of a group's leader is not given to another
// process as long as there is one in the group.
//
// Nothing of this is ever an error: a build without a session takes longer.

// Off, as the value of [Variable], says that there is to be no session.
const Off = "off"

const (
	buildWord    = "build"
	compilesWord = "cc" // last argument of all processes of a session that a compiler's call has begun

	together  = 5 // seconds: misses that are further apart are not worth a session
	many      = 2 // misses of a build
	manyApart = 3 // of one whose commands have groups of their own, in a row: see apart_linux.go

	buildMax = 4  // workers
	baseMax  = 58 // bytes of a directory's name, as in warm.c: the kernel's names of sockets are short
	slots    = 128
	slotSize = 8
	room     = 512              // threads that a user or a control group may have, at least: a session needs dozens
	leftOver = 20 * time.Second // for workers that are told to end
)

// idle is for how long a session that has begun by itself waits for calls. It ends when
// none has been answered for that long, and up to twice as long.
const idle = 10 * time.Second

// buildDirs are the places where the session of a process can be, the best one first.
func buildDirs(pid int) (list []string) {
	name := fmt.Sprintf("%s%d-%d", prefix, os.Geteuid(), pid)
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) && len(base) <= baseMax {
		list = append(list, base+"/"+name)
	}
	// In memory first: to make its files takes milliseconds on some disks.
	return append(list, "/dev/shm/"+name, "/tmp/"+name)
}

// Found returns the directory of the session of this process's build, or "".
func Found() string {
	leader := unix.Getpgrp()
	if dir := found(leader); dir != "" && leader != os.Getpid() {
		return dir
	}
	return found(parentOf(leader))
}

// found returns the directory of the session of a process, or "".
func found(pid int) string {
	if pid <= 1 {
		return ""
	}
	for _, dir := range buildDirs(pid) {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// Missed notes that a call of this process's build was a miss. If it is not the first one,
// and there is no session, it starts one, for which it does not wait. Notes is a file that
// says who has missed last: slots of two numbers of 32 bits in the machine's order, the
// process with which the build ends, and the seconds since the machine was started and,
// in four bits above these, how many times. The slots of those whose commands have groups
// of their own come after the others: one miss may count in both. It is nothing but a
// hint: a slot is written over by another build's. Compiles says that the call is one of a
// compiler, as the next ones will be.
func Missed(notes string, compiles bool) {
	leader := unix.Getpgrp()
	if leader <= 0 || os.Getenv(Variable) != "" {
		return
	}
	fd, err := unix.Open(notes, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return // another one notes something, which is as good
	}
	parent := parentOf(leader)
	if leader != os.Getpid() && again(fd, leader, many) {
		again(fd, parent, 0) // the leader is a build itself
		if found(parent) == "" {
			begin(leader, compiles, func() bool { return true })
		}
		return
	}
	if parent > 1 && apart(leader) && again(fd, parent, manyApart) {
		begin(parent, compiles, func() bool { return runs(parent, leader) })
	}
}

// begin starts a session that ends with a process, unless there is one. Still is asked
// when that process cannot become another one any more.
func begin(pid int, compiles bool, still func() bool) {
	// What we have inherited, and the session must not keep, has to be closed: a pipe at
	// whose end somebody waits.
	if unix.CloseRange(1<<32-1, 1<<32-1, 0) != nil {
		return
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil || limit.Cur < room {
		return // what we take would be missing elsewhere
	}
	user, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(user)
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(user), Events: unix.POLLIN}}, 0); n != 0 || !still() {
		return // it has ended, or is none of a build
	}
	dir, hold, ok := claim(pid)
	if !ok {
		return
	}
	defer unix.Close(hold)
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(null)
		n := uintptr(null)
		slack, undo := patient()
		args := []string{buildWord, strconv.Itoa(min(runtime.NumCPU(), buildMax)), strconv.Itoa(slack), dir}
		if compiles {
			args = append(args, compilesWord)
		}
		_, err = spawn(args, []uintptr{n, n, n, uintptr(user), n, uintptr(hold)})
		undo()
	}
	if err != nil {
		unix.Rmdir(dir) //nolint:errcheck // the next one removes it
	}
}

// again says whether a build has missed so many times, none of which was long before the
// next, and notes that it has now; with 0 it takes it for one that has not yet. Enough is
// many for a group's leader, and manyApart or 0 for its parent.
func again(notes, pid, enough int) bool {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return false
	}
	const timeBits = 28 // eight years; above is how many times, up to 15
	slot := pid % slots
	if enough != many {
		slot += slots
	}
	at, ne, sec := int64(slot*slotSize), binary.NativeEndian, uint32(now.Sec)&(1<<timeBits-1)
	before, after, n := make([]byte, slotSize), make([]byte, 0, slotSize), uint32(1)
	_, err := unix.Pread(notes, before, at)
	if last := ne.Uint32(before[4:]); ne.Uint32(before) == uint32(pid) && sec-last&(1<<timeBits-1) <= together {
		n = min(last>>timeBits+1, 15)
	} else if enough == 0 {
		return false
	}
	if enough == 0 {
		n = 0
	}
	after = ne.AppendUint32(ne.AppendUint32(after, uint32(pid)), n<<timeBits|sec)
	if _, werr := unix.Pwrite(notes, after, at); err != nil || werr != nil {
		return false
	}
	return n >= uint32(enough) && enough > 0
}

// claim makes the directory of a process's session, if there is none that lives.
func claim(pid int) (dir string, hold int, ok bool) {
	for _, dir = range buildDirs(pid) {
		err := unix.Mkdir(dir, 0o700)
		if err == unix.EEXIST {
			left, lerr := lockDir(dir, unix.LOCK_EX)
			if lerr != nil {
				return "", -1, false // it lives, or is somebody else's
			}
			remove(left, dir)
			unix.Close(left)
			err = unix.Mkdir(dir, 0o700)
		}
		if err != nil {
			continue
		}
		if err = unix.Chmod(dir, 0o700); err == nil { // whatever our umask is
			hold, err = lockDir(dir, unix.LOCK_SH)
		}
		return dir, hold, err == nil
	}
	return "", -1, false
}

// keepBuild is keep for a session that has begun by itself.
func (k *keeper) keepBuild(n int) int {
	why := "the control group has room for a few threads only"
	if roomy() {
		why = k.open(n, func(i int, why string) {
			if why == "" {
				unix.Flock(int(k.locks[i].Fd()), unix.LOCK_UN) //nolint:errcheck // then nobody calls it
			}
		})
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	gone := make(chan struct{})
	go func() {
		untilGone()
		close(gone)
	}()
	k.untilIdle(gone, signals)  // also where nothing works, so that nobody tries again at once
	for _, l := range k.locks { // who is being answered is waited for, and nobody comes any more
		for unix.Flock(int(l.Fd()), unix.LOCK_EX) == unix.EINTR {
		}
	}
	late := time.AfterFunc(leftOver, func() {
		k.kill()
		remove(holdFD, k.dir)
		os.Exit(1)
	})
	k.close()
	late.Stop()
	if why != "" {
		return 125
	}
	return 0
}

// roomy says whether this process's control group, if it is one of version 2 that can be
// looked at, has room for more threads than we need. It opens nothing that stays open.
func roomy() bool {
	buf := make([]byte, 4096)
	file := func(name string) string {
		data, err := read(unix.AT_FDCWD, name, buf)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(data), "\n")
	}
	for line := range strings.Lines(file("/proc/self/cgroup")) {
		group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		most, err := strconv.Atoi(file("/sys/fs/cgroup" + group + "/pids.max"))
		return err != nil || most >= room // "max", or it cannot be seen
	}
	return true
}

// untilIdle returns when the leader has gone, somebody wants us to end, or nobody has
// called for some time; then nobody can any more, either.
func (k *keeper) untilIdle(gone <-chan struct{}, signals <-chan os.Signal) {
	var served uint64
	for {
		select {
		case <-gone:
			return
		case <-signals:
			return
		case <-time.After(idle):
		}
		c, err := ReadCounts(k.dir)
		if err != nil || c.Served == served && k.free() {
			return
		}
		served = c.Served
	}
}

// free takes the locks of all workers, if nobody has any.
func (k *keeper) free() bool {
	for i, l := range k.locks {
		if unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			for _, l := range k.locks[:i] {
				unix.Flock(int(l.Fd()), unix.LOCK_UN) //nolint:errcheck // then nobody calls it
			}
			return false
		}
	}
	return true
}

// kill ends workers that do not do so themselves.
func (k *keeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, pid := range k.pids {
		if pid != 0 {
			unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it has just ended
		}
	}
}
