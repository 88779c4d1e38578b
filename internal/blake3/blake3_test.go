package blake3

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
	"time"

	zeebo "github.com/zeebo/blake3"
)

// pattern is the input of the official test vectors.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

// simple is the digest by the text of the specification: one chunk, or two
// subtrees, of which the left is the largest that is full and leaves something.
func simple(data []byte) [32]byte {
	return simpleTree(data, 0, root).bytes()
}

func simpleTree(data []byte, counter uint64, flags uint32) chain {
	if len(data) <= chunkSize {
		cv := initial
		for start := uint32(chunkStart); ; start = 0 {
			var block [blockSize]byte
			n := copy(block[:], data)
			data = data[n:]
			if len(data) == 0 {
				compressPortable(&cv, &block, counter, uint32(n), start|chunkEnd|flags)
				return cv
			}
			compressPortable(&cv, &block, counter, uint32(n), start)
		}
	}
	left := 1
	for 2*left*chunkSize < len(data) {
		left *= 2
	}
	return joinPortable(&[2]chain{
		simpleTree(data[:left*chunkSize], counter, 0),
		simpleTree(data[left*chunkSize:], counter+uint64(left), 0),
	}, flags)
}

// lengths are those of the official test vectors, and what is near the edges of
// the kernels and of a batch.
var lengths = []int{
	0, 1, 2, 3, 4, 5, 6, 7, 8, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025,
	2048, 2049, 3072, 3073, 4096, 4097, 5120, 5121, 6144, 6145, 7168, 7169,
	8192, 8193, 16384, 31744, 102400,

	9 * chunkSize, 15*chunkSize - 1, 17 * chunkSize, 24*chunkSize + 1, 32*chunkSize + 1,
	(batch-1)*chunkSize - 1, batch*chunkSize - 1, batch * chunkSize, batch*chunkSize + 1,
	(batch+1)*chunkSize - 1, (batch + 1) * chunkSize, (batch+1)*chunkSize + 1,
	2 * batch * chunkSize, 3*batch*chunkSize + 5, 1<<20 - 1, 1 << 20, 1<<20 + 1,
}

func TestPublishedVectors(t *testing.T) {
	for _, c := range []struct {
		length int
		want   string
	}{
		{0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
		{1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
		{1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
		{102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"},
	} {
		p := pattern(c.length)
		each(t, func(t *testing.T) {
			sum := Sum256(p)
			if got := hex.EncodeToString(sum[:]); got != c.want {
				t.Errorf("%d bytes: %s, want %s", c.length, got, c.want)
			}
		})
		if sum := simple(p); hex.EncodeToString(sum[:]) != c.want {
			t.Errorf("%d bytes, one after the other: %x, want %s", c.length, sum, c.want)
		}
	}
}

// TestEveryLength compares whole and split inputs with another implementation,
// and with the specification's text.
func TestEveryLength(t *testing.T) {
	each(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, n := range lengths {
			p := pattern(n)
			check(t, p, r)
			if got, want := Sum256(p), simple(p); got != want {
				t.Errorf("%d bytes: %x, the specification says %x", n, got, want)
			}
		}
		for range 300 {
			p := make([]byte, r.IntN(1+r.IntN(300*chunkSize)))
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			check(t, p, r)
		}
	})
}

// check hashes p whole, and split in several ways with a Sum after each write,
// at any alignment.
func check(t *testing.T, p []byte, r *rand.Rand) {
	t.Helper()
	want := zeebo.Sum256(p)
	if got := Sum256(p); got != want {
		t.Fatalf("%d bytes: %x, want %x", len(p), got, want)
	}
	shift := 1 + r.IntN(63)
	moved := append(make([]byte, shift, shift+len(p)), p...)[shift:]
	if got := Sum256(moved); got != want {
		t.Fatalf("%d bytes at another place: %x, want %x", len(p), got, want)
	}
	h, other := New(), zeebo.New()
	for _, most := range []int{97, 3 * chunkSize, 17 * chunkSize, 70 * chunkSize, len(p) + 1} {
		h.Reset()
		other.Reset()
		var splits []int
		for rest := p; len(rest) > 0; {
			n := min(1+r.IntN(most), len(rest))
			if r.IntN(3) == 0 && n > chunkSize { // a round number, often
				n -= n % chunkSize
			}
			splits = append(splits, n)
			if wrote, err := h.Write(rest[:n]); wrote != n || err != nil {
				t.Fatalf("Write of %d bytes = %d, %v", n, wrote, err)
			}
			if len(p) < 8*chunkSize || r.IntN(20) == 0 { // Sum leaves everything as it is
				other.Write(rest[:n])
				if got, want := h.Sum(nil), other.Sum(nil); !bytes.Equal(got, want) {
					t.Fatalf("%d bytes written as %v: %x, want %x", len(p), splits, got, want)
				}
			} else {
				other.Write(rest[:n])
			}
			rest = rest[n:]
		}
		if got := h.Sum([]byte("sum ")); !bytes.Equal(got, append([]byte("sum "), want[:]...)) {
			t.Fatalf("%d bytes written as %v: %x, want %x", len(p), splits, got, want)
		}
	}
}

func TestHash(t *testing.T) {
	var h hash.Hash = New()
	if h.Size() != 32 || h.BlockSize() != 64 {
		t.Errorf("Size %d and BlockSize %d, want 32 and 64", h.Size(), h.BlockSize())
	}
	for _, n := range []int{0, 10, 5000, 0} {
		h.Write(pattern(n))
		want := Sum256(pattern(n))
		if got := h.Sum(nil); !bytes.Equal(got, want[:]) {
			t.Errorf("%d bytes after a Reset: %x, want %x", n, got, want)
		}
		h.Reset()
	}
}

func TestSumAllocates(t *testing.T) {
	p := pattern(100 * chunkSize)
	for _, n := range []int{0, 100, chunkSize, len(p)} {
		if got := testing.AllocsPerRun(10, func() { Sum256(p[:n]) }); got != 0 {
			t.Errorf("Sum256 of %d bytes allocates %v times", n, got)
		}
	}
	h := New()
	var sum [32]byte
	h.Write(p)
	if got := testing.AllocsPerRun(10, func() {
		h.Reset()
		h.Write(p)
		h.Sum(sum[:0])
	}); got != 0 {
		t.Errorf("a Hasher that is used again allocates %v times", got)
	}
}

func FuzzSplits(f *testing.F) {
	for _, n := range []int{0, 64, 1024, 1025, 5000, 70000} {
		f.Add(uint(n), uint64(n), []byte("abc"))
	}
	f.Fuzz(func(t *testing.T, n uint, seed uint64, text []byte) {
		p := pattern(int(n % (200 * chunkSize)))
		copy(p, text)
		each(t, func(t *testing.T) { check(t, p, rand.New(rand.NewPCG(seed, 0))) })
	})
}

// BenchmarkSum256 takes turns with another implementation: the metric "ratio" is
// our speed over its speed.
func BenchmarkSum256(b *testing.B) {
	for _, n := range []int{0, 100, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 1 << 20, 16 << 20} {
		p := pattern(n)
		sums := 1 + 1<<16/(n+64) // so many that the clock does not matter
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var ours, theirs time.Duration
			for b.Loop() {
				start := time.Now()
				for range sums {
					Sum256(p)
				}
				middle := time.Now()
				for range sums {
					zeebo.Sum256(p)
				}
				ours, theirs = ours+middle.Sub(start), theirs+time.Since(middle)
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N*sums), "ns/sum")
			b.ReportMetric(float64(b.N*sums*n)/1e6/ours.Seconds(), "MB/s")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func BenchmarkHasher(b *testing.B) {
	for _, n := range []int{100, 1000, 4 << 10, 32 << 10, 256 << 10} {
		p := pattern(n)
		b.Run(fmt.Sprintf("New/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var sum [32]byte
			for b.Loop() {
				var h hash.Hash = New()
				h.Write(p)
				h.Sum(sum[:0])
			}
		})
		b.Run(fmt.Sprintf("Write/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			h := New()
			for b.Loop() {
				h.Write(p)
			}
		})
	}
}
