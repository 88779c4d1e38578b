package cc

import (
	"bufio"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// realPath is [filepath.EvalSymlinks] by three system calls, where that makes one for
// each part of the path.
func realPath(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return filepath.EvalSymlinks(p)
	}
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return "", &fs.PathError{Op: "open", Path: p, Err: err}
	}
	if err != nil {
		return filepath.EvalSymlinks(p)
	}
	defer unix.Close(fd)
	var buf [unix.PathMax]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	real := string(buf[:max(n, 0)])
	// What is no file has a name of another kind, and what was removed, or cannot be
	// reached from here, one with something added.
	if err != nil || n == len(buf) || !filepath.IsAbs(real) || strings.HasSuffix(real, " (deleted)") {
		return filepath.EvalSymlinks(p)
	}
	return real, nil
}

// mountPoints lists where something is mounted, sorted. It is read each time: the kernel
// tells of mounts that come and go, but not of a directory above one that is renamed.
func mountPoints() ([]string, error) {
	fd, err := openRead("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	data, err := readTable(fd)
	if err != nil {
		return nil, err
	}
	return mountPointsIn(data), nil
}

// readTable reads a file of /proc, of which the kernel gives a page at a time.
func readTable(fd int) ([]byte, error) {
	data := make([]byte, 0, 16<<10)
	for {
		data = slices.Grow(data, 4096)
		n, err := unix.Pread(fd, data[len(data):cap(data)], int64(len(data)))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data, err
		}
		data = data[:len(data)+n]
	}
}

// mountPointsIn are the mount points of a mountinfo.
func mountPointsIn(data []byte) []string {
	list := make([]string, 0, bytes.Count(data, []byte("\n")))
	for line := range bytes.Lines(data) {
		for range 4 {
			_, line, _ = bytes.Cut(line, []byte(" "))
		}
		if at, _, ok := bytes.Cut(line, []byte(" ")); ok {
			list = append(list, unescapeMount(string(at)))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// unescapeMount turns the kernel's \040 into a space.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func symlinkAt(dir *os.File, name, target string) error {
	return unix.Symlinkat(target, int(dir.Fd()), name)
}

// ownerOf is the user that a directory belongs to: whoever may write there.
func ownerOf(dir string) (int, bool) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

// ownedByUs says whether a directory has our user and group.
func ownedByUs(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid()
}

// processor describes the processor that we run on, as far as a compiler can
// tell it from others.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan() && len(bytes.TrimSpace(s.Bytes())) > 0; { // the first processor
		name, value, _ := strings.Cut(s.Text(), ":")
		switch strings.TrimSpace(name) {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "flags", "cache size", "Features", "CPU implementer", "CPU architecture",
			"CPU variant", "CPU part", "CPU revision":
			lines = append(lines, strings.TrimSpace(value))
		}
	}
	return strings.Join(lines, "; ")
}

// Hold returns a file of this process alone with the data, at its start.
func Hold(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("sbx-stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "standard input")
	if _, err := f.WriteAt(data, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// GiveBack makes f, from its start, the standard input of this process.
func GiveBack(f *os.File) error {
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	return unix.Dup3(int(f.Fd()), 0, 0)
}

// IsTerminal says whether a descriptor is a terminal.
func IsTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// canWrite says whether we may write to the file, or in the directory, at p.
func canWrite(p string) bool {
	return unix.Faccessat(unix.AT_FDCWD, p, unix.W_OK, unix.AT_EACCESS) == nil
}

// columns is the width of the terminal that a descriptor is, or 0.
func columns(fd int) int {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// Circumstances is a line that is the same for processes that may do the same things:
// of one user, in the same namespaces and root directory, with as many system call filters.
func Circumstances() string {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	user, _ := os.Readlink("/proc/self/ns/user")
	mounts, _ := os.Readlink("/proc/self/ns/mnt")
	status, _ := os.ReadFile("/proc/thread-self/status") // what children of this thread inherit
	words := []string{strings.TrimSpace(string(boot)), strconv.Itoa(os.Geteuid()), user, mounts}
	var root unix.Stat_t
	if unix.Stat("/", &root) == nil {
		words = append(words, strconv.FormatUint(root.Dev, 10), strconv.FormatUint(root.Ino, 10))
	}
	for line := range strings.Lines(string(status)) {
		for _, name := range []string{"NoNewPrivs:", "Seccomp_filters:", "CapEff:"} {
			if v, ok := strings.CutPrefix(line, name); ok {
				words = append(words, strings.TrimSpace(v))
			}
		}
	}
	return strings.Join(words, " ")
}
