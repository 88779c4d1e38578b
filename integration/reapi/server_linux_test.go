package reapi_test

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	assetpb "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	logpb "github.com/bazelbuild/remote-apis/build/bazel/remote/logstream/v1"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/asset"
	"github.com/sbx-action/sbx-action/integration/reapi/capabilities"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
	"github.com/sbx-action/sbx-action/integration/reapi/wire"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/staging"
)

// A server is a whole one, with a store of its own and real sandboxes, and a
// client's connection to it.
type server struct {
	t       *testing.T
	dir     string
	store   *cache.Store
	packed  *leaky
	engine  *execution.Engine
	storage *storage.Server
	address string
	stop    func()

	cas  repb.ContentAddressableStorageClient
	ac   repb.ActionCacheClient
	bs   bytestream.ByteStreamClient
	exec repb.ExecutionClient
	ops  longrunningpb.OperationsClient
	caps repb.CapabilitiesClient
	logs logpb.LogStreamServiceClient

	witness action.Witness
	asset   *asset.Server
	fetch   assetpb.FetchClient
	push    assetpb.PushClient
}

// start starts a server, which ends with the test.
func start(t *testing.T, change func(*execution.Options)) *server {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "cache"), change)
}

// startIn starts a server of the store in dir.
func startIn(t *testing.T, dir string, change func(*execution.Options)) *server {
	t.Helper()
	return startAs(t, dir, storage.Options{}, change)
}

// startOnBoot is startIn on another boot of the machine.
func startOnBoot(t *testing.T, dir, boot string) *server {
	t.Helper()
	return startStore(t, dir, cache.Options{Boot: boot}, storage.Options{}, nil)
}

// startAs is startIn with options of the storage.
func startAs(t *testing.T, dir string, so storage.Options, change func(*execution.Options)) *server {
	t.Helper()
	return startStore(t, dir, cache.Options{}, so, change)
}

func startStore(t *testing.T, dir string, co cache.Options, so storage.Options, change func(*execution.Options)) *server {
	t.Helper()
	s := &server{t: t, dir: dir}
	var err error
	co.Warn = func(err error) { t.Log(err) }
	if s.store, err = cache.Open(dir, co); err != nil {
		t.Fatal(err)
	}
	if empty, err := s.store.Open(t.Context(), action.Sum(action.SHA256, nil)); err == nil {
		empty.Close()
	}
	packed, err := pack.Open(filepath.Join(dir, "serve", "pack"), pack.Options{
		Boot: cmp.Or(co.Boot, durable.BootID()), Warn: co.Warn, Spill: s.store.Unpacked, SpillRecord: s.store.UnpackedRecord,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.packed = &leaky{Pack: packed}
	s.store.SetPacked(s.packed)
	backend, err := native.Open(native.Options{})
	if err != nil {
		t.Fatal(err)
	}
	host := staging.HostRootfs(staging.HostOptions{})
	hasher := staging.NewFileHasher("", action.BLAKE3)
	witness := &staging.HostWitness{Notes: cache.PackedNotes{Store: s.store}, Host: host.HostPath, Made: host.Made, Hash: hasher}
	s.witness = witness
	results := &storage.Results{Store: s.store, Witness: witness}
	s.storage = storage.New(s.store, results, so)
	o := execution.Options{
		Store: s.store, Results: results, Witness: witness, Backend: backend, Can: backend.Basics(), Jobs: 2,
		Rootfs: func(_, name string) (staging.Rootfs, error) {
			if name == "" || name == "host" {
				return host, nil
			}
			d, err := action.ParseDigest(name)
			return staging.TreeRootfs(d), err
		},
		Abandon: time.Minute, Journal: filepath.Join(dir, "serve", "operations"),
	}
	if change != nil {
		change(&o)
	}
	if s.engine, err = execution.New(o); err != nil {
		t.Fatal(err)
	}
	s.storage.Streams = s.engine.Streams()
	s.engine.Start()
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(16<<20), grpc.ForceServerCodecV2(wire.NewCodec()))
	s.storage.Register(srv)
	s.engine.Register(srv)
	s.asset = &asset.Server{Store: s.store, Log: slog.New(slog.DiscardHandler)}
	s.asset.Register(srv)
	(&capabilities.Server{
		Instance: func(context.Context, string) (capabilities.Instance, error) {
			return capabilities.Instance{Execute: true, UpdateResults: true, MaxBatch: storage.DefaultMaxBatch}, nil
		},
		CacheFunctions: action.Functions(), RunFunctions: []action.Function{action.SHA256, action.BLAKE3}, NodeProperties: execution.NodeProperties,
	}).Register(srv)
	sockets, err := os.MkdirTemp("", "sbx-reapi-") // a short path
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(sockets, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s.address = "unix:" + filepath.Join(sockets, "s")
	conn := s.connect(t)
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		conn.Close()
		closed := s.engine.Close()
		srv.Stop()
		<-served
		for _, err := range []error{closed, backend.Close(), s.storage.Close(), hasher.Close(), packed.Close(), s.store.Close(), os.RemoveAll(sockets)} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(s.stop)
	return s
}

// another is s with a connection of its own, as another program has.
func (s *server) another(t *testing.T) *server {
	t.Helper()
	c := *s
	conn := c.connect(t)
	t.Cleanup(func() { conn.Close() })
	return &c
}

// connect connects s to its server.
func (s *server) connect(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	s.cas, s.ac = repb.NewContentAddressableStorageClient(conn), repb.NewActionCacheClient(conn)
	s.bs, s.exec = bytestream.NewByteStreamClient(conn), repb.NewExecutionClient(conn)
	s.ops, s.caps = longrunningpb.NewOperationsClient(conn), repb.NewCapabilitiesClient(conn)
	s.fetch, s.push = assetpb.NewFetchClient(conn), assetpb.NewPushClient(conn)
	s.logs = logpb.NewLogStreamServiceClient(conn)
	return conn
}

// put stores data as a client does.
func (s *server) put(f action.Function, data []byte) *repb.Digest {
	s.t.Helper()
	d := reapi.ToDigest(action.Sum(f, data))
	if len(data) == 0 {
		return d
	}
	res, err := s.cas.BatchUpdateBlobs(s.t.Context(), &repb.BatchUpdateBlobsRequest{
		DigestFunction: reapi.ToFunction(f), Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if st := status.FromProto(res.Responses[0].Status); st.Code() != codes.OK {
		s.t.Fatal(st.Err())
	}
	return d
}

func (s *server) putMessage(f action.Function, m proto.Message) *repb.Digest {
	s.t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.put(f, data)
}

// A call is an action under test: a shell script and what it gets.
type call struct {
	f       action.Function // 0: SHA256
	script  string
	args    []string // in place of the script
	files   map[string]string
	command func(*repb.Command)
	action  func(*repb.Action)
	root    *repb.Directory // in place of files
}

// action uploads the action and returns its digest.
func (s *server) action(c call) *repb.Digest {
	s.t.Helper()
	if c.f == 0 {
		c.f = action.SHA256
	}
	command := &repb.Command{Arguments: []string{"/bin/sh", "-c", c.script}}
	if c.args != nil {
		command.Arguments = c.args
	}
	if c.command != nil {
		c.command(command)
	}
	root := c.root
	if root == nil {
		root = &repb.Directory{}
		for _, name := range sortedKeys(c.files) {
			root.Files = append(root.Files, &repb.FileNode{Name: name, Digest: s.put(c.f, []byte(c.files[name]))})
		}
	}
	a := &repb.Action{CommandDigest: s.putMessage(c.f, command), InputRootDigest: s.putMessage(c.f, root)}
	if c.action != nil {
		c.action(a)
	}
	return s.putMessage(c.f, a)
}

// A run is everything that a client hears of an Execute.
type run struct {
	ops      []*longrunningpb.Operation
	response *repb.ExecuteResponse
	err      error
}

func (r *run) name() string { return r.ops[len(r.ops)-1].Name }

func (r *run) stages(t *testing.T) (list []repb.ExecutionStage_Value) {
	t.Helper()
	for _, op := range r.ops {
		meta := new(repb.ExecuteOperationMetadata)
		if err := op.Metadata.UnmarshalTo(meta); err != nil {
			t.Fatal(err)
		}
		list = append(list, meta.Stage)
	}
	return list
}

// follow reads a stream of operations to its end.
func follow(stream grpc.ServerStreamingClient[longrunningpb.Operation], err error) *run {
	r := &run{err: err}
	for r.err == nil {
		var op *longrunningpb.Operation
		if op, r.err = stream.Recv(); r.err != nil {
			break
		}
		r.ops = append(r.ops, op)
		if res := op.GetResponse(); res != nil {
			r.response = new(repb.ExecuteResponse)
			r.err = res.UnmarshalTo(r.response)
		}
	}
	if r.err == io.EOF {
		r.err = nil
	}
	return r
}

// execute runs an action and waits for the end.
func (s *server) execute(d *repb.Digest, change ...func(*repb.ExecuteRequest)) *run {
	s.t.Helper()
	req := &repb.ExecuteRequest{ActionDigest: d, DigestFunction: repb.DigestFunction_SHA256}
	for _, f := range change {
		f(req)
	}
	stream, err := s.exec.Execute(s.t.Context(), req)
	return follow(stream, err)
}

// succeed is execute for an action that must be answered.
func (s *server) succeed(d *repb.Digest, change ...func(*repb.ExecuteRequest)) *repb.ExecuteResponse {
	s.t.Helper()
	r := s.execute(d, change...)
	if r.err != nil || r.response == nil {
		s.t.Fatalf("Execute: %v, after %d operations", r.err, len(r.ops))
	}
	if code := codes.Code(r.response.GetStatus().GetCode()); code != codes.OK {
		s.t.Fatalf("Execute: %v: %s", code, r.response.Status.Message)
	}
	return r.response
}

// read returns a blob.
func (s *server) read(f action.Function, d *repb.Digest) string {
	s.t.Helper()
	res, err := s.cas.BatchReadBlobs(s.t.Context(), &repb.BatchReadBlobsRequest{DigestFunction: reapi.ToFunction(f), Digests: []*repb.Digest{d}})
	if err != nil {
		s.t.Fatal(err)
	}
	if st := status.FromProto(res.Responses[0].Status); st.Code() != codes.OK {
		s.t.Fatal(st.Err())
	}
	return string(res.Responses[0].Data)
}

// readAll reads a resource of ByteStream to its end.
func (s *server) readAll(req *bytestream.ReadRequest) ([]byte, error) {
	stream, err := s.bs.Read(s.t.Context(), req)
	if err != nil {
		return nil, err
	}
	var all []byte
	for {
		res, err := stream.Recv()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, res.Data...)
	}
}

// write sends the pieces, the first one at offset, and finishes where finish
// says.
func (s *server) write(name string, offset int64, finish bool, pieces ...[]byte) (*bytestream.WriteResponse, error) {
	stream, err := s.bs.Write(s.t.Context())
	if err != nil {
		return nil, err
	}
	for i, p := range pieces {
		req := &bytestream.WriteRequest{WriteOffset: offset, Data: p, FinishWrite: finish && i == len(pieces)-1}
		if i == 0 {
			req.ResourceName = name
		}
		if err := stream.Send(req); err != nil {
			break // CloseAndRecv has the reason
		}
		offset += int64(len(p))
	}
	return stream.CloseAndRecv()
}

func output(res *repb.ActionResult, path string) *repb.OutputFile {
	for _, f := range res.OutputFiles {
		if f.Path == path {
			return f
		}
	}
	return nil
}
