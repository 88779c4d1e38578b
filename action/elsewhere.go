package action

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
)

// An Elsewhere executes actions on other machines.
type Elsewhere interface {
	// Execute returns the result of the command of req, whose inputs are in
	// the store; what the result names is there, too, when it returns. An error
	// means that nothing is known of the command, and that it must be run here.
	// When ctx is done it is stopped there.
	Execute(ctx context.Context, req *Request) (*Away, error)

	// Race says that the command is to be run here at the same time: who is
	// done first has won.
	Race() bool
}

// An Away is what came of an action elsewhere.
type Away struct {
	Result *Result
	Cached bool // nobody ran it now

	// Same says that the action that was executed is the request's own: then
	// its result is remembered under its key.
	Same bool
}

var errLost = errors.New("the other was faster")

// elsewhere runs a miss on other machines, and here if that does not give a
// result, or at the same time.
func (r *Runner) elsewhere(ctx context.Context, req *Request, out *Outcome) error {
	if !r.Elsewhere.Race() {
		if away, err := r.Elsewhere.Execute(ctx, req); err == nil {
			return r.adopt(ctx, req, out, away)
		} else if ctx.Err() != nil {
			return err
		}
		return r.here(ctx, req, out)
	}
	there, stopThere := context.WithCancelCause(ctx)
	defer stopThere(nil)
	local, stopLocal := context.WithCancelCause(ctx)
	defer stopLocal(nil)
	quiet := *req // the output of the loser is not for the user
	quiet.Stdout, quiet.Stderr = nil, nil
	ours := *out
	done := make(chan error, 1)
	go func() {
		err := r.here(local, &quiet, &ours)
		if err == nil {
			stopThere(errLost)
		}
		done <- err
	}()
	away, err := r.Elsewhere.Execute(there, req)
	if err == nil {
		stopLocal(errLost)
		<-done // nothing of it is alive any more
		return r.adopt(ctx, req, out, away)
	}
	err = <-done
	*out = ours
	if err != nil {
		return err
	}
	return r.replay(ctx, req, out.Result)
}

// adopt makes away the outcome.
func (r *Runner) adopt(ctx context.Context, req *Request, out *Outcome, away *Away) error {
	out.Result, out.Away, out.Started = away.Result, away, true
	out.Missing = lacking(req.Command, away.Result)
	switch {
	case req.SkipStore || req.Action.DoNotCache:
		out.Unkept = errors.New("caching is off for this action")
	case away.Result.ExitCode != 0:
		out.Unkept = fmt.Errorf("the command failed with %d elsewhere", away.Result.ExitCode)
	case len(out.Missing) > 0:
		out.Unkept = fmt.Errorf("the command did not make %q", out.Missing[0].Path)
	case away.Same:
		out.Result = originating(away.Result, req)
		out.Unkept = r.Cache.PutResult(ctx, out.Key, out.Result)
	}
	return r.replay(ctx, req, away.Result)
}

// originating returns res with what it is the result of, as record notes it: the
// action as we know it.
func originating(res *Result, req *Request) *Result {
	named, m := *res, Metadata{}
	if res.Metadata != nil {
		m = *res.Metadata
	}
	m.Auxiliary = slices.DeleteFunc(slices.Clone(m.Auxiliary), func(x Any) bool { return x.TypeURL == actionType || x.TypeURL == commandType })
	m.Auxiliary = append(m.Auxiliary, Any{actionType, req.Action.Marshal()}, Any{commandType, req.Command.Marshal()})
	named.Metadata = &m
	return &named
}

// lacking are the declared outputs that a result does not have.
func lacking(c *Command, res *Result) (list []Missing) {
	has := func(p string) bool {
		p = path.Clean(p)
		return slices.ContainsFunc(res.Files, func(f OutputFile) bool { return path.Clean(f.Path) == p }) ||
			slices.ContainsFunc(res.Directories, func(d OutputDirectory) bool { return path.Clean(d.Path) == p }) ||
			slices.ContainsFunc(res.Symlinks, func(s OutputSymlink) bool { return path.Clean(s.Path) == p })
	}
	for _, p := range c.OutputPaths {
		if !has(p) {
			list = append(list, Missing{Path: p})
		}
	}
	return list
}
