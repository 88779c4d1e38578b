package fastcdc

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

func sizes(t *testing.T, r io.Reader, p Params) (list []int) {
	t.Helper()
	c, err := New(r, p)
	if err != nil {
		t.Fatal(err)
	}
	for {
		chunk, err := c.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, len(chunk))
	}
}

func noise(seed string, n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte([]byte(seed))).Read(data)
	return data
}

// TestVectors holds the cuts against those of github.com/buildbuddy-io/fastcdc2020,
// which REAPI names as a reference and which passes the test vectors that come
// with REAPI; so did this package when the test was written. Those are of a
// picture of 107 KiB, so here is noise instead.
func TestVectors(t *testing.T) {
	data := noise("sbx-action: a vector of FastCDC.", 400_000)
	for seed, want := range map[uint32][]int{
		0: {
			29361, 19356, 13414, 18281, 16591, 18371, 21134, 21939, 17609, 17161, 22965, 31359, 22888, 20326, 16483, 20936, 17531, 24601, 15037, 14657,
		},
		666: {
			17260, 23807, 16776, 16771, 19249, 19675, 18205, 16444, 16557, 17006, 17329, 17355, 20228, 18730, 21337, 29889, 22968, 17504, 20421, 22223, 10266,
		},
	} {
		p := Params{Average: 16 << 10, Seed: seed}
		if got := sizes(t, bytes.NewReader(data), p); !slices.Equal(got, want) {
			t.Errorf("seed %d: %v, want %v", seed, got, want)
		}
		if got := sizes(t, iotest.HalfReader(bytes.NewReader(data)), p); !slices.Equal(got, want) {
			t.Errorf("seed %d, read in pieces: %v, want %v", seed, got, want)
		}
	}
}

func TestChunks(t *testing.T) {
	p := Params{Average: 4 << 10}
	for _, data := range [][]byte{nil, {1}, noise("an odd number of bytes for a tes", 12_345), make([]byte, 100_000)} {
		var all []byte
		c, err := New(bytes.NewReader(data), p)
		if err != nil {
			t.Fatal(err)
		}
		for {
			chunk, err := c.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(chunk) > p.Max() || len(chunk) == 0 || len(chunk) < p.Min() && len(all)+len(chunk) < len(data) {
				t.Errorf("of %d bytes: a chunk of %d", len(data), len(chunk))
			}
			all = append(all, chunk...)
		}
		if !bytes.Equal(all, data) {
			t.Errorf("the chunks of %d bytes are not these", len(data))
		}
	}
	for _, avg := range []int{0, 1000, 512, 16 << 20, -1 << 10} {
		if _, err := New(nil, Params{Average: avg}); err == nil {
			t.Errorf("average %d was taken", avg)
		}
	}
}

// TestChangeIsLocal inserts a byte: nearly all chunks stay what they were.
func TestChangeIsLocal(t *testing.T) {
	p := Params{Average: 4 << 10}
	data := noise("what most of a file is: the same", 1<<20)
	chunks := func(data []byte) map[string]bool {
		set := map[string]bool{}
		c, _ := New(bytes.NewReader(data), p)
		for chunk, err := c.Next(); err == nil; chunk, err = c.Next() {
			set[string(chunk)] = true
		}
		return set
	}
	before, after := chunks(data), chunks(slices.Insert(slices.Clone(data), 500_000, 'x'))
	fresh := 0
	for c := range after {
		if !before[c] {
			fresh++
		}
	}
	if fresh == 0 || fresh > 3 {
		t.Errorf("%d of %d chunks are new after one byte was inserted", fresh, len(after))
	}
}
