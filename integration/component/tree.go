package component

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A tree is a file system tree that is being put together. Directories are read
// when something in them is looked at, and only those that change get new
// messages: what is taken over whole costs nothing.
type tree struct {
	blobs action.Blobs
	f     action.Function
	root  *dir

	// Where they are not nil, overlay notes what it lays: modes that are not
	// the usual ones and owners, and whose each path is.
	owners staging.Owners
	origin map[string]string

	// devices says that the empty files that stand for devices and pipes are laid,
	// too. Otherwise only owners has them.
	devices bool
}

// A dir is a directory of a tree. Until it is loaded, digest says what it is.
type dir struct {
	digest action.Digest // of what it was; zero if it was made here, or changed
	loaded bool
	names  map[string]*node
	props  *action.NodeProperties
}

// A node is an entry of a dir: exactly one of the fields is set.
type node struct {
	file *action.FileNode
	link *action.SymlinkNode
	dir  *dir
}

// same says whether two nodes that are no directories are the same.
func (n *node) same(o *node) bool {
	switch {
	case n.file != nil && o.file != nil:
		return n.file.Digest == o.file.Digest && n.file.Executable == o.file.Executable
	case n.link != nil && o.link != nil:
		return n.link.Target == o.link.Target
	}
	return false
}

// newTree returns the tree of d; of an empty directory if d is zero.
func newTree(blobs action.Blobs, f action.Function, d action.Digest) *tree {
	t := &tree{blobs: blobs, f: f, root: &dir{digest: d}}
	if d.IsZero() {
		t.root = newDir()
	}
	return t
}

func newDir() *dir { return &dir{loaded: true, names: map[string]*node{}} }

// load reads the directory, if it was not.
func (t *tree) load(ctx context.Context, d *dir) error {
	if d.loaded {
		return nil
	}
	m, err := readDirectory(ctx, t.blobs, d.digest)
	if err != nil {
		return err
	}
	d.names = make(map[string]*node, len(m.Files)+len(m.Directories)+len(m.Symlinks))
	for i := range m.Files {
		d.names[m.Files[i].Name] = &node{file: &m.Files[i]}
	}
	for i := range m.Symlinks {
		d.names[m.Symlinks[i].Name] = &node{link: &m.Symlinks[i]}
	}
	for _, k := range m.Directories {
		d.names[k.Name] = &node{dir: &dir{digest: k.Digest}}
	}
	d.props, d.loaded = m.Properties, true
	return nil
}

func readDirectory(ctx context.Context, blobs action.Blobs, d action.Digest) (*action.Directory, error) {
	data, err := readBlob(ctx, blobs, d)
	if err != nil {
		return nil, err
	}
	m, err := action.ParseDirectory(data, d.Function())
	if err != nil {
		return nil, fmt.Errorf("directory %v: %w", d, err)
	}
	return m, nil
}

// mostOfBlob bounds what is read into memory: directories, logs, patches.
const mostOfBlob = 256 << 20

func readBlob(ctx context.Context, blobs action.Blobs, d action.Digest) ([]byte, error) {
	if d.IsEmpty() {
		return nil, nil
	}
	if d.Size() > mostOfBlob {
		return nil, fmt.Errorf("blob %v is too large", d)
	}
	f, err := blobs.Open(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %v: %w", d, err)
	}
	defer f.Close()
	data := make([]byte, d.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("blob %v: %w", d, err)
	}
	return data, nil
}

// mostLinks is how many links a path may lead through.
const mostLinks = 40

var errNotDirectory = errors.New("not a directory")

// directory returns the directory at p, which is relative to the root. Links
// are followed, inside the tree. If make is true, what is not there is made.
func (t *tree) directory(ctx context.Context, p string, create bool) (*dir, error) {
	d, _, err := t.walk(ctx, p, create)
	return d, err
}

// walk is directory; at is the path at which it was found.
func (t *tree) walk(ctx context.Context, p string, create bool) (_ *dir, at string, err error) {
	todo := strings.Split(p, "/")
	stack := []*dir{t.root}
	var names []string
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		d := stack[len(stack)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				stack, names = stack[:len(stack)-1], names[:len(names)-1]
			}
			continue
		}
		if err := t.load(ctx, d); err != nil {
			return nil, "", err
		}
		n := d.names[name]
		switch {
		case n == nil && !create:
			return nil, "", nil
		case n == nil:
			n = &node{dir: newDir()}
			d.names[name] = n
			changed(stack)
		case n.link != nil:
			if links++; links > mostLinks {
				return nil, "", fmt.Errorf("%s: too many links", p)
			}
			if path.IsAbs(n.link.Target) {
				stack, names = stack[:1], nil
			}
			todo = append(strings.Split(n.link.Target, "/"), todo...)
			continue
		case n.file != nil:
			return nil, "", fmt.Errorf("%s: %w", path.Join(append(slices.Clone(names), name)...), errNotDirectory)
		}
		stack, names = append(stack, n.dir), append(names, name)
	}
	if create {
		if err := t.load(ctx, stack[len(stack)-1]); err != nil {
			return nil, "", err
		}
		changed(stack)
	}
	return stack[len(stack)-1], path.Join(names...), nil
}

// changed notes that directories are not what their digests say.
func changed(stack []*dir) {
	for _, d := range stack {
		d.digest = action.Digest{}
	}
}

// put places n at p, and makes the directories above it.
func (t *tree) put(ctx context.Context, p string, n *node) error {
	d, err := t.directory(ctx, path.Dir(p), true)
	if err != nil {
		return err
	}
	if err := t.load(ctx, d); err != nil {
		return err
	}
	d.names[path.Base(p)] = n
	return nil
}

// A meeting is a path that two trees have.
type meeting struct{ path, was string } // whose it was; empty: of the root file system below

// overlay lays the tree over t, as the work of a component. It returns where a
// file or a link of t is replaced by something else than the same.
//
// A link to a directory stays where the other tree has a directory, and what is
// in that goes to where the link leads: as if it was installed there. Absolute
// links of the other tree become relative ones. Modes are left out.
func (t *tree) overlay(ctx context.Context, over *tree, name string) ([]meeting, error) {
	o := &overlaying{ctx: ctx, t: t, over: over, name: name}
	if err := over.load(ctx, over.root); err != nil {
		return nil, err
	}
	if err := cmp.Or(o.directory(t.root, over.root, ""), o.bad); err != nil {
		return nil, err
	}
	return o.met, nil
}

type overlaying struct {
	ctx     context.Context
	t, over *tree
	name    string
	met     []meeting
	bad     error // a property that nobody can read
}

// directory lays the directory from over d, both at p, and says in d that it
// changed.
func (o *overlaying) directory(d, from *dir, p string) error {
	if d.digest == from.digest && !d.digest.IsZero() {
		return nil
	}
	if err := errors.Join(o.t.load(o.ctx, d), o.over.load(o.ctx, from)); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	d.digest = action.Digest{}
	o.note(p, staging.TypeDir, 0o755, from.props)
	for _, name := range slices.Sorted(maps.Keys(from.names)) {
		if err := o.entry(d, name, from.names[name], path.Join(p, name)); err != nil {
			return err
		}
	}
	return nil
}

func (o *overlaying) entry(d *dir, name string, n *node, p string) error {
	old := d.names[name]
	switch {
	case old == nil:
		c, err := o.copied(n, p)
		if c != nil {
			d.names[name] = c
		}
		return err
	case n.dir != nil && old.dir != nil:
		return o.directory(old.dir, n.dir, p)
	case n.dir != nil && old.link != nil:
		target, at, err := o.t.walk(o.ctx, p, false)
		if err != nil && !errors.Is(err, errNotDirectory) {
			return err
		}
		if target != nil && err == nil {
			if _, err := o.t.directory(o.ctx, at, true); err != nil { // the way to it changes
				return err
			}
			return o.directory(target, n.dir, at)
		}
	}
	was := o.t.origin[p]
	c, err := o.copied(n, p)
	if err != nil {
		return err
	}
	if c == nil {
		o.met = append(o.met, meeting{p, was})
		delete(d.names, name)
		return nil
	}
	if !old.same(c) {
		o.met = append(o.met, meeting{p, was})
	}
	d.names[name] = c
	return nil
}

// note notes what is laid at p, and says whether it is one that a tree cannot hold.
func (o *overlaying) note(p string, t staging.NodeType, usual uint32, props *action.NodeProperties) bool {
	if o.t.origin != nil && (t != staging.TypeDir || o.t.origin[p] == "") {
		o.t.origin[p] = o.name
	}
	who, err := staging.OwnerOf(props, t, usual)
	if err != nil && o.bad == nil {
		o.bad = fmt.Errorf("%s: %w", p, err)
	}
	if o.t.owners == nil || p == "" {
		return !who.InTree()
	}
	switch {
	case props != nil && (props.UnixMode != nil || saysOwner(props)):
		o.t.owners[p] = who
	case t != staging.TypeDir: // what was there is gone
		delete(o.t.owners, p)
	}
	return !who.InTree()
}

// copied returns n, which is to be at p, without modes and owners and with relative
// links; nil for a device that is not to be there. Whole directories that need no
// change stay whole.
func (o *overlaying) copied(n *node, p string) (*node, error) {
	switch {
	case n.link != nil:
		o.note(p, staging.TypeLink, 0o777, n.link.Properties)
		if !path.IsAbs(n.link.Target) && n.link.Properties == nil {
			return n, nil
		}
		l := *n.link
		if l.Properties = nil; path.IsAbs(l.Target) {
			l.Target = relativeTo(path.Dir(p), n.link.Target)
		}
		return &node{link: &l}, nil
	case n.file != nil:
		usual := uint32(0o644)
		if n.file.Executable {
			usual = 0o755
		}
		if o.note(p, staging.TypeFile, usual, n.file.Properties) && !o.t.devices {
			return nil, nil
		}
		if n.file.Properties == nil {
			return n, nil
		}
		f := *n.file
		f.Properties = nil
		return &node{file: &f}, nil
	}
	if err := o.over.load(o.ctx, n.dir); err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	o.note(p, staging.TypeDir, 0o755, n.dir.props)
	c := &dir{digest: n.dir.digest, loaded: true, names: make(map[string]*node, len(n.dir.names))}
	if n.dir.props != nil {
		c.digest = action.Digest{}
	}
	for name, kid := range n.dir.names {
		k, err := o.copied(kid, path.Join(p, name))
		if err != nil {
			return nil, err
		}
		if k == nil {
			c.digest = action.Digest{}
			continue
		}
		if k.link != kid.link || k.file != kid.file || k.dir != nil && k.dir.digest.IsZero() {
			c.digest = action.Digest{}
		}
		c.names[name] = k
	}
	return &node{dir: c}, nil
}

// relativeTo is an absolute target, seen from the directory dir.
func relativeTo(dir, target string) string {
	clean := strings.TrimPrefix(path.Clean(target), "/")
	if dir == "." || dir == "" {
		if clean == "" {
			return "."
		}
		return clean
	}
	up := strings.Repeat("../", strings.Count(dir, "/")+1)
	if clean == "" {
		return strings.TrimSuffix(up, "/")
	}
	return up + clean
}

// A sealer computes digests of trees, and keeps the messages of directories that
// the store may not have.
type sealer struct{ made map[action.Digest][]byte }

// seal returns the digest of the tree.
func (t *tree) seal(s *sealer) action.Digest {
	if s.made == nil {
		s.made = map[action.Digest][]byte{}
	}
	return t.sealDir(s, t.root)
}

func (t *tree) sealDir(s *sealer, d *dir) action.Digest {
	if !d.digest.IsZero() {
		return d.digest
	}
	m := action.Directory{Properties: d.props}
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		switch n := d.names[name]; {
		case n.file != nil:
			f := *n.file
			f.Name = name
			m.Files = append(m.Files, f)
		case n.link != nil:
			l := *n.link
			l.Name = name
			m.Symlinks = append(m.Symlinks, l)
		default:
			m.Directories = append(m.Directories, action.DirectoryNode{Name: name, Digest: t.sealDir(s, n.dir)})
		}
	}
	data := m.Marshal()
	d.digest = action.Sum(t.f, data)
	s.made[d.digest] = data
	return d.digest
}

// save stores what the sealer keeps.
func (s *sealer) save(ctx context.Context, blobs action.Blobs, f action.Function) error {
	for _, data := range s.made {
		if _, err := blobs.PutBytes(ctx, f, data); err != nil {
			return err
		}
	}
	return nil
}

// visit calls f for everything in the tree, directories before what is in them,
// by name.
func (t *tree) visit(ctx context.Context, f func(p string, n *node) error) error {
	var visit func(d *dir, p string) error
	visit = func(d *dir, p string) error {
		if err := t.load(ctx, d); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(d.names)) {
			n, at := d.names[name], path.Join(p, name)
			if err := f(at, n); err != nil {
				return err
			}
			if n.dir != nil {
				if err := visit(n.dir, at); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return visit(t.root, "")
}
