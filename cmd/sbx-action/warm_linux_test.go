package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/internal/warm"
)

// A warmed is a warm session beside a workspace and two stores: that of the calls
// that it is to answer, and that of the same calls without it.
type warmed struct {
	*fronted
	session string
	cmd     *exec.Cmd
}

func newWarmed(t *testing.T, workers int) *warmed {
	t.Helper()
	return newWarmedWith(t, workers)
}

// newWarmedWith has variables for the session besides those of its calls.
func newWarmedWith(t *testing.T, workers int, env ...string) *warmed {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no front, which is what asks workers")
	}
	w := &warmed{fronted: newFronted(t)}
	w.cmd = exec.Command(w.command, "warm", "--jobs", strconv.Itoa(workers))
	w.cmd.Dir, w.cmd.Env, w.cmd.Stderr = w.dir, append(slices.Clone(w.env), env...), os.Stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.cmd.Process.Signal(syscall.SIGTERM)
		w.cmd.Wait()
		w.gone()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	session, ok := strings.CutPrefix(strings.TrimSpace(line), "export SBX_WARM=")
	if !ok {
		t.Fatalf("it said %q, %v", line, err)
	}
	w.session = session
	return w
}

func (w *warmed) counts() warm.Counts {
	w.t.Helper()
	c, err := warm.ReadCounts(w.session)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// parts are the processes of the session, by the word that says what they are.
func (w *warmed) parts(word string) (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		data, _ := os.ReadFile(name) // it may have ended
		args := strings.Split(string(data), "\x00")
		if len(args) > 3 && args[0] == warm.Program && args[1] == word && args[3] == w.session {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// until waits for what must happen soon.
func (w *warmed) until(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not after two minutes: %s", what)
		}
	}
}

// gone waits until nothing is left of the session.
func (w *warmed) gone() {
	w.t.Helper()
	w.until("nothing of the session is left", func() bool {
		_, err := os.Stat(w.session)
		return os.IsNotExist(err) && len(w.parts("work"))+len(w.parts("keep")) == 0
	})
}

// A call is one of the program.
type call struct {
	name   string
	args   []string
	script string // of a shell that starts the program, as "$@"; or empty
	as     string // the name that the program is called by; or empty
	env    []string
	dir    string // below the workspace
	stdin  string
	write  string // what a file is to have before: "NAME=TEXT"
	alone  bool   // a worker does not answer it
	either bool   // a worker answers it or not
	twice  bool   // the second time is a hit, which the front answers, or a worker
}

// begin returns the call as a process with the store of that name.
func (w *warmed) begin(c *call, store string, warmly bool) *exec.Cmd {
	path, dir := w.command, filepath.Join(w.dir, c.dir)
	if c.as != "" {
		path = filepath.Join(w.top, "links", c.as)
	}
	cmd := exec.Command(path, c.args...)
	if c.script != "" {
		cmd = exec.Command("sh", append([]string{"-c", c.script, "sh", path}, c.args...)...)
	}
	cmd.Dir = dir
	cmd.Env = slices.Clone(w.env)
	cmd.Env = append(cmd.Env, "PWD="+dir, "SBX_CACHE="+filepath.Join(w.top, store))
	if warmly {
		cmd.Env = append(cmd.Env, "SBX_WARM="+w.session)
	}
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	return cmd
}

// varying is what differs between two runs of the same: times, and how long they took.
var varying = regexp.MustCompile(`"(started|[a-z_]*seconds|[a-z_]*_ms|user|system|max_rss|lookup|save|stage|run|collect|store|scan|deliver|total)":[^,}]*|\b[0-9a-f]{12,}\b|/tmp/[^ "]*`)

// said is all that can be seen of a call from outside.
func (w *warmed) said(c *call, store string, warmly bool) string {
	w.t.Helper()
	if name, text, ok := strings.Cut(c.write, "="); ok {
		w.write(name, text)
	}
	cmd := w.begin(c, store, warmly)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		w.t.Fatalf("%s: %v", c.name, err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%v\n--- stdout\n%s--- stderr\n%s", cmd.ProcessState, stdout.String(), stderr.String())
	outputs, _ := filepath.Glob(filepath.Join(w.dir, c.dir, "out*"))
	for _, name := range outputs {
		data, err := os.ReadFile(name)
		info, serr := os.Lstat(name)
		if err != nil || serr != nil {
			w.t.Fatal(err, serr)
		}
		fmt.Fprintf(&text, "--- %s %v\n%s", filepath.Base(name), info.Mode(), data)
		os.Remove(name)
	}
	return varying.ReplaceAllString(text.String(), "X")
}

// TestWarmIsTheSame does calls of all kinds without a session and in one, and looks
// at everything that comes out. What the workers have counted is the control.
func TestWarmIsTheSame(t *testing.T) {
	w := newWarmed(t, 2)
	w.write("sub/in", "in sub\n")
	w.write("other/in", "in other\n")
	w.write("bad.c", "int x = ;\n")
	if err := os.MkdirAll(filepath.Join(w.top, "links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gcc", "cc"} {
		if err := os.Symlink(w.command, filepath.Join(w.top, "links", name)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) []string { return append([]string{"run"}, args...) }
	sh := func(script string, flags ...string) []string {
		return append(append([]string{"run"}, flags...), "--", "sh", "-c", script)
	}
	long := strings.Repeat("x", 127<<10)
	for _, c := range []call{
		{name: "true", args: run("--", "true"), twice: true},
		{name: "output and streams", args: sh("echo out; echo err >&2; echo made >out", "-o", "out"), twice: true},
		{name: "directory", args: sh("mkdir -p d/e && echo x >d/e/f && cp -r d out.d && tar --mtime=@0 -cf out.tar d", "-o", "out.tar", "-o", "d"), twice: true},
		{name: "failure", args: sh("echo no >&2; exit 7")},
		{name: "signal", args: sh("kill -9 $$")},
		{name: "not found", args: run("--", "no-such-program")},
		{name: "cannot be executed", args: run("--", "/etc/passwd")},
		{name: "missing output", args: sh("echo >out1", "-o", "out2"), alone: false},
		{name: "undeclared input", args: sh("cat src/a.h")},
		{name: "time-out", args: sh("sleep 1000", "--timeout", "50ms")},
		{name: "memory", args: sh("ulimit -v; echo fine", "--memory", "64M")},
		{name: "pids", args: sh("echo fine", "--pids", "50"), alone: true},
		{name: "no command", args: run("-o", "x", "--"), alone: true},
		{name: "unknown flag", args: run("--nonsense", "--", "true"), alone: true},
		{name: "missing input", args: run("-i", "nothing-here", "--", "true"), alone: true},
		{name: "output outside", args: run("-o", "../x", "--", "true"), alone: true},
		{name: "help", args: run("--help"), either: true},
		{name: "one directory", dir: "sub", args: sh("cat in; pwd", "-i", "in"), twice: true},
		{name: "and another", dir: "other", args: sh("cat in; pwd", "-i", "in"), twice: true},
		{name: "and the first", dir: "sub", args: sh("cat in; echo again", "-i", "in")},
		{name: "environment", env: []string{"GREETING=hello"}, args: sh("echo $GREETING; env | sort", "--env", "GREETING")},
		{name: "other environment", env: []string{"GREETING=other"}, args: sh("echo $GREETING; env | sort", "--env", "GREETING")},
		{name: "no environment", args: sh("echo $GREETING", "--env", "GREETING"), alone: true},
		{name: "umask", script: `umask 077; exec "$@"`, args: sh("echo 1 >out1; echo 2 >out2; chmod 755 out2; umask", "-o", "out*")},
		{name: "other umask", script: `umask 002; exec "$@"`, args: sh("echo 3 >out1; echo 4 >out2; chmod 755 out2; umask", "-o", "out*")},
		{name: "stdin", stdin: "not read\n", args: sh("cat; ls -l /proc/self/fd | wc -l")},
		{name: "stdin file", args: sh("cat", "--stdin", "src/a.h")},
		{name: "stdin of a pipe", script: `cat src/a.c | "$@"`, args: sh("cat", "--stdin", "/dev/stdin"), alone: true},
		{name: "closed stdout", script: `exec "$@" >&-`, args: sh("echo x; echo y >&2"), alone: true},
		{name: "full stdout", script: `exec "$@" >/dev/full`, args: sh("echo x full; echo y >&2")},
		{name: "broken pipe", script: `mkfifo pipe; exec 3<>pipe 4>pipe 3<&-; rm pipe; "$@" >&4; echo "$?" >out.code`, args: sh("echo x; echo y; echo z")},
		{name: "limits", script: `exec prlimit --nproc=5000 "$@"`, args: sh("ulimit -a"), alone: true},
		{name: "limits, and a result", script: `exec prlimit --nproc=5000 "$@"`, args: run("--json", "--", "echo", "json with limits"), alone: true, twice: true},
		{name: "limits, and a warning", script: `ln -sf ../nothing link; exec prlimit --nproc=5000 "$@"`, args: run("-i", "link", "--", "readlink", "link"), alone: true, twice: true},
		{name: "priority", script: `exec ionice -c 3 "$@"`, args: sh("echo idle"), alone: true}, // nice: who has 19 already cannot have more
		{
			name: "timers", script: `exec python3 -c 'import ctypes, os, sys; ctypes.CDLL(None).prctl(29, 123456); os.execv(sys.argv[1], sys.argv[1:])' "$@"`,
			args: sh("cat /proc/self/timerslack_ns"), alone: true,
		},
		{name: "the same timers", args: sh("cat /proc/self/timerslack_ns /proc/1/timerslack_ns 2>&1")},
		{name: "dumps", script: `echo 0x7 >/proc/$$/coredump_filter; exec "$@"`, args: sh("cat /proc/self/coredump_filter"), alone: true},
		{name: "ignored signals", script: `trap '' HUP INT TERM USR1; exec "$@"`, args: sh("grep ^Sig[BI] /proc/self/status | tr -d 0")},
		{name: "descriptors", script: `exec 9<src/a.h; exec "$@"`, args: sh("ls /proc/self/fd | wc -l; cat <&9; echo $?")},
		{name: "long command", script: `exec "$@" $(seq 10000)`, args: sh("echo $#")},
		{
			name: "too long", env: []string{"LONG1=" + long, "LONG2=" + long, "LONG3=" + long, "LONG4=" + long, "LONG5=" + long, "LONG6=" + long, "LONG7=" + long, "LONG8=" + long, "LONG9=" + long},
			args: sh("echo ${#LONG1}", "--env", "LONG1"), alone: true,
		},
		{name: "odd bytes", env: []string{"ODD=ä\x01\n=\"'", "NOISE=\xff\xfe"}, args: sh("printf %s \"$ODD\" | od -c", "--env", "ODD")},
		{name: "stdin is left", script: `echo mine | { "$@"; cat; }`, args: sh("cat; echo command")},
		{name: "no directory", script: `mkdir gone; cd gone; rmdir ../gone; exec "$@"`, args: sh("pwd"), alone: true},
		{name: "processors", script: `exec taskset 1 "$@"`, args: sh("nproc"), alone: true},
		{name: "settings", write: ".sbx-action=timeout = 50ms\n", args: sh("sleep 1000; echo settings")},
		{name: "changed settings", write: ".sbx-action=timeout = 1h\n", args: sh("sleep 0.1; echo settings")},
		{name: "bad settings", write: ".sbx-action=nonsense = 1\n", args: sh("echo settings"), alone: true},
		{name: "no settings", write: ".sbx-action=\n", args: sh("echo settings 2")},
		{name: "cwd", args: sh("pwd; cat in", "--cwd", "sub", "-i", "sub/in")},
		{name: "other function", args: sh("echo sha >out", "--digest", "sha256", "-o", "out"), twice: true},
		{name: "other backend", args: run("--backend", "bubblewrap", "--", "echo", "bwrap"), alone: true},
		{name: "network", args: run("--network", "--", "echo", "net")},
		{name: "verify", args: run("--verify", "--", "echo", "verify"), alone: true},
		{name: "json", args: run("--json", "--", "sh", "-c", "echo json")},
		{name: "no cache", args: run("--no-cache", "--", "echo", "no cache")},
		{name: "version", args: []string{"version"}, either: true},
		{name: "compile", args: []string{"cc", "gcc", "-c", "src/a.c", "-o", "out.o"}, twice: true},
		{name: "changed header", write: "src/a.h=#define A 2\n", args: []string{"cc", "gcc", "-c", "src/a.c", "-o", "out.o"}, twice: true},
		{name: "compile by a link", as: "gcc", args: []string{"-O1", "-c", "src/a.c", "-o", "out.o"}, twice: true},
		{name: "compile with warnings", args: []string{"cc", "gcc", "-Wall", "-DA=3", "-c", "src/a.c", "-o", "out.o"}, twice: true},
		{name: "mistake", args: []string{"cc", "gcc", "-c", "bad.c", "-o", "out.o"}, either: true},
		{name: "standard input", stdin: "int y;\n", args: []string{"cc", "gcc", "-xc", "-c", "-", "-o", "out.o"}},
		{name: "standard input that is given back", stdin: "int main(void){return 0;}\n", args: []string{"cc", "gcc", "-xc", "-", "-o", "out.bin", "-Wl,-Map=/dev/stdout"}, alone: true},
		{name: "query", args: []string{"cc", "gcc", "--version"}, alone: true},
		{name: "no compiler", args: []string{"cc", "no-such-compiler", "-c", "a.c"}, alone: true},
		{name: "statistics", args: []string{"cc", "--nonsense"}, alone: true},
		{name: "time zone", env: []string{"TZ=Asia/Tokyo"}, args: run("--", "date", "+%Z"), alone: true},
		{name: "odd environment", script: `exec env -i "=x" "PATH=$PATH" "SBX_WARM=$SBX_WARM" "SBX_CACHE=$SBX_CACHE" HOME=/ "$@"`, args: run("--", "echo", "odd"), either: true},
	} {
		rounds := 1
		if c.twice {
			rounds = 2
		}
		for round := range rounds {
			want := w.said(&c, "cold", false)
			before := w.counts()
			got := w.said(&c, "warm", true)
			after := w.counts()
			if got != want {
				t.Errorf("%s, round %d:\n%s\nwithout a session:\n%s", c.name, round, got, want)
			}
			if served := after.Served > before.Served; round == 0 && served == c.alone && !c.either {
				t.Errorf("%s: a worker answered is %v (%+v, then %+v)", c.name, served, before, after)
			}
		}
	}
	if got := w.counts(); got.Served < 35 {
		t.Errorf("the workers have answered %d calls", got.Served)
	}
}

// TestWarmSeesTheHost changes what a command sees of the host between two calls, by
// mounts, in a mount namespace of the test's own, which needs root.
func TestWarmSeesTheHost(t *testing.T) {
	if runtime.GOARCH != "amd64" || os.Geteuid() != 0 {
		return // there is no front, which is what asks workers
	}
	f := newFronted(t)
	const script = `
set -e
mount -t tmpfs none /opt
list='ls /opt; cat /etc/debian_version'
look() { "$SBX" run -- sh -c "$list"; }
look
touch /opt/new
look
mount -t tmpfs none /opt
touch /opt/over
look
echo edited >version
mount --bind version /etc/debian_version
look
"$SBX" warm --count
`
	cmd := exec.Command("unshare", "-m", f.command, "warm", "--jobs", "1", "sh", "-c", script)
	cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX="+f.command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	version, err := os.ReadFile("/etc/debian_version")
	if err != nil {
		t.Fatal(err)
	}
	v := string(version)
	if want := v + "new\n" + v + "over\n" + v + "over\nedited\nanswered 4, declined 0\n"; string(out) != want {
		t.Errorf("it said\n%s, want\n%s", out, want)
	}
}

// TestWarmSeesTheRoot changes what is in the host's root directory between two calls,
// each of which was preceded by one whose root is begun again: in a root of the test's
// own, as that needs root.
func TestWarmSeesTheRoot(t *testing.T) {
	if runtime.GOARCH != "amd64" || os.Geteuid() != 0 {
		return // as above
	}
	f := newFronted(t)
	const prepare = `
set -e
mkdir root
mount -t tmpfs -o mode=755 none root
mkdir root/old root/opt
for d in /*; do
	if [ -L "$d" ]; then cp -P "$d" "root$d"; elif [ -d "$d" ] && [ "$d" != /opt ]; then mkdir "root$d"; mount --rbind "$d" "root$d"; fi
done
here=$PWD
pivot_root root root/old
cd "$here"
umount -l /old
exec "$SBX" warm --jobs 1 sh -c "$SCRIPT"
`
	const script = `
set -e
list='for f in /opt/* /libnew /libnew/*; do [ ! -e "$f" ] || echo "$f"; done; [ ! -L /libnew ] || readlink /libnew'
look() { n=$((n+1)); "$SBX" run -- true $n; echo; "$SBX" run -- sh -c "true $n; $list"; }
look
mkdir /libnew
look
touch /libnew/file
look
mv /libnew /libold
mkdir /libnew
look
touch /libnew/another
rm -r /libnew
ln -s usr/lib/none /libnew
touch /opt/one
look
mv /opt /old/opt # as the worker's sandbox has it already
mkdir /opt
touch /opt/two
look
"$SBX" warm --count
`
	cmd := exec.Command("unshare", "-m", "sh", "-c", prepare)
	cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX="+f.command, "SCRIPT="+script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	want := "\n\n/libnew\n\n/libnew\n/libnew/file\n\n/libnew\n\n/opt/one\nusr/lib/none\n\n/opt/two\nusr/lib/none\nanswered 12, declined 0\n"
	if string(out) != want {
		t.Errorf("it said\n%s, want\n%s", out, want)
	}
}

// TestWarmCommand is the command that a session is for.
func TestWarmCommand(t *testing.T) {
	w := newWarmed(t, 1)
	for _, c := range []call{
		{name: "exit code", args: []string{"warm", "--", "sh", "-c", "exit 42"}},
		{name: "signal", args: []string{"warm", "sh", "-c", "kill -TERM $$"}},
		{name: "streams", stdin: "text", args: []string{"warm", "sh", "-c", "cat; echo err >&2"}},
		{name: "absent", args: []string{"warm", "no-such-command"}},
		{name: "descriptors", script: `exec 9<src/a.h; exec "$@"`, args: []string{"warm", "sh", "-c", "cat <&9"}},
	} {
		without := c
		if without.args = c.args[1:]; without.args[0] == "--" {
			without.args = without.args[1:]
		}
		plain := exec.Command("sh", append([]string{"-c", "exec 9<src/a.h; exec \"$@\"", "sh"}, without.args...)...)
		plain.Dir, plain.Stdin, plain.Env = w.dir, strings.NewReader(c.stdin), append(w.env, "PATH=/usr/bin:/bin")
		out, _ := plain.Output()
		c.env = []string{"PATH=/usr/bin:/bin"}
		got := w.said(&c, "store", false)
		if want := fmt.Sprintf("%v\n--- stdout\n%s", plain.ProcessState, out); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
	// It is killed, and its session with it.
	c := call{args: []string{"warm", "--jobs", "1", "sh", "-c", "echo $SBX_WARM; exec sleep 100000"}}
	cmd := w.begin(&c, "store", false)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	killed := &warmed{fronted: w.fronted, session: strings.TrimSpace(line)}
	if len(killed.parts("work")) != 1 || len(killed.parts("keep")) != 1 {
		t.Errorf("the session in %q has workers %v and keepers %v", line, killed.parts("work"), killed.parts("keep"))
	}
	cmd.Process.Kill()
	cmd.Wait()
	killed.gone()
}
