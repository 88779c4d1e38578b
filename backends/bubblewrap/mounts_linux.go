package bubblewrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/openat"
)

// mountPlace finds an existing directory of the host where the root can be
// mounted for bwrap to see, in a mount namespace of its own. So nothing has to
// be made and cleaned up; but what lies below the place is covered there, so it
// must have nothing to do with any file that is needed.
func mountPlace(program string, root *backends.Root) (string, error) {
	used := []string{program, root.Data, root.ScratchDir}
	for _, b := range root.Binds {
		used = append(used, b.Source)
	}
	for _, l := range root.Lowers {
		used = append(used, l.Dir, l.Image)
	}
	for _, path := range used {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			used = append(used, real)
		}
	}
	for _, place := range []string{"/mnt", "/media", "/srv", "/opt", "/home", "/boot", "/var/lib", "/run", "/root", "/tmp"} {
		if st, err := os.Lstat(place); err == nil && st.IsDir() && !related(place, used) {
			return place, nil
		}
	}
	return "", errors.New("there is no directory for the root's mount, such as /mnt, that has nothing to do with a directory that is shown")
}

// related says whether place is, or lies above or below, one of paths.
func related(place string, paths []string) bool {
	for _, p := range paths {
		if p != "" && (below(place, p) || below(p, place)) {
			return true
		}
	}
	return false
}

func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// constantTime is the time of staged files, and of the mount points that we
// make: 2011-11-11 11:11:11 UTC.
const constantTime = 1321009871

// mountPoints makes what is missing of the mount points below root, so that
// bwrap finds them all, and returns spec's binds with targets in which there is
// no link. For bwrap an absolute link would lead somewhere else.
func mountPoints(root *os.File, spec *backends.Spec, owner int) ([]backends.Bind, error) {
	dir := int(root.Fd())
	for _, name := range []string{"/proc", "/dev", "/tmp"} {
		if _, err := mountPoint(dir, name, true, owner); err != nil {
			return nil, fmt.Errorf("mount on %s: %w", name, err)
		}
	}
	var mounts []backends.Bind
	for _, b := range spec.Root.Binds {
		st, err := os.Stat(b.Source)
		if err != nil {
			return nil, fmt.Errorf("bind %s: %w", b.Source, err)
		}
		// One that lies in an earlier one must be there already; our root
		// does not show it.
		target, ok := inEarlier(b.Target, spec.Root.Binds, mounts)
		if !ok {
			if target, err = mountPoint(dir, b.Target, st.IsDir(), owner); err != nil {
				return nil, fmt.Errorf("bind %s on %s: %w", b.Source, b.Target, err)
			}
		}
		mounts = append(mounts, backends.Bind{Source: b.Source, Target: target})
	}
	return mounts, nil
}

// inEarlier says whether target lies in one of the binds that came before, and
// where that has been mounted.
func inEarlier(target string, binds, mounted []backends.Bind) (string, bool) {
	for i, m := range mounted {
		for _, t := range []string{binds[i].Target, m.Target} {
			if rest, ok := strings.CutPrefix(target, t+"/"); ok {
				return m.Target + "/" + rest, true
			}
		}
	}
	return target, false
}

// mountPoint makes path below root and returns it without links.
func mountPoint(root int, path string, directory bool, owner int) (string, error) {
	fd, err := openat.Open(root, path, unix.O_PATH, 0, openat.InRoot)
	if errors.Is(err, unix.ENOENT) {
		parent := filepath.Dir(path)
		if _, err := mountPoint(root, parent, true, owner); err != nil {
			return "", err
		}
		if err := makeIn(root, path, directory, owner); err != nil {
			return "", err
		}
		fd, err = openat.Open(root, path, unix.O_PATH, 0, openat.InRoot)
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	base, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root))
	if err != nil {
		return "", err
	}
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if !below(real, base) {
		return "", fmt.Errorf("%s is not below %s", real, base)
	}
	return "/" + strings.TrimPrefix(strings.TrimPrefix(real, base), "/"), nil
}

// makeIn makes a directory or an empty file, and leaves no trace in the times
// of the directory above.
func makeIn(root int, path string, directory bool, owner int) error {
	dir, err := openat.Open(root, filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY, 0, openat.InRoot)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var before unix.Stat_t
	if err := unix.Fstat(dir, &before); err != nil {
		return err
	}
	base := filepath.Base(path)
	if directory {
		err = unix.Mkdirat(dir, base, 0o755)
	} else {
		err = unix.Mknodat(dir, base, unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return err
	}
	if err := unix.Fchownat(dir, base, owner, owner, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	then := unix.Timespec{Sec: constantTime}
	if err := unix.UtimesNanoAt(dir, base, []unix.Timespec{then, then}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}, 0)
}
