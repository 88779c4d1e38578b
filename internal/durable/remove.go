package durable

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// flatten is the depth from which RemoveAll moves directories up instead of
// going down, so that it needs no more descriptors however deep a tree is.
const flatten = 32

// flattenLonger is how many bytes of a path below the top are too many, so that it
// stays one that the kernel takes: 32 names may have 8,160 bytes.
const flattenLonger = 1 << 10

// ErrHeld is wrapped by the error of [Disk.RemoveAll] where somebody has a file open
// whose file system, such as NFS or one of FUSE, can remove no such file, and gives it
// another name instead. When it is closed, it can be removed, or is gone.
var ErrHeld = errors.New("a file in it is open, and its file system keeps those")

// isHeld says whether a name is one that such a file is given.
func isHeld(name string) bool {
	return strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, ".fuse_hidden")
}

// RemoveAll removes path and everything below it: also from directories that
// their owner may not write, and from trees of any depth. It follows no
// symbolic link and never enters another file system. What is gone already is
// no error, so several may remove the same tree, and one that was interrupted
// can be begun again.
func (d *Disk) RemoveAll(path string) error {
	return d.change(OpRemove, path, func() error {
		st, err := Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !st.Mode.IsDir() {
			return ignoreMissing(os.Remove(path))
		}
		r := remover{dev: st.Dev, unlink: unix.Unlink}
		if err := r.emptyDir(path, path, 0); err != nil {
			return err
		}
		return ignoreMissing(os.Remove(path))
	})
}

type remover struct {
	dev    uint64 // of the tree: nothing on another one is ours to remove
	unlink func(path string) error
}

// emptyDir removes what is in dir, a directory below top. Paths are short here:
// at depth flatten, or once their path is long, directories move
// up to top.
func (r *remover) emptyDir(top, dir string, depth int) error {
	for again := false; ; {
		names, err := r.list(dir)
		if len(names) == 0 || err != nil {
			return ignoreMissing(err)
		}
		// Each attempt to remove such a file makes one of another name.
		held := !slices.ContainsFunc(names, func(name string) bool { return !isHeld(name) })
		if held && again {
			return wrap("remove", filepath.Join(dir, names[0]), ErrHeld)
		}
		again = held
		for _, name := range names {
			if err := r.remove(top, filepath.Join(dir, name), depth); err != nil {
				return err
			}
		}
	}
}

// list returns up to 1000 names, so that a directory of millions costs no
// memory. A directory that we may not read or change is made ours.
func (r *remover) list(dir string) ([]string, error) {
	if st, err := Stat(dir); err == nil && st.Mode.IsDir() && st.Mode.Perm()&0o700 != 0o700 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1000)
	if len(names) > 0 {
		err = nil // the rest comes with the next list, or its error does
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func (r *remover) remove(top, path string, depth int) error {
	err := r.unlink(path)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	// Linux says EISDIR for a directory, POSIX has EPERM.
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return wrap("remove", path, err)
	}
	st, serr := Stat(path)
	if serr != nil {
		return ignoreMissing(serr)
	}
	switch {
	case !st.Mode.IsDir():
		return wrap("remove", path, err)
	case st.Dev != r.dev:
		return wrap("remove", path, errors.New("something is mounted there: unmount it first"))
	case depth >= flatten || len(path)-len(top) > flattenLonger:
		return r.moveUp(top, path)
	}
	if err := r.emptyDir(top, path, depth+1); err != nil {
		return err
	}
	return ignoreMissing(wrap("remove", path, unix.Rmdir(path)))
}

func (r *remover) moveUp(top, path string) error {
	// Renaming a directory to another parent changes its "..", which its own
	// mode must allow.
	if err := os.Chmod(path, 0o700); err != nil {
		return ignoreMissing(err)
	}
	// A name that no other remover of the same tree takes: rename would put the
	// one directory in the place of the other's emptied one, below which that
	// other still works.
	for {
		to := filepath.Join(top, ".moved-"+strconv.FormatUint(rand.Uint64(), 36))
		err := unix.Rename(path, to)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return ignoreMissing(wrap("rename", path, err))
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
