// Package firejail is the backend that has its sandboxes made by firejail.
// Package foreign says what is promised, and how.
//
// It works for root only: firejail lets nobody else choose the root, and root
// only where its configuration allows it. Debian's does not, so firejail is
// shown one that does, in a mount namespace of its own.
package firejail

import (
	"cmp"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of firejail. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "firejail", Program: cmp.Or(o.Program, "firejail"),
		Install:  "run: apt-get install firejail (or your system's like)",
		RootOnly: true,
		Shell:    []string{"etc", "var", "var/tmp", "var/log", "run", "usr", "tmp", "home", "root", "sys"},
		Command:  command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	if err := j.WriteFile("firejail.config", []byte("chroot yes\nrestricted-network no\n")); err != nil {
		return foreign.Line{}, err
	}
	args := []string{
		j.Program, "--quiet", "--noprofile", "--chroot=" + j.Root, "--hostname=" + backends.HostName, "--keep-fd=all",
		"--caps.keep=" + strings.ToLower(strings.ReplaceAll(strings.Join(foreign.ShellCapabilities(), ","), "CAP_", "")),
	}
	if j.Network == backends.NetworkNone {
		args = append(args, "--net=none")
	}
	script := `mount --bind firejail.config /etc/firejail/firejail.config && exec "$@"`
	return foreign.Line{
		Args: append(append([]string{"/bin/sh", "-c", script, "sh"}, args...), j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"},
	}, nil
}
