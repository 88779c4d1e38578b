//go:build !amd64 || purego

package blake3

func compress(cv *chain, block *[blockSize]byte, counter uint64, size, flags uint32) {
	compressPortable(cv, block, counter, size, flags)
}

func join(pair *[2]chain, flags uint32) chain { return joinPortable(pair, flags) }

// leaves computes the nodes of the chunks of p, the first of which has that
// number.
func leaves(nodes *[batch]chain, p []byte, counter uint64) {
	leavesOneByOne(nodes[:len(p)/chunkSize], p, counter)
}

// parents replaces nodes[:n] by the parents of the 2n nodes from left on.
func parents(nodes *[batch]chain, left, n int) { parentsOneByOne(nodes, left, 0, n) }
