// Package chroot is the backend for systems that have chroot(1) and not much
// else. Package foreign says what is promised, and how.
//
// It works for root only, and isolates files and processes: our helper makes
// the root, and a pid namespace, without which nobody could say that nothing of
// a command is left. Network, host name and shared memory are those of the host;
// a request for a network of its own is refused.
package chroot

import (
	"cmp"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of chroot. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "chroot", Program: cmp.Or(o.Program, "chroot"),
		Install:  "it is part of GNU coreutils, busybox and others",
		RootOnly: true,
		Shell:    []string{},
		OwnPID:   true,
		Adjust: func(c *backends.Capabilities) {
			c.NetworkNone, c.IPCNamespace, c.UTSNamespace = false, false, false
		},
		Command: func(j *foreign.Job) (foreign.Line, error) {
			return foreign.Line{Args: append([]string{j.Program, j.Root}, j.Init...)}, nil
		},
	})
}
