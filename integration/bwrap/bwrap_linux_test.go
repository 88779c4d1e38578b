package bwrap

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// debian is the bubblewrap that ours is compared with.
const debian = "/usr/bin/bwrap"

// TestMain is bwrap where the test is called by that name.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "bwrap":
		os.Exit(Main(os.Args))
	case "linux-user-chroot":
		os.Exit(MainUserChroot(os.Args))
	}
	os.Exit(m.Run())
}

// ours is a link by which this test is our bwrap.
func ours(t *testing.T) string { return linked(t, "bwrap") }

func linked(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// A result is what a caller sees.
type result struct {
	stdout, stderr string
	code           int
}

// shell runs a script of bash in which $B is a bwrap and the working directory is
// a new one.
func shell(t *testing.T, bwrap, script string) result {
	t.Helper()
	// Not below /tmp, which scripts mount something on.
	dir, err := os.MkdirTemp("/var/tmp", "sbx-bwrap-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		exec.Command("chmod", "-R", "u+rwx", dir).Run() // overlayfs leaves such
		os.RemoveAll(dir)
	}()
	cmd := exec.Command("bash", "-c", `B=$1; unset OLDPWD; `+script, "bash", bwrap)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin", "HOME=/", "A=1", "LC_ALL=C"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	clean := func(b bytes.Buffer) string {
		return strings.NewReplacer(dir, "HERE", bwrap, "BWRAP").Replace(b.String())
	}
	return result{clean(stdout), clean(stderr), cmd.ProcessState.ExitCode()}
}

// host shows the host's programs; its mounts are as the host has them.
const host = `$B --ro-bind / / --dev /dev --proc /proc`

// small is a root of its own making, with a known mount table.
const small = `$B --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --dev /dev --proc /proc`

// mounts prints what is mounted: where, how, and of what kind.
// Of mounts that others hide, only those on top count.
const mounts = ` cat /proc/self/mountinfo | sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ //; s/ (shared|master|propagate_from):[0-9]+//g' | tac | awk '!seen[$2]++'`

// always takes the mounts of a host that are always there: others come and go
// while tests run, and users cannot change those that they cannot reach.
const always = ` | grep -E '^[^ ]+ (/|/sys|(/proc|/dev)(/[a-z]+)?) '`

// same are scripts whose output, errors and exit code must be those of Debian's
// bubblewrap. Some say what they want besides, so that two programs that fail alike
// do not pass.
var same = []struct{ name, script, want string }{
	{"true", host + ` true; echo $?`, "0\n"},
	{"exit code", host + ` sh -c 'exit 7'; echo $?`, "7\n"},
	{"signal", host + ` --unshare-pid sh -c 'kill -KILL $$'; echo $?`, "137\n"},
	{"signal, no process 1", host + ` sh -c 'kill -TERM $$'; echo $?`, "143\n"},
	{"not found", host + ` nothing-of-that-name; echo $?`, "1\n"},
	{"not found, with a path", host + ` /nothing/there; echo $?`, "1\n"},
	{"a directory", host + ` /usr; echo $?`, "1\n"},
	{"not executable", host + ` /etc/passwd; echo $?`, "1\n"},
	{"no format", `printf 'echo script $0 $1' >s; chmod +x s; ` + host + ` ./s x`, "script ./s x\n"},
	{"empty path variable", `unset PATH; ` + strings.Replace(host, "$B", `PATH=: $B`, 1) + ` nothing`, ""},
	{"no arguments", `$B 2>&1 | sed -n 1p; echo ${PIPESTATUS[0]}`, "1\n"},
	{"no command", small + ` --unshare-pid 2>&1 | sed -n 1p; echo ${PIPESTATUS[0]}`, "1\n"},
	{"help", `$B --help | sed -n 1p`, "usage: BWRAP [OPTIONS...] [--] COMMAND [ARGS...]\n"},
	{"stdin", `echo text | ` + host + ` cat`, "text\n"},
	{"name", host + ` sh -c 'echo $0'`, "sh\n"},

	{"environment", host + ` env`, "A=1\n"},
	{"setenv", host + ` --setenv A 2 --setenv B 3 --unsetenv LC_ALL env`, "B=3\n"},
	{"clearenv", host + ` --clearenv --setenv X y /usr/bin/env`, "X=y\nPWD=HERE\n"},
	{"setenv, bad name", host + ` --setenv a=b c true; echo $?`, "1\n"},
	{"unsetenv, bad name", host + ` --unsetenv '' true; echo $?`, "1\n"},
	{"directory", host + ` pwd`, "HERE\n"},
	{"directory, home", `HOME=/usr; export HOME; ` + small + ` sh -c 'echo $PWD; pwd'`, "/usr\n/usr\n"},
	{"directory, root", `HOME=/nothing; export HOME; ` + small + ` sh -c 'echo $PWD; pwd'`, "/\n/\n"},
	{"chdir", host + ` --chdir /usr sh -c 'echo $PWD; pwd'`, "/usr\n/usr\n"},
	{"chdir, not there", host + ` --chdir /nothing true; echo $?`, "1\n"},
	{"chdir twice", host + ` --chdir / --chdir /usr pwd`, "/usr\n"},

	{"mount table", small + mounts, " - tmpfs tmpfs "},
	{"mount table, pid namespace", small + ` --unshare-pid` + mounts, " /proc "},
	{"mount table, all namespaces", small + ` --unshare-all` + mounts, " /proc "},
	{"mount table, host", `$B --bind / / --proc /proc --dev /dev` + mounts + always, " / rw,"},
	{"mount table, dev-bind", `$B --dev-bind / /` + mounts + always, " / rw,"},
	{"mount table, all kinds", `mkdir d; echo x >f; ` + small + ` --unshare-ipc --tmpfs /t --perms 1700 --tmpfs /u/v --bind d /d --ro-bind d /e/f --bind f /f --ro-bind f /g/f --mqueue /mq --remount-ro /t` + mounts, " /mq "},
	{"mount table, read-only root", small + ` --remount-ro /` + mounts, " / ro,"},
	{"tree", `mkdir d; echo x >f; ` + small + ` --perms 0700 --dir /a/b --dir /c/d --tmpfs /t --bind d /x/y --bind f /z/f --symlink target /l/k find / -xdev -path /usr -prune -o -path /dev -prune -o -printf '%p %y %m %l\n'`, "/l/k l 777 target\n"},
	{"dev", small + ` sh -c 'cd /dev; find . -printf "%p %y %m %l\n" | sort; stat -c "%n %t %T" null zero full random urandom tty; echo x >null; echo y >/dev/stdout'`, "./null c 666 \n"},
	{"parents", small + ` --perms 0740 --dir /p/a --perms 0700 --file 3 /q/f --perms 0604 --bind-data 4 /r/f stat -c '%n %a' /p /p/a /q /q/f /r /r/f 3</dev/null 4</dev/null`, "/p 750\n"},
	{"data", `echo 1 >1; echo 2 >2; echo 3 >3; ` + small + ` --file 3 /a --bind-data 4 /b --ro-bind-data 5 /c sh -c 'cat /a /b /c; for f in a b c; do echo x 2>/dev/null >/$f && echo $f; stat -c %a /$f; done; ls -A /' 3<1 4<2 5<3`, "1\n2\n3\na\n"},
	{"files", `mkdir d; echo x >d/f; ` + small + ` --bind d /d sh -c 'echo y >/d/f; echo z >/d/g'; cat d/f d/g`, "y\nz\n"},
	{"read-only", `mkdir d; ` + small + ` --ro-bind d /d touch /d/f; echo $?`, "1\n"},
	{"try", small + ` --bind-try /nothing /a --ro-bind-try /nothing /b --dev-bind-try /nothing /c ls /`, "bin\n"},
	{"source is not there", small + ` --bind nothing /a true; echo $?`, "1\n"},
	{"source through links", `mkdir -p a/b; echo x >a/b/f; ln -s a/b l; ln -s "$PWD/l" m; ` + small + ` --ro-bind m /d cat /d/f`, "x\n"},
	{"directory on a file", `mkdir d; echo x >f; ` + small + ` --bind f /x --bind d /x true; echo $?`, "1\n"},
	{"file on a directory", `mkdir d; echo x >f; ` + small + ` --bind d /x --bind f /x true; echo $?`, "1\n"},
	{"below a file", `echo x >f; ` + small + ` --bind f /x --dir /x/y true; echo $?`, "1\n"},
	{"destination is a link", small + ` --dir /a --symlink a /b --bind /usr/share /b sh -c 'ls -d /a/doc'`, "/a/doc\n"},
	{"relative destination", `mkdir d; ` + small + ` --bind d x/y --dir z ls -d /x/y /z`, "/z\n"},
	{"remount of no mount", small + ` --dir /a --remount-ro /a true; echo $?`, "1\n"},
	{"chmod", small + ` --dir /a --chmod 0711 /a stat -c %a /a`, "711\n"},
	{"chmod of nothing", small + ` --chmod 0711 /a true; echo $?`, "1\n"},
	{"dir on a file", `echo x >f; ` + small + ` --bind f /f --dir /f true; echo $?`, "1\n"},
	{"size", small + ` --size 1048576 --tmpfs /t df --output=size -k /t`, "1024\n"},

	{"ids", host + ` id`, "uid="},
	{"ids of our own", host + ` --unshare-user --uid 12 --gid 34 sh -c 'id -u; id -g; cat /proc/self/uid_map'`, "12\n34\n"},
	{"ids without dev", `$B --ro-bind / / --unshare-user --uid 12 --gid 34 sh -c 'id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups'`, "12\n34\n"},
	{"status", host + ` grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig[BIC]|Shd|Speculation|Umask)' /proc/self/status`, "NoNewPrivs:\t1"},
	{"status, own namespaces", host + ` --unshare-all grep -E '^(Uid|Gid|Cap|NoNew|Seccomp|Sig[BIC]|Shd)' /proc/self/status`, "NoNewPrivs:\t1"},
	// Process 1 may not be done with itself yet when the command begins.
	{"status, process 1", host + ` --unshare-pid sh -c 'i=0; while [ $i -lt 500 ] && { grep -q "^CapPrm:.*[1-9a-f]" /proc/1/status || ! grep -q "^SigBlk:.*1" /proc/1/status; }; do sleep 0.01; i=$((i+1)); done; grep -E "^(Name|Uid|Gid|Cap|NoNew|Seccomp|Sig[BIC]|Shd)" /proc/1/status'`, "Name:\tbwrap"},
	{"caps", host + ` --cap-drop ALL --cap-add CAP_KILL --unshare-user grep Cap /proc/self/status`, "CapEff:\t0000000000000020"},
	{"caps, one dropped", host + ` --unshare-user --cap-add all --cap-drop cap_chown grep Cap /proc/self/status`, "ffffffe"},
	{"descriptors", host + ` sh -c 'ls /proc/self/fd' 5</dev/null`, "5\n"},
	{"process 1", host + ` --unshare-pid sh -c 'echo $$; cat /proc/1/comm'`, "2\nbwrap\n"},
	{"as process 1", host + ` --unshare-pid --as-pid-1 sh -c 'echo $$'`, "1\n"},
	{"orphans are reaped", host + ` --unshare-pid sh -c '(sleep 0 & ) ; while pgrep -x sleep >/dev/null; do sleep 0; done; echo gone'`, "gone\n"},
	// Debian's may tell the exit code before or after that.
	{"waits for who is left", `{ ` + host + ` --unshare-pid sh -c '(sleep 0.1; echo late) & exit 3'; echo $?; } | sort`, "3\n"},
	{"session", host + ` --new-session sh -c 'ps -o sid= -p $$ | tr -d " " | grep -qx $$ && echo own'`, ""},
	{"network", host + ` --unshare-net sh -c 'cut -d: -f1 /proc/net/dev | tail -n +3; cat /proc/net/route /proc/net/fib_trie | grep -c "32 host LOCAL"; ping -c1 127.0.0.1 >/dev/null 2>&1; cat /sys/class/net/lo/flags'`, "lo\n"},
	{"share-net", host + ` --unshare-all --share-net sh -c 'cat /proc/net/dev | wc -l'`, ""},
	{"hostname", host + ` --unshare-uts --hostname inside uname -n`, "inside\n"},
	{"hostname of the host", host + ` --hostname inside uname -n; echo $?`, "1\n"},
	{"uid of the host", `$B --ro-bind / / --uid 4711 true; echo $?`, ""},
	{"disable-userns", host + ` --unshare-user --disable-userns unshare -U true; echo $?`, "1\n"},
	{"disable-userns alone", host + ` --disable-userns true; echo $?`, "1\n"},
	{"assert-userns-disabled", host + ` --assert-userns-disabled true; echo $?`, "1\n"},
	{"as process 1 of nothing", host + ` --as-pid-1 true; echo $?`, "1\n"},
	{"die-with-parent", host + ` --die-with-parent --unshare-pid true; echo $?`, "0\n"},
	{"umask", `umask 027; mkdir d; ` + host + ` --bind d "$PWD/d" sh -c 'umask; touch d/f'; stat -c %a d/f`, "0027\n640\n"},
	{"nested", `$B --bind / / --bind /proc /proc --unshare-user --cap-add ALL --uid 0 --gid 0 $B --unshare-all --ro-bind / / --proc /proc --dev /dev id -u`, "0\n"},

	{"args", `printf '%s\0' --dir /a/b --setenv C 4 >args; ` + small + ` --args 3 sh -c 'ls -d /a/b; echo $C' 3<args`, "/a/b\n4\n"},
	{"args, with a command", `printf '%s\0' --setenv C 4 false >args; ` + small + ` --args 3 sh -c 'echo $C' 3<args`, "4\n"},
	{"args in args", `printf '%s\0' --args 4 >args; ` + small + ` --args 3 true 3<args; echo $?`, "1\n"},
	{"args, no descriptor", small + ` --args 9 true; echo $?`, "1\n"},
	{"args, last without a NUL", `printf -- '--setenv\0C\00045' >args; ` + small + ` --args 3 sh -c 'echo $C' 3<args`, "45\n"},
	{"too many arguments", `yes x | head -n 9001 >l; ` + small + ` true $(cat l); echo $?`, "1\n"},
	{"data, no descriptor", small + ` --file 9 /f true; echo $?`, "1\n"},
	{"two dashes", small + ` -- --dev-bind /dev /dev; echo $?`, "1\n"},
	{"a command like an option", `mkdir bin; printf '#!/bin/sh\necho hello\n' >bin/--name; chmod +x bin/--name; PATH=$PWD/bin:$PATH ` + host + ` -- --name`, "hello\n"},
	{"unknown option", small + ` --nothing true; echo $?`, "1\n"},
	{"perms of nothing", small + ` --perms 0700 --bind / /a true; echo $?`, "1\n"},
	{"perms twice", small + ` --perms 0700 --perms 0700 --dir /a true; echo $?`, "1\n"},
	{"perms, no number", small + ` --perms 0999 --dir /a true; echo $?`, "1\n"},
	{"perms and then the command", small + ` --perms 0700 true; echo $?`, ""},
	{"size of nothing", small + ` --size 5 --dir /a true; echo $?`, "1\n"},
	{"size, no number", small + ` --size 1x --tmpfs /a true; echo $?`, "1\n"},
	{"size 0", small + ` --size 0 --tmpfs /a true; echo $?`, "1\n"},
	{"size, too much", small + ` --size 9223372036854775809 --tmpfs /a true; echo $?`, "1\n"},
	{"size, hexadecimal", small + ` --size 0x100000 --tmpfs /a df --output=size -k /a`, "1024\n"},
	{"missing argument", small + ` --bind /; echo $?`, "1\n"},
	{"missing argument of chdir", small + ` --chdir; echo $?`, "1\n"},
	{"no descriptor", small + ` --sync-fd x true; echo $?`, "1\n"},
	{"no uid", small + ` --uid -3 true; echo $?`, "1\n"},
	{"no cap", small + ` --cap-drop CAP_NOTHING true; echo $?`, "1\n"},
	{"label", small + ` --exec-label x true; echo $?`, "1\n"},

	{"status descriptor", host + ` --unshare-pid --json-status-fd 3 sh -c 'exit 5' 3>s; sed -E 's/[0-9]{3,}/N/g' s`, `{ "exit-code": 5 }`},
	{"status descriptor, not executed", host + ` --json-status-fd 3 /usr 3>s; sed -E 's/[0-9]{3,}/N/g' s`, `{ "child-pid": N`},
	{"status descriptor, all namespaces", host + ` --unshare-all --json-status-fd 3 true 3>s; sed -E 's/[0-9]{3,}/N/g' s`, `"cgroup-namespace": N`},
	{"info descriptor", host + ` --unshare-all --info-fd 3 true 3>s; sed -E 's/[0-9]{3,}/N/g' s`, "    \"child-pid\": N,\n"},
	{"info descriptor is closed inside", host + ` --info-fd 3 ls /proc/self/fd 3>s | grep -x '[3-7]'`, "3\n"},
	{"block descriptor", `mkfifo p; (sleep 0.1; echo >p) & ` + host + ` --block-fd 3 echo ran 3<p; wait`, "ran\n"},
	{"sync descriptor", host + ` --sync-fd 3 --lock-file /etc/passwd sh -c 'ls -l /proc/self/fd' 3>s | grep -o '/s$'; echo $?`, "1\n"},
	{"lock", `touch l; ` + host + ` --bind . "$PWD" --lock-file "$PWD/l" flock -n l true; echo $?`, ""},
	{"lock of nothing", host + ` --lock-file /nothing sleep 0; echo $?`, "1\n"},
	{"user namespace is not one", host + ` --userns 3 true 3</dev/null; echo $?`, "1\n"},
	{"userns-block-fd alone", host + ` --userns-block-fd 3 true 3</dev/null; echo $?`, "1\n"},
	{"bad filter", `printf 1234567 >f; ` + host + ` --seccomp 3 true 3<f; echo $?`, "1\n"},
	{"two kinds of filters", `: >f; ` + host + ` --add-seccomp-fd 3 --seccomp 4 true 3<f 4<f; echo $?`, "1\n"},
	// A filter that answers getpid, and only that, with EPERM: load the number;
	// if it is that, the error; else all right.
	{"filter", seccompFile + host + ` --seccomp 3 sh -c 'mkdir x' 3<f; echo $?`, "1\n"},
	{"filters", seccompFile + host + ` --add-seccomp-fd 3 --add-seccomp-fd 4 sh -c 'mkdir x; grep Seccomp /proc/self/status' 3<f 4<f; echo $?`, "Seccomp_filters:\t2"},
}

// seccompFile writes a program into f that answers mkdir and mkdirat with 77,
// which is no error that anything else gives: load the number; if it is one of
// those two, return the error; else allow.
const seccompFile = `case $(uname -m) in x86_64) a='\x53' b='\x02\x01';; *) a='\x22' b='\x22\0';; esac
printf '\x20\0\0\0\0\0\0\0\x15\0\x01\0'$a'\0\0\0\x15\0\0\x01'$b'\0\0\x06\0\0\0\x4d\0\x05\0\x06\0\0\0\0\0\xff\x7f' >f; `

func TestSameAsBubblewrap(t *testing.T) {
	link := ours(t)
	for _, c := range same {
		t.Run(c.name, func(t *testing.T) {
			want, got := shell(t, debian, c.script), shell(t, link, c.script)
			if got != want {
				t.Errorf("%s\nbubblewrap: %d\n%s%s\nours: %d\n%s%s", c.script, want.code, want.stdout, want.stderr, got.code, got.stdout, got.stderr)
			}
			if !strings.Contains(want.stdout, c.want) {
				t.Errorf("%s\nbubblewrap itself says %q, %q; want %q in it", c.script, want.stdout, want.stderr, c.want)
			}
		})
	}
}
