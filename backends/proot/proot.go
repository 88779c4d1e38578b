// Package proot is the backend that has its sandboxes made by proot, which
// changes no root, but the paths in system calls, as a debugger would. Package
// foreign says what is promised, and how.
//
// Proot isolates nothing but files, and these only from programs that do not try
// to get around it. So it runs in namespaces of ours, and what it keeps from the
// command, beyond its root, are the host's programs and no more. All look-ups of
// the command are changed before anybody could observe them: it is not observed.
// Proot is process 1, and the command may send it signals.
package proot

import (
	"cmp"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of proot. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "proot", Program: cmp.Or(o.Program, "proot"),
		Install:   "run: apt-get install proot (or your system's like)",
		Shell:     []string{},
		OwnPID:    true,
		OwnRest:   true,
		HostShell: true,
		OldCalls:  true, // it would let them through as they are
		Adjust:    func(c *backends.Capabilities) { c.Observe, c.Owners, c.Exposed = false, false, true },
		Command: func(j *foreign.Job) (foreign.Line, error) {
			args := []string{j.Program, "-r", j.Root, "-w", "/"}
			return foreign.Line{Args: append(args, j.Init...), Env: []string{"PROOT_TMP_DIR=/tmp", "PATH=/usr/bin:/bin"}}, nil
		},
	})
}
