//go:build !linux

package main

import (
	"context"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/cc"
)

func (f *runFlags) leaveMemo(context.Context, *job, *action.Outcome) {}

func (j *ccJob) leaveMemo(context.Context, *cc.Session, *cc.Done, string) {}
