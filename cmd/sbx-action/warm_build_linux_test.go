package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A built is a workspace and a store in which builds get sessions by themselves, whose
// directories are in a place of its own.
type built struct {
	*fronted
	run string
}

func newBuilt(t *testing.T) *built {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no front, which is what asks workers")
	}
	run, err := os.MkdirTemp("/tmp", "sbx-r-") // short enough for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	b := &built{newFronted(t), run}
	t.Cleanup(func() {
		b.gone()
		os.Remove(run)
	})
	b.env = append(b.env, "SBX_WARM=", "XDG_RUNTIME_DIR="+run, "SBX="+b.command)
	return b
}

// prelude is what scripts of builds begin with.
const prelude = `
n=0
miss() { n=$((n+1)); "$SBX" run -- echo "$n" "$$" "$@" >said || echo "exit code $?"; [ "$(cat said)" = "$n $$${1:+ }$*" ] || echo "it said $(cat said)"; }
dir=$XDG_RUNTIME_DIR/sbx-warm-$(id -u)-$$
ready() { [ -e "$dir/0.lock" ] && flock -n "$dir/0.lock" true; }
# Misses that are far apart start nothing: on a slow machine it may take more than two.
begin() { until [ -e "$dir" ]; do miss "$@"; done; until ready; do sleep 0.01; done; }
`

// build starts a script as a shell does, in a process group of its own.
func (b *built) build(ctx context.Context, script string, env ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", prelude+script)
	cmd.Dir, cmd.Env, cmd.Stderr = b.dir, append(b.env, env...), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// says runs a script, and wants it to say something.
func (b *built) says(name, script, want string, env ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := b.build(ctx, script, env...).Output(); err != nil || string(out) != want {
		b.t.Fatalf("%s: %v\n%s, want\n%s", name, err, out, want)
	}
}

// left is what there is of sessions: directories, and processes.
func (b *built) left() (list []string) {
	list, _ = filepath.Glob(filepath.Join(b.run, "*"))
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if data, err := os.ReadFile(name); err == nil && bytes.Contains(data, []byte(b.run)) && bytes.HasPrefix(data, []byte("sbx-action-warm")) {
			list = append(list, string(data))
		}
	}
	return list
}

func (b *built) gone() {
	b.t.Helper()
	for end := time.Now().Add(2 * time.Minute); len(b.left()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("not gone after two minutes: %q", b.left())
		}
	}
}

// TestWarmByItself has builds that begin a session, and those that must not.
func TestWarmByItself(t *testing.T) {
	b := newBuilt(t)
	b.says("a build", `
miss
[ -e "$dir" ] && echo "one miss began a session"
begin
miss; miss
"$SBX" warm --count
`, "answered 2, declined 0\n")
	b.gone()

	b.says("a compiler", `
n=0
until [ -e "$dir" ]; do n=$((n+1)); "$SBX" cc gcc -DN=$n -c src/a.c -o a.o; done; until ready; do sleep 0.01; done
"$SBX" cc gcc -DN=0 -c src/a.c -o a.o && "$SBX" warm --count
# No worker has made a sandbox of another kind than compilers get.
pgrep -aP "$(pgrep -d , -f "^sbx-action-warm work .* $dir cc\$")" | sed '/sbx-action-warm/d; s/.* slot .* sealed .*/sealed/' | sort -u
`, "answered 1, declined 0\nsealed\n")
	b.gone()

	b.says("no runtime directory", `dir=/dev/shm/sbx-warm-$(id -u)-$$; begin; miss; "$SBX" warm --count`, "answered 1, declined 0\n", "XDG_RUNTIME_DIR=")
	b.says("one miss", `miss; miss=$n; "$SBX" run -- echo 1 $$ >said; ls "$XDG_RUNTIME_DIR"`, "")
	b.says("off", `miss; miss; miss; miss; ls "$XDG_RUNTIME_DIR"`, "", "SBX_WARM=off")
	if got := b.left(); len(got) > 0 {
		t.Errorf("there is %q", got)
	}

	// Nobody waits for it but who is answered by it.
	b.says("a pipe", `{ begin piped; } | cat; ready && echo "it is there"`, "it is there\n")
	b.says("at once", `
for round in 1 2 3 4; do
	for i in 1 2 3 4 5 6; do "$SBX" run -- sh -c "echo $i $$ $round" >said.$i & done
	wait
	for i in 1 2 3 4 5 6; do [ "$(cat said.$i)" = "$i $$ $round" ] || cat said.$i; done
done
begin
ls "$XDG_RUNTIME_DIR" | wc -l
`, "1\n")

	// What it was made of goes away, or is in the way.
	b.says("another store", `begin; rm -rf "$SBX_CACHE"; miss again; export SBX_CACHE=$SBX_CACHE.new; miss new; "$SBX" warm --count; ls -d "$SBX_CACHE"/stat | wc -l`, "answered 2, declined 0\n1\n")
	b.says("no directory", `begin; rm -rf "$dir"; miss; miss; begin; miss; "$SBX" warm --count | sed "s/[1-9] *,/some,/"`, "answered some, declined 0\n")
	b.says("all open", `mkdir -m 777 "$dir"; miss; miss; miss; ls "$dir"; rmdir "$dir"`, "")
	b.says("a file", `: >"$dir"; miss; miss; miss; rm "$dir"`, "")
	b.says("a link", `mkdir -m 700 other; ln -s "$PWD/other" "$dir"; miss; miss; miss; ls other; rm "$dir"`, "")
	b.says("a fifo", `rm -f "$SBX_CACHE/stat/missed"; mkfifo "$SBX_CACHE/stat/missed"; miss; miss; miss; ls "$XDG_RUNTIME_DIR"; rm "$SBX_CACHE/stat/missed"`, "")
	if os.Geteuid() == 0 {
		b.says("another user's", `mkdir -m 700 "$dir"; : >"$dir/0.lock"; chown -R 65534 "$dir"; miss; miss; miss; rm -r "$dir"`, "")
	}
	b.says("stopped", `
begin
# Not what a worker is about to execute, which has its name until then, and nobody looks after.
pids=$(pgrep -P "$(pgrep -d , -f "^sbx-action-warm build .* $dir\$")" -f "^sbx-action-warm work .* $dir\$"); kill -STOP $pids
miss 2>/dev/null
while kill -0 $pids 2>/dev/null; do miss 2>/dev/null; done
`, "")
	b.says("all killed", `
begin
# Stopped first, so that none can do anything about it.
pids=$(pgrep -f "^sbx-action-warm .* $dir\$"); kill -STOP $pids; kill -KILL $pids
until flock -n "$dir" true; do sleep 0.01; done
[ -e "$dir/0.lock" ] || echo "nothing is left"
miss
until "$SBX" warm --count 2>/dev/null | grep -q "answered [1-9]"; do miss; done
`, "")
}

// TestWarmByItselfEnds has builds that are killed, and one that does not go on.
func TestWarmByItselfEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a session waits for calls")
	}
	b, pausing := newBuilt(t), newBuilt(t)
	begun := func(b *built) *exec.Cmd {
		cmd := b.build(t.Context(), `begin; echo begun; exec sleep 100000`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "begun\n" {
			t.Fatalf("it said %q, %v", line, err)
		}
		if got := b.left(); len(got) < 3 {
			t.Fatalf("there is only %q", got)
		}
		return cmd
	}
	begun(pausing)
	killed := begun(b)
	killed.Process.Kill()
	killed.Wait()
	b.gone()

	b.endsAfter()
	pausing.gone() // by itself: its leader is there
}

// endsAfter kills the leader while a call is answered, which has more to say than a pipe
// takes: it is answered all the same, and then the session ends.
func (b *built) endsAfter() {
	t := b.t
	t.Helper()
	const many = 1 << 20
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stderr bytes.Buffer
	cmd := b.build(t.Context(), fmt.Sprintf(`
begin
"$SBX" run -- sh -c 'echo begun; head -c %d /dev/zero | tr "\\0" x; echo; echo done' &
exec >/dev/null
wait
`, many))
	e, ew, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cmd.Stdout, cmd.Stderr = w, ew
	err = cmd.Start()
	w.Close()
	ew.Close()
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(r)
	line, _ := in.ReadString('\n')
	locks, _ := filepath.Glob(filepath.Join(b.run, "*", "*.lock"))
	busy := 0
	for _, name := range locks {
		fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
			busy++
		}
		unix.Close(fd)
	}
	cmd.Process.Kill()
	cmd.Wait()
	hangs := time.AfterFunc(2*time.Minute, func() { r.Close(); e.Close() })
	rest, _ := io.ReadAll(in)
	stderr.ReadFrom(e)
	hangs.Stop()
	if want := strings.Repeat("x", many) + "\ndone\n"; line != "begun\n" || busy == 0 || string(rest) != want || stderr.Len() > 0 {
		t.Errorf("%q, %d workers busy, then %d bytes, want %d; %s", line, busy, len(rest), len(want), stderr.String())
	}
	b.gone()
}
