package history

import (
	"errors"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// Of is what there is to remember of an outcome of [action.Runner.Run], which
// ended with err. The caller adds Time, Took, Workspace, Label and Tool.
func Of(req *action.Request, out *action.Outcome, err error) *Run {
	f := req.Action.InputRoot.Function()
	r := &Run{Key: out.Key, Unsealed: req.Action.Digest(f), Lookup: lookup(req, out)}
	if out.Miss != nil {
		r.Miss = out.Miss.Error()
	}
	if res := out.Result; res != nil {
		r.ExitCode, r.Cost = int(res.ExitCode), Cost(res)
	}
	if out.Cached && err == nil {
		r.Verdict = Hit
		return r
	}
	r.Action, r.Command = req.Action, req.Command
	switch {
	case err != nil && out.Unkept == nil && !out.Cached && out.Status != nil && stored(out.Result, f):
		r.Verdict, r.Unkept = Kept, err.Error() // it could not be delivered
	case err != nil:
		r.Verdict, r.Unkept = Broken, err.Error()
	case out.Unkept == nil && out.Away != nil && !out.Away.Same:
		r.Verdict, r.Unkept, r.Result = NotKept, "it ran on another machine, which sees another root file system", out.Result
	case out.Unkept != nil:
		r.Verdict, r.Unkept, r.Result = NotKept, out.Unkept.Error(), out.Result
	default:
		r.Verdict = Kept
		if sealed, _, oerr := out.Result.Origin(f); oerr == nil {
			r.Action = sealed
		}
	}
	return r
}

// stored says whether Runner has stored res, which then says what it is of.
func stored(res *action.Result, f action.Function) bool {
	if res == nil {
		return false
	}
	_, _, err := res.Origin(f)
	return err == nil
}

func lookup(req *action.Request, out *action.Outcome) Lookup {
	var damage interface{ Damaged() bool }
	switch {
	case out.Cached && out.Pruned:
		return Pruned
	case out.Cached:
		return Found
	case out.Miss == nil:
		return NotAsked
	case errors.As(out.Miss, new(action.FailedError)):
		return Failed
	case errors.As(out.Miss, &damage) && damage.Damaged():
		return Damaged
	case !errors.Is(out.Miss, action.ErrMiss):
		return Unreadable
	}
	return Absent
}

// Cost is how long the command took when it gave res; 0 where that is unknown.
func Cost(res *action.Result) time.Duration {
	m := res.Metadata
	if m == nil || m.ExecutionStart == nil || m.ExecutionCompleted == nil {
		return 0
	}
	return max(0, timeOf(m.ExecutionCompleted).Sub(timeOf(m.ExecutionStart)))
}

func timeOf(t *action.Timestamp) time.Time { return time.Unix(t.Seconds, int64(t.Nanos)) }
