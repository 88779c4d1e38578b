package reproduce

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// An item is one thing that an action gave: a file, a link, a directory, what
// it wrote, or how it ended. Two are the same if they are equal.
type item struct {
	kind       string // "file", "link", "directory" or exitKind
	digest     action.Digest
	raw        string // of the content, where it is not a blob
	executable bool
	target     string // of a link
	number     int
}

// The items that are not files. No output has such a name: they are not clean
// paths.
const (
	stdoutItem = "//standard output"
	stderrItem = "//standard error"
	exitItem   = "//exit code"
)

const exitKind = "exit code"

// timedOut is the exit code of a command that did not end.
const timedOut = -1

// items are all things that res has. Directories are taken apart.
func items(ctx context.Context, blobs action.Blobs, res *action.Result) (map[string]item, error) {
	m := map[string]item{
		exitItem:   {kind: exitKind, number: int(res.ExitCode)},
		stdoutItem: stream(res.StdoutRaw, res.Stdout),
		stderrItem: stream(res.StderrRaw, res.Stderr),
	}
	for _, f := range res.Files {
		m[f.Path] = item{kind: "file", digest: f.Digest, executable: f.Executable}
	}
	for _, list := range [][]action.OutputSymlink{res.Symlinks, res.FileSymlinks, res.DirSymlinks} {
		for _, l := range list {
			m[l.Path] = item{kind: "link", target: l.Target}
		}
	}
	for _, d := range res.Directories {
		if d.Tree.IsZero() {
			m[d.Path] = item{kind: "directory", digest: d.Root}
			continue
		}
		tree, err := readTree(ctx, blobs, d.Tree)
		if err != nil {
			return nil, fmt.Errorf("output directory %s: %w", d.Path, err)
		}
		addDirectory(m, d.Path, &tree.Root, tree, d.Tree.Function())
	}
	return m, nil
}

func stream(raw []byte, blob action.Digest) item {
	if len(raw) > 0 {
		return item{kind: "file", raw: string(raw)}
	}
	return item{kind: "file", digest: blob}
}

func readTree(ctx context.Context, blobs action.Blobs, d action.Digest) (*action.Tree, error) {
	f, err := blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return action.ParseTree(data, d.Function())
}

func addDirectory(m map[string]item, name string, dir *action.Directory, tree *action.Tree, f action.Function) {
	children := map[action.Digest]*action.Directory{}
	for i := range tree.Children {
		children[tree.Children[i].Digest(f)] = &tree.Children[i]
	}
	var add func(string, *action.Directory)
	add = func(name string, dir *action.Directory) {
		m[name] = item{kind: "directory"}
		for _, x := range dir.Files {
			m[path.Join(name, x.Name)] = item{kind: "file", digest: x.Digest, executable: x.Executable}
		}
		for _, x := range dir.Symlinks {
			m[path.Join(name, x.Name)] = item{kind: "link", target: x.Target}
		}
		for _, x := range dir.Directories {
			if child := children[x.Digest]; child != nil {
				add(path.Join(name, x.Name), child)
			}
		}
	}
	add(name, dir)
}

// differing are the names of the items in which a and b differ, in order.
func differing(a, b map[string]item) (list []string) {
	for name, x := range a {
		if y, ok := b[name]; !ok || x != y {
			list = append(list, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func sorted(env []action.EnvironmentVariable) []action.EnvironmentVariable {
	slices.SortFunc(env, func(a, b action.EnvironmentVariable) int { return strings.Compare(a.Name, b.Name) })
	return env
}

// where says how a and b, which are not equal, differ.
func where(ctx context.Context, blobs action.Blobs, a, b item) (string, error) {
	switch {
	case a == item{}:
		return "was not made before", nil
	case b == item{}:
		return "was not made again", nil
	case a.kind == exitKind && b.number == timedOut:
		return fmt.Sprintf("was %d, now it did not end", a.number), nil
	case a.kind == exitKind:
		return fmt.Sprintf("was %d, now %d", a.number, b.number), nil
	case a.kind != b.kind:
		return fmt.Sprintf("was a %s, now a %s", a.kind, b.kind), nil
	case a.kind == "link":
		return fmt.Sprintf("pointed to %q, now to %q", a.target, b.target), nil
	case a.digest == b.digest && a.raw == b.raw:
		return "has another executable bit", nil
	case a.kind == "directory":
		return "has other entries", nil
	}
	x, err := content(ctx, blobs, a)
	if err != nil {
		return "", err
	}
	defer x.Close()
	y, err := content(ctx, blobs, b)
	if err != nil {
		return "", err
	}
	defer y.Close()
	p, err := Compare(x, y)
	if err != nil {
		return "", err
	}
	return "differs " + p.String(), nil
}

// Differences says how the result now differs from before, a line for each
// output: "a.o differs at byte 12 of 40, …". Dir is the working directory of the
// command, to which the outputs are relative.
func Differences(ctx context.Context, blobs action.Blobs, before, now *action.Result, dir string) ([]string, error) {
	a, err := items(ctx, blobs, before)
	if err != nil {
		return nil, err
	}
	b, err := items(ctx, blobs, now)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, name := range differing(a, b) {
		w, err := where(ctx, blobs, a[name], b[name])
		if err != nil {
			return nil, err
		}
		list = append(list, title(dir, name)+" "+w)
	}
	return list, nil
}

// title is what people call an item.
func title(dir, name string) string {
	if special, ok := strings.CutPrefix(name, "//"); ok {
		return special
	}
	return path.Join(dir, name)
}
