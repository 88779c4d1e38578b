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

// Apply makes the directory dir as the root after is, as far as changes say:
// files appear by rename, deleted ones go first. It follows no link, in either.
// Sockets, devices and pipes are left out, and returned; set-user-id bits are
// dropped. After an error, dir is
// somewhere between what it was and what it shall be.
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
	a := &applier{from: from, to: to}
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
	}
	return a.left, a.modes()
}

// name is a path for os.Root.
func name(p string) string { return cmp.Or(strings.TrimPrefix(p, "/"), ".") }

type applier struct {
	from, to *os.Root
	left     []string
	dirs     []string // made or changed: their modes come last
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
		return a.replace(p, info, func(tmp string) error { return a.to.Symlink(target, tmp) })
	case mode.IsRegular():
		return a.replace(p, info, func(tmp string) error { return a.copy(p, tmp, info) })
	}
	a.left = append(a.left, "/"+p)
	return nil
}

// replace makes something beside p, and gives it its name.
func (a *applier) replace(p string, info fs.FileInfo, write func(tmp string) error) error {
	tmp := path.Join(path.Dir(p), ".sbx-commit~")
	if err := a.to.RemoveAll(tmp); err != nil {
		return err
	}
	err := write(tmp)
	if err == nil {
		err = a.own(tmp, info)
	}
	if err == nil {
		err = a.to.Rename(tmp, p)
	}
	if err != nil {
		return errors.Join(err, a.to.RemoveAll(tmp))
	}
	return nil
}

func (a *applier) copy(p, tmp string, info fs.FileInfo) error {
	in, err := a.from.Open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := a.to.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close())
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
		if err := cmp.Or(a.own(a.dirs[i], info), a.to.Chmod(a.dirs[i], info.Mode().Perm())); err != nil {
			return err
		}
	}
	return nil
}
