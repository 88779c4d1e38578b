package front

import (
	"encoding/binary"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A tally finds out that bytes are not what they were, as XXH3 does it: a processor has
// instructions for two of its eight words at a time. It is no protection from anybody.
type tally struct {
	sum, key [8]uint64 // the keys are others for each piece of 64 bytes
}

const (
	tallyStir = 0x9e3779b97f4a7c15
	tallyNext = 9 * tallyStir % (1 << 64)
)

func newTally() (t tally) {
	for i := range t.key {
		t.key[i] = uint64(i+1) * tallyStir
	}
	return t
}

// add adds bytes; their number is a multiple of 64 but for the last time.
func (t *tally) add(p []byte) {
	for len(p) > 0 {
		var last [64]byte
		piece := (*[64]byte)(last[:])
		if len(p) >= 64 {
			piece, p = (*[64]byte)(p), p[64:]
		} else {
			copy(last[:], p)
			p = nil
		}
		for i := range 8 {
			w := binary.LittleEndian.Uint64(piece[8*i:])
			k := w ^ t.key[i]
			t.sum[i] += k & 0xffffffff * (k >> 32)
			t.sum[i^1] += w
			t.key[i] += tallyNext
		}
	}
}

// end is what all bytes make.
func (t *tally) end() uint64 {
	var b [64]byte
	for i, h := range t.sum {
		binary.LittleEndian.PutUint64(b[8*i:], h)
	}
	return sum(b[:])
}

// tallyOf is the tally of the file path, which has size bytes.
func tallyOf(path string, size int64) (uint64, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	t, buf := newTally(), make([]byte, min(size/64*64+64, 64<<10))
	for {
		n := 0
		for n < len(buf) {
			m, err := retry(func() (int, error) { return unix.Read(fd, buf[n:]) })
			if err != nil {
				return 0, &fs.PathError{Op: "read", Path: path, Err: err}
			}
			if m == 0 {
				break
			}
			n += m
		}
		if t.add(buf[:n]); n < len(buf) {
			return t.end(), nil
		}
	}
}

func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
