package main

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadly are signals of writes: nobody reads the pipe any more, or the file would become
// larger than the limit.
var deadly = [...]syscall.Signal{syscall.SIGPIPE, syscall.SIGXFSZ}

// writesFail has writes return errors where a signal would end this process: what the
// compiler does then is its business. To be notified of the signals would do as well, but
// that makes three threads: 0.1 ms of a miss. What we start in a sandbox does not
// inherit it, and what is executed in our place must not: see deadlyAgain.
func writesFail() {
	for _, s := range deadly {
		signal.Ignore(s)
	}
}

// writesAreTold does what writesFail does, for who starts programs that are to have the
// signals by default, and has the time: what is caught is not inherited.
func writesAreTold() {
	for _, s := range deadly {
		signal.Notify(make(chan os.Signal, 1), s)
	}
}

// quits has SIGQUIT and SIGALRM end this process as they end a compiler: Go would print what
// each of its threads does, and go on when a time has passed that who calls has set with
// alarm. A shell has what it starts in the background ignore SIGQUIT, with SIGINT, of which
// Go still knows.
func quits() {
	handler := uintptr(0) // SIG_DFL
	if signal.Ignored(syscall.SIGINT) {
		handler = 1 // SIG_IGN
	}
	handle(syscall.SIGQUIT, handler)
	handle(syscall.SIGALRM, 0) // SIG_DFL
}

// deadlyAgain has them be what they are for a compiler that we have not started. Go has
// no way to say so. If nothing is executed after all, writesFail follows.
func deadlyAgain() {
	for _, s := range deadly {
		handle(s, 0) // SIG_DFL
	}
}

// handle has the kernel do with a signal what handler says, without Go.
func handle(s syscall.Signal, handler uintptr) {
	act := [4]uintptr{handler} // struct sigaction of the kernel: handler, flags, restorer, mask
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
}
