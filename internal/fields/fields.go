// Package fields reads and writes numbers and texts that stand one after the other:
// what the notes of packages history and staging are made of. A number is a varint,
// and a text is its length and then its bytes.
package fields

import "encoding/binary"

// A Reader reads what Rest begins with. After the first failure Bad is set, and all
// that it reads is zero, so a caller asks once, at the end.
type Reader struct {
	Rest []byte // what has not been read
	Bad  bool
}

// Take returns the next n bytes, which are those of Rest.
func (r *Reader) Take(n uint64) []byte {
	if r.Bad || n > uint64(len(r.Rest)) {
		r.Bad = true
		return nil
	}
	p := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return p
}

// Uvarint reads a number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if r.Bad || n <= 0 {
		r.Bad = true
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint reads a number that may be negative.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if r.Bad || n <= 0 {
		r.Bad = true
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Text reads a text.
func (r *Reader) Text() string { return string(r.Take(r.Uvarint())) }

// AppendText appends a text to b, as [Reader.Text] reads it.
func AppendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
