package landlock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

var open = backendtest.Opener(Open, Options{})

func TestPromises(t *testing.T) { backendtest.Test(t, open) }

// tempDir is a directory that every user can search, and where temporary files go.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "landlock-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	return dir
}

// write makes a file that every user can write.
func write(t *testing.T, name, text string) {
	t.Helper()
	os.MkdirAll(filepath.Dir(name), 0o777)
	err := errors.Join(os.WriteFile(name, []byte(text), 0o666), os.Chmod(filepath.Dir(name), 0o777), os.Chmod(name, 0o666))
	if err != nil {
		t.Fatal(err)
	}
}

// shell is a command in a root in place that has the host's programs.
func shell(script string, binds ...backends.Bind) *backends.Spec {
	spec := &backends.Spec{
		Root: backends.Root{InPlace: true, Binds: binds},
		Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
	}
	for _, d := range []string{"/usr", "/bin", "/lib", "/lib64"} {
		if _, err := os.Stat(d); err == nil {
			spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: d, Target: d})
		}
	}
	return spec
}

// output runs spec, which must exit with code, and returns what it wrote.
func output(t *testing.T, b backends.Backend, spec *backends.Spec, code int) string {
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
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if st.Code != code || st.Start != nil {
		t.Fatalf("%q: code %d, start %v; want %d; it wrote %q", spec.Args, st.Code, st.Start, code, text)
	}
	return string(text)
}

// outside runs a script without any sandbox: the control.
func outside(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("control: %q: %v, %s", script, err, out)
	}
	return string(out)
}

// TestFiles tries everything that Landlock has to refuse on files that every user
// may read and write.
func TestFiles(t *testing.T) {
	dir := tempDir(t)
	b := open(t)
	for _, script := range []string{
		"cat @/secret", "ls @", ": >>@/secret", ": >@/secret", "truncate -s 0 @/secret", "dd if=/dev/null of=@/secret conv=notrunc",
		"echo x >@/new", "mkdir @/sub", "mkfifo @/fifo", "ln -s x @/link", "rm @/secret", "mv @/secret @/moved", "mv @/secret .", "ln @/secret here",
		"cp /bin/true here && mv here @/in", "cat /proc/$PPID/environ", "ls /proc/1/root/ /proc/self/root/var", "ls /", "ls /dev", "cat @/../secret-above",
	} {
		write(t, dir+"/d/secret", "secret")
		write(t, dir+"/secret-above", "secret")
		spec := shell("( " + strings.ReplaceAll(script, "@", dir+"/d") + " ) && exit 0; exit 77")
		if out := output(t, b, spec, 77); !strings.Contains(out, "ermission denied") && !strings.Contains(out, "not permitted") && !strings.Contains(out, "cross-device") {
			t.Errorf("%s: failed for another reason: %s", script, out)
		}
		if text, err := os.ReadFile(dir + "/d/secret"); err != nil || string(text) != "secret" {
			t.Errorf("%s: the file is now %q, %v", script, text, err)
		}
	}
	for _, script := range []string{"cat @/secret", ": >>@/secret", "mkdir @/sub", "mkfifo @/fifo", "ln -s x @/link", "mv @/secret @/moved", "rm @/moved", "echo x >@/new"} {
		outside(t, strings.ReplaceAll(script, "@", dir+"/d"))
	}
	// By its name, or by another, only what was given: and that read-only.
	write(t, dir+"/d/given", "given")
	write(t, dir+"/w/shared", "old")
	spec := shell("cat "+dir+"/d/given link/given; echo >>"+dir+"/d/given || echo kept; echo new >"+dir+"/w/shared; cat "+dir+"/w/shared",
		backends.Bind{Source: dir + "/d", Target: "/link"}, backends.Bind{Source: dir + "/w", Target: dir + "/w", Writable: true})
	if out := output(t, b, spec, 0); !strings.HasPrefix(out, "givengiven") || !strings.Contains(out, "kept\n") || !strings.HasSuffix(out, "new\n") {
		t.Errorf("binds: %q", out)
	}
}

// TestRoot shows what the directory is like that stands for the root.
func TestRoot(t *testing.T) {
	dir := tempDir(t)
	b := open(t)
	write(t, dir+"/tool/run", "#!/bin/sh\necho \"$0 in $(pwd) has $(cat data) and $TMPDIR\"; echo x >$TMPDIR/x && echo y >made\n")
	os.Chmod(dir+"/tool/run", 0o755)
	spec := shell("", backends.Bind{Source: dir + "/tool", Target: "/opt/tool"})
	owner := b.Capabilities().Owner
	spec.Root.Fill = func(root *os.File) error {
		place := root.Name() + "/work"
		return errors.Join(os.Mkdir(place, 0o755), os.WriteFile(place+"/data", []byte("data"), 0o644), os.Lchown(place, owner, owner))
	}
	spec.Args, spec.Dir = []string{"/opt/tool/run"}, "/work"
	spec.Env, spec.KeepRoot = append(spec.Env, "TMPDIR=/tmp"), true
	st, err := b.Run(t.Context(), spec)
	if err != nil || st.Code != 0 {
		t.Fatalf("Run = %+v, %v", st, err)
	}
	names, _ := os.ReadDir(st.Root.Name() + "/work")
	if len(names) != 2 || names[1].Name() != "made" {
		t.Errorf("the root's /work has %v; want data and made", names)
	}
	for _, gone := range []string{"/opt/tool", "/tmp/x", "/usr"} {
		if _, err := os.Lstat(st.Root.Name() + gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is in the root that was kept: %v", gone, err)
		}
	}
	root := st.Root.Name()
	st.Root.Close()
	st.Root = nil
	spec.KeepRoot = false
	if out := output(t, b, spec, 0); !strings.Contains(out, "has data and ") {
		t.Errorf("the program says %q", out)
	}
	if left, _ := filepath.Glob(dir + "/" + pattern + "*"); len(left) != 0 {
		t.Errorf("%v is left, after the root of %s was closed", left, root)
	}
	spec.Root.ReadOnly, spec.Root.Writable = true, []string{"/work"}
	spec.Root.Tmpfs = []string{"/mem"}
	spec.Args = []string{"/bin/sh", "-c", "echo x >made && echo x >../mem/x && echo x >../tmp/x && ! echo x >../x"}
	output(t, b, spec, 0)
	spec.Root.Writable = nil
	output(t, b, spec, 2)
}

// TestSockets: a daemon of the host that does as it is told must not be reached.
func TestSockets(t *testing.T) {
	dir := tempDir(t)
	b := open(t)
	l, err := net.Listen("unix", dir+"/daemon")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(dir+"/daemon", 0o777); err != nil {
		t.Fatal(err)
	}
	const python = "import socket,sys\na,b=socket.socketpair()\na.send(b'x'); assert b.recv(1)==b'x'\nsocket.socket(socket.AF_UNIX).connect(sys.argv[1])"
	script := "python3 -c \"" + python + "\" " + dir + "/daemon"
	outside(t, script)
	for _, network := range []backends.Network{backends.NetworkNone, backends.NetworkHost} {
		spec := shell(script, backends.Bind{Source: dir, Target: dir, Writable: true})
		spec.Network = network
		if out := output(t, b, spec, 1); !strings.Contains(out, "Permission denied") {
			t.Errorf("network %d: %s", network, out)
		}
	}

	// One of a pair of datagrams, or of what the kernel takes for them, connected to
	// a socket with a name.
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/log", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := os.Chmod(dir+"/log", 0o777); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"SOCK_DGRAM", "SOCK_RAW"} {
		script := "python3 -c \"import socket,sys\na,b=socket.socketpair(socket.AF_UNIX, socket." + kind + ")\na.connect(sys.argv[1])\" " + dir + "/log"
		outside(t, script)
		for _, network := range []backends.Network{backends.NetworkNone, backends.NetworkHost} {
			spec := shell(script, backends.Bind{Source: dir, Target: dir, Writable: true})
			spec.Network = network
			if out := output(t, b, spec, 1); !strings.Contains(out, "Permission denied") {
				t.Errorf("%s, network %d: %s", kind, network, out)
			}
		}
	}
}

// TestSignals: where the command is the caller, only Landlock protects the host.
func TestSignals(t *testing.T) {
	if v := abi(); v < abiScopes {
		t.Logf("version %d of Landlock has no scopes: nothing is promised", v)
		return
	}
	tempDir(t)
	b := open(t)
	sleeper := exec.Command("sleep", "600")
	if os.Geteuid() == 0 { // the user of the command
		sleeper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: backends.ID, Gid: backends.ID}}
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	pid := strconv.Itoa(sleeper.Process.Pid)
	if out := output(t, b, shell("kill -0 "+pid+" && exit 0; exit 77"), 77); !strings.Contains(out, "not permitted") {
		t.Errorf("kill: %s", out)
	}
	if err := sleeper.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	tempDir(t)
	b := open(t)
	for what, change := range map[string]func(*backends.Spec){
		"a root of its own": func(s *backends.Spec) { s.Root.InPlace = false },
		"layers":            func(s *backends.Spec) { s.Root.Lowers = []backends.Layer{{Dir: "/usr"}} },
		"observation":       func(s *backends.Spec) { s.Observe = true },
		"a limit of proc":   func(s *backends.Spec) { s.Limits.Pids = 5 },
		"something else is": func(s *backends.Spec) {
			s.Root.Fill = func(d *os.File) error { return os.MkdirAll(d.Name()+"/x/y", 0o755) }
			s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: "/usr", Target: "/x"})
		},
		"a link on the way": func(s *backends.Spec) {
			s.Root.Fill = func(d *os.File) error { return os.Symlink("/etc", d.Name()+"/x") }
			s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: "/usr", Target: "/x/y"})
		},
	} {
		spec := shell("echo I ran")
		change(spec)
		if st, err := b.Run(t.Context(), spec); !errors.Is(err, backends.ErrUnsupported) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
}

// TestSupervisorKilled kills the helper: that is an error, and its directory is
// removed by whoever runs next.
func TestSupervisorKilled(t *testing.T) {
	dir := tempDir(t)
	b := open(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	spec := shell("echo $$ $PPID; exec sleep 600")
	spec.Stdout = w
	ended := make(chan error, 1)
	go func() {
		_, err := b.Run(t.Context(), spec)
		ended <- err
	}()
	line := make([]byte, 100)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pids := bytes.Fields(line[:n])
	if len(pids) != 2 {
		t.Fatalf("the command says %q", line[:n])
	}
	helper, _ := strconv.Atoi(string(pids[1]))
	command, _ := strconv.Atoi(string(pids[0]))
	defer unix.Kill(command, unix.SIGKILL)
	if err := unix.Kill(helper, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Run = %v; want an error that says so", err)
	}
	left := filepath.Join(dir, pattern+"left", "root", "shut")
	if err := errors.Join(os.MkdirAll(left, 0o755), os.Chmod(left, 0)); err != nil {
		t.Fatal(err)
	}
	other := open(t)
	output(t, other, shell("true"), 0)
	if all, _ := filepath.Glob(dir + "/" + pattern + "*"); len(all) != 0 {
		t.Errorf("%v is left", all)
	}
}

// TestChain shows that processes which never stay the same are found.
func TestChain(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	tempDir(t)
	b := open(t)
	spec := shell("f() { (f & ) ; }; g() { while :; do (setsid sh -c 'sleep 0.01 & exec sleep 600' &); done; }; g & g & sleep 600")
	spec.Limits.Wall = 500 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	st, err := b.Run(ctx, spec)
	if err != nil || !st.TimedOut {
		t.Fatalf("Run = %+v, %v", st, err)
	}
}
