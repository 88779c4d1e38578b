package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/staging"
)

// remember adds a call that ran the compiler to the history of the store, so that
// why and history know its outputs. Hits are not remembered: a record costs as much
// as a tenth of one.
func (j *ccJob) remember(ctx context.Context, s *cc.Session, done *cc.Done, started time.Time) {
	if done.Cached {
		return
	}
	req, outputs := s.Story(done)
	r := history.Of(req, done.Outcome, nil)
	if r.Unkept == "" && done.Unkept != nil {
		r.Unkept = done.Unkept.Error()
	}
	r.Time, r.Took, r.Tool = started, time.Since(started), history.ToolCC
	r.Workspace = j.want.Root
	for _, o := range outputs {
		if !strings.HasPrefix(o, r.Workspace+"/") {
			r.Workspace = "/"
		}
	}
	r.Miss, r.Unkept = j.named(r.Miss), j.named(r.Unkept)
	// What the call was to make, as history has it: relative to the workspace.
	command := *req.Command
	command.OutputPaths = nil
	dir, err := filepath.Rel(r.Workspace, j.call.Dir)
	if err != nil {
		return
	}
	if command.WorkingDirectory = dir; dir == "." {
		command.WorkingDirectory = ""
	}
	for _, o := range outputs {
		if rel, err := filepath.Rel(j.call.Dir, o); err == nil {
			command.OutputPaths = append(command.OutputPaths, rel)
		}
	}
	r.Command = &command
	if err := history.Add(context.WithoutCancel(ctx), j.parts.store, r); err != nil && j.verbose {
		say("cc: not in the history: %v", err)
	}
}

// named gives files of the project in a reason the names that the user knows.
func (j *ccJob) named(reason string) string {
	return strings.ReplaceAll(reason, staging.BaseRoot+"/", strings.TrimSuffix(j.want.Root, "/")+"/")
}
