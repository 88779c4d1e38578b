//go:build !linux

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// writesFail has writes return errors where a signal would end this process: what the
// compiler does then is its business.
func writesFail() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)
}

// writesAreTold is what writesFail does here.
func writesAreTold() {}

// quits is for Linux.
func quits() {}

// deadlyAgain is done by what executes a program.
func deadlyAgain() {}
