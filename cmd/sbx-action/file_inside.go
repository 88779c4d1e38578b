package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/integration/actionfile"
)

// lookInto finds the actions that --unused, --changes and --keep look into: those
// that the targets name, or all. What they need besides comes from the cache as
// always. With --keep=DIR each has a directory in DIR, by its name, or DIR if it
// is the only one; forget removes DIR again if nothing was kept.
func (r *fileRun) lookInto(targets []string) (forget func(), err error) {
	forget = func() {}
	f := r.flags
	if !f.unused && !f.inside.changes && !f.inside.keep.set {
		return forget, nil
	}
	named, err := r.graph.Named(targets)
	if err != nil {
		return forget, err
	}
	dir := f.inside.keep.dir
	if dir != "" && len(named) > 1 {
		if dir, err = f.inside.keep.make(); err != nil {
			return forget, err
		}
		forget = func() { _ = os.Remove(dir) } // if it is empty
	}
	r.looked = map[*actionfile.Action]string{}
	for _, i := range named {
		a, own := r.graph.Actions[i], dir
		if dir != "" && len(named) > 1 {
			own = filepath.Join(dir, keptName.Replace(a.Name))
		}
		r.looked[a] = own
	}
	return forget, nil
}

// keptName makes the name of a directory from that of an action.
var keptName = strings.NewReplacer("%", "%25", "/", "%2F")

// shellIn is the one action that --shell is for, nil without the flag.
func (r *fileRun) shellIn(targets []string) (*actionfile.Action, error) {
	if !r.flags.inside.shell {
		return nil, nil
	}
	named, err := r.graph.Named(targets)
	switch {
	case err != nil:
		return nil, err
	case len(targets) == 0 && len(named) > 1:
		return nil, fmt.Errorf("--shell: name the one action of %s in whose sandbox you want a shell", r.flags.file)
	case len(named) > 1:
		return nil, fmt.Errorf("--shell: %q are %d actions, such as %q and %q: name one",
			targets, len(named), r.graph.Actions[named[0]].Name, r.graph.Actions[named[1]].Name)
	}
	return r.graph.Actions[named[0]], nil
}

// shell opens a shell in the sandbox of a. What a needs is in place.
func (r *fileRun) shell(ctx context.Context, a *actionfile.Action) error {
	r.looked = map[*actionfile.Action]string{a: r.flags.inside.keep.dir}
	f := r.flagsOf(a)
	_, _, err := r.runOne(ctx, f, a, time.Now(), &capture{}, nil)
	return err
}
