package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func isTTY(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// A terminal connects the terminal that we were started from with that of a
// sandbox: keys go in as they are, so that Ctrl-C and Ctrl-Z mean the processes
// inside, the size follows, and what is written comes out.
type terminal struct {
	in, out *os.File
	saved   *unix.Termios
	resized chan os.Signal
	once    sync.Once
	done    chan struct{} // closed when everything has been written

	mu  sync.Mutex
	far *os.File // guarded by mu
}

func newTerminal(in, out *os.File) (*terminal, error) {
	saved, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	return &terminal{in: in, out: out, saved: saved, resized: make(chan os.Signal, 1)}, nil
}

// connect takes over the far end of the sandbox's terminal. It does not wait.
func (t *terminal) connect(far *os.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.far, t.done = far, make(chan struct{})
	raw := *t.saved // as cfmakeraw has it
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	t.resize()
	unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &raw) //nolint:errcheck // it was one a moment ago
	signal.Notify(t.resized, syscall.SIGWINCH)
	go func() {
		for range t.resized {
			t.mu.Lock()
			t.resize()
			t.mu.Unlock()
		}
	}()
	go io.Copy(far, t.in) //nolint:errcheck // ends with the program: nobody can take a key from a read
	go func() {
		defer close(t.done)
		io.Copy(t.out, far) //nolint:errcheck // EIO, when the last process inside is gone
	}()
}

// resize gives the sandbox's terminal the size of ours.
func (t *terminal) resize() {
	if t.far == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(t.in.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(t.far.Fd()), unix.TIOCSWINSZ, size) //nolint:errcheck // it only looks worse
	}
}

// close makes our terminal what it was. Nothing is alive inside any more.
func (t *terminal) close() {
	t.once.Do(func() {
		t.mu.Lock()
		done := t.done
		t.mu.Unlock()
		if done != nil {
			<-done
			signal.Stop(t.resized)
			close(t.resized)
		}
		unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, t.saved) //nolint:errcheck // or it has gone
		t.mu.Lock()
		if t.far != nil {
			t.far.Close()
			t.far = nil
		}
		t.mu.Unlock()
	})
}
