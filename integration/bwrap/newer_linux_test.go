package bwrap

import (
	"bytes"
	"encoding/binary"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/internal/rebuildtest"
)

// newer are scripts with options that Debian's bubblewrap does not have, or that
// it could not pass: what they print, standard error after standard output.
var newer = []struct{ name, script, want string }{
	{"version", `$B --version`, "bubblewrap 0.11.1\n"},
	{"version as the first of many", `$B --version --help`, "bubblewrap 0.11.1\n"},
	{"argv0", host + ` --argv0 right sh -c 'echo $0'`, "right\n"},
	{"argv0 twice", host + ` --argv0 a --argv0 b true; echo $?`, "1\nbwrap: --argv0 used multiple times\n"},
	{"level prefix", host + ` --level-prefix --chdir / --chdir / true; ` + host + ` --level-prefix /nothing`, "<4>bwrap: Only the last --chdir option will take effect\n<3>bwrap: execvp /nothing: No such file or directory\n"},
	{"bind-fd", `mkdir d; echo x >d/f; ` + small + ` --bind-fd 3 /a --ro-bind-fd 4 /b sh -c 'cat /a/f /b/f; echo y >/a/f; echo z >/b/f; ls /proc/self/fd | grep -c "[34]"' 3<d 4<d; cat d/f`, "x\nx\n1\ny\nsh: 1: cannot create /b/f: Read-only file system\n"},
	{"bind-fd of a file", `echo x >f; ` + small + ` --ro-bind-fd 3 /a cat /a 3<f`, "x\n"},
	{"bind-fd, no descriptor", small + ` --bind-fd 77 /a true; echo $?`, "1\nbwrap: Can't find source path /proc/self/fd/77: No such file or directory\n"},
	{"symlink again", small + ` --symlink a /b --symlink a /b readlink /b`, "a\n"},
	{"symlink to another place", small + ` --symlink a /b --symlink c /b true; echo $?`, "1\nbwrap: Can't make symlink at /b: existing destination is a\n"},
	{"symlink on a directory", small + ` --dir /b --symlink c /b true; echo $?`, "1\nbwrap: Can't make symlink at /b: destination exists and is not a symlink\n"},
	{"overlay", lowers + small + ` --overlay-src l1 --overlay-src l2 --overlay up work /o sh -c 'cat /o/a /o/b; echo 5 >/o/b'; cat up/b l1/b l2/b`, "1\n3\n5\n2\n3\n"},
	{"overlay, odd names", `mkdir 'l":,\' 'u":,\' 'w":,\'; echo 1 >'l":,\'/a; ` + small + ` --overlay-src 'l":,\' --overlay 'u":,\' 'w":,\' /o sh -c 'cat /o/a; echo 2 >/o/a'; cat 'u":,\'/a`, "1\n2\n"},
	{"overlays in memory", lowers + small + ` --overlay-src l1 --tmp-overlay /x --overlay-src l2 --tmp-overlay /y sh -c 'echo 4 >/x/b; cat /x/b /y/b'; cat l1/b`, "4\n3\n2\n"},
	{"overlay, read-only", lowers + small + ` --overlay-src l1 --overlay-src l2 --ro-overlay /o sh -c 'cat /o/a /o/b; echo 4 >/o/b'`, "1\n3\nsh: 1: cannot create /o/b: Read-only file system\n"},
	{"overlay without a source", small + ` --overlay a b /o true; echo $?`, "1\nbwrap: --overlay requires at least one --overlay-src\n"},
	{"read-only overlay of one", lowers + small + ` --overlay-src l1 --ro-overlay /o true; echo $?`, "1\nbwrap: --ro-overlay requires at least two --overlay-src\n"},
	{"sources and no overlay", small + ` --overlay-src / true; echo $?`, "1\n" + dangling},
	{"sources and something else", small + ` --overlay-src / --chdir / true; echo $?`, "1\n" + dangling},
	{"sources at the end", small + ` --overlay-src; echo $?`, "1\n" + dangling},
	{"perms of an overlay", small + ` --perms 0700 --overlay-src / --tmp-overlay /o true; echo $?`, "1\nbwrap: --perms must be followed by an option that creates a file\n"},
	{"overlay of nothing", small + ` --overlay-src /nothing --tmp-overlay /o true; echo $?`, "1\nbwrap: Can't find source path /nothing: No such file or directory\n"},
	{"overlap", lowers + small + ` --overlay-src l1 --overlay l1 work /o true; echo $?`, "1\nbwrap: Can't make overlay mount on /newroot/o with options upperdir=/oldrootHERE/l1,workdir=/oldrootHERE/work,lowerdir=/oldrootHERE/l1,userxattr: Overlay directories may not overlap\n"},
	{"label", small + ` --file-label x true; echo $?`, "1\nbwrap: labeling not supported on this system\n"},
	{"a link that leads nowhere as destination", small + ` --dir /d --symlink d/f /l --ro-bind /usr/bin/env /l ls /d`, "f\n"},
	{"a number too large for a descriptor", small + ` --sync-fd 4294967296 true; echo $?`, "1\nbwrap: Invalid fd: 4294967296\n"},
	{"our own descriptors are not options'", small + ` --ro-bind-data 700 /f true; echo $?`, "1\nbwrap: Can't write data to file /f: Bad file descriptor\n"},
	{"options without an end", small + ` --args 3 true 3</dev/zero; echo $?`, "1\nbwrap: Can't read --args data: File too large\n"},
	// The option that comes last says that nothing was left pending.
	{"user namespace", `unshare -Ur sh -c 'sleep 100 & echo $! >pid; exec sleep 100' & u=$!; until [ -s pid ]; do sleep 0; done
until readlink /proc/$(cat pid)/ns/user | grep -vqxF "$(readlink /proc/self/ns/user)"; do sleep 0; done
$B --ro-bind / / --proc /proc --userns 3 readlink /proc/self/ns/user 3</proc/$(cat pid)/ns/user >in; [ "$(cat in)" = "$(readlink /proc/$(cat pid)/ns/user)" ] && echo joined; kill $u $(cat pid)`, "joined\n"},
	{"pid namespace", `$B --ro-bind / / --unshare-user --unshare-pid --info-fd 3 sleep 100 3>info & b=$!; until grep -qs } info; do sleep 0; done
p=$(sed -n 's/.*"child-pid": \([0-9]*\).*/\1/p' info)
$B --dev-bind / / --userns 3 --pidns 4 --proc /proc sh -c 'readlink /proc/self/ns/pid; exit 9' 3</proc/$p/ns/user 4</proc/$p/ns/pid_for_children >in; echo $?
[ "$(cat in)" = "$(readlink /proc/$p/ns/pid)" ] && echo joined
kill $b; wait $b 2>&-; [ -e /proc/$p ] && kill -9 $p; :`, "9\njoined\n"},
}

const (
	lowers   = `mkdir l1 l2 up work; echo 1 >l1/a; echo 2 >l1/b; echo 3 >l2/b; `
	dangling = "bwrap: --overlay-src must be followed by another --overlay-src or one of --overlay, --tmp-overlay, or --ro-overlay\n"
)

func TestNewerOptions(t *testing.T) {
	link := ours(t)
	for _, c := range newer {
		t.Run(c.name, func(t *testing.T) {
			r := shell(t, link, c.script)
			if got := r.stdout + r.stderr; got != c.want {
				t.Errorf("%s\nexit %d:\n%s\nwant\n%s", c.script, r.code, got, c.want)
			}
		})
	}
}

// TestUserNamespaceMadeOutside maps the ids from outside, as callers with ranges
// of ids do: bwrap waits meanwhile.
func TestUserNamespaceMadeOutside(t *testing.T) {
	r := shell(t, ours(t), `mkfifo block; $B --ro-bind / / --unshare-user --info-fd 3 --userns-block-fd 4 cat /proc/self/uid_map 3>info 4<>block & b=$!
until grep -qs } info; do sleep 0; done
p=$(sed -n 's/.*"child-pid": \([0-9]*\).*/\1/p' info)
echo "$(id -u) $(id -u) 1" >/proc/$p/uid_map && echo deny >/proc/$p/setgroups && echo "$(id -g) $(id -g) 1" >/proc/$p/gid_map
echo >block; wait $b; echo $?`)
	fields := strings.Fields(r.stdout)
	id := strconv.Itoa(os.Getuid())
	if want := []string{id, id, "1", "0"}; strings.Join(fields, " ") != strings.Join(want, " ") {
		t.Errorf("%q, %q; want %q", r.stdout, r.stderr, want)
	}
}

// TestEndOfTheParent kills who called, or the monitor: nobody is left.
func TestEndOfTheParent(t *testing.T) {
	link := ours(t)
	for _, c := range []struct{ name, options, kill string }{
		{"caller", "--die-with-parent --unshare-pid", "$sh"},
		{"caller, without a pid namespace", "--die-with-parent", "$sh"},
		{"monitor", "--die-with-parent --unshare-pid", "$b"},
		{"process 1, from outside", "--unshare-pid", "$p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A lock that the command itself holds tells that it lives.
			r := shell(t, link, `bash -c 'echo $$ >sh; $0 --bind / / --proc /proc --info-fd 3 `+c.options+` sh -c "exec 8>lock; flock 8; echo >ran; exec sleep 100" 3>info & echo $! >b; wait' $B >out 2>&1 &
until [ -e ran ]; do sleep 0; done
flock -n lock echo early
sh=$(cat sh) b=$(cat b) p=$(sed -n 's/.*"child-pid": \([0-9]*\).*/\1/p' info)
kill -KILL `+c.kill+`
flock -w 60 lock echo free`)
			if r.stdout != "free\n" {
				t.Errorf("exit %d, %q, %q: the command lives on", r.code, r.stdout, r.stderr)
			}
		})
	}
}

// TestRebuild makes the binaries from their source and compares.
func TestRebuild(t *testing.T) {
	rebuildtest.Test(t, "sbx-bwrap-amd64", "sbx-bwrap-arm64")
	if have, _ := os.ReadFile("sbx-bwrap-" + runtime.GOARCH); program != string(have) {
		t.Error("another binary is embedded")
	}
}

// TestNumbers compares what both languages write down.
func TestNumbers(t *testing.T) {
	source, err := os.ReadFile("src/plan.h")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`(?s)enum kind \{(.*?)\}`).FindSubmatch(source)
	if kinds == nil {
		t.Fatal("src/plan.h has no enum kind")
	}
	if last := len(regexp.MustCompile(`[A-Z_]+`).FindAll(kinds[1], -1)); last != int(opReadOnly) {
		t.Errorf("%d kinds in C, %d in Go", last, opReadOnly)
	}
	if !bytes.Contains(source, []byte("PLAN_VERSION = 0x"+strconv.FormatInt(planVersion, 16))) {
		t.Error("the versions differ")
	}
}

// FuzzParse: whatever the options are, the parser ends with a message or with
// settings that make a plan, whose text holds all strings.
func FuzzParse(f *testing.F) {
	f.Add("--ro-bind\n/\n/\n--perms\n0700\n--dir\n/a\n--setenv\na\nb\n--\nls")
	f.Add("--overlay-src\na\n--tmp-overlay\n/o\n--size\n0x10\n--tmpfs\n/t\n--uid\n4\n--unshare-user\nls")
	f.Add("--cap-add\nALL\n--cap-drop\ncap_kill\n--chmod\n7777\n/\n--args\n999999\nx")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		for _, a := range args {
			if n, err := strconv.Atoi(strings.TrimSpace(a)); err == nil && n < 1000 {
				return // a descriptor of the test
			}
		}
		s, _, end := parse("bwrap", args, []string{"A=1"}, 0)
		if end != nil {
			if end.stdout+end.stderr == "" {
				t.Error("it ended without a word")
			}
			return
		}
		if s.check(1, 1) == "" && len(s.command) > 0 {
			plan := s.encode(outside{dir: "/"})
			if text := binary.NativeEndian.Uint32(plan[4:]); s.command[0] != "" && !bytes.Contains(plan[text:], []byte("\x00"+s.command[0]+"\x00")) {
				t.Errorf("%q is not in the text of the plan", s.command[0])
			}
		}
	})
}
