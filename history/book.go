package history

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// A Book is what a store remembers of what ran and of what was removed.
type Book struct {
	Store    *cache.Store
	Runs     []*Run // by time, the oldest first
	Removals []cache.Removal

	Unreadable int // records that say nothing to this version

	origins map[action.Digest]*Run // by Key: the last run that says what ran
	lost    map[action.Digest]bool // keys of hits of which nothing is known
}

// Open reads the history of a store.
func Open(s *cache.Store) (*Book, error) {
	b := &Book{Store: s, origins: map[action.Digest]*Run{}, lost: map[action.Digest]bool{}}
	err := s.History(func(rec cache.Run) {
		r, err := parse(&rec)
		if err != nil {
			b.Unreadable++
			return
		}
		b.Runs = append(b.Runs, r)
	}, func(x cache.Removal) { b.Removals = append(b.Removals, x) })
	if err != nil {
		return nil, err
	}
	// Records are written when a run ends, and two clocks may differ.
	slices.SortStableFunc(b.Runs, func(x, y *Run) int { return x.Time.Compare(y.Time) })
	for _, r := range b.Runs {
		if r.Action != nil {
			b.origins[r.Key] = r
		}
	}
	return b, nil
}

// Origin returns the action and command of r, which r itself, an earlier run,
// the store's blobs or its results know. The action says what it saw of the
// host where that is known.
func (b *Book) Origin(ctx context.Context, r *Run) (*action.Action, *action.Command, error) {
	from := r
	if r.Action == nil {
		if from = b.origins[r.Key]; from == nil {
			return b.fromResult(r.Key)
		}
	}
	if from.Command != nil {
		return from.Action, from.Command, nil
	}
	c, err := readCommand(ctx, b.Store, from.Action.Command)
	if err == nil {
		from.Command = c
		return from.Action, c, nil
	}
	if a, c, rerr := b.fromResult(r.Key); rerr == nil {
		return a, c, nil
	}
	return from.Action, nil, err
}

// fromResult asks the store, once, for what a result says of its action, and
// remembers it as a run would.
func (b *Book) fromResult(key action.Digest) (*action.Action, *action.Command, error) {
	err := fmt.Errorf("nothing is known of action %v any more", key)
	if b.lost[key] {
		return nil, nil, err
	}
	res, rerr := b.Store.Peek(key)
	if rerr == nil {
		a, c, oerr := res.Origin(key.Function())
		if oerr == nil {
			b.origins[key] = &Run{Key: key, Action: a, Command: c}
			return a, c, nil
		}
	}
	b.lost[key] = true
	return nil, nil, err
}

func readCommand(ctx context.Context, s *cache.Store, d action.Digest) (*action.Command, error) {
	f, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if action.Sum(d.Function(), data) != d {
		return nil, fmt.Errorf("command %v is damaged: %w", d, action.ErrMiss)
	}
	return action.ParseCommand(data, d.Function())
}

// Outputs are the absolute paths of what r was to make, as they were declared.
func (b *Book) Outputs(ctx context.Context, r *Run) []string {
	_, c, err := b.Origin(ctx, r)
	if err != nil {
		return nil
	}
	return outputs(r.Workspace, c)
}

func outputs(workspace string, c *action.Command) []string {
	var list []string
	for _, part := range [][]string{c.OutputPaths, c.OutputFiles, c.OutputDirectories} {
		for _, p := range part {
			list = append(list, path.Join(workspace, c.WorkingDirectory, p))
		}
	}
	return list
}

// Makes says whether r was to make the absolute path: as an output, in an
// output that is a directory, or as a match of a pattern.
func (b *Book) Makes(ctx context.Context, r *Run, file string) bool {
	if !within(file, r.Workspace) || r.Tool == ToolBuild { // what a component installs is not in the workspace
		return false
	}
	for _, out := range b.Outputs(ctx, r) {
		if within(file, out) {
			return true
		}
		if strings.ContainsAny(out, `*?[{`) && b.matches(ctx, r, out, file) {
			return true
		}
	}
	return false
}

func within(file, dir string) bool {
	return file == dir || dir == "/" || strings.HasPrefix(file, dir+"/")
}

// matches says whether file is among the outputs that the pattern stood for.
// Without a result, a pattern matches as path.Match has it.
func (b *Book) matches(ctx context.Context, r *Run, pattern, file string) bool {
	if ok, err := path.Match(pattern, file); ok && err == nil {
		return true
	}
	res, err := b.Result(r)
	if err != nil {
		return false
	}
	_, c, err := b.Origin(ctx, r)
	if err != nil {
		return false
	}
	in := func(p string) bool { return path.Join(r.Workspace, c.WorkingDirectory, p) == file }
	return slices.ContainsFunc(res.Files, func(f action.OutputFile) bool { return in(f.Path) }) ||
		slices.ContainsFunc(res.Symlinks, func(l action.OutputSymlink) bool { return in(l.Path) })
}

// Result is what r gave, from the store or from r itself.
func (b *Book) Result(r *Run) (*action.Result, error) {
	if r.Result != nil {
		return r.Result, nil
	}
	return b.Store.Peek(r.Key)
}

// Making returns the runs that were to make the absolute path, the oldest
// first.
func (b *Book) Making(ctx context.Context, file string) []*Run {
	return b.filter(func(r *Run) bool { return b.Makes(ctx, r, file) })
}

// Keyed returns the runs whose key begins with a hash, or if there are none, those
// whose key did before it was sealed with what the command saw of the host.
func (b *Book) Keyed(hash string) []*Run {
	if list := b.filter(func(r *Run) bool { return strings.HasPrefix(r.Key.Hash(), hash) }); len(list) > 0 {
		return list
	}
	return b.filter(func(r *Run) bool { return strings.HasPrefix(r.Unsealed.Hash(), hash) })
}

// Like returns the runs before r of the same thing: with an output in common,
// or, in the same workspace or another, with the same command. Those of a
// component are those that have its name.
func (b *Book) Like(ctx context.Context, r *Run) []*Run {
	_, c, err := b.Origin(ctx, r)
	if err != nil {
		return b.filter(func(x *Run) bool { return x.Unsealed == r.Unsealed && x.Time.Before(r.Time) })
	}
	mine := outputs(r.Workspace, c)
	return b.filter(func(x *Run) bool {
		if x == r || !x.Time.Before(r.Time) || x.Tool == ToolBuild && x.Label != r.Label {
			return false
		}
		if x.Unsealed == r.Unsealed {
			return true
		}
		_, xc, err := b.Origin(ctx, x)
		if err != nil {
			return false
		}
		if slices.Equal(xc.Arguments, c.Arguments) {
			return true
		}
		return slices.ContainsFunc(outputs(x.Workspace, xc), func(p string) bool { return slices.Contains(mine, p) })
	})
}

func (b *Book) filter(keep func(*Run) bool) []*Run {
	var list []*Run
	for _, r := range b.Runs {
		if keep(r) {
			list = append(list, r)
		}
	}
	return list
}

// Removed returns the last time that the store removed what is under the key.
func (b *Book) Removed(kind cache.Kind, key action.Digest) (cache.Removal, bool) {
	for _, x := range slices.Backward(b.Removals) {
		if x.Kind == kind && x.Function == key.Function() && x.Hash == key.Bytes() {
			return x, true
		}
	}
	return cache.Removal{}, false
}
