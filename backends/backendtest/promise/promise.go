// Package promise holds what every backend promises, as a table of probes.
//
// A [Promise] is checked by running commands in a sandbox. Where a promise says
// that something does not work, its check first shows that the very same probe
// does work outside, so that a typing error in a probe does not pass for
// security; where that cannot be shown on this machine or as this user, the
// verdict is Unproven and says why. A promise that needs a capability which a
// backend does not have is checked the other way round: asking for it must be
// refused with an error that wraps [backends.ErrUnsupported], not ignored.
//
// The same table serves package backendtest and the command line: see [Matrix].
package promise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// A Promise is one thing that every backend keeps.
type Promise struct {
	Name string // what kind, a slash, and what: "network/host-tcp"
	Says string // the promise as a sentence

	// needs says whether a backend with these capabilities makes the promise;
	// nil means that every backend does. asks makes of a plain Spec one that
	// a backend without them must refuse; nil where no Spec can ask for it.
	needs func(backends.Capabilities) bool
	asks  func(*backends.Spec)

	// slow says that the check takes more than a moment: it is left out of a
	// quick matrix.
	slow bool

	check func(*trial) error
}

// ProbeName is the name that Env.Probe is started under.
const ProbeName = "sbx-probe"

// A Verdict is what a check of a promise has found.
type Verdict int

const (
	Kept       Verdict = iota // it was probed, and holds
	Broken                    // it does not hold
	Refused                   // the backend cannot do it, and says so when asked
	NotOffered                // the backend does not have it, and nobody can ask for it
	Unproven                  // it seems to hold, but the control could not show that the probe works
	Unprobed                  // it was not looked at
)

func (v Verdict) String() string {
	return [...]string{"kept", "BROKEN", "refused", "not offered", "unproven", "not probed"}[v]
}

// A Finding is the verdict on one promise. Err says why, unless it was kept.
type Finding struct {
	Promise Promise
	Verdict Verdict
	Err     error
	Took    time.Duration
}

// An Env is what checks work with. All of it is set before the first check.
type Env struct {
	Backend backends.Backend

	// Probe is a program that calls probe.Main with its arguments when the
	// last element of its own name, os.Args[0], is [ProbeName]. The file must
	// be executable by everybody, and run where there are no libraries.
	Probe string

	// Dir is a directory for files of the checks that any user may search.
	Dir string

	// TempDir, if not empty, is where backends make temporary files because
	// $TMPDIR says so. Nothing else makes any there.
	TempDir string

	// Reopen opens another backend of the same kind. Nil: what Close leaves
	// behind is not probed.
	Reopen func() (backends.Backend, error)

	// Victim starts a process, to be killed, that opens a backend of the same
	// kind and runs the probe that args name in it, with the standard output
	// of the probe as its own. Nil: what a killed caller leaves behind is not
	// probed. The process must be a child of ours.
	Victim func(ctx context.Context, args []string) (*os.Process, *os.File, error)

	// Lifetime is how long processes that a sandbox must end live on when it
	// does not: 20 s is enough for a machine that has little else to do.
	Lifetime time.Duration

	// Logf is told what a reader of the findings may want to know.
	Logf func(format string, args ...any)
}

// errUnproven is wrapped by the error of a check whose control did not succeed
// for a reason that lies in the machine or in the user.
var errUnproven = errors.New("no control")

// errUnprobed is wrapped by the error of a check that the Env does not allow.
var errUnprobed = errors.New("not probed")

// patience is how long one check may take, on a machine that has other things
// to do. A check that needs it has failed.
const patience = 5 * time.Minute

// patience is more for a backend that boots a machine for each command.
func (t *trial) patience() time.Duration {
	if t.caps.Boots {
		return 10 * patience
	}
	return patience
}

// Check probes one promise.
func Check(ctx context.Context, e *Env, p Promise) Finding {
	begun := time.Now()
	t := &trial{Env: e, caps: e.Backend.Capabilities()}
	var cancel context.CancelFunc
	t.ctx, cancel = context.WithTimeout(ctx, t.patience())
	defer cancel()
	defer t.cleanup()

	f := Finding{Promise: p}
	switch {
	case p.needs == nil || p.needs(t.caps):
		f.Err = p.check(t)
		switch {
		case f.Err == nil:
			f.Verdict = Kept
		case errors.Is(f.Err, errUnproven):
			f.Verdict = Unproven
		case errors.Is(f.Err, errUnprobed):
			f.Verdict = Unprobed
		default:
			f.Verdict = Broken
		}
	case p.asks == nil:
		f.Verdict = NotOffered
	default:
		f.Verdict = Refused
		if f.Err = t.refuses(p.asks); f.Err != nil {
			f.Verdict = Broken
		}
	}
	f.Took = time.Since(begun)
	return f
}

// Matrix probes all promises that take but a moment, one after the other, and
// calls found for each. A backend that does not work gets no findings, and an
// error that says why.
func Matrix(ctx context.Context, e *Env, found func(Finding)) error {
	caps := e.Backend.Capabilities()
	if !caps.Works {
		return fmt.Errorf("backend %s: %s", e.Backend.Name(), caps.Reason)
	}
	for _, p := range All() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if p.slow || caps.Boots && !slices.Contains(few, p.Name) {
			found(Finding{Promise: p, Verdict: Unprobed, Err: errUnprobed})
			continue
		}
		found(Check(ctx, e, p))
	}
	return nil
}

// few are the promises that one boot each shows, of as many kinds as there are.
var few = []string{
	"start/arguments", "start/ids", "streams/binary", "kill/time-out", "network/host-tcp", "network/host", "process/host-proc",
	"privilege/capabilities", "files/bind-read-only", "layers/copy-up", "lifetime/fill-error", "lifetime/bind-error",
}

// essential are the promises to which a backend is held that boots a machine for
// each command: a few of each kind.
var essential = []string{
	"start/arguments", "start/environment", "start/ids", "start/descriptors", "streams/joined", "streams/binary",
	"end/signal", "kill/time-out", "kill/cancel", "network/interfaces", "network/host-tcp", "network/host-unix", "network/host",
	"process/host-proc", "privilege/capabilities", "privilege/system-calls", "files/bind-read-only", "output/root",
	"layers/copy-up", "mounts/writable", "limits/memory", "observe/programs", "lifetime/killed", "lifetime/fill-error", "lifetime/bind-error",
}

// Essential returns those of the table that a backend with the capabilities c is
// best held to: all of them, or where each command needs a machine of its own, those
// that take some fifty of them, or with short a dozen.
func Essential(c backends.Capabilities, short bool) []Promise {
	list := essential
	if short {
		list = few
	}
	return slices.DeleteFunc(All(), func(p Promise) bool { return c.Boots && !slices.Contains(list, p.Name) })
}

// CanBeAsked says whether a Spec can ask for what the promise is about, so that
// a backend without the capability has something to refuse.
func (p Promise) CanBeAsked() bool { return p.asks != nil }
