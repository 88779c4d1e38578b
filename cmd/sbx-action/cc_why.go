package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/history"
)

// printWhy says how a file was made last by a compiler that ran, and why it was not
// taken from the cache: the fact that did not hold, or what is different in the call
// since the last time.
func (f *ccFlags) printWhy(ctx context.Context) error {
	store, err := f.openStore(cache.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer store.Close()
	path, err := filepath.Abs(f.why)
	if err != nil {
		return err
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	book, err := history.Open(store)
	if err != nil {
		return err
	}
	runs := slices.DeleteFunc(book.Making(ctx, path), func(r *history.Run) bool { return r.Tool != history.ToolCC })
	if len(runs) == 0 {
		return fmt.Errorf("%s: no run of a compiler that made it is known: it always came from the cache, or was made without 'sbx-action cc'", f.why)
	}
	last := runs[len(runs)-1]
	_, c, err := book.Origin(ctx, last)
	if err == nil && c == nil {
		err = errors.New("it is not in the store any more")
	}
	if err != nil {
		return fmt.Errorf("%s: its last command: %w", f.why, err)
	}
	why := last.Miss
	if len(runs) > 1 {
		before := runs[len(runs)-2]
		if _, old, err := book.Origin(ctx, before); err == nil && old != nil {
			if change := callChanges(c, old, last.Workspace, before.Workspace); change != "" {
				why = change
			}
		}
	} else if why == "" || strings.Contains(why, ": not present") {
		why = "it had not been made before"
	}
	if last.Unkept != "" {
		why += "; and the result could not be kept: " + last.Unkept
	}
	var words []string
	for _, a := range c.Arguments {
		words = append(words, shellQuote(a))
	}
	fmt.Printf("%s\n  made by  %s\n  in       %s\n  at       %s\n  because  %s\n", f.why, strings.Join(words, " "),
		filepath.Join(last.Workspace, c.WorkingDirectory), last.Time.Local().Format(time.DateTime), why)
	return nil
}

// callChanges says what is different from an earlier call, or "".
func callChanges(c, old *action.Command, workspace, oldWorkspace string) string {
	env := func(c *action.Command) (list []string) {
		for _, v := range c.Environment {
			list = append(list, v.Name+"="+v.Value)
		}
		return list
	}
	var changes []string
	for _, x := range []struct {
		what     string
		now, old []string
	}{{"argument", c.Arguments, old.Arguments}, {"variable", env(c), env(old)}} {
		gone, come := onlyIn(x.old, x.now), onlyIn(x.now, x.old)
		switch {
		case len(gone) == 0 && len(come) == 0 && !slices.Equal(x.now, x.old):
			changes = append(changes, x.what+"s are in another order")
		case len(gone) == 1 && len(come) == 1:
			changes = append(changes, fmt.Sprintf("%s %q was %q", x.what, come[0], gone[0]))
		default:
			for _, g := range gone {
				changes = append(changes, fmt.Sprintf("%s %q is gone", x.what, g))
			}
			for _, n := range come {
				changes = append(changes, fmt.Sprintf("%s %q is new", x.what, n))
			}
		}
	}
	if now, then := filepath.Join(workspace, c.WorkingDirectory), filepath.Join(oldWorkspace, old.WorkingDirectory); now != then {
		changes = append(changes, fmt.Sprintf("the working directory is %q and was %q", now, then))
	}
	return strings.Join(changes, "; ")
}

// onlyIn returns what of list is not in other, counting.
func onlyIn(list, other []string) []string {
	other = slices.Clone(other)
	var out []string
	for _, s := range list {
		if i := slices.Index(other, s); i >= 0 {
			other = slices.Delete(other, i, i+1)
			continue
		}
		out = append(out, s)
	}
	return out
}
