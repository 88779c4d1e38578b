//go:build !linux

package bwrap

import (
	"fmt"
	"os"
	"syscall"
)

// Main says that it can do nothing here.
func Main(args []string) int {
	p := parser{called: args[0]}
	if len(args) == 2 && args[1] == "--help" {
		fmt.Print(p.usage())
		return 0
	}
	fmt.Fprintln(os.Stderr, "bwrap: sandboxes of this kind are made of Linux namespaces, which this system does not have")
	return 1
}

// MainUserChroot says that it can do nothing here.
func MainUserChroot([]string) int {
	fmt.Fprintln(os.Stderr, "linux-user-chroot: this needs Linux")
	return 1
}

func errorText(err syscall.Errno) string { return err.Error() }
