//lint:file-ignore SA1019 what clients send is what is meant

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/workertest"
)

// runBuildbox runs an action as a client of buildbox-run does.
func runBuildbox(t *testing.T, address string, a *rexec.Action, more ...string) (*rexec.ActionResult, error) {
	t.Helper()
	dir := t.TempDir()
	data, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	file, result := filepath.Join(dir, "action"), filepath.Join(dir, "result")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"buildbox-run", "--remote=http://" + address, "--action=" + file, "--action-result=" + result, "--cache=" + filepath.Join(dir, "cache")}
	if err := program().Dispatch(context.Background(), append(args, more...)); err != nil {
		return nil, err
	}
	if data, err = os.ReadFile(result); err != nil {
		t.Fatal(err)
	}
	m := new(rexec.ActionResult)
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m, nil
}

func blobOf(t *testing.T, s *remotetest.Server, d *rexec.Digest) string {
	t.Helper()
	if d == nil {
		return ""
	}
	digest, err := remote.FromDigest(d, action.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := s.Blob(digest)
	if !ok {
		t.Fatalf("%v is not in the storage", digest)
	}
	return string(data)
}

// TestBuildboxHost is what recc asks for: inputs, and the host's tools.
func TestBuildboxHost(t *testing.T) {
	storage := &remotetest.Server{}
	address := remotetest.Serve(t, storage)
	_, a := copies.Store(t, storage)
	r, err := runBuildbox(t, address, a)
	if err != nil {
		t.Fatal(err)
	}
	if r.ExitCode != 0 || len(r.OutputFiles) != 1 || blobOf(t, storage, r.OutputFiles[0].Digest) != "input" || blobOf(t, storage, r.StdoutDigest) != "said\n" {
		t.Errorf("%v", r)
	}
	if storage.Results() != 0 {
		t.Error("something was put into the action cache")
	}
	// As buildbox-worker calls it, after it has asked whether that is right.
	like := []string{"buildbox-run", "--remote=http://" + address, "--instance=", "--retry-limit=4", "--retry-delay=1000", "--log-level=INFO"}
	for last, want := range map[string]bool{"--validate-parameters": true, "--retry-forever=1": false} {
		if err := program().Dispatch(t.Context(), append(slices.Clone(like), last)); (err == nil) != want {
			t.Errorf("%s: %v", last, err)
		}
	}
	if r, err := runBuildbox(t, address, a, like[2:]...); err != nil || r.ExitCode != 0 {
		t.Errorf("as buildbox-worker does: %v, %v", r, err)
	}
	_, a = workertest.Spec{Script: "echo wrong >&2; exit 7"}.Store(t, storage)
	if r, err = runBuildbox(t, address, a); err != nil || r.ExitCode != 7 || blobOf(t, storage, r.StderrDigest) != "wrong\n" {
		t.Errorf("a command that fails: %v, %v", r, err)
	}
	shared, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	if err := os.Chmod(shared, 0o777); err != nil {
		t.Fatal(err)
	}
	_, a = workertest.Spec{Script: "echo said; echo kept >/shared/file"}.Store(t, storage)
	r, err = runBuildbox(t, address, a, "--bind-mount="+shared+":/shared", "--stdout-file="+out)
	said, _ := os.ReadFile(out)
	kept, _ := os.ReadFile(filepath.Join(shared, "file"))
	if err != nil || r.ExitCode != 0 || string(said) != "said\n" || string(kept) != "kept\n" {
		t.Errorf("bind and file: %v, %v; %q, %q", r, err, said, kept)
	}
}

// TestBuildboxRoot is what BuildStream asks for: the input root is all there is,
// outputs are whole directories, and the user is root.
func TestBuildboxRoot(t *testing.T) {
	storage := &remotetest.Server{}
	address := remotetest.Serve(t, storage)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("%v: apt-get install busybox-static", err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	bin := &rexec.Directory{Files: []*rexec.FileNode{{Name: "busybox", Digest: remote.ToDigest(storage.Put(action.SHA256, program)), IsExecutable: true}}}
	for _, name := range []string{"chown", "id", "ls", "mkdir", "sh"} {
		bin.Symlinks = append(bin.Symlinks, &rexec.SymlinkNode{Name: name, Target: "busybox"})
	}
	build := &rexec.Directory{}
	root := &rexec.Directory{Directories: []*rexec.DirectoryNode{
		{Name: "bin", Digest: remote.ToDigest(storage.PutMessage(t, action.SHA256, bin))},
		{Name: "build", Digest: remote.ToDigest(storage.PutMessage(t, action.SHA256, build))},
	}}
	platform := &rexec.Platform{Properties: []*rexec.Platform_Property{{Name: "OSFamily", Value: "linux"}, {Name: "unixGID", Value: "0"}, {Name: "unixUID", Value: "0"}}}
	command := &rexec.Command{
		Arguments: []string{"sh", "-c", "id -u; ls /; mkdir -p /install/share && echo made >/install/share/file && chown 12:34 /install/share/file"}, WorkingDirectory: "build",
		EnvironmentVariables: []*rexec.Command_EnvironmentVariable{{Name: "PATH", Value: "/bin"}},
		OutputPaths:          []string{"../install"}, OutputDirectoryFormat: rexec.Command_DIRECTORY_ONLY, Platform: platform,
	}
	a := &rexec.Action{CommandDigest: remote.ToDigest(storage.PutMessage(t, action.SHA256, command)), InputRootDigest: remote.ToDigest(storage.PutMessage(t, action.SHA256, root)), Platform: platform}
	r, err := runBuildbox(t, address, a)
	if err != nil {
		t.Fatal(err)
	}
	if out := blobOf(t, storage, r.StdoutDigest); r.ExitCode != 0 || !strings.HasPrefix(out, "0\nbin\nbuild\n") || strings.Contains(out, "usr") {
		t.Fatalf("%v\n%s%s", r, out, blobOf(t, storage, r.StderrDigest))
	}
	if len(r.OutputDirectories) != 1 || r.OutputDirectories[0].Path != "../install" || r.OutputDirectories[0].RootDirectoryDigest == nil {
		t.Fatalf("outputs: %v", r.OutputDirectories)
	}
	top := new(rexec.Directory)
	if err := proto.Unmarshal([]byte(blobOf(t, storage, r.OutputDirectories[0].RootDirectoryDigest)), top); err != nil || len(top.Directories) != 1 || top.Directories[0].Name != "share" {
		t.Errorf("%v, %v", top, err)
	}
	for _, p := range []*rexec.Platform_Property{{Name: "unixUID", Value: "1000"}, {Name: "OSFamily", Value: "solaris"}} {
		a.Platform = &rexec.Platform{Properties: []*rexec.Platform_Property{p}}
		if _, err := runBuildbox(t, address, a); err == nil || !strings.Contains(err.Error(), p.Name+"="+p.Value) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestBuildboxSaysWhatIsWrong(t *testing.T) {
	storage := &remotetest.Server{}
	address := remotetest.Serve(t, storage)
	lost := &rexec.Action{CommandDigest: remote.ToDigest(action.Sum(action.SHA256, []byte("lost"))), InputRootDigest: remote.ToDigest(action.Sum(action.SHA256, []byte("lost, too")))}
	told := filepath.Join(t.TempDir(), "result")
	if r, err := runBuildbox(t, address, lost, "--action-result="+told); err == nil || !strings.Contains(err.Error(), lost.CommandDigest.Hash[:8]) {
		t.Errorf("a command that is nowhere: %v, %v", r, err)
	}
	data, err := os.ReadFile(told + ".error-status")
	st := new(statuspb.Status)
	if err == nil {
		err = proto.Unmarshal(data, st)
	}
	if err != nil || codes.Code(st.Code) != codes.FailedPrecondition || len(st.Details) == 0 {
		t.Errorf("what buildbox-worker is told of it: %v, %v", st, err)
	}
	_, a := copies.Store(t, storage)
	for args, want := range map[string]string{
		"--remote=": "--remote is missing", "--action=": "--action is missing", "--action-result=": "--action-result is missing",
		"--action=/nothing": "/nothing", "--bind-mount=x": "want SRC:DST", "--log-level=loud": "loud", "--digest-function=md4": "md4", "word": "unexpected argument",
		"--remote=ftp://x": "ftp://x", "--backend=none-such": "none-such", "--action=" + os.Args[0]: "it is no Action",
	} {
		if _, err := runBuildbox(t, address, a, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}
