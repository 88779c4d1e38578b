package execution

import (
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// TestKeptRequests: of operations that are done, requests count as well as responses.
func TestKeptRequests(t *testing.T) {
	for size, want := range map[int]int{1: 100, keepBytes / 10: 9} {
		e, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		req := &repb.ExecuteRequest{InlineOutputFiles: []string{strings.Repeat("x", size)}}
		for range 100 {
			e.hit(req, operationFor("x").digest, &repb.ExecuteResponse{})
		}
		if len(e.done) != want || len(e.ops) != want {
			t.Errorf("requests of %d bytes: %d are kept, want %d", size, len(e.done), want)
		}
	}
}
