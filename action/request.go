package action

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A Request is one action, with what is not in its key.
type Request struct {
	Action  *Action
	Command *Command

	// Save stores the input root and its files. It is called on a miss only.
	Save func(context.Context) error

	// Certain, where not nil, is asked when it is known whether there is a result, and
	// nothing that others could notice was done for the action yet. Its error ends the
	// run.
	Certain func() error

	// Admit, if it is there, waits until there is room for what a miss costs; it
	// is called on a miss, before anything that other actions could wait for.
	// The room is given back when Run returns.
	Admit func(context.Context) (release func(), err error)

	// Dir is where the command starts, in the root; empty: [WorkDir] of it.
	Dir string

	Stdin          *os.File
	Stdout, Stderr io.Writer // get the output while the command runs, and on a hit
	Limits         backends.Limits
	Network        backends.Network

	// Prune, where not nil, accepts a result of other inputs of which nothing
	// that was looked at differs, and makes this run's result one.
	Prune Pruner

	Elsewhere     bool              // Runner.Elsewhere may run it; then Outcome.Status is nil
	SkipLookup    bool              // run it even if there is a result, which is replaced
	SkipStore     bool              // do not remember the result
	CacheFailures bool              // remember, and accept, a result with an exit code that is not 0
	Observe       bool              // fill Outcome.Status.Lookups
	Machine       *backends.Machine // whose programs run; nil: this one's

	// Terminal, where not nil, gives the command a terminal: see backends.Spec.
	// What it writes is not kept then, so SkipStore must be set.
	Terminal func(far *os.File)

	// Intact, where not nil, says when the command has ended whether what it was shown
	// is what was staged. Its error ends the run, and nothing is kept.
	Intact func(ctx context.Context, made backends.Root, status *backends.Status) error

	// Inspect, where not nil, looks at the root as the command left it, in
	// status, and at what it was made of.
	Inspect func(ctx context.Context, made backends.Root, status *backends.Status) error

	// Vet, where not nil, looks at what is about to be stored, and says what is
	// then known of its reproducibility. If it fails, nothing is stored.
	Vet func(context.Context, *Outcome) (*Verification, error)

	// Umask and Caller are those of backends.Spec. Whatever they are is in the key, if
	// the caller of Run wants it to be.
	Umask  *int
	Caller bool

	// Vary, where not nil, changes what the command sees of the world. Its
	// result says nothing of the action as it is: SkipLookup and SkipStore
	// must be set, and Observe must not.
	Vary *backends.Vary
}

func (r *Request) certain() error {
	if r.Certain == nil {
		return nil
	}
	return r.Certain()
}

// An Outcome is what Run has to say of an action.
type Outcome struct {
	Key     Digest // the digest of the action; of the unsealed one if it was never sealed
	Result  *Result
	Cached  bool
	Pruned  bool             // the result is of other inputs: see Request.Prune
	Miss    error            // why it was not cached, when it was looked for
	Unkept  error            // why the result was not stored, or nil
	Started bool             // the command may have run
	Status  *backends.Status // nil on a hit; its Root is closed
	Missing []Missing        // declared outputs that the command did not make
	Away    *Away            // not nil: another machine gave the result, and Status is nil
	Times   Times
}

// Times is how long the stages of an action took.
type Times struct{ Lookup, Save, Stage, Run, Collect, Store time.Duration }
