package warm

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Worker is this process, where it is one.
type Worker struct {
	Own      *Facts
	Startup  []string
	Compiles bool // the session was begun by a compiler's call

	dir    string
	null   int
	proof  proof
	counts *[2]atomic.Uint64
	watch  watch
}

// A watch looks at the connection of the call that is answered. It has a thread of
// its own, which waits in the kernel. The first thing that it does for a call is to
// look at the caller, beside all else that is done for it.
type watch struct {
	ep int

	mu    sync.Mutex
	gen   int32 // guarded by mu: which call it is
	conn  int   // guarded by mu; -1: none
	told  func(unix.Signal)
	lost  func()
	facts func() string
}

const heard = unix.EPOLLIN | unix.EPOLLRDHUP

// Watch calls lost when the caller of c has gone, and told for each signal that it
// passes on, until the function that it returns is called. Before that it finds out
// what [Call.Same] says.
func (w *Worker) Watch(c *Call, told func(unix.Signal), lost func()) (stop func()) {
	a := &w.watch
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gen++
	a.conn, a.told, a.lost, a.facts = c.conn, told, lost, c.facts
	// A descriptor that can be waited for, and memory is the kernel's worry. That it can
	// be written to wakes the thread.
	unix.EpollCtl(a.ep, unix.EPOLL_CTL_ADD, c.conn, &unix.EpollEvent{Events: heard | unix.EPOLLOUT, Fd: a.gen}) //nolint:errcheck // see above
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		unix.EpollCtl(a.ep, unix.EPOLL_CTL_DEL, c.conn, nil) //nolint:errcheck // it may be out already
		a.conn = -1
	}
}

func (a *watch) run() {
	events := make([]unix.EpollEvent, 1)
	for {
		n, err := unix.EpollWait(a.ep, events, -1)
		if n == 1 {
			if events[0].Events&unix.EPOLLOUT != 0 {
				a.first(events[0].Fd)
			}
			a.look(events[0].Fd)
		} else if err != unix.EINTR {
			return
		}
	}
}

// first looks at the caller of call gen.
func (a *watch) first(gen int32) {
	a.mu.Lock()
	facts := a.facts
	is := a.conn >= 0 && a.gen == gen
	if is {
		unix.EpollCtl(a.ep, unix.EPOLL_CTL_MOD, a.conn, &unix.EpollEvent{Events: heard, Fd: gen}) //nolint:errcheck // as in Watch
	}
	a.mu.Unlock()
	if is {
		facts()
	}
}

// look reads what the caller of call gen has sent, if that is still the one.
func (a *watch) look(gen int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn < 0 || a.gen != gen {
		return
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(a.conn, b[:], unix.MSG_DONTWAIT)
	switch {
	case n == 1:
		a.told(unix.Signal(b[0]))
	case err == nil || err != unix.EAGAIN && err != unix.EINTR:
		unix.EpollCtl(a.ep, unix.EPOLL_CTL_DEL, a.conn, nil) //nolint:errcheck // or we are told again
		a.lost()
	}
}

// newWorker is for the goroutine that will start the sandboxes. Slack is that of the
// timers that they are to have; 0: they have it.
func newWorker(dir string, slack int) (*Worker, error) {
	if err := impatient(slack); err != nil {
		return nil, fmt.Errorf("set the timers' slack: %w", err)
	}
	w := &Worker{dir: dir, Startup: Startup()}
	for _, fd := range []int{listenFD, readyFD, lifeFD, countFD, workHoldFD, workProofFD} { // for nobody whom we start
		unix.CloseOnExec(fd)
	}
	page, err := unix.Mmap(countFD, 0, countSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the counts: %w", err)
	}
	w.counts = (*[2]atomic.Uint64)(unsafe.Pointer(&page[0]))
	if w.proof, err = readProof(); err != nil {
		return nil, fmt.Errorf("read what callers prove themselves with: %w", err)
	}
	if w.Own, err = FactsOf(os.Getpid()); err != nil {
		return nil, err
	}
	if w.null, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if w.watch.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	w.watch.conn = -1
	go w.watch.run()
	return w, w.Forget()
}

// Ready tells the keeper that calls can come or, if why is not empty, that they
// cannot, and why.
func (w *Worker) Ready(why string) {
	if why == "" {
		why = "+"
	}
	unix.Write(readyFD, []byte(why)) //nolint:errcheck // then there is no keeper any more
	unix.Close(readyFD)
}

// UntilAlone returns when the keeper has ended.
func (w *Worker) UntilAlone() {
	b := make([]byte, 1)
	for {
		if _, err := unix.Read(lifeFD, b); err != unix.EINTR {
			return
		}
	}
}

// Left removes what the keeper has not.
func (w *Worker) Left() { remove(workHoldFD, w.dir) }

// Next waits for the next call.
func (w *Worker) Next() (*Call, error) {
	for {
		fd, _, err := unix.Accept4(listenFD, unix.SOCK_CLOEXEC)
		switch err {
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case nil:
		default:
			return nil, fmt.Errorf("wait for a call: %w", err)
		}
		if c, err := Receive(fd); err == nil {
			return c, nil
		}
	}
}

// Served and Declined count.
func (w *Worker) Served()   { w.counts[0].Add(1) }
func (w *Worker) Declined() { w.counts[1].Add(1) }

// Forget gives up what Become took on, as far as others could notice it: files that
// stay open, a directory that cannot be unmounted.
func (w *Worker) Forget() error {
	for fd := range 3 {
		if err := unix.Dup3(w.null, fd, 0); err != nil {
			return err
		}
	}
	return unix.Chdir("/")
}

// Tidy says whether no more descriptors are open than most.
func (w *Worker) Tidy(most int) bool {
	fd, err := unix.Dup(w.null)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return fd < most
}
