// Package remotetest is the smallest honest server of REAPI's storage, in
// memory, for tests of clients: it refuses what the protocol forbids, counts
// what it is sent, and fails on demand.
package remotetest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

// A Server is the storage. Set its fields before the first call.
type Server struct {
	rexec.UnimplementedContentAddressableStorageServer
	rexec.UnimplementedActionCacheServer
	rexec.UnimplementedCapabilitiesServer
	bytestream.UnimplementedByteStreamServer

	BatchMax  int64                            // most bytes in a batch; 0: 4 MiB
	Functions []rexec.DigestFunction_Value     // nil: SHA256 and BLAKE3
	NoResume  bool                             // as bazel-remote: uploads begin at 0, and it cannot be asked
	Fail      func(method string) error        // called first in each call; nil: never fails
	CutWrite  func(name string, at int64) bool // whether an upload breaks after at bytes
	CutRead   func(name string, at int64) bool // whether a download does
	Corrupt   func(d action.Digest) bool       // whether a blob is read with another content

	// Compressors are announced, of streams and of batches; each is taken if it
	// is announced, and only then. Squeeze makes what is sent as zstd; nil: as it
	// should be.
	Compressors, BatchCompressors []rexec.Compressor_Value
	Squeeze                       func(data []byte) []byte

	mu      sync.Mutex
	blobs   map[string][]byte
	results map[string]*rexec.ActionResult
	parts   map[string][]byte // uploads that were interrupted, by resource name
	counts  Counts
}

// Counts is what a server was sent.
type Counts struct {
	Uploads  map[string]int // complete uploads of each hash
	Bytes    int64          // of blobs, received
	Reads    map[string]int // of each hash
	Messages map[string]int // calls of each method
}

// Serve starts s on a free port of the loopback interface until the test ends,
// and returns its address.
func Serve(t testing.TB, s *Server, more ...func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := s.Register(more...)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return l.Addr().String()
}

// Register returns a server that serves s.
func (s *Server) Register(more ...func(*grpc.Server)) *grpc.Server {
	s.blobs, s.results, s.parts = map[string][]byte{}, map[string]*rexec.ActionResult{}, map[string][]byte{}
	s.counts = Counts{Uploads: map[string]int{}, Reads: map[string]int{}, Messages: map[string]int{}}
	g := grpc.NewServer(
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			if err := s.count(info.FullMethod); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			if err := s.count(info.FullMethod); err != nil {
				return err
			}
			return handle(srv, stream)
		}),
	)
	rexec.RegisterContentAddressableStorageServer(g, s)
	rexec.RegisterActionCacheServer(g, s)
	rexec.RegisterCapabilitiesServer(g, s)
	bytestream.RegisterByteStreamServer(g, s)
	for _, f := range more {
		f(g)
	}
	return g
}

func (s *Server) count(method string) error {
	method = method[strings.LastIndexByte(method, '/')+1:]
	s.mu.Lock()
	s.counts.Messages[method]++
	s.mu.Unlock()
	if s.Fail != nil {
		return s.Fail(method)
	}
	return nil
}

// Counted returns what the server was sent so far.
func (s *Server) Counted() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{Uploads: map[string]int{}, Reads: map[string]int{}, Messages: map[string]int{}, Bytes: s.counts.Bytes}
	for _, m := range []struct{ to, from map[string]int }{
		{c.Uploads, s.counts.Uploads}, {c.Reads, s.counts.Reads}, {c.Messages, s.counts.Messages},
	} {
		maps.Copy(m.to, m.from)
	}
	return c
}

// Twice returns a hash that was uploaded more than once, or "".
func (c Counts) Twice() string {
	for hash, n := range c.Uploads {
		if n > 1 {
			return hash
		}
	}
	return ""
}

// Put stores data, as a client would.
func (s *Server) Put(f action.Function, data []byte) action.Digest {
	d := action.Sum(f, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.String()] = data
	return d
}

// PutMessage stores a message.
func (s *Server) PutMessage(t testing.TB, f action.Function, m proto.Message) action.Digest {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return s.Put(f, data)
}

// Blob returns a blob, and whether it is there.
func (s *Server) Blob(d action.Digest) ([]byte, bool) {
	if d.IsEmpty() {
		return nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[d.String()]
	if ok && s.Corrupt != nil && s.Corrupt(d) {
		data = append([]byte{data[0] ^ 1}, data[1:]...)
	}
	return data, ok
}

// Remove loses a blob.
func (s *Server) Remove(d action.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, d.String())
}

// Result returns what is in the action cache, or nil.
func (s *Server) Result(d action.Digest) *rexec.ActionResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.results[d.String()]
}

// Results is how many results there are.
func (s *Server) Results() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.results)
}

func (s *Server) batchMax() int64 {
	if s.BatchMax > 0 {
		return s.BatchMax
	}
	return 4 << 20
}

// GetCapabilities implements Capabilities.
func (s *Server) GetCapabilities(context.Context, *rexec.GetCapabilitiesRequest) (*rexec.ServerCapabilities, error) {
	f := s.Functions
	if f == nil {
		f = []rexec.DigestFunction_Value{rexec.DigestFunction_SHA256, rexec.DigestFunction_BLAKE3}
	}
	return &rexec.ServerCapabilities{
		CacheCapabilities: &rexec.CacheCapabilities{
			DigestFunctions:               f,
			ActionCacheUpdateCapabilities: &rexec.ActionCacheUpdateCapabilities{UpdateEnabled: true},
			MaxBatchTotalSizeBytes:        s.BatchMax,

			SupportedCompressors: s.Compressors, SupportedBatchUpdateCompressors: s.BatchCompressors,
		},
		LowApiVersion: &semver.SemVer{Major: 2}, HighApiVersion: &semver.SemVer{Major: 2, Minor: 3},
	}, nil
}

// digest checks one that a client sent.
func digest(m *rexec.Digest, v rexec.DigestFunction_Value) (action.Digest, error) {
	if v == rexec.DigestFunction_UNKNOWN {
		v = rexec.DigestFunction_SHA256
	}
	d, err := action.ParseHash(action.Function(v), m.GetHash(), m.GetSizeBytes())
	if err != nil {
		return d, status.Error(codes.InvalidArgument, err.Error())
	}
	return d, nil
}

// FindMissingBlobs implements ContentAddressableStorage.
func (s *Server) FindMissingBlobs(_ context.Context, req *rexec.FindMissingBlobsRequest) (*rexec.FindMissingBlobsResponse, error) {
	resp := &rexec.FindMissingBlobsResponse{}
	for _, m := range req.BlobDigests {
		d, err := digest(m, req.DigestFunction)
		if err != nil {
			return nil, err
		}
		if _, ok := s.Blob(d); !ok {
			resp.MissingBlobDigests = append(resp.MissingBlobDigests, m)
		}
	}
	return resp, nil
}

// store takes a complete upload.
func (s *Server) store(d action.Digest, data []byte) error {
	if got := action.Sum(d.Function(), data); got != d {
		return status.Errorf(codes.InvalidArgument, "the content is %v, not %v", got, d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.String()] = data
	s.counts.Uploads[d.Hash()]++
	return nil
}

// BatchUpdateBlobs implements ContentAddressableStorage.
func (s *Server) BatchUpdateBlobs(_ context.Context, req *rexec.BatchUpdateBlobsRequest) (*rexec.BatchUpdateBlobsResponse, error) {
	var total int64
	resp := &rexec.BatchUpdateBlobsResponse{}
	for _, r := range req.Requests {
		total += int64(len(r.Data))
		d, err := digest(r.Digest, req.DigestFunction)
		data := r.Data
		if err == nil && r.Compressor != rexec.Compressor_IDENTITY {
			if data, err = squeeze.Expand(data, d.Size()); err != nil || !slices.Contains(s.BatchCompressors, r.Compressor) {
				err = status.Errorf(codes.InvalidArgument, "compressor %v: %v", r.Compressor, err)
			}
		}
		if err == nil {
			err = s.store(d, data)
		}
		resp.Responses = append(resp.Responses, &rexec.BatchUpdateBlobsResponse_Response{Digest: r.Digest, Status: status.Convert(err).Proto()})
	}
	if total > s.batchMax() {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes in one batch", total)
	}
	s.mu.Lock()
	s.counts.Bytes += total
	s.mu.Unlock()
	return resp, nil
}

// BatchReadBlobs implements ContentAddressableStorage.
func (s *Server) BatchReadBlobs(_ context.Context, req *rexec.BatchReadBlobsRequest) (*rexec.BatchReadBlobsResponse, error) {
	var total int64
	resp := &rexec.BatchReadBlobsResponse{}
	for _, m := range req.Digests {
		total += m.SizeBytes
		d, err := digest(m, req.DigestFunction)
		if err != nil {
			return nil, err
		}
		data, ok := s.Blob(d)
		r := &rexec.BatchReadBlobsResponse_Response{Digest: m, Data: data}
		if !ok {
			r.Status = status.New(codes.NotFound, "not there").Proto()
		} else if slices.Contains(req.AcceptableCompressors, rexec.Compressor_ZSTD) && slices.Contains(s.BatchCompressors, rexec.Compressor_ZSTD) {
			r.Data, r.Compressor = s.squeeze(data), rexec.Compressor_ZSTD
		}
		s.read(d)
		resp.Responses = append(resp.Responses, r)
	}
	if total > s.batchMax() {
		return nil, status.Errorf(codes.InvalidArgument, "%d bytes in one batch", total)
	}
	return resp, nil
}

func (s *Server) read(d action.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Reads[d.Hash()]++
}

// GetActionResult implements ActionCache.
func (s *Server) GetActionResult(_ context.Context, req *rexec.GetActionResultRequest) (*rexec.ActionResult, error) {
	d, err := digest(req.ActionDigest, req.DigestFunction)
	if err != nil {
		return nil, err
	}
	if r := s.Result(d); r != nil {
		return r, nil
	}
	return nil, status.Error(codes.NotFound, "no result")
}

// UpdateActionResult implements ActionCache. Everything that the result names,
// and the action itself, must be there.
func (s *Server) UpdateActionResult(_ context.Context, req *rexec.UpdateActionResultRequest) (*rexec.ActionResult, error) {
	d, err := digest(req.ActionDigest, req.DigestFunction)
	if err != nil {
		return nil, err
	}
	if err := s.Complete(d, req.ActionResult, req.DigestFunction); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[d.String()] = req.ActionResult
	return req.ActionResult, nil
}

// Complete says what a result names, or is of, that is not there, or nil.
func (s *Server) Complete(key action.Digest, r *rexec.ActionResult, v rexec.DigestFunction_Value) error {
	act := new(rexec.Action)
	data, ok := s.Blob(key)
	if !ok || proto.Unmarshal(data, act) != nil {
		return fmt.Errorf("action %v is not there", key)
	}
	names := []*rexec.Digest{act.CommandDigest}
	for _, f := range r.OutputFiles {
		names = append(names, f.Digest)
	}
	for _, d := range []*rexec.Digest{r.StdoutDigest, r.StderrDigest} {
		if d != nil {
			names = append(names, d)
		}
	}
	for _, o := range r.OutputDirectories {
		if o.TreeDigest == nil {
			continue
		}
		names = append(names, o.TreeDigest)
		d, err := digest(o.TreeDigest, v)
		if err != nil {
			return err
		}
		data, _ := s.Blob(d)
		tree := new(rexec.Tree)
		if err := proto.Unmarshal(data, tree); err != nil {
			return err
		}
		for _, dir := range append([]*rexec.Directory{tree.Root}, tree.Children...) {
			for _, f := range dir.GetFiles() {
				names = append(names, f.Digest)
			}
		}
	}
	for _, m := range names {
		d, err := digest(m, v)
		if err != nil {
			return err
		}
		if _, ok := s.Blob(d); !ok {
			return fmt.Errorf("blob %v is not there", d)
		}
	}
	return nil
}
