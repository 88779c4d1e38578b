package runner_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/runner"
	"github.com/sbx-action/sbx-action/staging"
)

// A build is a build directory with one action in it, as bb_worker makes it.
type build struct {
	*runner.Server
	dir string // of all builds
	at  string // of this one, below dir
}

func start(t *testing.T) *build {
	t.Helper()
	dir := t.TempDir()
	// So that user 65000 of the host gets there. What is above does not belong to us, and
	// others look at its permissions.
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		os.Chmod(p, 0o755)
	}
	backend, err := native.Open(native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	store, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s, err := runner.New(runner.Options{
		BuildDir: dir, Backend: backend, Capabilities: backend.Capabilities(), Store: store,
		Rootfs: staging.HostRootfs(staging.HostOptions{}), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := &build{s, dir, "1"}
	for _, d := range []string{"root", "tmp", "server_logs"} {
		if err := os.MkdirAll(filepath.Join(dir, b.at, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *build) request(script string) *pb.RunRequest {
	return &pb.RunRequest{
		Arguments: []string{"/bin/sh", "-c", script}, EnvironmentVariables: map[string]string{"PATH": "/usr/bin:/bin", "X": "y"},
		StdoutPath: b.at + "/stdout", StderrPath: b.at + "/stderr", InputRootDirectory: b.at + "/root",
		TemporaryDirectory: b.at + "/tmp", ServerLogsDirectory: b.at + "/server_logs",
	}
}

func (b *build) path(name string) string { return filepath.Join(b.dir, b.at, name) }

func (b *build) write(t *testing.T, name, content string) {
	t.Helper()
	p := b.path("root/" + name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o444); err != nil {
		t.Fatal(err)
	}
}

func (b *build) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestRun(t *testing.T) {
	b := start(t)
	b.write(t, "sub/in", "input")
	if err := os.MkdirAll(b.path("root/out/deep"), 0o755); err != nil { // as the worker does for outputs
		t.Fatal(err)
	}
	req := b.request(`cat in > ../out/deep/copy; printf '#!/bin/sh\n' > ../out/run; chmod +x ../out/run; ln -s run ../out/link
		mkdir -p ../new/dir; echo x > ../new/dir/file; echo $X; pwd; echo moaned >&2; test -w "$TMPDIR" || echo no TMPDIR; exit 3`)
	req.WorkingDirectory = "sub"
	resp, err := b.Run(t.Context(), req)
	if err != nil || resp.ExitCode != 3 || len(resp.ResourceUsage) != 1 {
		t.Fatalf("%v, %v, want exit code 3 and what it used", resp, err)
	}
	for name, want := range map[string]string{
		"root/out/deep/copy": "input", "root/new/dir/file": "x\n", "stdout": "y\n/build/sub\n", "stderr": "moaned\n", "root/sub/in": "input",
	} {
		if got := b.read(t, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if info, err := os.Stat(b.path("root/out/run")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("%v, %v, want an executable file", info, err)
	}
	if target, err := os.Readlink(b.path("root/out/link")); target != "run" {
		t.Errorf("link to %q, %v", target, err)
	}
}

// TestCacheCannotBePoisoned: inputs are hard links into the worker's cache.
func TestCacheCannotBePoisoned(t *testing.T) {
	b := start(t)
	cached := filepath.Join(b.dir, "cached")
	if err := os.WriteFile(cached, []byte("good"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(cached, b.path("root/in")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cached, 0o666); err != nil { // what protects it is not its mode
		t.Fatal(err)
	}
	if _, err := b.Run(t.Context(), b.request("echo POISON > in; chmod 777 in")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(cached); string(got) != "good" {
		t.Errorf("the cache has %q, %v", got, err)
	}
	if info, err := os.Stat(cached); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the cache's file has mode %v, %v", info.Mode(), err)
	}
	if got := b.read(t, "root/in"); got != "POISON\n" {
		t.Errorf("control: the command's own input root has %q: it did not write", got)
	}
}

func TestRemovedAndReplaced(t *testing.T) {
	b := start(t)
	for _, f := range []string{"gone", "dir/a", "dir/b", "tree/x", "tree/deep/y", "file"} {
		b.write(t, f, "old")
	}
	_, err := b.Run(t.Context(), b.request("rm gone dir/a; rm -r tree; mkdir tree; echo new > tree/z; rm file; mkdir file; echo new > file/w; rm dir/b; ln -s /etc dir/b"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"gone", "dir/a", "tree/x", "tree/deep"} {
		if _, err := os.Lstat(b.path("root/" + f)); err == nil {
			t.Errorf("%s is still there", f)
		}
	}
	if b.read(t, "root/tree/z") != "new\n" || b.read(t, "root/file/w") != "new\n" {
		t.Error("what replaced something is not there")
	}
	if target, _ := os.Readlink(b.path("root/dir/b")); target != "/etc" {
		t.Errorf("dir/b leads to %q", target)
	}
}

// TestLinksAreNotFollowed: neither those that were there nor those that the
// command makes lead the runner out of the input root.
func TestLinksAreNotFollowed(t *testing.T) {
	b := start(t)
	outside := t.TempDir()
	for _, name := range []string{"made", "there"} {
		if err := os.Mkdir(filepath.Join(outside, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	b.write(t, "d/x", "old")
	if err := os.Symlink(filepath.Join(outside, "there"), b.path("root/there")); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("rm -r d; ln -s %s/made d; echo evil > d/evil; rm there; mkdir there; echo evil > there/evil; exit 0", outside)
	if _, err := b.Run(t.Context(), b.request(script)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"made/evil", "there/evil"} {
		if _, err := os.Lstat(filepath.Join(outside, name)); err == nil {
			t.Errorf("%s was written outside of the input root", name)
		}
	}
	if b.read(t, "root/there/evil") != "evil\n" {
		t.Error("control: the directory in the link's place was not made")
	}
}

func TestTimeoutKeepsWhatThereIs(t *testing.T) {
	for limit := 3 * time.Second; ; limit *= 4 { // on a busy machine it takes more to begin
		b := start(t)
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := b.Run(ctx, b.request("echo part > out; echo early; sleep 600"))
		late := ctx.Err()
		cancel()
		part, _ := os.ReadFile(b.path("root/out"))
		early, _ := os.ReadFile(b.path("stdout"))
		began := string(part) == "part\n" && string(early) == "early\n"
		if !began && limit < time.Minute {
			continue
		}
		if status.Code(err) != codes.DeadlineExceeded || late != nil {
			t.Errorf("%v, want DEADLINE_EXCEEDED, before the worker gives up (%v)", err, late)
		}
		if !began {
			t.Error("what there was is lost")
		}
		return
	}
}

func TestCancelKills(t *testing.T) {
	b := start(t)
	marker := fmt.Sprint(2_000_000 + os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Run(ctx, b.request("setsid sleep "+marker+" & sleep "+marker))
		done <- err
	}()
	alive := func() bool { return exec.Command("pgrep", "-f", "sleep "+marker).Run() == nil }
	for end := time.Now().Add(2 * time.Minute); !alive(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("control: the command is not seen to run")
		}
	}
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled || alive() {
		t.Errorf("%v; alive %v", err, alive())
	}
}

func TestReadiness(t *testing.T) {
	b := start(t)
	if _, err := b.CheckReadiness(t.Context(), &pb.CheckReadinessRequest{Path: b.at}); err != nil {
		t.Error(err)
	}
	for _, p := range []string{"absent", "../..", "/etc"} {
		if _, err := b.CheckReadiness(t.Context(), &pb.CheckReadinessRequest{Path: p}); err == nil {
			t.Errorf("%q is ready", p)
		}
	}
}

func TestBadRequests(t *testing.T) {
	b := start(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(b.dir, "link")); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*pb.RunRequest){
		"no command":           func(r *pb.RunRequest) { r.Arguments = nil },
		"NUL":                  func(r *pb.RunRequest) { r.Arguments = []string{"a\x00b"} },
		"environment":          func(r *pb.RunRequest) { r.EnvironmentVariables = map[string]string{"a=b": "c"} },
		"working_directory":    func(r *pb.RunRequest) { r.WorkingDirectory = "../../x" },
		"input_root_directory": func(r *pb.RunRequest) { r.InputRootDirectory = "../x" },
		"not a directory":      func(r *pb.RunRequest) { r.InputRootDirectory = "absent" },
		"is not a directory":   func(r *pb.RunRequest) { r.InputRootDirectory = "link" },
		"stdout_path":          func(r *pb.RunRequest) { r.StdoutPath = "../x" },
		"stderr_path":          func(r *pb.RunRequest) { r.StderrPath = r.StdoutPath },
		"could not be started": func(r *pb.RunRequest) { r.Arguments = []string{"no-such-program"} },
	} {
		os.Remove(b.path("stdout"))
		os.Remove(b.path("stderr"))
		req := b.request("true")
		change(req)
		if _, err := b.Run(t.Context(), req); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
