// Package userchroot is the backend that has its sandboxes made by userchroot, of
// BuildGrid's buildbox. Debian does not package it: it is used where the program
// is there, setuid root, and has a configuration. Package foreign says what is
// promised, and how.
//
// It isolates files, processes and System V IPC. Network and host name are those of
// the host, and a request for a network of its own is refused. It refuses to work
// for root and shows nothing but what its configuration names: so root starts it as
// the user of the command, with a configuration that names the command's root, in a
// mount namespace of its own. Nobody else can do that.
package userchroot

import (
	"cmp"
	"fmt"
	"path"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of userchroot. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "userchroot", Program: cmp.Or(o.Program, "userchroot"),
		Install:  "build it from https://gitlab.com/BuildGrid/buildbox/userchroot and make it setuid root, or take another backend",
		RootOnly: true,
		Compiled: true,
		Adjust: func(c *backends.Capabilities) {
			c.NetworkNone, c.Loopback, c.UTSNamespace = false, false, false
			c.Users = false
			c.NoNewPrivs = false // the init, which is no root, cannot empty the bounding set
		},
		Command: command,
	})
}

// asUser shows userchroot the file "config", makes /dev of the root $1, which has to
// belong to the owner of the directory that it is in, and stays read-only if $2 says
// so, and executes the rest.
const asUser = `set -e
if ! [ -f /etc/userchroot.conf ]; then
	echo "there is no /etc/userchroot.conf, over which ours could be shown: make an empty one that is root's" >&2
	exit 1
fi
mount --bind config /etc/userchroot.conf
root=$1
[ "$2" = rw ] || mount -o remount,bind,rw "$root"
chown 0:0 "$root"
[ "$2" = rw ] || mount -o remount,bind,ro "$root"
shift 2
mount -t tmpfs -o mode=755,nosuid,noexec,size=64k tmpfs "$root/dev"
cd "$root/dev"
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
ln -s /proc/self/fd fd
ln -s fd/0 stdin
ln -s fd/1 stdout
ln -s fd/2 stderr
ln -s pts/ptmx ptmx
mkdir pts shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,nosuid,noexec devpts pts
cd /
exec "$@"
`

func command(j *foreign.Job) (foreign.Line, error) {
	if err := j.WriteFile("config", fmt.Appendf(nil, "root:%s\n", path.Dir(j.Root))); err != nil {
		return foreign.Line{}, err
	}
	mode := "rw"
	if j.ReadOnly {
		mode = "ro"
	}
	args := []string{
		"/bin/sh", "-c", asUser, "sh", j.Root, mode,
		"setpriv", fmt.Sprintf("--reuid=%d", backends.ID), fmt.Sprintf("--regid=%d", backends.ID), "--clear-groups", "--",
		j.Program, j.Root,
	}
	return foreign.Line{
		Args: append(args, j.Init...),
		Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, nil
}
