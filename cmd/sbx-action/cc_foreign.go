package main

import (
	"context"
	"errors"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// answer finds or makes the result of the call, observed or told. A call that executes
// what is no part of a compiler is made once more, with its whole environment. It
// returns nil for a call that can only be executed.
func (j *ccJob) answer(ctx context.Context) (s *cc.Session, done *cc.Done, told bool, err error) {
	want := j.want
	s, done, told, err = j.attempt(ctx)
	if !errors.Is(err, cc.ErrForeign) {
		return s, done, told, err
	}
	if j.verbose {
		say("cc: once more, with all variables: %v", err)
	}
	j.want = want
	if j.widen(); j.call.Plain != "" {
		return nil, nil, false, nil
	}
	return j.attempt(ctx)
}

func (j *ccJob) attempt(ctx context.Context) (s *cc.Session, done *cc.Done, told bool, err error) {
	s, done, err = j.session(ctx)
	if errors.Is(err, cc.ErrBlind) {
		told = true
		s, done, err = j.told(ctx, err)
	}
	return s, done, told, err
}

// widen adds all variables to those that the call gets, and gives it its standard input
// from the start.
func (j *ccJob) widen() {
	j.call.Script = true
	j.want = j.want.Wider(j.environment())
	if j.stdin != nil {
		_, _ = j.stdin.Seek(0, 0)
	}
}
