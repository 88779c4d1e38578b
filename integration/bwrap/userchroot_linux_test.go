package bwrap

import (
	"testing"
)

// root makes a root file system r whose programs are the host's.
const root = `mkdir -p r/usr r/proc r/dev r/data r/more r/tmp; ln -s usr/bin usr/lib usr/lib64 r; echo x >r/data/f; mkdir src; echo s >src/f
run() { $B --mount-bind /usr /usr "$@"; }; `

func TestUserChroot(t *testing.T) {
	link := linked(t, "linux-user-chroot")
	for _, c := range []struct{ name, script, want string }{
		{"version", `$B --version`, "linux-user-chroot 2015.1\n"},
		{"help", `$B --help | sed -n 1p`, "usage: linux-user-chroot [OPTIONS...] ROOTDIR PROGRAM [ARGS...]\n"},
		{"nothing", `$B; echo $?`, "1\nlinux-user-chroot: no ROOTDIR and no program; --help lists the options\n"},
		{"no program", `$B --unshare-pid /; echo $?`, "1\nlinux-user-chroot: no program: put it behind ROOTDIR; --help lists the options\n"},
		{"missing argument", `$B --mount-bind / ; echo $?`, "1\nlinux-user-chroot: --mount-bind takes two arguments\n"},
		{"unknown option", `$B --nothing / true; echo $?`, "1\nlinux-user-chroot: unknown option --nothing; --help lists them\n"},
		{"no ROOTDIR", `$B /nothing true; echo $?`, "1\nlinux-user-chroot: Can't find source path /nothing: No such file or directory\n"},
		{"not found", `$B / nothing-there; echo $?`, "1\nlinux-user-chroot: execvp nothing-there: No such file or directory\n"},
		{"exit code", `$B / sh -c 'exit 7'; echo $?`, "7\n"},
		{"signal", `$B --unshare-pid / sh -c 'kill -TERM $$; echo lives'; echo $?`, "1\n"},
		{"environment is the caller's", `env -i X=y $B / /usr/bin/env`, "X=y\n"},
		{"root", root + `run r sh -c 'ls /; cat /data/f; pwd'`, "bin\ndata\ndev\nlib\nlib64\nmore\nproc\ntmp\nusr\nx\n/\n"},
		{"chdir", root + `run --chdir /data r pwd; run --chdir data r pwd`, "/data\n/data\n"},
		{"chdir, not there", root + `run --chdir /no r pwd; echo $?`, "1\nlinux-user-chroot: Can't chdir to /no: No such file or directory\n"},
		{"writable", root + `run r sh -c 'echo y >/data/f'; cat r/data/f`, "y\n"},
		{"read-only", root + `run --mount-readonly / --mount-bind r/data /data r sh -c 'echo y >/data/f; cat /data/f; echo z >/more/f'`, "y\nsh: 1: cannot create /more/f: Read-only file system\n"},
		{"order of mounts", root + `run --mount-bind src /data --mount-readonly /data r sh -c 'cat /data/f; echo y >/data/f'`, "s\nsh: 1: cannot create /data/f: Read-only file system\n"},
		{"no mount point", root + `run --mount-bind src /no r true; echo $?; ls r | grep no`, "1\nlinux-user-chroot: Can't bind mount /oldrootHERE/src on /newroot/no: Unable to mount source on destination: No such file or directory\n"},
		{"file", root + `echo t >t; run --mount-bind t /data/f r cat /data/f`, "t\n"},
		{"proc", root + `run --unshare-pid --mount-proc /proc r sh -c 'cd /proc; echo [0-9]*'`, "1 2\n"},
		{"dev", root + `run --mount-devapi /dev r sh -c 'echo x >/dev/null; cd /dev; echo *' | tr ' ' '\n' | grep -xE 'null|zero|full|u?random|tty|std.*'`, "full\nnull\nrandom\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"},
		{"nothing is left in the root", root + `run --mount-devapi /dev --mount-proc /proc r true; find r/dev r/proc r/usr`, "r/dev\nr/proc\nr/usr\n"},
		{"tmpfs", root + `run --mount-tmpfs /data r sh -c 'ls -A /data; echo x >/data/g; cat /data/g'; ls r/data`, "x\nf\n"},
		{"root in a user namespace", `$B --map-root / sh -c 'id -u; id -g'`, "0\n0\n"},
		{"network", `$B --unshare-net / grep -c : /proc/net/dev; $B --unshare-net / cut -d: -f1 /proc/net/dev`, "1\nInter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo\n"},
		{"ipc and host name", `$B --unshare-ipc / sh -c 'readlink /proc/self/ns/ipc /proc/self/ns/uts' | grep -cvxF "$(readlink /proc/self/ns/ipc /proc/self/ns/uts)"`, "2\n"},
		{"no new privileges", `$B / grep NoNewPrivs /proc/self/status`, "NoNewPrivs:\t1\n"},
		{"nobody lives longer", `$B --unshare-pid --chdir "$PWD" / sh -c 'exec 8>lock; flock 8; sleep 100 8>&8 & exit 3' >/dev/null 2>&1; echo $?; flock -w 60 lock echo free`, "3\nfree\n"},
		{"profile 0", `$B --seccomp-profile-version 0 / sh -c 'unshare -U true; setarch -R true; echo $?; python3 -c "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
try: socket.socket(38)
except OSError as e: print(e.errno)"'`, "1\n97\nunshare: unshare failed: Operation not permitted\nsetarch: failed to set personality to (null): Operation not permitted\n"},
		{"control of profile 0", `$B --seccomp-profile-version -1 / sh -c 'unshare -U true; setarch -R true; echo $?'`, "0\n"},
		{"another profile", `$B --seccomp-profile-version 3 / true; echo $?`, "1\nlinux-user-chroot: --seccomp-profile-version 3: the versions are 0 and, for none, -1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := shell(t, link, c.script)
			if got := r.stdout + r.stderr; got != c.want {
				t.Errorf("%s\nexit %d:\n%s\nwant\n%s", c.script, r.code, got, c.want)
			}
		})
	}
}
