//go:build !purego

package blake3

import (
	"sync/atomic"
	"unsafe"
)

// A kernel is how many inputs are hashed at once.
type kernel = uint32

const (
	unknown  kernel = 0
	portable kernel = 1
	avx2     kernel = 8
	avx512   kernel = 16
)

// widest is the widest kernel of this processor, once somebody has asked.
var widest atomic.Uint32

// patience is how many inputs are hashed one after the other before the
// processor is asked. In a virtual machine each CPUID instruction is a trip to
// the hypervisor, of 4 µs where we measured, and to ask takes three: as long as
// 15 chunks. A program that hashes a few small files had better not ask.
const patience = 16

// waited is how many inputs a kernel could have hashed meanwhile.
var waited atomic.Uint32

// choose returns the kernel for n inputs.
func choose(n int) kernel {
	k := widest.Load()
	if k == unknown {
		if waited.Add(uint32(n)) < patience {
			return portable
		}
		k = detect()
		widest.Store(k)
	}
	return k
}

// detect asks the processor.
func detect() kernel {
	if last, _, _ := cpuid(0); last < 7 {
		return portable
	}
	const osxsave, avx = 1 << 27, 1 << 28
	if _, _, ecx := cpuid(1); ecx&osxsave == 0 || ecx&avx == 0 {
		return portable
	}
	// What the system saves and restores: SSE and AVX, and for AVX-512 the
	// masks, the upper halves and the upper registers.
	const ymm = 1<<1 | 1<<2
	const zmm = ymm | 1<<5 | 1<<6 | 1<<7
	const hasAVX2, hasAVX512F = 1 << 5, 1 << 16
	_, ebx, _ := cpuid(7)
	switch saved := xgetbv(); {
	case saved&zmm == zmm && ebx&hasAVX2 != 0 && ebx&hasAVX512F != 0:
		return avx512
	case saved&ymm == ymm && ebx&hasAVX2 != 0:
		return avx2
	}
	return portable
}

// lanes says what is in the lanes of a kernel: where their inputs start, in
// bytes from the first, and the halves of their counters.
type lanes struct {
	offset    [16]uint64
	low, high [16]uint32
}

// words is room in which hash32 has 32 blocks by their words, and 8 registers, aligned.
type words [2*16*64 + 8*64 + 63]byte

// marks are the flags of a lane's compressions: all, the first, and the last.
type marks struct{ all, first, last uint32 }

//go:noescape
func hash16(out, in unsafe.Pointer, l *lanes, blocks int, m marks)

//go:noescape
func hash32(out, in unsafe.Pointer, l *[2]lanes, room *words, blocks int, m marks)

//go:noescape
func hash8(out, in unsafe.Pointer, l *lanes, blocks int, m marks)

//go:noescape
func compressBlock(cv *chain, block unsafe.Pointer, counter uint64, size, flags uint32)

func cpuid(leaf uint32) (eax, ebx, ecx uint32)

func xgetbv() uint32

// worth is for how few inputs a kernel is quicker than one after the other.
const worth = 3

func compress(cv *chain, block *[blockSize]byte, counter uint64, size, flags uint32) {
	compressBlock(cv, unsafe.Pointer(block), counter, size, flags)
}

func join(pair *[2]chain, flags uint32) chain {
	cv := initial
	compressBlock(&cv, unsafe.Pointer(pair), 0, blockSize, parent|flags)
	return cv
}

// leaves computes the nodes of the chunks of p, the first of which has that
// number.
func leaves(nodes *[batch]chain, p []byte, counter uint64) {
	n, done := len(p)/chunkSize, 0
	if n >= 2*int(avx512) && choose(n) == avx512 {
		done = leavesByPairs(nodes, p, counter)
	}
	for n-done >= worth {
		k := choose(n - done)
		if k == portable {
			break
		}
		some := min(n-done, int(k))
		var l lanes
		for i := range k {
			own := min(int(i), some-1) // a lane without work repeats the last
			number := counter + uint64(done+own)
			l.offset[i] = uint64(own) * chunkSize
			l.low[i], l.high[i] = uint32(number), uint32(number>>32)
		}
		in := unsafe.Pointer(&p[done*chunkSize])
		run(k, &nodes[done], in, &l, chunkSize/blockSize, marks{first: chunkStart, last: chunkEnd})
		done += some
	}
	leavesOneByOne(nodes[done:n], p[done*chunkSize:], counter+uint64(done))
}

// leavesByPairs is leaves for the chunks of p that make pairs of the widest kernel's
// inputs. It returns how many they are.
func leavesByPairs(nodes *[batch]chain, p []byte, counter uint64) (done int) {
	const some = 2 * int(avx512)
	var l [2]lanes
	var room words
	for i := range some {
		l[i/16].offset[i%16] = uint64(i) * chunkSize
	}
	for ; len(p)/chunkSize-done >= some; done += some {
		for i := range some {
			number := counter + uint64(done+i)
			l[i/16].low[i%16], l[i/16].high[i%16] = uint32(number), uint32(number>>32)
		}
		in := unsafe.Pointer(&p[done*chunkSize])
		hash32(unsafe.Pointer(&nodes[done]), in, &l, &room, chunkSize/blockSize, marks{first: chunkStart, last: chunkEnd})
	}
	return done
}

// parents replaces nodes[:n] by the parents of the 2n nodes from left on. What
// a kernel writes beyond is never what it still has to read.
func parents(nodes *[batch]chain, left, n int) {
	done := 0
	for n-done >= worth {
		k := choose(n - done)
		if k == portable {
			break
		}
		some := min(n-done, int(k))
		var l lanes
		for i := range k {
			l.offset[i] = uint64(min(int(i), some-1)) * blockSize
		}
		in := unsafe.Pointer(&nodes[left+2*done])
		run(k, &nodes[done], in, &l, 1, marks{all: parent})
		done += some
	}
	parentsOneByOne(nodes, left, done, n)
}

// run writes the chaining values of k inputs.
func run(k kernel, out *chain, in unsafe.Pointer, l *lanes, blocks int, m marks) {
	if k == avx512 {
		hash16(unsafe.Pointer(out), in, l, blocks, m)
		return
	}
	hash8(unsafe.Pointer(out), in, l, blocks, m)
}
