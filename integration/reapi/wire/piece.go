package wire

import (
	"slices"
	"sync"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// A Piece is a ReadResponse of ByteStream whose data are read to where they are sent
// from. Only a [Codec] can send it, which takes it: it is not to be used after that.
type Piece struct {
	buf  *[]byte
	head int
}

const dataOfRead = 10 // ReadResponse.data

// NewPiece returns a piece with n bytes of data, which are not zero.
func NewPiece(n int) *Piece {
	buf := messages.Get(protowire.SizeTag(dataOfRead) + protowire.SizeBytes(n))
	head := protowire.AppendVarint(protowire.AppendTag((*buf)[:0], dataOfRead, protowire.BytesType), uint64(n))
	return &Piece{buf: buf, head: len(head)}
}

// Data is for the caller to fill.
func (p *Piece) Data() []byte { return (*p.buf)[p.head:] }

// Free is for a piece that is not sent.
func (p *Piece) Free() {
	messages.Put(p.buf)
	p.buf = nil
}

func (p *Piece) marshal() mem.BufferSlice {
	buf := p.buf
	p.buf = nil
	return mem.BufferSlice{mem.NewBuffer(buf, messages)}
}

// A dirty pool has buffers of some sizes, in ascending order, with whatever was in
// them before: gRPC's own zeroes each, which takes as long as a read from the page
// cache. Who gets one writes all of it, or nobody else sees it.
type dirty struct {
	sizes []int
	pools []sync.Pool
}

func newDirty(sizes ...int) *dirty { return &dirty{sizes, make([]sync.Pool, len(sizes))} }

// Get implements [mem.BufferPool].
func (d *dirty) Get(n int) *[]byte {
	i, _ := slices.BinarySearch(d.sizes, n)
	if i == len(d.sizes) {
		b := make([]byte, n)
		return &b
	}
	if b, ok := d.pools[i].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, d.sizes[i])
	return &b
}

// Put implements [mem.BufferPool].
func (d *dirty) Put(b *[]byte) {
	if i, ok := slices.BinarySearch(d.sizes, cap(*b)); ok {
		d.pools[i].Put(b)
	}
}
