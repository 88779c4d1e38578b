//go:build !purego

package blake3

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// each runs the test with each kernel of this processor, and without.
func each(t *testing.T, test func(*testing.T)) {
	t.Helper()
	have := detect()
	defer widest.Store(widest.Load())
	for _, k := range []kernel{portable, avx2, avx512} {
		if k <= have {
			widest.Store(k)
			t.Run(fmt.Sprintf("%d", k), test)
		}
	}
}

func TestCompressBlock(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var cv chain
		var block [blockSize]byte
		for i := range cv {
			cv[i] = r.Uint32()
		}
		for i := range block {
			block[i] = byte(r.Uint32())
		}
		counter, size, flags := r.Uint64(), r.Uint32(), r.Uint32()
		want := cv
		compressPortable(&want, &block, counter, size, flags)
		if compress(&cv, &block, counter, size, flags); cv != want {
			t.Fatalf("%x, want %x", cv, want)
		}
	}
}

// TestCounters looks at chunks about 4 TiB into an input, where their numbers
// outgrow 32 bits in the middle of a kernel, or of the second half of one.
func TestCounters(t *testing.T) {
	p := pattern(batch * chunkSize)
	each(t, func(t *testing.T) {
		for _, first := range []uint64{1<<32 - 3, 1<<32 - 20, 1<<32 - 40} {
			for _, n := range []int{1, 2, 3, 5, 8, 9, 16, 17, 31, 32, 33, 49, batch} {
				var got [batch]chain
				leaves(&got, p[:n*chunkSize], first)
				for i := range n {
					want := simpleTree(p[i*chunkSize:][:chunkSize], first+uint64(i), 0)
					if got[i] != want {
						t.Errorf("chunk %d of %d from %d on: %x, want %x", i, n, first, got[i], want)
					}
				}
			}
		}
	})
}

func TestParents(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	each(t, func(t *testing.T) {
		for n := 1; n <= batch/2; n++ {
			for left := range min(2, batch-2*n+1) {
				var nodes, want [batch]chain
				for i := range nodes {
					for j := range nodes[i] {
						nodes[i][j] = r.Uint32()
					}
				}
				for i := range n {
					want[i] = joinPortable((*[2]chain)(nodes[left+2*i:]), 0)
				}
				if parents(&nodes, left, n); !slices.Equal(nodes[:n], want[:n]) {
					t.Errorf("%d parents from node %d on: %x, want %x", n, left, nodes[:n], want[:n])
				}
			}
		}
	})
}

// TestPatience: short inputs do not ask the processor, until there were many.
func TestPatience(t *testing.T) {
	defer widest.Store(widest.Swap(unknown))
	defer waited.Store(waited.Swap(0))
	Sum256(pattern(2 * chunkSize))
	Sum256(pattern(4 * chunkSize))
	if widest.Load() != unknown {
		t.Error("four chunks were worth asking the processor")
	}
	for range patience {
		Sum256(pattern(4 * chunkSize))
	}
	if got, want := widest.Load(), detect(); got != want {
		t.Errorf("after many chunks the kernel is %d, want %d", got, want)
	}
	widest.Store(unknown)
	waited.Store(0)
	Sum256(pattern(1 << 20))
	if got, want := widest.Load(), detect(); got != want {
		t.Errorf("after a long input the kernel is %d, want %d", got, want)
	}
}

// TestDetect compares with what Linux says of the processor.
func TestDetect(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip("only Linux tells")
	}
	flags := strings.Fields(string(info))
	want := portable
	if slices.Contains(flags, "avx2") {
		want = avx2
	}
	if slices.Contains(flags, "avx512f") {
		want = avx512
	}
	if got := detect(); got != want {
		t.Errorf("detect() = %d, /proc/cpuinfo says %d", got, want)
	}
}

func BenchmarkKernel(b *testing.B) {
	have := detect()
	p := pattern(batch * chunkSize)
	var nodes [batch]chain
	for _, k := range []kernel{portable, avx2, avx512} {
		if k > have {
			continue
		}
		widest.Store(k)
		for _, n := range []int{1, 2, 3, 4, 8, 16, 64} {
			b.Run(fmt.Sprintf("leaves/%d/%d", k, n), func(b *testing.B) {
				b.SetBytes(int64(n * chunkSize))
				for b.Loop() {
					leaves(&nodes, p[:n*chunkSize], 0)
				}
			})
			b.Run(fmt.Sprintf("parents/%d/%d", k, n/2), func(b *testing.B) {
				for b.Loop() {
					parents(&nodes, 0, n/2)
				}
			})
		}
	}
	widest.Store(have)
}
