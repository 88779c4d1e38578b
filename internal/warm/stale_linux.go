package warm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A session's directory is removed by the last of its processes. If all of them are
// killed at once it stays, and the next session that starts removes it. So that none
// is removed that lives, each of its processes has the descriptor of a lock on it,
// which is shared; who removes it locks it alone.

const prefix = "sbx-warm-"

// makeDir makes a directory for a session, and the descriptor that says that it is
// in use.
func makeDir() (dir string, hold int, err error) {
	if dir, err = filepath.Abs(os.TempDir()); err != nil {
		return "", -1, err
	}
	sweep(dir)
	for range 100 {
		made, err := os.MkdirTemp(dir, prefix)
		if err != nil {
			return "", -1, fmt.Errorf("%w; set TMPDIR to a directory that can be written", err)
		}
		if len(made) > 90 { // the kernel's names of sockets are short
			os.Remove(made)
			return "", -1, fmt.Errorf("%s is too long a name for sockets: set TMPDIR to a shorter one", made)
		}
		if err := os.Chmod(made, 0o700); err != nil { // whatever our umask is
			os.Remove(made)
			return "", -1, err
		}
		if hold, err = lockDir(made, unix.LOCK_SH); err == nil {
			return made, hold, nil
		}
		// Somebody has taken it for one that was left, before we had locked it.
		os.Remove(made)
	}
	return "", -1, fmt.Errorf("directories in %s are removed as soon as they are made", dir)
}

// sweep removes the directories of sessions of this user in dir whose processes have
// all ended.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir) // what cannot be seen cannot be removed
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.IsDir() || strings.Trim(number, "0123456789") != "" {
			continue // not of MkdirTemp
		}
		name := filepath.Join(dir, e.Name())
		fd, err := lockDir(name, unix.LOCK_EX)
		if err != nil {
			continue
		}
		remove(fd, name)
		unix.Close(fd)
	}
}

// lockDir opens and locks a directory of a session. It fails if that is not one of
// this user's, or locked otherwise, or gone by then. Where nothing can be locked,
// nothing is removed either, and the lock is not needed.
func lockDir(name string, how int) (fd int, err error) {
	fd, err = unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Flock(fd, how|unix.LOCK_NB)
	if how == unix.LOCK_SH && err != unix.EWOULDBLOCK {
		err = nil
	}
	var st, now unix.Stat_t
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err == nil {
		err = unix.Lstat(name, &now)
	}
	if err == nil && (st.Ino != now.Ino || st.Dev != now.Dev || int(st.Uid) != os.Geteuid() || st.Mode&0o777 != 0o700) {
		err = errors.New("it is another one now, or not ours")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// remove removes the directory dir that is there as name; by that name there may be
// somebody else's by now.
func remove(dir int, name string) {
	empty(dir)
	unix.Rmdir(name) //nolint:errcheck // then it stays
}

// empty removes what a session makes in its directory, and nothing else. It looks what
// there is: to try all that there can be takes 194 calls of the kernel, in each process.
func empty(dir int) {
	// One of our own, which begins at the beginning: dir is shared with other processes.
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	list := os.NewFile(uintptr(fd), ".")
	defer list.Close()
	names, _ := list.Readdirnames(-1) // what cannot be seen stays
	for _, name := range names {
		if made(name) {
			unix.Unlinkat(dir, name, 0) //nolint:errcheck // somebody else has removed it
		}
	}
}

// made says whether a file of that name is of a session.
func made(name string) bool {
	if name == countName {
		return true
	}
	number := strings.TrimSuffix(strings.TrimSuffix(name, ".lock"), ".new")
	n, err := strconv.Atoi(number)
	return err == nil && n >= 0 && n < Most && (name == fmt.Sprint(n) || name == fmt.Sprint(n, ".lock") || name == fmt.Sprint(n, ".new"))
}
