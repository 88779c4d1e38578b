package main

import (
	"context"
	"io"
	"os"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// session runs the call. SOURCE_DATE_EPOCH, which builds of packages and of images set to
// the time of the last change, is in the key only where the time is used: the compiler
// runs without it first, and if the result turns out not to be one for any time, with it.
func (j *ccJob) session(ctx context.Context) (*cc.Session, *cc.Done, error) {
	want := j.want
	env, ok := j.call.Undated(want.Env)
	if !ok {
		return j.sessionOf(ctx)
	}
	j.want.Env = env
	parts := j.ccParts()
	if j.readOnly { // what cannot be kept would not be looked at
		j.want.Place = j.place()
		if s, done := j.find(ctx, parts, j.want); done != nil && (len(done.Stderr) == 0 || !j.call.Colours(cc.IsTerminal(2), os.Getenv)) {
			return s, done, nil
		}
		j.want = want
		return j.sessionOf(ctx)
	}
	key := j.call.DatedKey(j.want)
	if _, err := parts.Notes.Note(ctx, key); err != nil {
		s, done, err := j.sessionOf(ctx)
		if err == nil && (done == nil || done.Unkept == nil) {
			return s, done, nil
		}
		if j.want = want; err != nil {
			return s, done, err
		}
		if done.UsesTime() {
			_ = parts.Notes.PutNote(ctx, key, []byte("1")) // so that it is not tried each time
		}
		if j.stdin != nil {
			_, _ = j.stdin.Seek(0, io.SeekStart)
		}
	}
	j.want = want
	return j.sessionOf(ctx)
}
