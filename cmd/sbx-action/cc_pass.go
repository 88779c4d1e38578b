package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/front"
)

// within returns the command line that a call of this program for itself stands for, such
// as where CC and a launcher of CMake's both name it (sbx-action cc sbx-action cc gcc):
// with the flags of both, those of the inner one last. nil: the call is of something else.
func (j *ccJob) within() []string {
	if filepath.Base(j.args[0]) != "sbx-action" {
		return nil
	}
	if path, _ := exec.LookPath(j.args[0]); !j.self.Is(path) {
		return nil
	}
	if len(j.args) < 2 || j.args[1] != "cc" { // another of our commands
		return j.args
	}
	outer := os.Args[:len(os.Args)-len(j.args)]
	return append(slices.Clone(outer), j.args[2:]...)
}

// again becomes this program with that command line.
func again(args []string) error {
	if serving != nil {
		return errOwnProcess
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	front.Exact()
	return cc.Exec(self, args, os.Environ())
}

// passOn writes what the compiler said to our own standard output and error. If it
// returns an error, the compiler is to be executed, which will fail in its own way: for
// some this is an error, for some a signal, and for some it is nothing. Where output
// was written and warnings cannot be, they are lost, or the output would be there twice.
func passOn(done *cc.Done) error {
	if err := write(os.Stdout, done.Stdout); err != nil {
		return cc.Unsaid(err)
	}
	if err := write(os.Stderr, done.Stderr); err != nil && len(done.Stdout) == 0 {
		return cc.Unsaid(err)
	}
	return nil
}

// heard returns an error if somebody would have to read what the compiler said, and
// nobody does any more, or if the compiler alone might have said it otherwise.
func (j *ccJob) heard(done *cc.Done) error {
	if len(done.Stdout) > 0 && cc.Unread(1) || len(done.Stderr) > 0 && cc.Unread(2) {
		return cc.Unsaid(syscall.EPIPE)
	}
	if len(done.Stdout) > 0 && len(done.Stderr) > 0 && cc.Mixed() {
		return cc.Unsaid(cc.ErrMixed)
	}
	return j.call.Shown(done.Stdout, done.Stderr, os.Getenv)
}

// write leaves a file that it could not write to the end where it was.
func write(f *os.File, data []byte) error {
	if len(data) == 0 { // /dev/full refuses that, too
		return nil
	}
	n, err := f.Write(data)
	if err != nil && n > 0 {
		_, _ = f.Seek(int64(-n), io.SeekCurrent)
	}
	return err
}
