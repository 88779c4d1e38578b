package fields

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// TestReader reads back what was written, and of each beginning of it nothing but a
// failure.
func TestReader(t *testing.T) {
	long := strings.Repeat("x", 300)
	b := binary.AppendUvarint(nil, math.MaxUint64)
	b = binary.AppendVarint(b, math.MinInt64)
	b = append(AppendText(AppendText(b, ""), long), "ab"...)
	read := func(b []byte) (*Reader, bool) {
		r := &Reader{Rest: b}
		u, v, empty, text, two := r.Uvarint(), r.Varint(), r.Text(), r.Text(), string(r.Take(2))
		return r, u == math.MaxUint64 && v == math.MinInt64 && empty == "" && text == long && two == "ab"
	}
	if r, same := read(b); !same || r.Bad || len(r.Rest) != 0 {
		t.Errorf("same %v, bad %v, %d bytes left", same, r.Bad, len(r.Rest))
	}
	for n := range b {
		if r, _ := read(b[:n]); !r.Bad {
			t.Errorf("%d of %d bytes were enough", n, len(b))
		}
	}
}

// TestReaderStaysBad: after a failure nothing is read any more.
func TestReaderStaysBad(t *testing.T) {
	for name, fail := range map[string]func(*Reader){
		"too long a text":    func(r *Reader) { r.Take(4) },
		"a number too large": func(r *Reader) { r.Rest = []byte(strings.Repeat("\xff", 11) + "\x01"); r.Uvarint() },
		"and with a sign":    func(r *Reader) { r.Rest = []byte(strings.Repeat("\xff", 11) + "\x01"); r.Varint() },
	} {
		r := &Reader{Rest: []byte{1, 1, 1}}
		fail(r)
		if r.Rest = []byte{1, 'x', 2}; !r.Bad || r.Uvarint() != 0 || r.Varint() != 0 || r.Text() != "" || r.Take(1) != nil {
			t.Errorf("%s: bad %v, and %d bytes are left of 3", name, r.Bad, len(r.Rest))
		}
	}
}
