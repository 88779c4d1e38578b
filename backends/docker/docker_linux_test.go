package docker

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

// daemonHost tells a process that backendtest starts of the daemon of its parent.
const daemonHost = "SBX_TEST_DOCKER_HOST"

// daemon starts a daemon for the test, of which nothing is left, and returns where
// it listens. Where none can be started there is nothing to test.
func daemon(t *testing.T) string {
	t.Helper()
	if host := os.Getenv(daemonHost); host != "" {
		return host
	}
	program, err := exec.LookPath("dockerd")
	if err != nil {
		t.Skipf("%v: run: apt-get install docker.io", err)
	}
	// Not t.TempDir: the path of a socket is short.
	dir, err := os.MkdirTemp("/tmp", "sbx-docker-")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	host := "unix://" + dir + "/socket"
	// In a mount namespace of its own: what it mounts is no other test's leftover.
	cmd := exec.Command(
		"unshare", "--mount", "--propagation", "slave", program, "--host="+host, "--data-root="+dir+"/data", "--exec-root="+dir+"/exec", "--pidfile="+dir+"/pid",
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", "--storage-driver=vfs", "--shutdown-timeout=5",
	)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		log.Close()
		unmountBelow(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for {
		select {
		case err := <-ended:
			ended <- err
			said, _ := os.ReadFile(log.Name())
			t.Skipf("docker's daemon cannot be started here: %v: %s", err, said)
		case <-time.After(50 * time.Millisecond):
		}
		if exec.Command("docker", "--host", host, "version").Run() == nil {
			t.Setenv(daemonHost, host)
			return host
		}
	}
}

// unmountBelow unmounts what the daemon has left mounted below dir.
func unmountBelow(dir string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}

func TestPromises(t *testing.T) {
	if os.Geteuid() != 0 {
		backendtest.TestRootOnly(t, backendtest.Opener(Open, Options{}))
		return
	}
	host := daemon(t)
	backendtest.TestBrief(t, backendtest.Opener(Open, Options{Host: host}))

	t.Run("Left", func(t *testing.T) {
		out, err := exec.Command("docker", "--host", host, "ps", "--all", "--quiet").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("containers that are left: %s, %v; want none", out, err)
		}
		out, err = exec.Command("docker", "--host", host, "images", "--format", "{{.Repository}}").CombinedOutput()
		if err != nil || string(out) != "sbx-action/init\n" {
			t.Errorf("images: %q, %v; want that of the init alone", out, err)
		}
	})
}

// standIn makes a docker that writes its arguments down, and does what script says.
func standIn(t *testing.T, script string) (program, record string) {
	t.Helper()
	dir := t.TempDir()
	program, record = filepath.Join(dir, "docker"), filepath.Join(dir, "record")
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" . >>" + record + "\n" + script
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, record
}

func TestCommandLine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("docker is for root only: see TestPromises")
	}
	program, record := standIn(t, `case $1 in image) exit 1;; import) cat >/dev/null;; run) echo 'docker: Error response from daemon: no' >&2; exit 125;; esac`)
	b := backendtest.Opener(Open, Options{Program: program})(t)
	_, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/x"}, Dir: "/"})
	if err == nil || !strings.Contains(err.Error(), "Error response from daemon: no") {
		t.Errorf("Run = %v, want what docker says", err)
	}
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(strings.TrimSuffix(string(data), "\n.\n"), "\n.\n")
	if len(calls) != 3 {
		t.Fatalf("docker was called %d times, want 3 times: %q", len(calls), calls)
	}
	image, imported, run := strings.Split(calls[0], "\n"), strings.Split(calls[1], "\n"), strings.Split(calls[2], "\n")
	name := image[len(image)-1]
	if !strings.HasPrefix(name, "sbx-action/init:") || !slices.Equal(imported, []string{"import", "-", name}) {
		t.Errorf("the image was looked for by %q and made by %q", image, imported)
	}
	for _, want := range []string{"--rm", "--pull=never", "--cap-drop=ALL", "--entrypoint=" + initPath, name, "init", "connect"} {
		if !slices.Contains(run, want) {
			t.Errorf("docker run has no %s: %q", want, run)
		}
	}
	for _, never := range []string{"--privileged", "--pid=host", "--ipc=host"} {
		if slices.Contains(run, never) {
			t.Errorf("docker run has %s: %q", never, run)
		}
	}
}

// A stand-in is no docker, whatever it does.
func TestStandInDoesNotWork(t *testing.T) {
	program, _ := standIn(t, "exit 0")
	if c := backendtest.Opener(Open, Options{Program: program})(t).Capabilities(); c.Works || c.Reason == "" {
		t.Errorf("Capabilities = %+v, want one that does not work and says why", c)
	}
}

// A docker that never answers must not keep us.
func TestHangs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("docker is for root only: see TestPromises")
	}
	program, _ := standIn(t, `[ "$1" != run ] || exec sleep 600`)
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := backendtest.Opener(Open, Options{Program: program})(t).Run(ctx, &backends.Spec{Args: []string{"/x"}, Dir: "/"}); !errors.Is(err, cause) {
		t.Errorf("Run = %v, want the cause", err)
	}
}

func TestNoDaemon(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("docker is for root only: see TestPromises")
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip(err)
	}
	c := backendtest.Opener(Open, Options{Host: "unix:///nonexistent/socket"})(t).Capabilities()
	if c.Works || !strings.Contains(c.Reason, "/nonexistent/socket") {
		t.Errorf("Capabilities = %+v, want a reason that names the socket", c)
	}
}
