package action

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// collectSlack is how much longer than the command itself may run its outputs may take
// to be stored.
const collectSlack = 10 * time.Minute

// gather collects the outputs of the command. Where that has a limit of time, this has
// one, too: what it left may take for ever to read.
func (r *Runner) gather(ctx context.Context, req *Request, out *Outcome) (err error) {
	if wall := req.Limits.Wall; wall > 0 {
		late := fmt.Errorf("it took longer than %v, which is the timeout of the command and %v more: %w", wall+collectSlack, collectSlack, errLate)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, wall+collectSlack, late)
		defer cancel()
	}
	out.Missing, err = r.collect(ctx, req, out.Status, out.Result)
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, errLate) {
		err = cause
	}
	return fmt.Errorf("collect the outputs: %w", err)
}

var errLate = errors.New("they are too large, or too many")
