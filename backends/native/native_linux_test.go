package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// hostRoot shows the host's programs, and has a directory /build.
func hostRoot() backends.Root {
	r := backends.Root{}
	for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		if _, err := os.Stat(dir); err == nil {
			r.Binds = append(r.Binds, backends.Bind{Source: dir, Target: dir})
		}
	}
	r.Fill = func(dir *os.File) error {
		if err := unix.Mkdirat(int(dir.Fd()), "build", 0o777); err != nil {
			return err
		}
		return unix.Fchmodat(int(dir.Fd()), "build", 0o777, 0)
	}
	return r
}

func shell(script string) *backends.Spec {
	return &backends.Spec{
		Root: hostRoot(),
		Args: []string{"sh", "-c", script},
		Env:  []string{"PATH=/usr/bin:/bin"},
		Dir:  "/build",
	}
}

// output runs spec and returns what it wrote.
func output(t *testing.T, b backends.Backend, spec *backends.Spec) (string, *backends.Status) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	spec.Stdout, spec.Stderr = f, f
	st, err := b.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(out), st
}

// TestUnprivileged runs all other tests as an ordinary user.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		return // this is it
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "probe"), "../backendtest/probe/sbx-probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", self, filepath.Join(dir, "test")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.v", "-test.timeout=20m")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.run=^TestStress$")
	}
	cmd.Dir = tmp
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp, "SBX_TEST_PROBE="+filepath.Join(dir, "probe"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("--- PASS: TestStress")) {
		t.Errorf("the tests did not run:\n%s", out)
	}
}

// TestStress runs many commands, two at a time, whose results must not be mixed.
func TestStress(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	b := open(t)
	bin := staticTrue(t)
	spec := backends.Spec{
		Root: backends.Root{Binds: []backends.Bind{{Source: filepath.Dir(bin), Target: "/bin"}}},
		Args: []string{"/bin/true"},
		Dir:  "/",
	}
	before := processes(t)
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for i := range n / 2 {
				spec, want := spec, 0
				if i%10 == worker { // some differ, so that a mix-up shows
					spec.Args, want = []string{"/bin/none"}, 127
				}
				st, err := b.Run(t.Context(), &spec)
				if err != nil {
					t.Errorf("run %d of worker %d: %v", i, worker, err)
					return
				}
				if st.Code != want || (st.Start != nil) != (want == 127) {
					t.Errorf("run %d of worker %d: %+v, want code %d", i, worker, st, want)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if after := processes(t); after != before {
		t.Errorf("children of this process: %q before, %q after", before, after)
	}
}

// processes lists our children, which zombies are as well.
func processes(t *testing.T) string {
	t.Helper()
	var all []string
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		data, _ := os.ReadFile(f) // a thread may have ended
		all = append(all, strings.Fields(string(data))...)
	}
	return strings.Join(all, " ")
}

// TestNoTraces holds descriptors, groups and mounts against each other before
// and after runs of all kinds.
func TestNoTraces(t *testing.T) {
	lower, scratch := t.TempDir(), t.TempDir()
	kinds := map[string]func(*backends.Spec){
		"plain":   func(*backends.Spec) {},
		"layers":  func(s *backends.Spec) { s.Root.Lowers = []backends.Layer{{Dir: lower}} },
		"watched": func(s *backends.Spec) { s.Observe = true },
		"limited": func(s *backends.Spec) { s.Limits = backends.Limits{Memory: 64 << 20, Wall: time.Minute} },
		"kept":    func(s *backends.Spec) { s.KeepRoot = true },
		"disk": func(s *backends.Spec) {
			s.Root.ScratchDir, s.Root.Lowers, s.KeepRoot = scratch, []backends.Layer{{Dir: lower}}, true
		},
		"absent":   func(s *backends.Spec) { s.Args = []string{"nothing-like-this"} },
		"bad dir":  func(s *backends.Spec) { s.Dir = "/nowhere" },
		"bad bind": func(s *backends.Spec) { s.Root.Binds = []backends.Bind{{Source: "/nowhere", Target: "/x"}} },
		"bad fill": func(s *backends.Spec) { s.Root.Fill = func(*os.File) error { return io.ErrUnexpectedEOF } },
	}
	round := func() {
		b := open(t)
		for name, change := range kinds {
			spec := shell("true")
			change(spec)
			st, err := b.Run(t.Context(), spec)
			if (err != nil) != strings.HasPrefix(name, "bad") {
				t.Errorf("%s: %v", name, err)
			}
			if name == "bad fill" && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v, want the error of Fill", name, err)
			}
			if st != nil && st.Root != nil {
				st.Root.Close()
			}
			if err := os.RemoveAll(filepath.Join(scratch, "work")); err != nil {
				t.Errorf("the scratch directory cannot be removed: %v", err)
			}
			os.RemoveAll(filepath.Join(scratch, "upper"))
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	round() // opens what stays open, such as the program
	sameTraces(t, round)
}

// sameTraces wants f to leave no trace. Other programs mount and unmount beside us,
// but hardly each time that f is called; if f leaves a mount, it does so each time.
func sameTraces(t *testing.T, f func()) {
	t.Helper()
	for tries := 10; ; tries-- {
		before, mounts := traces(t)
		f()
		after, mountsAfter := traces(t)
		if before != after {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if before != after || mounts == mountsAfter || t.Failed() {
			return
		}
		if tries == 1 {
			t.Errorf("mounts before:\n%s\nafter:\n%s", mounts, mountsAfter)
			return
		}
	}
}

// traces are what this process has, and what is mounted in its namespace.
func traces(t *testing.T) (own, mounts string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mounted, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, m := range cgroupMounts() {
		left, _ := filepath.Glob(filepath.Join(m.dir, fmt.Sprintf("sbx-%d-*", os.Getpid())))
		groups = append(groups, left...)
	}
	return fmt.Sprintf("%d descriptors, groups %q, children %q", len(fds), groups, processes(t)), string(mounted)
}

// TestNetworkIsThrownAway: what TCP remembers of a connection must not be there
// for the next command, which would find its port in use.
func TestNetworkIsThrownAway(t *testing.T) {
	if _, err := os.Stat("/usr/bin/perl"); err != nil {
		t.Fatal("perl is missing: scripts/test.sh installs it")
	}
	b := open(t)
	const talk = `perl -MIO::Socket::INET -e '
		$s = IO::Socket::INET->new(Listen=>1, LocalAddr=>"127.0.0.1:4711", ReuseAddr=>0) or die "listen: $!";
		$c = IO::Socket::INET->new(PeerAddr=>"127.0.0.1:4711") or die "connect: $!";
		$a = $s->accept; close $a; close $c; close $s' && cat /proc/net/dev | grep lo: && cat /proc/net/tcp`
	// The first ones find out what the second and third, prepared while
	// the one before ran, must not share.
	for i := range 4 {
		out, st := output(t, b, shell("grep -q 'lo: *0 *0 ' /proc/net/dev || exit 9; "+talk))
		if st.Code != 0 {
			t.Fatalf("run %d: exit %d: %s", i, st.Code, out)
		}
		if !strings.Contains(out, "1267") { // 4711 in hexadecimal: the control
			t.Errorf("run %d left no connection that could be found: %s", i, out)
		}
	}
}

// TestBigArguments passes what does not fit into a packet.
func TestBigArguments(t *testing.T) {
	b := open(t)
	spec := shell("echo $# ${#1}")
	spec.Args = append(spec.Args, "sh")
	for range 15 {
		spec.Args = append(spec.Args, strings.Repeat("x", 100_000))
	}
	for range 2 {
		if out, _ := output(t, b, spec); out != "15 100000\n" {
			t.Errorf("got %.100q", out)
		}
	}
	spec.Stdout, spec.Stderr = nil, nil
	spec.Args = append(spec.Args, strings.Repeat("x", 200_000)) // one string may have 128 KiB
	st, err := b.Run(t.Context(), spec)
	if err != nil || st.Code != 126 || !errors.Is(st.Start, syscall.E2BIG) {
		t.Errorf("%+v, %v; want 126 and E2BIG", st, err)
	}
}

// TestMountPoints looks at how mount points are made and found.
func TestMountPoints(t *testing.T) {
	b := open(t)
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "f"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := shell("cat /a/b/c/f /build/deep/file /real/x/f; stat -c %Y /a /a/b; touch /a/b/mine && ! touch /a/b/c/f 2>/dev/null")
	fill := spec.Root.Fill
	spec.Root.Fill = func(dir *os.File) error {
		fd := int(dir.Fd())
		// An absolute link leads to somewhere in this root, not in the host's.
		return errors.Join(fill(dir), unix.Mkdirat(fd, "real", 0o755), unix.Symlinkat("/real", fd, "link"))
	}
	spec.Root.Binds = append(spec.Root.Binds,
		backends.Bind{Source: src, Target: "/a/b/c"},
		backends.Bind{Source: filepath.Join(src, "f"), Target: "/build/deep/file"},
		backends.Bind{Source: src, Target: "/link/x"})
	out, st := output(t, b, spec)
	want := strings.Repeat("content\n", 3)
	if !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "\n1321009871\n1321009871\n") || st.Code != 0 {
		t.Errorf("exit %d, %q", st.Code, out)
	}
}

// TestCancelAtAnyTime cancels at different points of a run; nothing may hang
// and the slot must be good for the next.
func TestCancelAtAnyTime(t *testing.T) {
	b := open(t)
	for i := range 60 {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(i)*50*time.Microsecond, errors.New("enough"))
		spec := shell("sleep 100 & sleep 100")
		spec.Observe = i%2 == 1
		_, err := b.Run(ctx, spec)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "enough") {
			t.Fatalf("after %d: %v", i, err)
		}
		if st, err := b.Run(t.Context(), shell("exit 3")); err != nil || st.Code != 3 {
			t.Fatalf("after %d: %+v, %v", i, st, err)
		}
	}
}

// TestWarm: a slot that was started early works, and ends, like any other.
func TestWarm(t *testing.T) {
	for i := range 8 {
		spec := shell("exit 5")
		spec.Observe = i&1 != 0
		if i&2 != 0 {
			spec.Network = backends.NetworkHost
		}
		expected := *spec
		expected.Observe = i&4 != 0 // also when it turns out otherwise
		b := open(t).(*Backend)
		if got := b.Last(backends.NetworkSealed); got != backends.NetworkSealed {
			t.Errorf("network %v before the first command", got)
		}
		b.Warm(&expected)
		for range 3 {
			st, err := b.Run(t.Context(), spec)
			if err != nil || st.Code != 5 || spec.Observe && (!st.Complete || len(st.Lookups) == 0) {
				t.Errorf("%+v, expected %+v: %+v, %v", spec, expected, st, err)
			}
		}
		if got := b.Last(backends.NetworkSealed); got != spec.Network {
			t.Errorf("network %v after a command with %v", got, spec.Network)
		}
		unused := open(t).(*Backend)
		unused.Warm(&expected)
		if err := errors.Join(b.Close(), unused.Close()); err != nil {
			t.Error(err)
		}
		if left := processes(t); left != "" {
			t.Errorf("children after Close: %s", left)
		}
	}
}

// TestOnce: what ends early leaves as little behind as what Close ends.
func TestOnce(t *testing.T) {
	b, err := Open(Options{Once: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.Close() }()
	round := func() {
		for i := range 3 {
			spec := shell(fmt.Sprintf("echo %d > left; exit %d", i, i))
			spec.KeepRoot = true
			if i > 0 {
				b.Warm(spec)
			}
			if i == 2 {
				spec.Limits.Wall = time.Hour
			}
			st, err := b.Run(t.Context(), spec)
			if err != nil || st.Code != i {
				t.Fatalf("%d: %+v, %v", i, st, err)
			}
			if err := b.Close(); err != nil { // what it kept must outlive it
				t.Error(err)
			}
			if left, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/build/left", st.Root.Fd())); err != nil || string(left) != fmt.Sprintln(i) {
				t.Errorf("%q, %v", left, err)
			}
			st.Root.Close()
			if b, err = Open(Options{Once: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	round() // opens what stays open
	sameTraces(t, round)
}

// TestManyAtOnce takes more slots than are kept.
func TestManyAtOnce(t *testing.T) {
	b := open(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			st, err := b.Run(t.Context(), shell(fmt.Sprintf("sleep 0.0%d; exit %d", i%10, i)))
			if err != nil || st.Code != i {
				t.Errorf("%d: %+v, %v", i, st, err)
			}
		})
	}
	wg.Wait()
}

// TestObserveFollows: a link that the command makes and removes must not hide
// what was read through it.
func TestObserveFollows(t *testing.T) {
	b := open(t)
	spec := shell(`ln -s /usr/share t; cat t/doc/nothing-here; rm t; mkdir d; ln -s ../../build d/up; cd d/up; test -e ./d/../x
		printf '#!/bin/sh\nexit 0\n' > s; chmod +x s; ./s; cat /proc/self/cwd/y < /dev/null; head -c1 /dev/fd/0`)
	spec.Observe = true
	_, st := output(t, b, spec)
	if !st.Complete {
		t.Error("not complete")
	}
	have := map[backends.Lookup]bool{}
	for _, l := range st.Lookups {
		have[backends.Lookup{Path: l.Path, Op: l.Op}] = true
	}
	for _, want := range []backends.Lookup{
		{Path: "/build/t/doc/nothing-here", Op: backends.Open},
		{Path: "/usr/share/doc/nothing-here", Op: backends.Open},
		{Path: "/build/x", Op: backends.Stat},
		{Path: "/build/s", Op: backends.Exec},
		{Path: "/bin/sh", Op: backends.Exec},
		{Path: "/build/y", Op: backends.Open},
	} {
		if !have[want] {
			t.Errorf("%+v is missing", want)
		}
	}
	if t.Failed() {
		for _, l := range st.Lookups {
			t.Logf("%+v", l)
		}
	}
}

// TestNextAfterCancelledFill cancels commands whose root is being filled. Our
// word to go on comes too late for them, and the next command of the slot finds
// it in front of its own request, which has descriptors.
func TestNextAfterCancelledFill(t *testing.T) {
	b, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 20 {
		spec := shell("true")
		ctx, cancel := context.WithCancel(t.Context())
		fill := spec.Root.Fill
		spec.Root.Fill = func(dir *os.File) error {
			cancel()
			return fill(dir)
		}
		if _, err := b.Run(ctx, spec); err == nil {
			t.Fatal("a command whose context was cancelled ran to its end")
		}
		cancel()
		if out, st := output(t, b, shell("echo hello")); out != "hello\n" || st.Code != 0 {
			t.Errorf("the next one: %q, %+v", out, st)
		}
	}
}
