package staging

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// Outputs say what to collect after a command.
type Outputs struct {
	// Work is where the input root is, absolute in the root. Empty:
	// action.WorkRoot.
	Work string
	// Dir is the directory in which the command ran, relative to Work, as in
	// action.Command: "" is Work itself.
	Dir string
	// Paths are the outputs, relative to Dir, as [action.CheckOutputPath]
	// wants them; "" is Dir itself. What is there decides what an output is:
	// a file, a directory with everything in it, or a link, which is recorded
	// as it is, wherever it points. Links on the way to an output are
	// followed, inside the root.
	Paths []string
	// Globs says that a path with one of *?[{ is a pattern, unless a file has
	// that very name. It stands for the files and links that match when the
	// command is done, each recorded by its own path; never for directories:
	// "out/**" is everything below out. A pattern without a match is missing.
	Globs bool
	// Function makes the digests.
	Function action.Function
	// Modes says that what lies in an output directory has the mode that
	// chmod(2) gave it as node property unix_mode, where it is not the usual
	// one: 0644 or 0755 of files, 0755 of directories.
	Modes bool
	// Owned, where not nil, says whose files are, and which are devices: their
	// nodes then have the properties that [OwnerProperties] has.
	Owned *Owned
	// Failed says that the command failed: what it made and cannot be recorded, such
	// as a pipe, is missing then, since the command's own failure is what there is to
	// tell. Else it is an error.
	Failed bool
	// Properties are the node properties that outputs are recorded with:
	// mtime and unix_mode.
	Properties []string
	// Format is action.Command's OutputDirectoryFormat: what is stored of an
	// output directory. 0: a Tree; 1: its Directory messages; 2: both.
	Format int32
}

// An unfit error is about what the command made in the place of an output, which
// cannot be one.
type unfit struct{ error }

func (u unfit) Unwrap() error { return u.error }

func (o *Outputs) work() string {
	if o.Work == "" {
		return action.WorkRoot
	}
	return o.Work
}

// full is the path of an output in the root.
func (o *Outputs) full(p string) string { return path.Join(o.work(), o.Dir, p) }

func (o *Outputs) check() error {
	if o.Format < 0 || o.Format > 2 {
		return fmt.Errorf("output directory format %d is not known", o.Format)
	}
	for _, p := range o.Paths {
		if err := action.CheckOutputPath(o.Dir, p); err != nil {
			return err
		}
	}
	return nil
}

// CheckOutputGlob says why p, as a pattern, is malformed, or nil.
func CheckOutputGlob(p string) error {
	_, err := parsePathGlob(p)
	return err
}

// isPattern says whether p would be a pattern.
func isPattern(p string) bool { return strings.ContainsAny(p, `*?[{`) }

// A collectedDir is a directory on the way to become a Directory message.
type collectedDir struct {
	m      action.Directory
	kids   []*collectedDir // of m.Directories
	data   []byte
	digest action.Digest
}

// seal computes the digests of d and what is below it.
func (d *collectedDir) seal(f action.Function) {
	for i, k := range d.kids {
		k.seal(f)
		d.m.Directories[i].Digest = k.digest
	}
	d.data = d.m.Marshal()
	d.digest = action.Sum(f, d.data)
}

// topological returns d and what is below it, equal directories once, parents
// before children.
func (d *collectedDir) topological() []*collectedDir {
	seen := map[action.Digest]bool{}
	var order []*collectedDir
	var visit func(d *collectedDir)
	visit = func(d *collectedDir) {
		if seen[d.digest] {
			return
		}
		seen[d.digest] = true
		for _, k := range slices.Backward(d.kids) {
			visit(k)
		}
		order = append(order, d)
	}
	visit(d)
	slices.Reverse(order) // children before parents, turned round
	return order
}
