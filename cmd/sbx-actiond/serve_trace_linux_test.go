package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// TestServeTracesAndLimits runs an action that says nothing of time in an instance that
// allows little of it, and wants both: its end, and a span in the client's trace.
func TestServeTracesAndLimits(t *testing.T) {
	bodies := make(chan []byte, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		bodies <- data
	}))
	defer collector.Close()
	s := serving(t, filepath.Join(t.TempDir(), "cache"), "--trace", collector.URL, "--instance", "short max-timeout=200ms")
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	put := func(m proto.Message) *repb.Digest {
		t.Helper()
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d := reapi.ToDigest(action.Sum(action.SHA256, data))
		res, err := repb.NewContentAddressableStorageClient(conn).BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{
			InstanceName: "short", Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: data}},
		})
		if err != nil || res.Responses[0].Status.GetCode() != 0 {
			t.Fatal(res, err)
		}
		return d
	}
	const trace = "0123456789abcdef0123456789abcdef"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-0123456789abcdef-01")
	stream, err := repb.NewExecutionClient(conn).Execute(ctx, &repb.ExecuteRequest{InstanceName: "short", ActionDigest: put(&repb.Action{
		CommandDigest: put(&repb.Command{Arguments: []string{"sleep", "1000"}}), InputRootDigest: put(&repb.Directory{}),
	})})
	if err != nil {
		t.Fatal(err)
	}
	res := new(repb.ExecuteResponse)
	for done := false; !done; {
		op, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if done = op.Done; done {
			if err := op.GetResponse().UnmarshalTo(res); err != nil {
				t.Fatal(err)
			}
		}
	}
	if codes.Code(res.Status.GetCode()) != codes.DeadlineExceeded {
		t.Errorf("%v, want DEADLINE_EXCEEDED", res)
	}
	s.end(t) // it has sent everything then
	var got struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []struct{ Name, TraceID, ParentSpanID string }
			}
		}
	}
	select {
	case data := <-bodies:
		if err := json.Unmarshal(data, &got); err != nil || len(got.ResourceSpans) == 0 || len(got.ResourceSpans[0].ScopeSpans) == 0 {
			t.Fatalf("%v: %s", err, data)
		}
	default:
		t.Fatal("the collector was told of nothing")
	}
	names := map[string]bool{}
	for _, span := range got.ResourceSpans[0].ScopeSpans[0].Spans {
		names[span.Name] = span.TraceID == trace
	}
	for _, want := range []string{"action", "queue", "run"} {
		if !names[want] {
			t.Errorf("no span %q in the client's trace: %v", want, names)
		}
	}
}
