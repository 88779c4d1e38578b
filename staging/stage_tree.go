package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

const (
	// maxEntries bounds what a tree may hold: a few kilobytes of directories
	// that name each other can stand for more files than there are atoms.
	maxEntries = 4_000_000
	// maxCopies bounds the trees that are copied for each action.
	maxCopies = 500_000
	// maxDepth is how deep directories can be nested so that the shortest
	// path to the deepest is still one that Linux takes.
	maxDepth = 1024
	// maxDirectoryBlob bounds the size of one Directory message.
	maxDirectoryBlob = 1 << 30
)

// ErrTree is wrapped by errors about trees that are too large or too deep to be
// staged anywhere: the fault of whoever made the tree.
var ErrTree = errors.New("tree cannot be staged")

var errTooLarge = fmt.Errorf("%w: it has too many entries", ErrTree)

func errTooDeep() error {
	return fmt.Errorf("%w: directories nested deeper than %d", ErrTree, maxDepth)
}

// A treeLoader reads the directories of trees, each one once. It serves one
// call of Stage.
type treeLoader struct {
	blobs action.Blobs
	dirs  map[action.Digest]*action.Directory
	nodes map[action.Digest][]erofs.Node // of directories that were expanded
	buf   []byte
	count int // entries of the tree that is being expanded
	limit int // of count
}

func newTreeLoader(b action.Blobs) *treeLoader {
	return &treeLoader{blobs: b, limit: maxEntries, dirs: map[action.Digest]*action.Directory{}}
}

// directory returns the directory d.
func (l *treeLoader) directory(ctx context.Context, d action.Digest) (*action.Directory, error) {
	if m := l.dirs[d]; m != nil {
		return m, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	m := &action.Directory{}
	if !d.IsEmpty() {
		if d.Size() > maxDirectoryBlob {
			return nil, fmt.Errorf("directory %v is too large", d)
		}
		data, err := readBlob(ctx, l.blobs, d, l.buf)
		if err != nil {
			return nil, fmt.Errorf("directory %v: %w", d, err)
		}
		l.buf = data // the parser copies
		if m, err = action.ParseDirectory(data, d.Function()); err != nil {
			return nil, fmt.Errorf("directory %v: %w", d, err)
		}
	}
	l.dirs[d] = m
	return m, nil
}

// A packer has small blobs that are no files, and makes one for Open.
type packer interface {
	// Packed returns the content of d, checked and nobody else's, if it is one.
	Packed(d action.Digest) ([]byte, bool)
}

// readBlob reads d into buf, or into a new slice if that is too short.
func readBlob(ctx context.Context, blobs action.Blobs, d action.Digest, buf []byte) ([]byte, error) {
	if d.IsEmpty() {
		return buf[:0], nil
	}
	if p, ok := blobs.(packer); ok {
		if data, ok := p.Packed(d); ok {
			return data, nil
		}
	}
	f, err := blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if int64(cap(buf)) < d.Size() {
		buf = make([]byte, d.Size())
	}
	buf = buf[:d.Size()]
	if _, err := io.ReadFull(f, buf); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("shorter than its digest says: %w", action.ErrMiss)
		}
		return nil, err
	}
	if !d.IsOf(buf) { // whatever the store thinks of its file
		return nil, action.Doubted(ctx, blobs, d)
	}
	return buf, nil
}

// inside adds name to the path that an error is about.
func inside(name string, err error) error {
	if p, ok := errors.AsType[*treeError](err); ok {
		p.path = name + "/" + p.path
		return p
	}
	return &treeError{name, err}
}

// A treeError says at which path of a tree something is wrong.
type treeError struct {
	path string
	err  error
}

func (e *treeError) Error() string { return fmt.Sprintf("%q: %v", e.path, e.err) }
func (e *treeError) Unwrap() error { return e.err }

// fits says whether the tree d is within b. It reads no more than it must.
func (l *treeLoader) fits(ctx context.Context, d action.Digest, b bounds) (bool, error) {
	var walk func(d action.Digest, depth int) error
	walk = func(d action.Digest, depth int) error {
		if depth > maxDepth {
			return errTooDeep()
		}
		m, err := l.directory(ctx, d)
		if err != nil {
			return err
		}
		b.files -= len(m.Files) + len(m.Directories) + len(m.Symlinks)
		for i := range m.Files {
			b.bytes -= m.Files[i].Digest.Size()
			if b.bytes < 0 {
				return errTooLarge
			}
		}
		for i := range m.Directories {
			if b.files < 0 {
				return errTooLarge
			}
			if err := walk(m.Directories[i].Digest, depth+1); err != nil {
				return inside(m.Directories[i].Name, err)
			}
		}
		if b.files < 0 {
			return errTooLarge
		}
		return nil
	}
	err := walk(d, 0)
	if errors.Is(err, errTooLarge) {
		return false, nil
	}
	return err == nil, err
}

// An entry is a file, link or directory of a Directory.
type entry struct {
	name   string
	kind   erofs.Kind
	exec   bool
	digest action.Digest // of a file or directory
	target string        // of a link
}

// entries merges the three lists of m, each of which is sorted.
func entries(m *action.Directory) []entry {
	out := make([]entry, 0, len(m.Files)+len(m.Directories)+len(m.Symlinks))
	f, d, s := m.Files, m.Directories, m.Symlinks
	for len(f)+len(d)+len(s) > 0 {
		switch {
		case len(f) > 0 && (len(d) == 0 || f[0].Name < d[0].Name) && (len(s) == 0 || f[0].Name < s[0].Name):
			out = append(out, entry{name: f[0].Name, kind: erofs.File, exec: f[0].Executable, digest: f[0].Digest})
			f = f[1:]
		case len(d) > 0 && (len(s) == 0 || d[0].Name < s[0].Name):
			out = append(out, entry{name: d[0].Name, kind: erofs.Directory, digest: d[0].Digest})
			d = d[1:]
		default:
			out = append(out, entry{name: s[0].Name, kind: erofs.Symlink, target: s[0].Target})
			s = s[1:]
		}
	}
	return out
}

// expand returns the nodes of the tree d, and notes in refs every blob that it
// is made of. Directories that occur twice share their nodes.
func (l *treeLoader) expand(ctx context.Context, d action.Digest, refs refSet, depth int) ([]erofs.Node, error) {
	if depth > maxDepth {
		return nil, errTooDeep()
	}
	if nodes, ok := l.nodes[d]; ok {
		return nodes, l.add(countNodes(nodes))
	}
	m, err := l.directory(ctx, d)
	if err != nil {
		return nil, err
	}
	refs.add(d)
	list := entries(m)
	if err := l.add(len(list)); err != nil {
		return nil, err
	}
	nodes := make([]erofs.Node, len(list))
	for i := range list {
		if nodes[i], err = l.node(ctx, &list[i], refs, depth); err != nil {
			return nil, inside(list[i].name, err)
		}
	}
	if l.nodes == nil {
		l.nodes = map[action.Digest][]erofs.Node{}
	}
	l.nodes[d] = nodes
	return nodes, nil
}

func (l *treeLoader) add(n int) error {
	if l.count += n; l.count > l.limit {
		return fmt.Errorf("%w: more than %d", errTooLarge, l.limit)
	}
	return nil
}

func countNodes(nodes []erofs.Node) int {
	n := len(nodes)
	for i := range nodes {
		n += countNodes(nodes[i].Nodes)
	}
	return n
}

// node returns the node of e, with everything below it.
func (l *treeLoader) node(ctx context.Context, e *entry, refs refSet, depth int) (erofs.Node, error) {
	n := erofs.Node{Name: e.name, Kind: e.kind, Executable: e.exec, Target: e.target}
	var err error
	switch e.kind {
	case erofs.File:
		if n.Size = e.digest.Size(); n.Size > 0 {
			n.Redirect = refs.path(e.digest)
		}
	case erofs.Directory:
		n.Nodes, err = l.expand(ctx, e.digest, refs, depth+1)
	}
	return n, err
}

// A refSet collects the blobs that a layer is made of.
type refSet struct {
	blobPath func(action.Digest) string
	paths    map[action.Digest]string // "" for directories
}

func (r refSet) add(d action.Digest) {
	if !d.IsEmpty() {
		r.paths[d] = ""
	}
}

// path is where the store has the content of a file.
func (r refSet) path(d action.Digest) string {
	p := r.paths[d]
	if p == "" {
		p = r.blobPath(d)
		r.paths[d] = p
	}
	return p
}

func (r refSet) list() []action.Digest {
	refs := make([]action.Digest, 0, len(r.paths))
	for d := range r.paths {
		refs = append(refs, d)
	}
	return refs
}

// missing returns a blob of refs that is not in the store, or the zero Digest.
func missing(ctx context.Context, blobs action.Blobs, refs []action.Digest) action.Digest {
	workers := min(runtime.GOMAXPROCS(0), 8, len(refs)/64+1)
	found := make([]action.Digest, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(refs) && ctx.Err() == nil; i += workers {
				if !blobs.Has(ctx, refs[i]) {
					found[w] = refs[i]
					return
				}
			}
		})
	}
	wg.Wait()
	for _, d := range found {
		if !d.IsZero() {
			return d
		}
	}
	return action.Digest{}
}

// whereIs returns a path in the tree root at which want is. It is slow, and
// serves error messages.
func (l *treeLoader) whereIs(ctx context.Context, root, want action.Digest) string {
	seen := map[action.Digest]bool{}
	var find func(d action.Digest, path []string) string
	find = func(d action.Digest, path []string) string {
		m, err := l.directory(ctx, d)
		if err != nil || seen[d] {
			return ""
		}
		seen[d] = true
		for _, e := range entries(m) {
			if e.digest == want {
				return strings.Join(append(path, e.name), "/")
			}
			if e.kind == erofs.Directory {
				if p := find(e.digest, append(path, e.name)); p != "" {
					return p
				}
			}
		}
		return ""
	}
	return find(root, nil)
}
