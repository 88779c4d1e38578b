package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// rawCodec sends bytes as they are, and takes any.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

// well wants the server to answer an honest client.
func (r *running) well(t *testing.T, after string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	data := []byte("after " + after)
	d := reapi.ToDigest(action.Sum(action.SHA256, data))
	cas := repb.NewContentAddressableStorageClient(dialTo(t, r.grpc, insecure.NewCredentials()))
	res, err := cas.BatchUpdateBlobs(ctx, &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}}})
	if err != nil || res.Responses[0].Status.GetCode() != 0 {
		t.Fatalf("after %s the server is not well: %v, %v", after, res, err)
	}
}

// TestHostileBytes calls every method with bytes that are no messages, with huge
// ones and with huge headers, and connects with what is no gRPC at all.
func TestHostileBytes(t *testing.T) {
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallSendMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(ctx context.Context, method string, message []byte) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil && err != io.EOF {
			return err
		}
		_ = stream.CloseSend()
		for {
			var answer []byte
			if err := stream.RecvMsg(&answer); err != nil {
				return err
			}
		}
	}
	methods := 0
	for method := range knownMethods(t) {
		methods++
		for name, message := range map[string][]byte{
			"garbage": []byte("\xff\xff\xff\xff\xff"), "a length that lies": {0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 'x'}, "not UTF-8": {0x0a, 0x02, 0xff, 0xfe},
		} {
			err := call(t.Context(), method, message)
			if err == io.EOF && name == "not UTF-8" {
				continue // to a message without such a field it is one that is not known
			}
			if code := status.Code(err); err == io.EOF || code == codes.DeadlineExceeded || code == codes.Unavailable {
				t.Errorf("%s with %s: %v", method, name, err)
			}
		}
	}
	if methods < 30 {
		t.Errorf("only %d methods were called", methods)
	}
	s.well(t, "garbage")
	wantStatus := func(what string, err error, want codes.Code) {
		t.Helper()
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	const find = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs"
	wantStatus("a message of 40 MiB", call(t.Context(), find, make([]byte, 40<<20)), codes.ResourceExhausted)
	wantStatus("a method that is not there", call(t.Context(), "/build.bazel.remote.execution.v2.Execution/Steal", nil), codes.Unimplemented)
	huge := metadata.AppendToOutgoingContext(t.Context(), "x-huge", strings.Repeat("x", 1<<20))
	if err := call(huge, find, nil); err == nil || err == io.EOF {
		t.Errorf("a header of 1 MiB: %v", err)
	}
	s.well(t, "what is too large")

	// Connections that begin and do nothing, or speak something else.
	for i := range 200 {
		c, err := net.Dial("tcp", s.grpc)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		switch i % 4 {
		case 1:
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		case 2:
			fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") // and no settings
		case 3:
			c.Write([]byte(strings.Repeat("\x00", 4096)))
		}
	}
	s.well(t, "200 connections that do nothing")

	// Over HTTP, paths that would lead somewhere else.
	for _, path := range []string{
		"/cas/../../../../etc/passwd", "/cas/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/ac/..", "/blob/sha256/..%2f..%2fVERSION/1", "/raw/sha256/VERSION/20",
		"/raw/sha256/" + strings.Repeat("a", 64) + "/-1", "/raw/sha256/" + strings.Repeat("a", 64) + "/99999999999999999999", "//etc/passwd", "/operation/../../etc",
	} {
		c, err := net.Dial("tcp", s.http)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path) // http.Get would tidy it
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		body, _ := io.ReadAll(res.Body)
		c.Close()
		if res.StatusCode < 300 || strings.Contains(string(body), "root:") {
			t.Errorf("%s: %d: %s", path, res.StatusCode, body)
		}
	}
	s.end(t)
}

// knownMethods are all methods that a server has.
func knownMethods(t *testing.T) map[string]bool {
	t.Helper()
	f := &serveFlags{cache: filepath.Join(t.TempDir(), "cache"), rootfs: "host"}
	p, err := f.open(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	srv, _ := rpcServer(p)
	defer srv.Stop()
	all := map[string]bool{}
	for service, info := range srv.GetServiceInfo() {
		for _, m := range info.Methods {
			all["/"+service+"/"+m.Name] = true
		}
	}
	return all
}

// TestManyStreams opens thousands of streams that do not go on, cancels them, and
// wants the server to have neither streams nor files left.
func TestManyStreams(t *testing.T) {
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	data := make([]byte, 300_000) // more than what stays in memory
	name := reapi.BlobName(action.Sum(action.SHA256, make([]byte, 1<<20)))
	before := s.files(t)
	var clients sync.WaitGroup
	for c := range 4 {
		bs := bytestream.NewByteStreamClient(dialTo(t, s.grpc, insecure.NewCredentials()))
		ops := repb.NewExecutionClient(dialTo(t, s.grpc, insecure.NewCredentials()))
		clients.Go(func() {
			for i := range 500 {
				w, err := bs.Write(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				req := &bytestream.WriteRequest{ResourceName: fmt.Sprintf("uploads/%d-%d/%s", c, i, name)}
				if i%10 == 0 {
					req.Data = data
				}
				if err := w.Send(req); err != nil {
					t.Error(err)
					return
				}
				if _, err := ops.WaitExecution(ctx, &repb.WaitExecutionRequest{Name: "operations/none"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	s.well(t, "2000 streams that stand still")
	t.Logf("memory: at most %d MiB", s.memory(t, "VmHWM")>>20)
	if used := s.memory(t, "VmHWM"); used > 1<<30 {
		t.Errorf("the server used %d MiB of memory", used>>20)
	}
	cancel()
	// Uploads that broke off are kept, but not more than so many.
	for s.files(t) > before+256+50 {
		time.Sleep(20 * time.Millisecond)
	}
	s.well(t, "2000 streams that were cancelled")
	s.end(t)
}

// files is how many files and connections the server has open.
func (r *running) files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
