// Package wire is how messages that have much in them are taken off the wire and
// put onto it, faster than by generated code: data stay in the buffers into which
// the transport has read them, and digests are in a few pieces of memory.
package wire

import (
	"math/bits"
	"strings"
	"unicode/utf8"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of fields, of FindMissingBlobsRequest, of FindMissingBlobsResponse and of
// Digest.
const (
	findInstance = 1
	findDigests  = 2
	findFunction = 3

	missingDigests = 2

	digestHash = 1
	digestSize = 2
)

// Find fills m, which is empty, with what data says, for a tenth of what generated
// code takes: all digests are in a few pieces of memory. It says false where there is
// anything else in data, or anything wrong with it: then m is of no use, and generated code
// says what it is.
func Find(data mem.BufferSlice, m *repb.FindMissingBlobsRequest) bool {
	var whole strings.Builder
	whole.Grow(data.Len())
	for _, b := range data {
		whole.Write(b.ReadOnlyData())
	}
	r := reader{rest: whole.String()}
	// A digest of 32 bytes takes 70 to 72; who sends small ones pays for it.
	m.BlobDigests = make([]*repb.Digest, 0, len(r.rest)/70)
	var slab []repb.Digest
	for r.rest != "" {
		switch r.varint() {
		case protowire.EncodeTag(findInstance, protowire.BytesType):
			m.InstanceName = r.text()
		case protowire.EncodeTag(findFunction, protowire.VarintType):
			m.DigestFunction = repb.DigestFunction_Value(int32(r.varint()))
		case protowire.EncodeTag(findDigests, protowire.BytesType):
			if len(slab) == 0 {
				slab = make([]repb.Digest, min(256, 1+len(r.rest)/70))
			}
			r.digest(&slab[0])
			m.BlobDigests = append(m.BlobDigests, &slab[0])
			slab = slab[1:]
		default:
			return false
		}
		if r.bad {
			return false
		}
	}
	return true
}

// A reader reads a message from its start. It is bad from where it does not
// understand it.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) varint() (v uint64) {
	for i := range min(len(r.rest), 9) { // what has ten bytes is negative
		b := r.rest[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return v
		}
	}
	r.rest, r.bad = "", true
	return 0
}

// bytes is a field of bytes after its tag.
func (r *reader) bytes() string {
	n := r.varint()
	if n > uint64(len(r.rest)) {
		r.rest, r.bad = "", true
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *reader) text() string {
	s := r.bytes()
	if !utf8.ValidString(s) {
		r.rest, r.bad = "", true
	}
	return s
}

func (r *reader) digest(d *repb.Digest) {
	in := reader{rest: r.bytes()}
	for in.rest != "" && !in.bad {
		switch in.varint() {
		case protowire.EncodeTag(digestHash, protowire.BytesType):
			d.Hash = in.text()
		case protowire.EncodeTag(digestSize, protowire.VarintType):
			d.SizeBytes = int64(in.varint())
		default:
			in.bad = true
		}
	}
	if in.bad {
		r.rest, r.bad = "", true
	}
}

// appendFound appends the encoding of m, whose digests are valid, to b, which has
// room for it: see [sizeFound].
func appendFound(b []byte, m *repb.FindMissingBlobsResponse) []byte {
	for _, d := range m.MissingBlobDigests {
		b = protowire.AppendTag(b, missingDigests, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(sizeDigest(d)))
		if d.Hash != "" {
			b = protowire.AppendTag(b, digestHash, protowire.BytesType)
			b = protowire.AppendString(b, d.Hash)
		}
		if d.SizeBytes != 0 {
			b = protowire.AppendTag(b, digestSize, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(d.SizeBytes))
		}
	}
	return b
}

// sizeFound is how long the encoding of m is.
func sizeFound(m *repb.FindMissingBlobsResponse) (n int) {
	for _, d := range m.MissingBlobDigests {
		n += 1 + protowire.SizeBytes(sizeDigest(d))
	}
	return n
}

func sizeDigest(d *repb.Digest) (n int) {
	if d.Hash != "" {
		n += 1 + protowire.SizeBytes(len(d.Hash))
	}
	if d.SizeBytes != 0 {
		n += 1 + (bits.Len64(uint64(d.SizeBytes))+6)/7
	}
	return n
}
