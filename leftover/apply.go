package leftover

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Apply makes the directory dir as the root after is, as far as changes say, with
// modes, times, owners (as root), extended attributes (user.*, lists of access) and
// hard links: files appear by rename, deleted ones go first. It follows no link, in
// either. What is left out is returned, with the reason: sockets, devices, pipes,
// attributes that dir cannot have. Set-id bits and file capabilities are dropped.
// After an error, dir is somewhere between what it was and what it shall be.
func Apply(after, dir string, changes []Change) (left []string, err error) {
	from, err := os.OpenRoot(after)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	a := &applier{from: from, to: to, done: map[string]bool{}}
	for _, c := range changes {
		a.done[name(c.Path)] = c.Kind == Deleted // false: not yet
	}
	for _, c := range changes {
		if c.Kind == Deleted {
			if err := to.RemoveAll(name(c.Path)); err != nil {
				return nil, fmt.Errorf("delete %s: %w", c.Path, err)
			}
		}
	}
	for _, c := range changes {
		if c.Kind == Deleted {
			continue
		}
		if err := a.entry(name(c.Path)); err != nil {
			return a.left, fmt.Errorf("%s: %w", c.Path, err)
		}
		a.done[name(c.Path)] = true
	}
	return a.left, a.modes()
}

// name is a path for os.Root.
func name(p string) string { return cmp.Or(strings.TrimPrefix(p, "/"), ".") }

type applier struct {
	from, to *os.Root
	left     []string
	dirs     []string        // made or changed: their modes come last
	done     map[string]bool // of each change
	links    map[fileID][]string
}

func (a *applier) entry(p string) error {
	info, err := a.from.Lstat(p)
	if err != nil {
		return err
	}
	old, err := a.to.Lstat(p)
	if err == nil && (old.IsDir() != info.IsDir()) {
		if err := a.to.RemoveAll(p); err != nil {
			return err
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		if err := a.to.Mkdir(p, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		a.dirs = append(a.dirs, p)
		return nil
	case mode&fs.ModeSymlink != 0:
		target, err := a.from.Readlink(p)
		if err != nil {
			return err
		}
		return a.replace(p, func(tmp string) error { return cmp.Or(a.to.Symlink(target, tmp), a.own(tmp, info)) })
	case mode.IsRegular():
		same, err := a.linked(p, info)
		if err != nil {
			return err
		}
		if same != "" {
			return a.replace(p, func(tmp string) error { return a.to.Link(same, tmp) })
		}
		return a.replace(p, func(tmp string) error {
			return cmp.Or(a.copy(p, tmp, info), a.own(tmp, info), a.dress(p, tmp, info), a.to.Chmod(tmp, info.Mode().Perm()))
		})
	}
	a.left = append(a.left, fmt.Sprintf("/%s, which is no file", p))
	return nil
}

// replace makes something beside p, and gives it its name.
func (a *applier) replace(p string, write func(tmp string) error) error {
	tmp := path.Join(path.Dir(p), ".sbx-commit~")
	if err := a.to.RemoveAll(tmp); err != nil {
		return err
	}
	err := write(tmp)
	if err == nil {
		err = a.to.Rename(tmp, p)
	}
	// Renaming one of two names of a file to the other does nothing.
	return errors.Join(err, a.to.RemoveAll(tmp))
}

// linked is another name of the file p that dir has already, "" if there is none.
func (a *applier) linked(p string, info fs.FileInfo) (string, error) {
	id, names := identity(info)
	if names < 2 {
		return "", nil
	}
	if a.links == nil { // only who links files pays for this
		a.links = map[fileID][]string{}
		if err := a.findLinks("."); err != nil {
			return "", err
		}
	}
	for _, other := range a.links[id] {
		if done, changed := a.done[other]; other != p && (done || !changed) {
			return other, nil
		}
	}
	return "", nil
}

// findLinks notes the names of all files below p that have several.
func (a *applier) findLinks(p string) error {
	dir, err := a.from.Open(p)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := dir.ReadDir(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, e := range list {
		below := path.Join(p, e.Name())
		if e.IsDir() {
			if err := a.findLinks(below); err != nil {
				return err
			}
			continue
		}
		if !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if id, names := identity(info); names > 1 {
			a.links[id] = append(a.links[id], below)
		}
	}
	return nil
}

// dress gives to, in dir, the extended attributes and the time that p has.
func (a *applier) dress(p, to string, info fs.FileInfo) error {
	in, err := a.from.Open(p)
	if errors.Is(err, fs.ErrPermission) { // a directory that its owner has closed
		return a.to.Chtimes(to, info.ModTime(), info.ModTime())
	}
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := attributes(in)
	if err != nil {
		return err
	}
	out, err := a.to.Open(to)
	if err != nil {
		return err
	}
	defer out.Close()
	failed, err := setAttributes(out, list)
	if err != nil {
		return err
	}
	for _, f := range failed {
		a.left = append(a.left, fmt.Sprintf("the attribute %s of /%s, which it cannot have there", f, p))
	}
	return a.to.Chtimes(to, info.ModTime(), info.ModTime())
}

func (a *applier) copy(p, tmp string, info fs.FileInfo) error {
	in, err := a.from.Open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := a.to.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // for nobody else yet
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// own gives p the owner that it had in the root, where we may.
func (a *applier) own(p string, info fs.FileInfo) error {
	uid, gid, ok := owner(info)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return a.to.Lchown(p, uid, gid)
}

// modes gives directories their modes, the deepest first.
func (a *applier) modes() error {
	for i := len(a.dirs) - 1; i >= 0; i-- {
		info, err := a.from.Lstat(a.dirs[i])
		if err != nil {
			return err
		}
		dir := a.dirs[i]
		if err := cmp.Or(a.own(dir, info), a.dress(dir, dir, info), a.to.Chmod(dir, info.Mode().Perm())); err != nil {
			return err
		}
	}
	return nil
}
