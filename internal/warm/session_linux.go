package warm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is the name by which this program is called as a part of a session.
const Program = "sbx-action-warm"

// The processes of a session. Whoever starts one becomes the COMMAND, so that it is
// in every respect as if there were no session. The keeper, which is not its child
// (it would wait for us), ends with it, and the workers with the keeper.
//
//	launch NUMBER	starts the keeper, and ends
//	keep NUMBER	makes the sockets, starts the workers, and those that die again
//	build NUMBER SLACK	is keep for a session that has begun by itself: see build_linux.go
//	work SLACK	is a worker, which sets its timers right: see patient
//
// The descriptors that they are given:
const (
	userFD  = 3 // launch, keep, build: a pidfd of whom the session is for
	readyFD = 4 // launch, keep, work: takes "+" when all is ready, else why not; keep: gives "." when we shall end

	holdFD = 5 // launch, keep, build: says that the directory is in use, see makeDir

	listenFD   = 3 // work
	lifeFD     = 5 // work: ends with the keeper
	countFD    = 6 // work: see Counts
	workHoldFD = 7 // work: as holdFD
	// More are in proof_linux.go.
)

// A Session is one that this process has started.
type Session struct {
	Dir   string
	ended *os.File // ends when the last of its processes has
}

// Start starts a session of n workers for this process: it ends when this process
// does, whatever program that executes until then.
func Start(n int) (*Session, error) {
	dir, hold, err := makeDir()
	if err != nil {
		return nil, err
	}
	defer unix.Close(hold)
	s, err := start(dir, hold, n)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func start(dir string, hold, n int) (_ *Session, err error) {
	user, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("open a descriptor of this process: %w", err)
	}
	defer unix.Close(user)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ready, tell := os.NewFile(uintptr(pair[0]), "session"), os.NewFile(uintptr(pair[1]), "session")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, tell.Close(), ready.Close())
	}
	defer null.Close()
	pid, err := spawn([]string{"launch", strconv.Itoa(n), dir}, []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(user), tell.Fd(), uintptr(hold)})
	tell.Close()
	if err != nil {
		return nil, errors.Join(err, ready.Close())
	}
	wait(pid)
	var why strings.Builder
	for b := make([]byte, 1); ; {
		n, err := ready.Read(b)
		if n == 1 && b[0] == '+' && why.Len() == 0 {
			return &Session{Dir: dir, ended: ready}, nil
		}
		if err != nil {
			ready.Close()
			if why.Len() == 0 {
				why.WriteString("the processes of the session ended")
			}
			return nil, errors.New(why.String())
		}
		why.Write(b[:n])
	}
}

// End ends the session, and waits for that. It is for who has not become another
// program.
func (s *Session) End() {
	s.ended.WriteString(".")     //nolint:errcheck // then it has ended already
	io.Copy(io.Discard, s.ended) //nolint:errcheck // its end is all that matters
	s.ended.Close()
}

// spawn starts this program as a part of a session. It is in a session of the
// kernel's of its own: signals of the terminal are for the callers.
func spawn(args []string, files []uintptr) (int, error) {
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{Program}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start a process of the session: %w", err)
	}
	return pid, nil
}

func wait(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// waitWorker waits for the end of a worker. One that somebody stops, and does not
// continue soon, would hold its caller: it is killed, and the caller goes on without it.
func waitWorker(pid int) {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			return
		}
		time.Sleep(time.Second)
		if text, ok := procFile(pid, "stat", 1024); ok && strings.Contains(text, ") T ") {
			unix.Kill(pid, unix.SIGKILL) //nolint:errcheck // it is our child, and has not been waited for
		}
	}
}

// Main is what a part of a session does; args follow the program's name. It returns
// the exit code. Work is what a worker does with its index and socket.
func Main(args []string, work func(*Worker) int) int {
	slack, compiles := 0, len(args) > 0 && args[len(args)-1] == compilesWord
	if compiles {
		args = args[:len(args)-1]
	}
	if len(args) == 4 && args[0] == buildWord {
		slack, _ = strconv.Atoi(args[2]) // 0: nobody has touched the timers
		args = []string{args[0], args[1], args[3]}
	}
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "sbx-action: this name is for 'sbx-action warm' itself")
		return 125
	}
	number, err := strconv.Atoi(args[1])
	if err != nil || number < 0 || number > Most && args[0] != "work" {
		return 125
	}
	unix.Chdir("/") //nolint:errcheck // then we are where somebody may want to unmount something
	name()
	switch args[0] {
	case "launch":
		closeFrom(holdFD + 1)
		if _, err := spawn([]string{"keep", args[1], args[2]}, []uintptr{0, 1, 2, userFD, readyFD, holdFD}); err != nil {
			fmt.Fprint(os.NewFile(readyFD, "ready"), err)
			return 125
		}
	case "keep":
		closeFrom(proofFD)
		return (&keeper{dir: args[2], ready: os.NewFile(readyFD, "ready")}).keep(number)
	case buildWord:
		closeFrom(proofFD)
		return (&keeper{dir: args[2], slack: slack, compiles: compiles}).keepBuild(number)
	case "work":
		closeFrom(workProofFD + 1)
		w, err := newWorker(args[2], number)
		if err != nil {
			return 125
		}
		w.Compiles = compiles
		return work(w)
	}
	return 0
}

// name has ps call us by our name, not "exe". Nothing of package os opens a file before
// closeFrom: the runtime would have a descriptor of its own from then on.
func name() {
	fd, err := unix.Open("/proc/self/comm", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Write(fd, []byte(Program)) //nolint:errcheck // it is for people
	unix.Close(fd)
}

// closeFrom closes what we have inherited and nobody wants us to have, such as the
// pipes of a jobserver.
func closeFrom(fd int) {
	unix.CloseRange(uint(fd), 1<<32-1, 0) //nolint:errcheck // Linux before 5.9: they stay open
}

// A keeper looks after the workers.
type keeper struct {
	dir      string
	ready    *os.File // of keep
	compiles bool     // see compilesWord
	slack    int      // in ns: what the workers' timers are to have, if ours are inexact by now; or 0
	life     [2]int   // a pipe that ends with us
	null     int
	count    *os.File
	locks    []*os.File // of the workers
	wg       sync.WaitGroup

	mu     sync.Mutex
	ending bool  // guarded by mu
	pids   []int // guarded by mu: of the workers; 0: it does not run
}

func (k *keeper) keep(n int) int {
	answers := make(chan string, n)
	why := k.open(n, func(_ int, why string) { answers <- why })
	for i := 0; i < n && why == ""; i++ {
		why = <-answers
	}
	if why == "" {
		for _, l := range k.locks {
			unix.Flock(int(l.Fd()), unix.LOCK_UN) //nolint:errcheck // then nobody calls it
		}
		k.ready.WriteString("+")
		k.untilUnused()
	}
	k.close()
	if why != "" {
		k.ready.WriteString(why)
		return 125
	}
	return 0
}

// close ends the workers, and what there is of the session.
func (k *keeper) close() {
	k.mu.Lock()
	k.ending = true
	k.mu.Unlock()
	unix.Close(k.life[1])
	k.wg.Wait()
	remove(holdFD, k.dir)
}

// open makes everything, and starts the workers; or it says why that is not to be had.
// Nobody can call a worker before its lock is given up. First is called once for each,
// with why it does not work, or "".
func (k *keeper) open(n int, first func(i int, why string)) (why string) {
	if err := makeProof(); err != nil {
		return err.Error()
	}
	if err := unix.Pipe2(k.life[:], unix.O_CLOEXEC); err != nil {
		return "make a pipe: " + err.Error()
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	k.null = null
	if k.count, err = os.OpenFile(filepath.Join(k.dir, countName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		err = k.count.Truncate(countSize)
	}
	if err != nil {
		return err.Error()
	}
	k.pids = make([]int, n)
	sockets := make([]int, n)
	for i := range n {
		socket, lock, err := k.listen(i)
		if err != nil {
			return err.Error()
		}
		sockets[i], k.locks = socket, append(k.locks, lock)
	}
	for i, socket := range sockets {
		k.wg.Go(func() { k.look(i, socket, k.locks[i], func(why string) { first(i, why) }) })
	}
	return ""
}

// listen makes the socket of a worker, and its lock, which we have.
func (k *keeper) listen(i int) (socket int, lock *os.File, err error) {
	name := filepath.Join(k.dir, strconv.Itoa(i))
	socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: name})
	}
	if err == nil {
		err = unix.Listen(socket, 1)
	}
	if err != nil {
		return -1, nil, fmt.Errorf("listen on %s: %w", name, err)
	}
	// It appears as one that is taken: whoever called before there is a worker would
	// have to wait for that.
	if lock, err = os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return socket, nil, err
	}
	if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		err = os.Rename(name+".new", name+".lock")
	}
	return socket, lock, err
}

// look starts worker i, again and again as long as somebody may call it. First is
// called once, with why it does not work, or "".
func (k *keeper) look(i, socket int, lock *os.File, first func(why string)) {
	for quick := 0; quick < 5; quick++ {
		began := time.Now()
		pid, why := k.startWorker(i, socket)
		if first != nil {
			first(why)
			first = nil
		}
		if pid == 0 {
			break
		}
		waitWorker(pid)
		k.runs(i, 0)
		if time.Since(began) > time.Second {
			quick = 0
		}
		if k.over() {
			break
		}
	}
	// Whoever waits goes on without, and nobody comes any more: the lock is never
	// given back.
	unix.Close(socket)
	if !k.over() {
		unix.Flock(int(lock.Fd()), unix.LOCK_EX) //nolint:errcheck // then callers are refused by the socket
	}
}

// startWorker starts a worker and waits until it is ready, or says why it is not.
func (k *keeper) startWorker(i, socket int) (pid int, why string) {
	ready, tell, err := os.Pipe()
	if err != nil {
		return 0, err.Error()
	}
	defer ready.Close()
	null := uintptr(k.null)
	slack, undo := k.slack, func() {}
	if slack <= 0 {
		slack, undo = patient()
	}
	defer undo()
	args := []string{"work", strconv.Itoa(slack), k.dir}
	if k.compiles {
		args = append(args, compilesWord)
	}
	pid, err = spawn(args, []uintptr{null, null, null, uintptr(socket), tell.Fd(), uintptr(k.life[0]), k.count.Fd(), holdFD, proofFD})
	tell.Close()
	if err != nil {
		return 0, err.Error()
	}
	k.runs(i, pid)
	text, _ := io.ReadAll(ready)
	if string(text) == "+" {
		return pid, ""
	}
	wait(pid)
	k.runs(i, 0)
	if len(text) == 0 {
		return 0, "a worker ended at once"
	}
	return 0, string(text)
}

// runs notes which process worker i is.
func (k *keeper) runs(i, pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pids[i] = pid
}

func (k *keeper) over() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ending
}

// untilUnused returns when the process that the session is for has ended, or
// somebody wants us to.
func (k *keeper) untilUnused() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	gone := make(chan struct{})
	go func() {
		untilGone()
		close(gone)
	}()
	told := make(chan struct{})
	go func() {
		if n, _ := unix.Read(readyFD, make([]byte, 1)); n > 0 { // else our user is another program now
			close(told)
		}
	}()
	select {
	case <-told:
	case <-gone:
	case <-signals:
	}
}

// untilGone returns when the process that the session is for has ended.
func untilGone() {
	fds := []unix.PollFd{{Fd: userFD, Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds, -1); n > 0 || err != unix.EINTR {
			return
		}
	}
}

// Counts is what the workers of a session have done so far.
type Counts struct{ Served, Declined uint64 }

// The counts are in a file: two numbers of 64 bits, in the machine's order, which
// the workers add to in memory.
const (
	countName = "count"
	countSize = 16
)

// ReadCounts returns the counts of the session in a directory.
func ReadCounts(dir string) (Counts, error) {
	data, err := os.ReadFile(filepath.Join(dir, countName))
	if err == nil && len(data) != countSize {
		err = fmt.Errorf("%s has %d bytes, want %d", filepath.Join(dir, countName), len(data), countSize)
	}
	if err != nil {
		return Counts{}, err
	}
	return Counts{binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:])}, nil
}

// patient makes the timers of this thread, and those that start from it, inexact by a
// millisecond, and returns what they were, and what undoes it. It is for the thread of
// Go's runtime in a worker that looks every 20 µs whether there is something to do for
// it, of which it is late by 50 µs as a rule: on the processor where the command runs,
// as often as not. It is also for that of the keeper of a build's session, which looks 200
// times while the workers start.
func patient() (slack int, undo func()) {
	runtime.LockOSThread()
	slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || slack <= 0 || slack >= patience {
		return 0, runtime.UnlockOSThread
	}
	unix.Prctl(unix.PR_SET_TIMERSLACK, patience, 0, 0, 0) //nolint:errcheck // then they stay exact
	return slack, func() {
		unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0) //nolint:errcheck // as above
		runtime.UnlockOSThread()
	}
}

const patience = 1_000_000 // ns

// impatient undoes for this goroutine, and what it starts, what patient has done. It
// stays on its thread then.
func impatient(slack int) error {
	if slack == 0 {
		return nil
	}
	runtime.LockOSThread()
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
}
