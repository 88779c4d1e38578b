package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// asProgram says to the test's own binary that it is to be the program.
const asProgram = "SBX_TEST_AS_ACTIOND"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		program().Main()
	}
	os.Exit(m.Run())
}

// actiond is the program with these arguments.
func actiond(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// A running server.
type running struct {
	cmd        *exec.Cmd
	grpc, http string
	rest       chan string // what it said after it began to serve
}

// serving starts a server, which the test must end.
func serving(t *testing.T, cache string, args ...string) *running {
	t.Helper()
	r := &running{cmd: actiond(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--cache", cache}, args...)...), rest: make(chan string, 1)}
	out, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	var said strings.Builder
	for r.http == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, a, ok := strings.Cut(lines.Text(), "msg=serving address="); ok {
			r.grpc, _, _ = strings.Cut(a, " ")
		}
		if _, a, ok := strings.Cut(lines.Text(), `msg="serving HTTP" address=`); ok {
			r.http = a
		}
	}
	if r.http == "" {
		t.Fatalf("it did not start: %s", said.String())
	}
	go func() {
		var b strings.Builder
		for lines.Scan() {
			b.WriteString(lines.Text() + "\n")
		}
		r.rest <- b.String()
	}()
	return r
}

// memory is what the server uses of it, in bytes: VmRSS now, or VmHWM at most.
func (r *running) memory(t *testing.T, which string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), which+":")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// end sends a signal and wants the server to end well.
func (r *running) end(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said := <-r.rest
	if err := r.cmd.Wait(); err != nil || !strings.Contains(said, "msg=stopped") {
		t.Errorf("after SIGTERM: %v: %s", err, said)
	}
}

func TestServeRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, open := filepath.Join(dir, "empty"), filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(open, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"extra"}, `unexpected argument "extra"`},
		{[]string{"--listen", "nonsense"}, "want HOST:PORT"},
		{[]string{"--listen", "0.0.0.0:0"}, "give --allow-anyone"},
		{[]string{"--listen", "[::]:0"}, "give --allow-anyone"},
		{[]string{"--http", ":0"}, "give --allow-anyone"},
		{[]string{"--listen", "127.0.0.1:0", "--http", "127.0.0.1:99999"}, "serve: --http 127.0.0.1:99999"},
		{[]string{"--backend", "magic"}, `unknown backend "magic"`},
		{[]string{"--rootfs", "nobody"}, "sbx-action rootfs import"},
		{[]string{"--access", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"--access", open}, "chmod 600"},
		{[]string{"--tls-cert", empty}, "belong together"},
		{[]string{"--tls-cert", empty, "--tls-key", empty}, "--tls-cert " + empty},
		{[]string{"--instance", "max-blbo=1G"}, "begins with a setting"},
		{[]string{"--instance", "a/blobs"}, "blobs"},
		{[]string{"--instance", "a colour=red"}, "max-blob, max-timeout"},
		{[]string{"--instance", "a", "--instance", "a"}, "twice"},
		{[]string{"--instance", "a max-blob=lots"}, "max-blob=lots"},
		{[]string{"--jobs", "0"}, "--jobs"},
		{[]string{"--timeout", "soon"}, "timeout"},
		{[]string{"--max-size", "1K"}, "want 64.0 MiB at least"},
		{[]string{"--max-size", "lots"}, "max-size"},
		{[]string{"--min-free", "999999T"}, "--min-free"},
	} {
		args := append([]string{"serve", "--cache", cache}, c.args...)
		if !slices.Contains(args, "--listen") {
			args = append(args, "--listen", "127.0.0.1:0") // that of the default may be in use
		}
		cmd := actiond(t, args...)
		var out bytes.Buffer
		cmd.Stderr = &out
		err := cmd.Run()
		exit, _ := errors.AsType[*exec.ExitError](err)
		text := strings.TrimSpace(out.String())
		if exit == nil || exit.ExitCode() != 125 || !strings.Contains(text, strings.TrimPrefix(c.want, "--")) || strings.Contains(text, "\n") {
			t.Errorf("serve %q: %v: %s; want one line with %q", c.args, err, text, c.want)
		}
	}
}

func dialTo(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestServeSurvivesKill stores a blob and a result, and a part of another blob,
// kills the server, and finds them in the next one.
func TestServeSurvivesKill(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	first := serving(t, cache)
	second := actiond(t, "serve", "--listen", "127.0.0.1:0", "--cache", cache)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another server serves") {
		t.Errorf("a second server of one store: %v: %s", err, out)
	}
	d := reapi.ToDigest(action.Sum(action.SHA256, []byte("blob")))
	conn := dialTo(t, first.grpc, insecure.NewCredentials())
	cas, ac := repb.NewContentAddressableStorageClient(conn), repb.NewActionCacheClient(conn)
	if _, err := cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: []byte("blob")}}}); err != nil {
		t.Fatal(err)
	}
	res := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "x", Digest: d}}}
	if _, err := ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: res}); err != nil {
		t.Fatal(err)
	}
	// Half of a large upload comes, too.
	large := make([]byte, 16<<20)
	rand.Read(large)
	upload := "uploads/u/" + reapi.BlobName(action.Sum(action.SHA256, large))
	write, err := bytestream.NewByteStreamClient(conn).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const part = 10 << 20
	for at := 0; at < part; at += 1 << 20 {
		if err := write.Send(&bytestream.WriteRequest{ResourceName: upload, WriteOffset: int64(at), Data: large[at : at+1<<20]}); err != nil {
			t.Fatal(err)
		}
	}
	written := func(r *running) int64 {
		t.Helper()
		st, err := bytestream.NewByteStreamClient(dialTo(t, r.grpc, insecure.NewCredentials())).QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: upload})
		if err != nil || st.Complete {
			t.Fatalf("QueryWriteStatus: %v, %v", st, err)
		}
		return st.CommittedSize
	}
	for written(first) < part {
		time.Sleep(time.Millisecond)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	next := serving(t, cache)
	// It goes on where it ended, in this server and in the one after it.
	if n := written(next); n != part {
		t.Errorf("of the upload are there %d bytes, want %d", n, part)
	}
	resume := func(r *running, from, to int64, finish bool) (*bytestream.WriteResponse, error) {
		t.Helper()
		write, err := bytestream.NewByteStreamClient(dialTo(t, r.grpc, insecure.NewCredentials())).Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = write.Send(&bytestream.WriteRequest{ResourceName: upload, WriteOffset: from, Data: large[from:to], FinishWrite: finish})
		return write.CloseAndRecv()
	}
	if res, err := resume(next, part, part+1<<20, false); err == nil {
		t.Errorf("a part: %v", res)
	}
	next.end(t)
	next = serving(t, cache)
	if n := written(next); n != part+1<<20 {
		t.Errorf("after SIGTERM are there %d bytes, want %d", n, part+1<<20)
	}
	for at := int64(part + 1<<20); at < int64(len(large)); at += 1 << 20 {
		end := at+1<<20 == int64(len(large))
		if res, err := resume(next, at, at+1<<20, end); (err == nil) != end {
			t.Fatalf("the rest, from %d: %v, %v", at, res, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "serve", "uploads", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %q, %v", left, err)
	}
	ac = repb.NewActionCacheClient(dialTo(t, next.grpc, insecure.NewCredentials()))
	if got, err := ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d}); err != nil || len(got.OutputFiles) != 1 {
		t.Errorf("after the server was killed: %v, %v", got, err)
	}
	next.end(t)
}

// TestReflection asks as grpcurl does.
func TestReflection(t *testing.T) {
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialTo(t, s.grpc, insecure.NewCredentials())).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		res, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	list := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse()
	have := map[string]bool{}
	for _, svc := range list.GetService() {
		have[svc.Name] = true
	}
	const v2 = "build.bazel.remote.execution.v2."
	for _, want := range []string{
		v2 + "Execution", v2 + "ActionCache", v2 + "ContentAddressableStorage", v2 + "Capabilities", "google.bytestream.ByteStream",
		"google.longrunning.Operations", "build.bazel.remote.asset.v1.Fetch", "build.bazel.remote.asset.v1.Push",
		"build.bazel.remote.logstream.v1.LogStreamService", "grpc.health.v1.Health",
	} {
		if !have[want] {
			t.Errorf("%s is not served: %v", want, have)
			continue
		}
		res := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: want}})
		if len(res.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s is not described: %v", want, res)
		}
	}
	res, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(text), `grpc_server_started_total{grpc_type="bidi_stream",grpc_service="grpc.reflection.v1.ServerReflection",grpc_method="ServerReflectionInfo"} 1`) {
		t.Errorf("metrics: %v: %s", err, text)
	}
	s.end(t)
}

// TestServeInConstantMemory sends a blob that is larger than the memory that the
// server may have used, there and back.
func TestServeInConstantMemory(t *testing.T) {
	const size, most = 512 << 20, 192 << 20 // the race detector takes several times what is needed
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	bs := bytestream.NewByteStreamClient(dialTo(t, s.grpc, insecure.NewCredentials()))
	block := make([]byte, 1<<20)
	h := sha256.New()
	for range size / len(block) {
		h.Write(block)
	}
	name := fmt.Sprintf("blobs/%x/%d", h.Sum(nil), size)
	stream, err := bs.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < size; at += len(block) {
		if err := stream.Send(&bytestream.WriteRequest{ResourceName: "uploads/u/" + name, WriteOffset: int64(at), Data: block, FinishWrite: at+len(block) == size}); err != nil {
			break
		}
	}
	if res, err := stream.CloseAndRecv(); err != nil || res.CommittedSize != size {
		t.Fatalf("%v, %v", res, err)
	}
	read, err := bs.Read(t.Context(), &bytestream.ReadRequest{ResourceName: name})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		res, err := read.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(res.Data)
	}
	if used := s.memory(t, "VmHWM"); n != size || used > most {
		t.Errorf("%d of %d bytes came back; the server had %d MiB of memory, want at most %d", n, size, used>>20, most>>20)
	}
	s.end(t)
}
