package blake3

import (
	"encoding/binary"
	"math/bits"
)

// The flags of a compression.
const (
	chunkStart = 1 << iota
	chunkEnd
	parent
	root
)

// The initial chaining value.
const (
	iv0 = 0x6A09E667
	iv1 = 0xBB67AE85
	iv2 = 0x3C6EF372
	iv3 = 0xA54FF53A
	iv4 = 0x510E527F
	iv5 = 0x9B05688C
	iv6 = 0x1F83D9AB
	iv7 = 0x5BE0CD19
)

// mix is the quarter round, of two words of the message.
func mix(a, b, c, d, x, y uint32) (uint32, uint32, uint32, uint32) {
	a += b + x
	d = bits.RotateLeft32(d^a, -16)
	c += d
	b = bits.RotateLeft32(b^c, -12)
	a += b + y
	d = bits.RotateLeft32(d^a, -8)
	c += d
	b = bits.RotateLeft32(b^c, -7)
	return a, b, c, d
}

// compressWords replaces cv by the compression of a block, in portable code.
func compressWords(cv *chain, m *[16]uint32, counter uint64, size, flags uint32) {
	v0, v1, v2, v3 := cv[0], cv[1], cv[2], cv[3]
	v4, v5, v6, v7 := cv[4], cv[5], cv[6], cv[7]
	v8, v9, va, vb := uint32(iv0), uint32(iv1), uint32(iv2), uint32(iv3)
	vc, vd, ve, vf := uint32(counter), uint32(counter>>32), size, flags

	// Seven rounds, each of the columns and of the diagonals. From round to
	// round the words of the message are permuted; here, that is in the indices.
	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[0], m[1])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[2], m[3])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[4], m[5])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[6], m[7])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[8], m[9])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[10], m[11])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[12], m[13])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[14], m[15])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[2], m[6])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[3], m[10])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[7], m[0])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[4], m[13])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[1], m[11])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[12], m[5])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[9], m[14])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[15], m[8])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[3], m[4])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[10], m[12])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[13], m[2])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[7], m[14])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[6], m[5])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[9], m[0])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[11], m[15])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[8], m[1])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[10], m[7])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[12], m[9])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[14], m[3])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[13], m[15])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[4], m[0])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[11], m[2])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[5], m[8])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[1], m[6])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[12], m[13])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[9], m[11])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[15], m[10])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[14], m[8])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[7], m[2])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[5], m[3])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[0], m[1])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[6], m[4])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[9], m[14])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[11], m[5])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[8], m[12])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[15], m[1])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[13], m[3])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[0], m[10])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[2], m[6])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[4], m[7])

	v0, v4, v8, vc = mix(v0, v4, v8, vc, m[11], m[15])
	v1, v5, v9, vd = mix(v1, v5, v9, vd, m[5], m[0])
	v2, v6, va, ve = mix(v2, v6, va, ve, m[1], m[9])
	v3, v7, vb, vf = mix(v3, v7, vb, vf, m[8], m[6])
	v0, v5, va, vf = mix(v0, v5, va, vf, m[14], m[10])
	v1, v6, vb, vc = mix(v1, v6, vb, vc, m[2], m[12])
	v2, v7, v8, vd = mix(v2, v7, v8, vd, m[3], m[4])
	v3, v4, v9, ve = mix(v3, v4, v9, ve, m[7], m[13])

	*cv = chain{v0 ^ v8, v1 ^ v9, v2 ^ va, v3 ^ vb, v4 ^ vc, v5 ^ vd, v6 ^ ve, v7 ^ vf}
}

func compressPortable(cv *chain, block *[blockSize]byte, counter uint64, size, flags uint32) {
	var m [16]uint32
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	compressWords(cv, &m, counter, size, flags)
}

// joinPortable returns the parent of two nodes.
func joinPortable(pair *[2]chain, flags uint32) chain {
	var m [16]uint32
	copy(m[:8], pair[0][:])
	copy(m[8:], pair[1][:])
	cv := initial
	compressWords(&cv, &m, 0, blockSize, parent|flags)
	return cv
}
