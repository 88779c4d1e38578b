// Package schroot is the backend that has its sandboxes made by schroot, which
// Debian builds its packages with. Package foreign says what is promised, and how.
//
// It works for root only: schroot takes its definitions from /etc/schroot. It is
// shown one of ours there, in a mount namespace of its own, of the kind "plain":
// so there is no session that could be left behind, and no set-up script. Schroot
// isolates neither processes nor the network: it runs in namespaces of ours.
package schroot

import (
	"cmp"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of schroot. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "schroot", Program: cmp.Or(o.Program, "schroot"),
		Install:  "run: apt-get install schroot (or your system's like)",
		RootOnly: true,
		Shell:    []string{},
		OwnPID:   true, OwnRest: true,
		Command: command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	definition := strings.Join([]string{
		"[sbx]", "type=plain", "directory=" + j.Root, "root-users=root", "users=root", "environment-filter=.*", "",
	}, "\n")
	if err := j.WriteFile("sbx.conf", []byte(definition)); err != nil {
		return foreign.Line{}, err
	}
	// Where schroot has none, the directory of definitions is missing, too; but
	// then there is none to be shown another one of.
	const script = `mount --bind . /etc/schroot/chroot.d && exec "$@"`
	args := []string{"/bin/sh", "-c", script, "sh", j.Program, "--quiet", "--chroot=chroot:sbx", "--directory=/", "--"}
	return foreign.Line{
		Args: append(args, j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "USER=root"},
	}, nil
}
