package durable

import (
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// TempMode is the mode of what a [Temp] becomes: content that never changes.
const TempMode = 0o444

// A Temp is a file that is being written. It has no name in the directory
// where it will be seen until [Temp.Publish] or [Temp.Replace]; a process that
// dies before leaves nothing where the file system knows files without names.
type Temp struct {
	disk *Disk
	fd   int    // bare: an os.File costs as much as a system call; -1: none
	dir  string // what to call it in errors
	name string // where the file system wants one
	n    int64
}

// fixMode says that the umask of this process takes bits of TempMode away.
// Every process finds out once, from its first Temp.
var fixMode, modeKnown atomic.Bool

// ForgetUmask is for a process that has changed its umask.
func ForgetUmask() { modeKnown.Store(false) }

// Temp makes a file on the file system of the directory dir, near it. Where
// that needs a name, the error wraps [errors.ErrUnsupported]: see NamedTemp.
func (d *Disk) Temp(dir string) (*Temp, error) {
	t := &Temp{disk: d, fd: -1, dir: dir}
	err := d.change(OpCreate, dir, func() (err error) {
		t.fd, err = openTemp(dir)
		return err
	})
	return t.opened(err)
}

// NamedTemp makes a file with a name that only the caller knows, on the file
// system where it will be published.
func (d *Disk) NamedTemp(name string) (*Temp, error) {
	t := &Temp{disk: d, fd: -1, dir: name}
	err := d.change(OpCreate, name, func() (err error) {
		t.fd, err = unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, TempMode)
		if err == nil {
			t.name = name // ours to remove
		}
		return wrap("create", name, err)
	})
	return t.opened(err)
}

// ReopenTemp takes up the file that NamedTemp made and that [Temp.Leave], or the
// death of its process, has left. It is empty or has what was written, in order.
func (d *Disk) ReopenTemp(name string) (*Temp, error) {
	t := &Temp{disk: d, fd: -1, dir: name}
	if err := unix.Chmod(name, 0o600); err != nil { // TempMode is not for writing
		return nil, wrap("chmod", name, err)
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, wrap("open", name, err)
	}
	t.fd, t.name = fd, name
	st, err := FStat(fd, name)
	if err == nil {
		t.n = st.Size
		err = unix.Fchmod(fd, TempMode)
	}
	if err != nil {
		t.Close()
		return nil, wrap("open", name, err)
	}
	return t, nil
}

// Leave is Close for a file that has a name, and keeps it.
func (t *Temp) Leave() {
	t.name = ""
	t.Close()
}

func (t *Temp) opened(err error) (*Temp, error) {
	if err != nil {
		t.Close()
		return nil, err
	}
	if !modeKnown.Load() {
		st, err := FStat(t.fd, t.dir)
		if err != nil {
			t.Close()
			return nil, err
		}
		fixMode.Store(st.Mode.Perm() != TempMode)
		modeKnown.Store(true)
	}
	if fixMode.Load() {
		if err := unix.Fchmod(t.fd, TempMode); err != nil {
			t.Close()
			return nil, wrap("chmod", t.dir, err)
		}
	}
	return t, nil
}

// Write appends to the file.
func (t *Temp) Write(p []byte) (int, error) { return t.WriteParts([][]byte{p}) }

// WriteParts appends what is in several slices, in as few calls as that takes.
func (t *Temp) WriteParts(parts [][]byte) (int, error) {
	size, written := 0, 0
	for _, p := range parts {
		size += len(p)
	}
	err := t.disk.change(OpWrite, t.dir, func() error {
		rest := parts
		for at := 0; written < size; {
			for at >= len(rest[0]) {
				rest, at = rest[1:], at-len(rest[0])
			}
			n, err := writeParts(t.fd, rest, at)
			if err != nil && err != unix.EINTR {
				return wrap("write in", t.dir, err)
			}
			written += max(n, 0)
			at += max(n, 0)
		}
		return nil
	})
	t.n += int64(written)
	if err == nil && written < size {
		err = io.ErrShortWrite // a Fault that reports what it did not do
	}
	return written, err
}

// Skip appends n zeros that take no room on the disk, where the file system can do that.
func (t *Temp) Skip(n int64) error {
	return t.disk.change(OpWrite, t.dir, func() error {
		if err := unix.Ftruncate(t.fd, t.n+n); err != nil {
			return wrap("extend", t.dir, err)
		}
		if _, err := unix.Seek(t.fd, t.n+n, io.SeekStart); err != nil {
			return wrap("seek in", t.dir, err)
		}
		t.n += n
		return nil
	})
}

// Stat returns what the kernel knows of the file.
func (t *Temp) Stat() (FileInfo, error) { return FStat(t.fd, t.dir) }

// Len is the number of bytes that the file holds.
func (t *Temp) Len() int64 { return t.n }

// Clone makes the file, which must be empty, share the contents that src has
// now, without copying. An error means that the file is still empty.
func (t *Temp) Clone(src *os.File) error {
	return t.disk.change(OpClone, t.dir, func() error {
		if err := clone(t.fd, src); err != nil {
			return err
		}
		st, err := FStat(t.fd, t.dir)
		t.n = st.Size
		return err
	})
}

// Reader reads the file from its start.
func (t *Temp) Reader() io.Reader { return io.NewSectionReader(t, 0, t.n) }

// ReadAt implements [io.ReaderAt].
func (t *Temp) ReadAt(p []byte, off int64) (int, error) {
	for read := 0; ; {
		n, err := unix.Pread(t.fd, p[read:], off+int64(read))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return read, wrap("read in", t.dir, err)
		case n == 0 && read < len(p):
			return read, io.EOF
		}
		if read += n; read == len(p) {
			return read, nil
		}
	}
}

// Stamp sets the modification time, and the access time to now.
func (t *Temp) Stamp(mtime time.Time) error {
	return t.disk.change(OpStamp, t.dir, func() error { return stamp(t.fd, t.name, mtime) })
}

// Publish gives the file the name path. The error wraps [fs.ErrExist] where
// path exists; a file system that makes us use names replaces it instead.
func (t *Temp) Publish(path string) error {
	if t.name != "" {
		return t.Replace(path)
	}
	return t.disk.change(OpLink, path, func() error { return link(t.fd, path) })
}

// Replace gives the file the name path, in place of what has it now. Readers
// see the old file or the new one. When several processes replace the same
// path at once, one of them wins, and the others do not learn that they lost.
// After a failure it may be called again.
func (t *Temp) Replace(path string) error {
	if t.name != "" {
		err := t.disk.Rename(t.name, path)
		if err == nil {
			t.name = ""
		}
		return err
	}
	// A file without a name can be linked, but not over another, so it gets
	// a name of its own in between.
	draft := path + DraftInfix + RandomName()
	if err := t.Publish(draft); err != nil {
		_ = os.Remove(draft) // the link may be there in spite of the error
		return err
	}
	err := t.disk.Rename(draft, path)
	if err != nil {
		t.name = draft // for another attempt: without a name it could not have a second one
	}
	return err
}

// RandomName returns 25 letters and digits that nobody else will come upon: 128
// random bits. The generator is the runtime's, seeded by the kernel; crypto/rand
// and what it links would cost each start of the program 20 µs.
func RandomName() string {
	const digits = 36
	b := strconv.AppendUint(nil, rand.Uint64(), digits)
	b = append(b, "0000000000000"[len(b):]...)
	n := len(b)
	b = strconv.AppendUint(b, rand.Uint64(), digits)
	return string(append(b, "000000000000"[min(len(b)-n, 12):]...))
}

// DraftInfix follows the final name in the names that [Temp.Replace] uses for
// an instant. One that is old was left by a process that died.
const DraftInfix = ".new-"

// Close frees the file; if it was not published, it is gone.
func (t *Temp) Close() {
	if t.fd >= 0 {
		Close(t.fd)
		t.fd = -1
	}
	if t.name != "" {
		_ = os.Remove(t.name)
	}
}
