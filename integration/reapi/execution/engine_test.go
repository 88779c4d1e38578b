package execution

import (
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

func TestOldest(t *testing.T) {
	e := &Engine{ops: map[string]*Operation{}}
	if began, ok := e.Oldest(); ok {
		t.Errorf("of none: %v", began)
	}
	now := time.Now()
	e.ops["done"] = &Operation{begun: now.Add(-3 * time.Hour), response: &repb.ExecuteResponse{}}
	if began, ok := e.Oldest(); ok {
		t.Errorf("of one that is done: %v", began)
	}
	e.ops["older"] = &Operation{begun: now.Add(-2 * time.Hour)}
	e.ops["newer"] = &Operation{begun: now.Add(-time.Hour)}
	if began, ok := e.Oldest(); !ok || !began.Equal(now.Add(-2*time.Hour)) {
		t.Errorf("began %v, %v; want two hours ago", began, ok)
	}
}
