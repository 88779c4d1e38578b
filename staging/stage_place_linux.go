package staging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A placer makes files below directories that it gets as descriptors. It uses
// single names only and follows no link. It serves one goroutine.
type placer struct {
	owner int
	chown bool // the files that we make do not belong to owner by themselves
	buf   []byte
}

func newPlacer(owner int) *placer {
	return &placer{owner: owner, chown: owner != os.Geteuid()}
}

var stagedTime = [2]unix.Timespec{{Sec: MTime}, {Sec: MTime}}

// own gives the open file fd its mode, whatever our umask is, and its owner.
func (p *placer) own(fd int, mode uint32) error {
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if p.chown {
		if err := unix.Fchown(fd, p.owner, p.owner); err != nil {
			return fmt.Errorf("chown to %d: %w", p.owner, err)
		}
	}
	return nil
}

// date sets the time of the open file fd.
func (p *placer) date(fd int) error {
	// With no path, the descriptor itself is meant: no look-up at all.
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&stagedTime)), 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("set the time: %w", e)
	}
	return nil
}

// mkdir makes and opens a directory. Where exists is allowed, it may be there.
func (p *placer) mkdir(parent int, name string, exists bool) (int, error) {
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && (!exists || !errors.Is(err, unix.EEXIST)) {
		return -1, fmt.Errorf("mkdir: %w", err)
	}
	fd, err := openRetry(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	return fd, nil
}

// finish ends work on a directory that mkdir opened: err is how it went.
func (p *placer) finish(fd int, err error) error {
	defer unix.Close(fd)
	if err == nil {
		err = p.own(fd, 0o755)
	}
	if err == nil {
		err = p.date(fd) // last: making entries changes it
	}
	return err
}

// file makes a file and calls content to write it.
func (p *placer) file(parent int, name string, exec bool, content func(fd int) error) error {
	fd, err := openRetry(parent, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer unix.Close(fd)
	if err := content(fd); err != nil {
		return err
	}
	mode := uint32(0o644)
	if exec {
		mode = 0o755
	}
	if err := p.own(fd, mode); err != nil {
		return err
	}
	return p.date(fd)
}

func (p *placer) symlink(parent int, name, target string) error {
	if err := unix.Symlinkat(target, parent, name); err != nil {
		return fmt.Errorf("symlink: %w", err)
	}
	if p.chown {
		if err := unix.Fchownat(parent, name, p.owner, p.owner, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown to %d: %w", p.owner, err)
		}
	}
	if err := unix.UtimesNanoAt(parent, name, stagedTime[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// whiteout makes what overlayfs takes for a removed name. Linux lets any user
// make it.
func whiteout(parent int, name string) error {
	if err := unix.Mknodat(parent, name, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("whiteout: %w", err)
	}
	return nil
}

func setAttr(fd int, name, value string) error {
	if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
		return fmt.Errorf("set attribute %s: %w", name, err)
	}
	return nil
}

func truncate(fd int, size int64) error { return unix.Ftruncate(fd, size) }

func openRetry(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write: %w", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

// copy copies size bytes from the start of src to dst, and finds out if src
// has fewer.
func (p *placer) copy(dst, src int, size int64) error {
	if p.buf == nil {
		p.buf = make([]byte, copyBuffer)
	}
	return copyContent(dst, src, size, p.buf)
}

const copyBuffer = 64 << 10

// copyContent copies by sharing extents, else inside the kernel, else through
// buf. Files that fit into buf go through it at once: that is faster.
func copyContent(dst, src int, size int64, buf []byte) error {
	if size > int64(len(buf)) {
		if unix.IoctlFileClone(dst, src) == nil {
			return sizeIs(dst, size)
		}
		if isSparse(dst, src) {
			return copySparse(dst, src, size)
		}
		done, err := copyRange(dst, src, size)
		if done || err != nil {
			return err
		}
	}
	for left := size; left > 0; {
		n, err := unix.Read(src, buf[:min(int64(len(buf)), left)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("%d of %d bytes: %w", size-left, size, io.ErrUnexpectedEOF)
		}
		if err := writeAll(dst, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// copyRange copies with copy_file_range, and says no where that does not work
// between the two file systems; then nothing was copied.
func copyRange(dst, src int, size int64) (bool, error) {
	for left := size; left > 0; {
		n, err := unix.CopyFileRange(src, nil, dst, nil, int(min(left, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case left == size && (n == 0 || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) ||
			errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM)):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("copy: %w", err)
		case n == 0:
			return false, fmt.Errorf("%d of %d bytes: %w", size-left, size, io.ErrUnexpectedEOF)
		}
		left -= int64(n)
	}
	return true, nil
}

// isSparse says whether src takes less than half of its size on the disk, so that it
// is worth while to look for zeros in it, and dst is empty, so that they can be left out.
func isSparse(dst, src int) bool {
	var from, to unix.Stat_t
	return unix.Fstat(src, &from) == nil && from.Size >= 1<<20 && from.Blocks*512 <= from.Size/2 &&
		unix.Fstat(dst, &to) == nil && to.Size == 0
}

// zeroRun is how many zeros, where they begin at a multiple of it, become a hole.
const zeroRun = 64 << 10

var zeros [zeroRun]byte

// copySparse copies size bytes to the empty dst, where zeros take no room. It does not
// ask where src has holes: some file systems were wrong about that.
func copySparse(dst, src int, size int64) error {
	buf := make([]byte, zeroRun)
	for at := int64(0); at < size; {
		want := buf[:min(zeroRun, size-at)]
		for n := 0; n < len(want); {
			m, err := unix.Pread(src, want[n:], at+int64(n))
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case err != nil:
				return fmt.Errorf("read: %w", err)
			case m == 0:
				return fmt.Errorf("%d of %d bytes: %w", at+int64(n), size, io.ErrUnexpectedEOF)
			}
			n += m
		}
		at += int64(len(want))
		if bytes.Equal(want, zeros[:len(want)]) {
			if _, err := unix.Seek(dst, at, io.SeekStart); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			continue
		}
		if err := writeAll(dst, want); err != nil {
			return err
		}
	}
	if err := unix.Ftruncate(dst, size); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func sizeIs(fd int, want int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Size != want {
		return fmt.Errorf("%d of %d bytes: %w", st.Size, want, io.ErrUnexpectedEOF)
	}
	return nil
}
