package main

import (
	"context"
	"errors"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/history"
)

// remember adds what happened to the history of the store. What the store
// cannot take is not remembered, and nobody is told on each of a thousand hits.
func (f *runFlags) remember(ctx context.Context, job *job, req *action.Request, out *action.Outcome, err error, started time.Time) {
	r := history.Of(req, out, err)
	r.Time, r.Took, r.Workspace, r.Tool = started, time.Since(started), job.workspace, "run"
	var flag string
	switch {
	case f.noCache:
		flag = "--no-cache was given"
	case f.refresh:
		flag = "--refresh was given"
	case f.suggest:
		flag = "--suggest-inputs was given"
	case f.unused:
		flag = "--unused was given"
	}
	if r.Lookup == history.NotAsked {
		r.Miss = flag
	}
	switch {
	case r.Verdict != history.NotKept:
	case f.noCache, f.suggest:
		r.Unkept = flag
	case f.readOnly:
		r.Unkept = "--read-only was given"
	}
	// What a signal ended is remembered, too.
	err = history.Add(context.WithoutCancel(ctx), job.parts.store, r)
	if err != nil && !errors.Is(err, cache.ErrUnwritable) {
		job.parts.miss.log.DebugContext(ctx, "this run is not remembered", "err", err)
	}
}
