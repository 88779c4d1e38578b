package leftover

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Keep copies the directory work of the root after, and everything else below it
// that the changes say was added or changed, into the directory to, which must
// not hold them yet. It returns what it could not copy: sockets and the like.
func Keep(after, work, to string, changes []Change) (left []string, err error) {
	k := &keeper{from: after, to: to}
	if err := k.tree(work); err != nil {
		return nil, err
	}
	for _, c := range changes {
		if c.Kind == Deleted || c.Path == work || strings.HasPrefix(c.Path, work+"/") {
			continue
		}
		if err := k.parents(filepath.Dir(c.Path)); err != nil {
			return nil, err
		}
		if err := k.entry(c.Path); err != nil {
			return nil, err
		}
	}
	return k.left, k.modes()
}

type keeper struct {
	from, to string
	left     []string
	dirs     []string // made, with other modes than they shall have
}

func (k *keeper) parents(p string) error {
	return os.MkdirAll(filepath.Join(k.to, p), 0o755)
}

func (k *keeper) tree(p string) error {
	if err := k.parents(filepath.Dir(p)); err != nil {
		return err
	}
	if err := k.entry(p); err != nil {
		return err
	}
	list, err := entries(filepath.Join(k.from, p))
	if err != nil {
		return err
	}
	for name, e := range list {
		below := filepath.Join(p, name)
		if e.IsDir() {
			err = k.tree(below)
		} else {
			err = k.entry(below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) entry(p string) error {
	from, to := filepath.Join(k.from, p), filepath.Join(k.to, p)
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		k.dirs = append(k.dirs, p)
		if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case info.Mode().IsRegular():
		err := copyFile(from, to, info)
		if errors.Is(err, fs.ErrPermission) {
			k.left = append(k.left, fmt.Sprintf("%s (it may not be read)", p))
			return nil
		}
		return err
	}
	k.left = append(k.left, fmt.Sprintf("%s (%s)", p, info.Mode().Type()))
	return nil
}

func copyFile(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	// Not its owner: that is a user whom the host does not have.
	err = errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close())
	return errors.Join(err, os.Chtimes(to, info.ModTime(), info.ModTime()))
}

// modes gives the directories the modes and times that they had.
func (k *keeper) modes() error {
	var errs []error
	for i := len(k.dirs) - 1; i >= 0; i-- {
		info, err := os.Lstat(filepath.Join(k.from, k.dirs[i]))
		if err != nil {
			return err
		}
		to := filepath.Join(k.to, k.dirs[i])
		errs = append(errs, os.Chmod(to, info.Mode().Perm()|0o700), os.Chtimes(to, info.ModTime(), info.ModTime()))
	}
	return errors.Join(errs...)
}
