package blake3

import "math/bits"

// A tree is the chunks before the one that is being written.
type tree struct {
	chunks uint64

	// stack has the subtrees, from left to right. There is one for each bit set
	// in chunks, as in a binary counter, except that the last may still be in
	// two halves: only when more follows is it known that their parent is not
	// the root, which is computed differently. 2^64 bytes are 2^54 chunks.
	stack [55]chain
	depth int
}

// push adds the subtree that starts at a chunk.
func (t *tree) push(cv chain, at uint64) {
	t.merge(at)
	t.stack[t.depth] = cv
	t.depth++
}

// merge makes parents until the stack is what it must be before more follows.
func (t *tree) merge(chunks uint64) {
	for want := bits.OnesCount64(chunks); t.depth > want; t.depth-- {
		pair := (*[2]chain)(t.stack[t.depth-2:])
		pair[0] = join(pair, 0)
	}
}

// batch is how many chunks are worked on together: it fills the widest kernel
// at the leaves and in the first levels above.
const batch = 64

// addChunks adds the whole chunks of p and returns what is left, less than a
// chunk. No chunk may be the only one of the tree.
func (t *tree) addChunks(p []byte) []byte {
	var nodes [batch]chain
	for len(p) >= chunkSize {
		n := min(len(p)/chunkSize, batch)
		leaves(&nodes, p[:n*chunkSize], t.chunks)
		t.reduce(&nodes, n)
		p = p[n*chunkSize:]
	}
	return p
}

// reduce adds the n leaves in nodes to the stack, as the largest subtrees that
// they make: level by level, because the parents of a level do not depend on
// each other. A node whose sibling is not among them cannot go up: one at the
// left end is pushed at once, one at the right end when those left of it are.
// Two that are left may be halves of the whole tree, and are not joined.
func (t *tree) reduce(nodes *[batch]chain, n int) {
	type subtree struct {
		cv chain
		at uint64
	}
	var right [8]subtree
	var rights int
	first, span := t.chunks, uint64(1) // chunks per node
	t.chunks += uint64(n)

	left := 0
	for n > 2 {
		if first&span != 0 {
			t.push(nodes[left], first)
			left, n, first = left+1, n-1, first+span
		}
		if n%2 != 0 {
			n--
			right[rights] = subtree{nodes[left+n], first + uint64(n)*span}
			rights++
		}
		parents(nodes, left, n/2)
		left, n, span = 0, n/2, 2*span
	}
	for i := range n {
		t.push(nodes[left+i], first+uint64(i)*span)
	}
	for rights > 0 {
		rights--
		t.push(right[rights].cv, right[rights].at)
	}
}

// leavesOneByOne is leaves without a kernel.
func leavesOneByOne(nodes []chain, p []byte, counter uint64) {
	for i := range nodes {
		chunk := (*[chunkSize]byte)(p[i*chunkSize:])
		cv := initial
		compress(&cv, (*[blockSize]byte)(chunk[:]), counter+uint64(i), blockSize, chunkStart)
		for at := blockSize; at < chunkSize-blockSize; at += blockSize {
			compress(&cv, (*[blockSize]byte)(chunk[at:]), counter+uint64(i), blockSize, 0)
		}
		compress(&cv, (*[blockSize]byte)(chunk[chunkSize-blockSize:]), counter+uint64(i), blockSize, chunkEnd)
		nodes[i] = cv
	}
}

// parentsOneByOne is parents without a kernel.
func parentsOneByOne(nodes *[batch]chain, left, from, n int) {
	for i := from; i < n; i++ {
		nodes[i] = join((*[2]chain)(nodes[left+2*i:]), 0)
	}
}
