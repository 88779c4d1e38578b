package execution

import (
	"cmp"
	"slices"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
)

// A View is an operation for people to look at.
type View struct {
	Name, Instance string
	Digest         action.Digest
	Stage          repb.ExecutionStage_Value
	Begun          time.Time
	Started        time.Time // zero: it did not run yet, or is a hit
	Ended          time.Time // zero: it has not
	Miss           string    // why the cache had no result; "" for a hit, or if nobody looked
	Response       *repb.ExecuteResponse
	Waiters        int
	Stdout, Stderr string // the names of streams while it runs
}

func (op *Operation) view() View {
	v := View{
		Name: op.Name, Instance: op.Instance, Digest: op.digest, Stage: stageCompleted, Begun: op.begun,
		Ended: op.ended, Miss: op.miss, Response: op.response, Waiters: op.waiters,
	}
	if t := op.task; t != nil {
		v.Stage, v.Started = t.stage, t.started
		v.Stdout, v.Stderr = t.logs.names()
	}
	return v
}

// Views are the operations that pass, the newest first, at most so many: first
// those that are not done.
func (e *Engine) Views(most int, pass func(instance string) bool) []View {
	e.mu.Lock()
	var open, done []View
	for _, op := range e.ops {
		if op.response == nil && pass(op.Instance) {
			open = append(open, op.view())
		}
	}
	for i := len(e.done) - 1; i >= 0 && len(done) < most; i-- {
		if pass(e.done[i].Instance) {
			done = append(done, e.done[i].view())
		}
	}
	e.mu.Unlock()
	slices.SortFunc(open, func(a, b View) int {
		return cmp.Or(-cmp.Compare(a.Stage, b.Stage), a.Begun.Compare(b.Begun))
	})
	return append(open[:min(len(open), most)], done...)
}

// View is the operation called name.
func (e *Engine) View(name string) (View, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	op := e.ops[name]
	if op == nil {
		return View{}, false
	}
	return op.view(), true
}
