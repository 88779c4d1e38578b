package cc

import (
	"bytes"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// A descriptor is an open file. An os.File costs as much as six system calls, to
// find out that nobody has to wait for it.
type descriptor int

// openRead opens a regular file; what has become a FIFO, without waiting.
func openRead(name string) (fd int, err error) {
	for {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// ReadAt implements [io.ReaderAt].
func (d descriptor) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(d), p[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// namesIn returns the names in the directory fd: all, or more than most.
func namesIn(fd, most int) (names []string, err error) {
	var buf [8 << 10]byte
	for len(names) <= most {
		n, err := unix.ReadDirent(fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	return names, nil
}

// An outputRoom holds a small output and a byte more, by which it is seen to end.
type outputRoom [128<<10 + 1]byte

var outputRooms = sync.Pool{New: func() any { return new(outputRoom) }}

// keep adds the output f to the store. What is to be known of its content is asked of r: so
// it is what was kept, and is read once where it is small. It is valid until done is called.
func (k *collector) keep(f *os.File, size int64) (d action.Digest, r io.ReaderAt, done func(), err error) {
	blobs, function := k.s.parts.Blobs, k.s.parts.Function
	if size < int64(len(outputRoom{})) {
		room := outputRooms.Get().(*outputRoom)
		done = func() { outputRooms.Put(room) }
		n, err := descriptor(f.Fd()).ReadAt(room[:size+1], 0)
		if err == io.EOF {
			d, err = blobs.PutBytes(k.ctx, function, room[:n])
			return d, bytes.NewReader(room[:n]), done, err
		}
		done()
	}
	d, err = blobs.PutFile(k.ctx, function, f) // which says what is wrong
	return d, f, func() {}, err
}
