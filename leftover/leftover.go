// Package leftover says what a command did to its root: what it added, changed
// and deleted, compared with the same root before a command ran in it. It looks
// at trees in which nothing happens any more, and follows no links.
package leftover

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Kind says what happened to a path.
type Kind int

// The kinds.
const (
	Added Kind = iota
	Changed
	Deleted
)

func (k Kind) String() string { return [...]string{"added", "changed", "deleted"}[k] }

// A Change is one path that is not as it was.
type Change struct {
	Kind Kind
	Path string // absolute in the root
	What string // of what is changed: "content", "mode 0644, now 0755"
	Dir  bool
}

// Changes returns how the directory after differs from before, in the order of
// the paths. The command began at began: a file that has not been touched since
// is not read. Top-level directories that are mounted over (dev, proc, tmp) are
// empty in both.
func Changes(before, after string, began time.Time) ([]Change, error) {
	c := &comparison{before: before, after: after, began: began}
	if err := c.directory("/"); err != nil {
		return nil, err
	}
	return c.list, nil
}

type comparison struct {
	before, after string
	began         time.Time
	list          []Change
}

func (c *comparison) add(kind Kind, p, what string, dir bool) {
	c.list = append(c.list, Change{kind, p, what, dir})
}

// entries lists a directory; one that may not be read has none that we know.
func entries(dir string) (map[string]fs.DirEntry, error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	m := make(map[string]fs.DirEntry, len(list))
	for _, e := range list {
		m[e.Name()] = e
	}
	return m, nil
}

func (c *comparison) directory(p string) error {
	old, err := entries(filepath.Join(c.before, p))
	if err != nil {
		return err
	}
	now, err := entries(filepath.Join(c.after, p))
	if err != nil {
		return err
	}
	var names []string
	for name := range old {
		names = append(names, name)
	}
	for name := range now {
		if old[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := c.entry(path.Join(p, name), old[name], now[name]); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) entry(p string, old, now fs.DirEntry) error {
	switch {
	case old == nil:
		return c.all(Added, c.after, p, now)
	case now == nil:
		return c.all(Deleted, c.before, p, old)
	}
	a, err := old.Info()
	if err != nil {
		return err
	}
	b, err := now.Info()
	if err != nil {
		return err
	}
	if a.Mode().Type() != b.Mode().Type() {
		if err := c.all(Deleted, c.before, p, old); err != nil {
			return err
		}
		return c.all(Added, c.after, p, now)
	}
	what, err := c.differs(p, a, b)
	if err != nil {
		return err
	}
	if what != "" {
		c.add(Changed, p, what, b.IsDir())
	}
	if b.IsDir() {
		return c.directory(p)
	}
	return nil
}

// all adds p, and everything below it.
func (c *comparison) all(kind Kind, root, p string, e fs.DirEntry) error {
	c.add(kind, p, "", e.IsDir())
	if !e.IsDir() {
		return nil
	}
	below, err := entries(filepath.Join(root, p))
	if err != nil {
		return err
	}
	var names []string
	for name := range below {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := c.all(kind, root, path.Join(p, name), below[name]); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) differs(p string, a, b fs.FileInfo) (string, error) {
	var what []string
	if a.Mode() != b.Mode() {
		what = append(what, fmt.Sprintf("mode %04o, now %04o", a.Mode().Perm(), b.Mode().Perm()))
	}
	old, now := filepath.Join(c.before, p), filepath.Join(c.after, p)
	if (b.IsDir() || b.Mode().IsRegular()) && touched(b).After(c.began) {
		same, err := sameAttributes(old, now)
		if err != nil {
			return "", err
		}
		if !same {
			what = append(what, "extended attributes")
		}
	}
	switch {
	case b.Mode()&fs.ModeSymlink != 0:
		x, err := os.Readlink(old)
		if err != nil {
			return "", err
		}
		y, err := os.Readlink(now)
		if err != nil {
			return "", err
		}
		if x != y {
			what = append(what, fmt.Sprintf("pointed to %q, now to %q", x, y))
		}
	case b.Mode().IsRegular() && a.Size() != b.Size():
		what = append(what, fmt.Sprintf("content: %d bytes, now %d", a.Size(), b.Size()))
	case b.Mode().IsRegular() && (!a.ModTime().Equal(b.ModTime()) || touched(b).After(c.began)):
		same, err := sameContent(old, now)
		if errors.Is(err, fs.ErrPermission) {
			what = append(what, "it cannot be read any more")
		} else if err != nil {
			return "", err
		} else if !same {
			what = append(what, "content")
		}
	}
	return strings.Join(what, "; "), nil
}

func sameContent(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer y.Close()
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err1 := io.ReadFull(x, p)
		m, err2 := io.ReadFull(y, q)
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if err1 != nil || err2 != nil {
			if errors.Is(err1, io.EOF) || errors.Is(err1, io.ErrUnexpectedEOF) {
				err1 = nil
			}
			if errors.Is(err2, io.EOF) || errors.Is(err2, io.ErrUnexpectedEOF) {
				err2 = nil
			}
			return true, errors.Join(err1, err2)
		}
	}
}
