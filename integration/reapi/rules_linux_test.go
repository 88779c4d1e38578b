package reapi_test

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// The tests in rules_*_linux_test.go are called after the rules of the Remote
// Execution API that they pin down, in the order in which the protocol's own
// comments and documents give them: blobs (1 to 7, 16, 18), writing them (4),
// execution (8 to 10), commands and what they make (11 to 13, 19), results (14,
// 15), chunks (17), assets (20). This file has what they share.

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

// everyFunction calls f with each digest function of the store.
func everyFunction(t *testing.T, f func(t *testing.T, fn action.Function)) {
	for _, fn := range action.Functions() {
		t.Run(fn.String(), func(t *testing.T) { f(t, fn) })
	}
}

// with is s with another test to report to.
func (s *server) with(t *testing.T) *server {
	c := *s
	c.t = t
	return &c
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// pieces cuts data into messages.
func pieces(data []byte, size int) (list [][]byte) {
	for p := range slices.Chunk(data, size) {
		list = append(list, p)
	}
	return list
}

func (s *server) readBlob(d action.Digest) []byte {
	s.t.Helper()
	data, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(d)})
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// hold fills one slot of the server until the function that it returns is
// called.
func (s *server) hold(t *testing.T) (release func()) {
	t.Helper()
	stream, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{
		script: "sleep 1000", action: func(a *repb.Action) { a.DoNotCache, a.Salt = true, random(8) },
	})})
	if err != nil {
		t.Fatal(err)
	}
	for {
		op, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		meta := new(repb.ExecuteOperationMetadata)
		if err := op.Metadata.UnmarshalTo(meta); err != nil {
			t.Fatal(err)
		}
		if meta.Stage == repb.ExecutionStage_EXECUTING {
			return sync.OnceFunc(func() {
				if _, err := s.ops.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: op.Name}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// queued is the stream of an action that waits for a slot.
func (s *server) queued(d *repb.Digest, skipLookup bool) grpc.ServerStreamingClient[longrunningpb.Operation] {
	s.t.Helper()
	stream, err := s.exec.Execute(s.t.Context(), &repb.ExecuteRequest{ActionDigest: d, SkipCacheLookup: skipLookup})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return stream
}

func outputs(list ...string) func(*repb.Command) {
	return func(c *repb.Command) { c.OutputPaths = list }
}

func timeout(d time.Duration) func(*repb.Action) {
	return func(a *repb.Action) { a.Timeout = durationpb.New(d) }
}

// wantMissing wants the error of an action that lacks the blobs with these
// contents.
func wantMissing(t *testing.T, st *status.Status, contents ...string) {
	t.Helper()
	if st.Code() != codes.FailedPrecondition {
		t.Errorf("%v, want FAILED_PRECONDITION", st)
	}
	var got, want []string
	for _, d := range st.Details() {
		if p, ok := d.(*errdetails.PreconditionFailure); ok {
			for _, v := range p.Violations {
				got = append(got, v.Type+" "+v.Subject)
			}
		}
	}
	for _, c := range contents {
		want = append(want, "MISSING "+reapi.BlobName(action.Sum(action.SHA256, []byte(c))))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("violations %q, want %q", got, want)
	}
}
