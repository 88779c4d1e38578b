package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// A cursor reads an encoded message that is in several buffers. Its methods say
// false where the message ends too early, or has what they do not know: then
// whoever reads it otherwise says what is wrong with it, if anything.
type cursor struct {
	next mem.BufferSlice
	here []byte
	left int // bytes
}

func newCursor(data mem.BufferSlice) *cursor { return &cursor{next: data, left: data.Len()} }

// fill makes here have something.
func (c *cursor) fill() bool {
	for len(c.here) == 0 {
		if len(c.next) == 0 {
			return false
		}
		c.here, c.next = c.next[0].ReadOnlyData(), c.next[1:]
	}
	return true
}

func (c *cursor) varint() (v uint64, ok bool) {
	for shift := 0; shift < 64 && c.fill(); shift += 7 {
		b := c.here[0]
		c.here = c.here[1:]
		c.left--
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, shift < 63 || b <= 1
		}
	}
	return 0, false
}

// each calls f with the next n bytes, part by part.
func (c *cursor) each(n int, f func(part []byte)) bool {
	if n > c.left {
		return false
	}
	c.left -= n
	for n > 0 && c.fill() {
		part := c.here[:min(n, len(c.here)):min(n, len(c.here))]
		c.here = c.here[len(part):]
		n -= len(part)
		f(part)
	}
	return n == 0
}

// parts returns the next n bytes, where they are.
func (c *cursor) parts(n int) (list [][]byte, ok bool) {
	list = make([][]byte, 0, n/(16<<10)+2)
	ok = c.each(n, func(part []byte) { list = append(list, part) })
	return list, ok
}

// A field is one of a message. Of a varint, v is what it is; of any other, its size
// in bytes, which are the next that the cursor reads.
type field struct {
	number protowire.Number
	kind   protowire.Type
	v      uint64
}

// fields calls f for every field in the next n bytes; f reads what the field has.
func (c *cursor) fields(n int, f func(field) bool) bool {
	end := c.left - n
	if end < 0 {
		return false
	}
	for c.left > end {
		tag, ok := c.varint()
		if !ok {
			return false
		}
		one := field{}
		if one.number, one.kind = protowire.DecodeTag(tag); one.number < protowire.MinValidNumber {
			return false
		}
		switch one.kind {
		case protowire.Fixed32Type:
			one.v = 4
		case protowire.Fixed64Type:
			one.v = 8
		case protowire.VarintType, protowire.BytesType:
			if one.v, ok = c.varint(); !ok {
				return false
			}
		default: // groups
			return false
		}
		if c.left < end || one.kind != protowire.VarintType && one.v > uint64(c.left-end) || !f(one) {
			return false
		}
	}
	return c.left == end
}

// skip leaves out what a field has.
func (c *cursor) skip(f field) bool {
	return f.kind == protowire.VarintType || c.each(int(f.v), func([]byte) {})
}

// copy appends a field to b.
func (c *cursor) copy(b []byte, f field) ([]byte, bool) {
	b = protowire.AppendTag(b, f.number, f.kind)
	switch f.kind {
	case protowire.VarintType:
		return protowire.AppendVarint(b, f.v), true
	case protowire.BytesType:
		b = protowire.AppendVarint(b, f.v)
	}
	ok := c.each(int(f.v), func(part []byte) { b = append(b, part...) })
	return b, ok
}

// without returns the fields in the next n bytes, but for the one of bytes with
// that number, of which it returns where its last value is, or nil.
func (c *cursor) without(number protowire.Number, n int) (rest []byte, parts [][]byte, ok bool) {
	ok = c.fields(n, func(f field) (ok bool) {
		if f.number == number && f.kind == protowire.BytesType {
			parts, ok = c.parts(int(f.v))
		} else {
			rest, ok = c.copy(rest, f)
		}
		return ok
	})
	return rest, parts, ok
}
