package history

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// A Thing is what a user means by the name of an output or a digest.
type Thing struct {
	Name string // as the user gave it
	File string // absolute, of an output; else empty

	// Runs are the runs that were to make the output, or whose key it is, the
	// oldest first. Run is the one that is meant: the last that ran the
	// command, or was to, or with "~N" the Nth run of another action before
	// it. Nil: the history does not know it.
	Runs []*Run
	Run  *Run

	// Blob is a blob of the store that the digest names; else zero.
	Blob action.Digest
}

// A NotFoundError says that nothing is known of a thing.
type NotFoundError struct{ Name, Reason string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("%q: %s", e.Name, e.Reason) }

// hashMin is how many digits of a hash must be given.
const hashMin = 6

// Find returns what name means to a user whose current directory is dir: a
// path, a label, a digest, or the beginning of a hash; all may end in "~N". A name
// that is an output is never taken for a hash. The error may be a
// [NotFoundError].
func (b *Book) Find(ctx context.Context, name, dir string) (*Thing, error) {
	if name == "" {
		return nil, fmt.Errorf("an empty name: want an output, a digest, or the first digits of a hash")
	}
	if t := b.output(ctx, name, dir); t != nil {
		return t, nil
	}
	if t := b.labelled(name, dir); t != nil {
		return t, nil
	}
	base, back := name, 0
	if i := strings.LastIndexByte(name, '~'); i > 0 {
		if n, err := strconv.Atoi(name[i+1:]); err == nil && n >= 0 {
			base, back = name[:i], n
		} else if name[i+1:] == "" {
			base, back = name[:i], 1
		}
	}
	t := b.output(ctx, base, dir)
	if t == nil {
		t = b.labelled(base, dir)
	}
	if t == nil {
		var err error
		if t, err = b.digest(base); err != nil {
			return nil, err
		}
	}
	if t == nil {
		reason := "never run: nothing that is remembered made it"
		if len(b.Runs) > 0 {
			reason = fmt.Sprintf("never run: nothing made it since %s, as far as the history goes back", b.Runs[0].Time.Local().Format("2006-01-02 15:04"))
		}
		if near := b.near(ctx, base, dir); near != "" {
			reason += fmt.Sprintf("; did you mean %q?", near)
		}
		return nil, &NotFoundError{base, reason}
	}
	t.Name = name
	if back > 0 && t.Run == nil {
		return nil, &NotFoundError{name, "it is not of an action, so there is none before it"}
	}
	if err := b.back(ctx, t, back); err != nil {
		return nil, err
	}
	return t, nil
}

// back goes from t.Run to the nth run of another action before it.
func (b *Book) back(ctx context.Context, t *Thing, n int) error {
	if n == 0 {
		return nil
	}
	list := t.Runs
	if t.File == "" { // of a key: what is like it
		list = append(b.Like(ctx, t.Run), t.Run)
	}
	at := t.Run
	left := n
	for _, r := range slices.Backward(list) {
		if left > 0 && r.Time.Before(at.Time) && (r.Unsealed != at.Unsealed || r.Key != at.Key) {
			at = r
			left--
		}
	}
	if left > 0 {
		return &NotFoundError{t.Name, fmt.Sprintf("there are %d earlier actions that are remembered", n-left)}
	}
	t.Run = at
	return nil
}

// output returns the runs of an output, or nil.
func (b *Book) output(ctx context.Context, name, dir string) *Thing {
	for _, file := range absolute(name, dir) {
		if runs := b.Making(ctx, file); len(runs) > 0 {
			return &Thing{Name: name, File: file, Runs: runs, Run: lastRan(runs)}
		}
	}
	return nil
}

// labelled returns the runs that the user calls name, such as those of a
// component: of the workspace that dir is in, or of all if it has none of them.
// The end of a path is enough: "zlib" for "strata/core/zlib". Where several end
// so, it is the one that ran last.
func (b *Book) labelled(name, dir string) *Thing {
	for _, is := range []func(r *Run) bool{
		func(r *Run) bool { return r.Label == name && within(dir, r.Workspace) },
		func(r *Run) bool { return r.Label == name },
		func(r *Run) bool { return strings.HasSuffix(r.Label, "/"+name) },
	} {
		runs := b.filter(is)
		if len(runs) == 0 {
			continue
		}
		label := runs[len(runs)-1].Label
		runs = slices.DeleteFunc(runs, func(r *Run) bool { return r.Label != label })
		return &Thing{Name: name, Runs: runs, Run: lastRan(runs)}
	}
	return nil
}

// absolute is what name may be: with the links of its directory followed, as
// workspaces are, and as it is.
func absolute(name, dir string) []string {
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	name = filepath.Clean(name)
	list := []string{name}
	for at, rest := filepath.Dir(name), filepath.Base(name); ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			if real = filepath.Join(real, rest); real != name {
				list = append([]string{real}, name)
			}
			return list
		}
		if at == "/" || at == "." {
			return list
		}
	}
}

// lastRan is the last of runs that was no hit; the last, if all were.
func lastRan(runs []*Run) *Run {
	for _, r := range slices.Backward(runs) {
		if r.Verdict != Hit {
			return r
		}
	}
	return runs[len(runs)-1]
}

// digest returns what a digest or the beginning of a hash names; nil if it is
// none, or names nothing.
func (b *Book) digest(name string) (*Thing, error) {
	hash := name
	whole, err := action.ParseDigest(name)
	if err == nil {
		hash = whole.Hash()
	} else if _, rest, ok := strings.Cut(name, ":"); ok {
		hash, _, _ = strings.Cut(rest, "/")
	}
	if len(hash) < hashMin || strings.Trim(hash, "0123456789abcdef") != "" || len(hash) > 128 {
		return nil, nil
	}
	if runs := b.Keyed(hash); len(runs) > 0 {
		for _, r := range runs {
			if r.Key != runs[0].Key && r.Unsealed != runs[0].Unsealed {
				return nil, fmt.Errorf("%q is the beginning of more than one digest, such as %s and %s: give more digits", name, runs[0].Key.Hash(), r.Key.Hash())
			}
		}
		return &Thing{Name: name, Runs: runs, Run: lastRan(runs)}, nil
	}
	results, blobs, err := b.Store.Find(hash[:min(len(hash), 64)], 2)
	if err != nil {
		return nil, err
	}
	switch {
	case len(results)+len(blobs) > 1:
		both := append(results, blobs...)
		return nil, fmt.Errorf("%q is the beginning of more than one digest, such as %s and %s: give more digits", name, both[0].Hash(), both[1].Hash())
	case len(blobs) == 1:
		return &Thing{Name: name, Blob: blobs[0]}, nil
	case len(results) == 1:
		r, err := b.stored(results[0])
		if err != nil {
			return nil, err
		}
		return &Thing{Name: name, Runs: []*Run{r}, Run: r}, nil
	}
	return nil, nil
}

// stored makes a run of a result that the history does not know any more.
func (b *Book) stored(key action.Digest) (*Run, error) {
	res, err := b.Store.Peek(key)
	if err != nil {
		return nil, err
	}
	a, c, err := res.Origin(key.Function())
	if err != nil {
		return nil, fmt.Errorf("the result %s: %w", key.Hash(), err)
	}
	r := &Run{Key: key, Unsealed: key, Verdict: Kept, ExitCode: int(res.ExitCode), Cost: Cost(res), Action: a, Command: c}
	if m := res.Metadata; m != nil && m.ExecutionStart != nil {
		r.Time = timeOf(m.ExecutionStart)
	}
	return r, nil
}

// near is an output whose name ends as that of a file that nobody made.
func (b *Book) near(ctx context.Context, name, dir string) string {
	base := filepath.Base(name)
	for _, r := range slices.Backward(b.Runs) {
		for _, out := range b.Outputs(ctx, r) {
			if filepath.Base(out) != base {
				continue
			}
			if rel, err := filepath.Rel(dir, out); err == nil && !strings.HasPrefix(rel, "../") {
				return rel
			}
			return out
		}
	}
	return ""
}

// Here is the current directory, with the links on the way to it followed.
func Here() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("the current directory: %w", err)
	}
	return filepath.EvalSymlinks(dir)
}

// LastHit returns the last run of t, if it was a hit, and how many hits there
// were since t.Run.
func (t *Thing) LastHit() (last *Run, n int) {
	for _, r := range t.Runs {
		if r.Verdict == Hit && r.Time.After(t.Run.Time) {
			last, n = r, n+1
		}
	}
	return last, n
}

// Gone says how the store lost the result of r, if it is known.
func (b *Book) Gone(r *Run) (cache.Removal, bool) { return b.Removed(cache.KindResult, r.Key) }
