// Package linuxuserchroot is the backend that has its sandboxes made by
// linux-user-chroot, which Baserock used before there was bubblewrap. Nobody
// packages it any more: it is used where the program is there. Package foreign
// says what is promised, and how.
//
// It works for root only. The program remounts "/", which would change the host's
// file system itself, so its "/" is a directory in memory that shows the host's.
package linuxuserchroot

import (
	"cmp"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of linux-user-chroot. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "linux-user-chroot", Program: cmp.Or(o.Program, "linux-user-chroot"),
		Install:  "no distribution has it any more: build it, or take bubblewrap, which has taken its place",
		RootOnly: true,
		Compiled: true,
		Shell:    []string{},
		SetName:  true,
		LoUp:     true,
		Command:  command,
	})
}

// ownSlash executes the rest of its arguments with another "/".
const ownSlash = `set -e
h=$PWD/host
mkdir "$h"
mount -t tmpfs -o mode=755 tmpfs "$h"
cd /
for d in *; do
	if [ -L "$d" ]; then cp -P "$d" "$h/"
	elif [ -d "$d" ]; then mkdir "$h/$d"; mount --rbind "/$d" "$h/$d"
	fi
done
exec chroot "$h" "$@"
`

func command(j *foreign.Job) (foreign.Line, error) {
	args := []string{"/bin/sh", "-c", ownSlash, "sh", j.Program, "--unshare-ipc", "--unshare-pid"}
	if j.Network == backends.NetworkNone {
		args = append(args, "--unshare-net")
	}
	args = append(args, "--mount-proc", "/proc", j.Root)
	return foreign.Line{
		Args: append(args, j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, nil
}
