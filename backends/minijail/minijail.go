// Package minijail is the backend that has its sandboxes made by minijail0, of
// ChromeOS. Debian does not package it: it is used where the program is there.
// Package foreign says what is promised, and how.
//
// It works for root only.
package minijail

import (
	"cmp"
	"strconv"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of minijail0. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "minijail", Program: cmp.Or(o.Program, "minijail0"),
		Install:  "build it from https://google.github.io/minijail, or take another backend",
		RootOnly: true,
		Compiled: true,
		Shell:    []string{},
		Command:  command,
	})
}

// command is minijail0's command line. It is told that our init is a static
// program (-T), as it would else preload a library into it.
func command(j *foreign.Job) (foreign.Line, error) {
	args := []string{
		j.Program, "--logging=stderr", "-T", "static", "-l", "-p", "--uts=" + backends.HostName,
		"-P", j.Root, "-k", "proc,/proc,proc,0xe",
	}
	for fd := foreign.FirstFD; fd <= foreign.LastFD; fd++ {
		args = append(args, "--preserve-fd="+strconv.Itoa(fd))
	}
	if j.Network == backends.NetworkNone {
		args = append(args, "-e")
	}
	args = append(args, "--")
	return foreign.Line{
		Args: append(args, j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, nil
}
