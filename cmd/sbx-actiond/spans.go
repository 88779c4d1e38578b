package main

import (
	"google.golang.org/grpc/codes"

	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/tracing"
)

// spanOf is an action as a span, with its stages.
func spanOf(r *execution.Report) tracing.Span {
	s := tracing.Span{
		Name: "action", Begin: r.Queued, End: r.Ended,
		Attributes: map[string]string{"action.digest": r.Digest.String(), "instance": r.Instance, "grpc.code": r.Code.String()},
		Children:   []tracing.Span{{Name: "queue", Begin: r.Queued, End: r.Started}},
	}
	if r.Code != codes.OK {
		s.Failed = r.Code.String()
	}
	if r.Err != nil {
		s.Failed = r.Err.Error()
	}
	at := r.Started
	t := &r.Outcome.Times
	for _, stage := range []tracing.Span{
		{Name: "look up", End: at.Add(t.Lookup)},
		{Name: "stage", End: at.Add(t.Lookup + t.Save + t.Stage)},
		{Name: "run", End: at.Add(t.Lookup + t.Save + t.Stage + t.Run)},
		{Name: "collect", End: at.Add(t.Lookup + t.Save + t.Stage + t.Run + t.Collect)},
		{Name: "record", End: at.Add(t.Lookup + t.Save + t.Stage + t.Run + t.Collect + t.Store)},
	} {
		if stage.Begin = at; stage.End.After(at) {
			s.Children = append(s.Children, stage)
			at = stage.End
		}
	}
	return s
}
