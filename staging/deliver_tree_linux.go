package staging

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// tree writes an output directory at name in the directory parent.
func (d *deliverer) tree(parent int, name string, o *action.OutputDirectory) error {
	root, lookup, err := d.directories(o)
	if err != nil {
		return err
	}
	entries := 0
	return d.subtree(parent, name, root, lookup, &entries, 0)
}

// directories returns the root of an output directory, and a function that
// finds the directories that it names.
func (d *deliverer) directories(o *action.OutputDirectory) (*action.Directory, func(action.Digest) (*action.Directory, error), error) {
	if o.Tree.IsZero() {
		l := newTreeLoader(d.blobs)
		lookup := func(digest action.Digest) (*action.Directory, error) { return l.directory(d.ctx, digest) }
		root, err := lookup(o.Root)
		return root, lookup, err
	}
	data, err := readBlob(d.ctx, d.blobs, o.Tree, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("tree %v: %w", o.Tree, err)
	}
	f := o.Tree.Function()
	t, err := action.ParseTree(data, f)
	if err != nil {
		return nil, nil, fmt.Errorf("tree %v: %w", o.Tree, err)
	}
	kids := make(map[action.Digest]*action.Directory, len(t.Children))
	var b []byte
	for i := range t.Children {
		b = t.Children[i].AppendMarshal(b[:0])
		kids[action.Sum(f, b)] = &t.Children[i]
	}
	return &t.Root, func(digest action.Digest) (*action.Directory, error) {
		if m := kids[digest]; m != nil {
			return m, nil
		}
		return nil, fmt.Errorf("tree %v lacks directory %v: %w", o.Tree, digest, action.ErrMiss)
	}, nil
}

// subtree writes the directory m.
func (d *deliverer) subtree(parent int, name string, m *action.Directory, lookup func(action.Digest) (*action.Directory, error), entries *int, depth int) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if *entries += len(m.Files) + len(m.Directories) + len(m.Symlinks); *entries > maxEntries || depth > maxDepth {
		return errTooLarge
	}
	if err := unix.Mkdirat(parent, name, 0o777); err != nil {
		return fmt.Errorf("mkdir: %w", err)
	}
	dir, err := openRetry(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer unix.Close(dir)
	for i := range m.Files {
		if err := d.fileIn(dir, &m.Files[i]); err != nil {
			return inside(m.Files[i].Name, err)
		}
	}
	for i := range m.Symlinks {
		if err := unix.Symlinkat(m.Symlinks[i].Target, dir, m.Symlinks[i].Name); err != nil {
			return inside(m.Symlinks[i].Name, err)
		}
	}
	for i := range m.Directories {
		n := &m.Directories[i]
		kid, err := lookup(n.Digest)
		if err == nil {
			err = d.subtree(dir, n.Name, kid, lookup, entries, depth+1)
		}
		if err != nil {
			return inside(n.Name, err)
		}
	}
	return nil
}

func (d *deliverer) fileIn(dir int, n *action.FileNode) error {
	mode := uint32(0o666)
	if n.Executable {
		mode = 0o777
	}
	fd, err := openRetry(dir, n.Name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW, mode)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return errors.Join(d.content(fd, n.Digest, nil), unix.Close(fd))
}

// removeAt removes name, and everything below it, from the open directory dir.
// It follows no link. Directories that their owner may not write are made
// writable.
func removeAt(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return &os.PathError{Op: "unlink", Path: name, Err: err}
	}
	f, err := openLocked(dir, name, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) { // somebody else removes it, too
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer f.Close()
	unlock(int(f.Fd()))
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAt(int(f.Fd()), n); err != nil {
			return inside(name, err)
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: name, Err: err}
	}
	return nil
}
