package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/botspb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/workertest"
)

// runProgram runs a command until the test stops it as a signal would, and says
// how it ended.
func runProgram(t *testing.T, args ...string) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- program().Dispatch(ctx, args) }()
	t.Cleanup(cancel)
	return func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * time.Minute):
			return fmt.Errorf("%v does not end", args)
		}
	}
}

// checkJob wants the answer of one that copies a file and says something.
func checkJob(t *testing.T, storage *remotetest.Server, j *workertest.Job) {
	t.Helper()
	resp := workertest.Wait(t, j)
	r := resp.GetResult()
	if resp.Status.GetCode() != 0 || r.GetExitCode() != 0 || len(r.GetOutputFiles()) != 1 {
		t.Fatalf("%v", resp)
	}
	d, err := action.ParseHash(action.SHA256, r.OutputFiles[0].Digest.Hash, r.OutputFiles[0].Digest.SizeBytes)
	if err != nil {
		t.Fatal(err)
	}
	if data, ok := storage.Blob(d); !ok || string(data) != "input" {
		t.Errorf("the output is %q", data)
	}
}

var copies = workertest.Spec{Script: "cat in > out; echo said", Inputs: map[string]string{"in": "input"}, Outputs: []string{"out"}}

// TestWorkerOfBuildbarn is the whole program between a scheduler and a storage.
func TestWorkerOfBuildbarn(t *testing.T) {
	storage := &remotetest.Server{}
	s := &workertest.Scheduler{
		Storage: storage, Prefix: "team", Busy: 10 * time.Second, Grace: time.Minute, Idle: time.Second,
		Platform: &rexec.Platform{Properties: []*rexec.Platform_Property{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}},
	}
	address := remotetest.Serve(t, storage, func(g *grpc.Server) { remoteworkerpb.RegisterOperationQueueServer(g, s) })
	stop := runProgram(t, "worker", "--scheduler", address, "--storage", "grpc://"+address, "--instance", "team",
		"--platform", "B=2", "--platform", "A=1", "--concurrency", "2", "--cache", t.TempDir(), "--id", "name=x")
	checkJob(t, storage, s.Enqueue(copies.Store(t, storage)))
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, v := range s.Violations() {
		t.Error(v)
	}
}

// TestWorkerOfBots is the same, of a server of the Bots interface.
func TestWorkerOfBots(t *testing.T) {
	storage := &remotetest.Server{}
	s := &workertest.Bots{Storage: storage, Instance: "main", Device: map[string]string{"A": "1"}, Expire: time.Minute}
	address := remotetest.Serve(t, storage, func(g *grpc.Server) { botspb.RegisterBotsServer(g, s) })
	stop := runProgram(t, "worker", "--engine", "bots", "--scheduler", address, "--storage", address, "--instance", "main",
		"--platform", "A=1", "--concurrency", "1", "--cache", t.TempDir())
	j := &workertest.Job{Done: make(chan *rexec.ExecuteResponse, 1)}
	j.Digest, j.Action = copies.Store(t, storage)
	s.Enqueue(j)
	checkJob(t, storage, j)
	if storage.Result(j.Digest) != nil {
		t.Error("the action cache is the server's affair")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, v := range s.Violations() {
		t.Error(v)
	}
}

// TestRunnerOnItsSocket is the whole program, with a worker's request.
func TestRunnerOnItsSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "sbx") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	if err := os.MkdirAll(filepath.Join(dir, "build/1/root"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	stop := runProgram(t, "runner", "--listen", "unix:"+socket, "--build-dir", filepath.Join(dir, "build"), "--cache", t.TempDir())
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resp, err := runnerpb.NewRunnerClient(conn).Run(t.Context(), &runnerpb.RunRequest{
		Arguments: []string{"/bin/sh", "-c", "echo made > out"}, InputRootDirectory: "1/root", StdoutPath: "1/stdout", StderrPath: "1/stderr",
	}, grpc.WaitForReady(true))
	if err != nil || resp.ExitCode != 0 {
		t.Fatalf("%v, %v", resp, err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "build/1/root/out")); string(data) != "made\n" {
		t.Errorf("the output is %q, %v", data, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestWorkersSayWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"worker", "--scheduler is missing"},
		{"worker --scheduler h:1", "--storage is missing"},
		{"worker --scheduler http://h --storage h:1", "--scheduler: address"},
		{"worker --scheduler h:1 --storage h:x", "--storage: address"},
		{"worker --scheduler grpc://h:1/x --storage h:1", "--instance x"},
		{"worker --engine other", "there are buildbarn and bots"},
		{"worker --scheduler h:1 --storage h:1 --platform x", `--platform "x": want NAME=VALUE`},
		{"worker --scheduler h:1 --storage h:1 --id x", `--id "x": want NAME=VALUE`},
		{"worker --scheduler h:1 --storage h:1 --instance a/blobs", "meaning of its own"},
		{"worker --scheduler h:1 --storage h:1 --backend x", `unknown backend "x"`},
		{"worker --scheduler h:1 --storage h:1 --timeout 2h --max-timeout 1h", "longer than --max-timeout"},
		{"worker --scheduler h:1 --storage h:1 --tls-cert x", "needs its key"},
		{"worker --scheduler h:1 --storage h:1 --tls-ca /absent", "certificates to trust"},
		{"worker --scheduler h:1 --storage h:1 --headers /absent", "--headers"},
		{"worker --concurrency 0", "above 0"},
		{"worker extra", "unexpected argument"},
		{"runner", "want unix:PATH"},
		{"runner --listen unix:/tmp/x", "--build-dir is missing"},
		{"runner --listen unix:/tmp/x --build-dir /absent", "build directory"},
		{"runner --listen unix:/tmp/x --build-dir / --socket-mode 9", "in octal"},
		{"runner --listen unix:/" + strings.Repeat("x", 200) + " --build-dir /", "107 bytes"},
	} {
		args := strings.Fields(c.args)
		if err := program().Dispatch(t.Context(), append(args[:1:1], append([]string{"--cache", t.TempDir()}, args[1:]...)...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}
