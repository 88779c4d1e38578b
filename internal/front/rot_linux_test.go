package front

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRot changes bytes of a blob in its place and puts its times back, as a disk may do
// it: no output gets them, nor is one that is there already taken for right.
func TestRot(t *testing.T) {
	t.Parallel()
	sizes := []int{1, 63, 64, 65, 8191, 8193, 64 << 10, 64<<10 + 1, 200_003}
	if testing.Short() {
		sizes = []int{65, 8193}
	}
	for _, size := range sizes {
		w := newWorld(t)
		good := bytes.Repeat([]byte("object\n"), size/7+1)[:size]
		w.write(w.store+"/blob", string(good))
		w.put(w.memo())
		for _, at := range []int{0, size / 2, size - 1, -1} {
			for _, there := range []string{"nothing", "the same", "another"} {
				bad := bytes.Clone(good)
				if at >= 0 {
					bad[at] ^= 0x80
				} else { // two words, in the same way
					bad[size-1] ^= 0x80
					bad[max(size-65, 0)] ^= 0x80
				}
				if bytes.Equal(bad, good) {
					continue
				}
				name := w.dir + "/a.o"
				w.must(os.RemoveAll(name))
				w.must(os.RemoveAll(w.dir + "/a.d"))
				switch there {
				case "the same":
					w.write(name, string(bad))
				case "another":
					w.write(name, strings.Repeat("x", size))
				}
				before := w.outputs()
				w.rot(bad)
				what, said := w.call()
				if after := w.outputs(); what != "unable" || said != "" || after != before {
					t.Errorf("%d bytes, another at %d, %s there: %s, said %q, outputs %.200s", size, at, there, what, said, after)
				}
				w.rot(good)
				if what, _ := w.call(); what != "answered" {
					t.Errorf("%d bytes, changed back: %s", size, what)
				}
				if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, good) {
					t.Errorf("%d bytes, changed back: %.20q, %v", size, got, err)
				}
			}
		}
	}
}

// rot gives the blob other bytes, and its old times.
func (w *world) rot(data []byte) {
	w.t.Helper()
	var st unix.Stat_t
	w.must(unix.Stat(w.store+"/blob", &st))
	w.must(os.WriteFile(w.store+"/blob", data, 0o644))
	w.must(unix.UtimesNanoAt(unix.AT_FDCWD, w.store+"/blob", []unix.Timespec{st.Atim, st.Mtim}, 0))
}

// TestTally compares Go's with that of C, which has answered in TestRot, and with itself.
func TestTally(t *testing.T) {
	t.Parallel()
	data := make([]byte, 200)
	for n := range data {
		seen := map[uint64]string{} // a memo has the size besides
		for bit := range n * 8 {
			data[bit/8] ^= 1 << (bit % 8)
			tally := newTally()
			tally.add(data[:n/64*64])
			tally.add(data[n/64*64 : n])
			what := fmt.Sprintf("%d bytes, bit %d", n, bit)
			if tally.end() == 0 || seen[tally.end()] != "" {
				t.Errorf("%s: %x, as of %s", what, tally.end(), seen[tally.end()])
			}
			seen[tally.end()] = what
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}
