package action

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"
	"unicode/utf8"
)

// The part of the protobuf wire format that our messages use: varints and
// things with a length. A writer appends; a reader accepts exactly the bytes
// that a writer writes. What a message means (sorted lists, names, paths) is
// not decided here: the check methods do that.

// The wire types.
const (
	wireVarint = 0
	wireBytes  = 2
)

const hexDigits = "0123456789abcdef"

// appendVarint appends field as a varint, unless v is 0.
func appendVarint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = append(b, byte(field<<3|wireVarint)) // every field we know is below 16
	return binary.AppendUvarint(b, v)
}

// appendInt appends field as an int32 or int64, negative ones in ten bytes.
func appendInt(b []byte, field int, v int64) []byte {
	return appendVarint(b, field, uint64(v))
}

func appendBool(b []byte, field int, v bool) []byte {
	if !v {
		return b
	}
	return append(b, byte(field<<3|wireVarint), 1)
}

// appendText appends field, unless s is empty.
func appendText[T string | []byte](b []byte, field int, s T) []byte {
	if len(s) == 0 {
		return b
	}
	return appendElement(b, field, s)
}

// appendElement appends one element of a repeated field: an empty one counts.
func appendElement[T string | []byte](b []byte, field int, s T) []byte {
	b = append(b, byte(field<<3|wireBytes))
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendElements(b []byte, field int, list []string) []byte {
	for _, s := range list {
		b = appendElement(b, field, s)
	}
	return b
}

// begin appends the start of a message in field and returns where its length
// belongs; end fills it in. Most of our messages are shorter than 128 bytes,
// so room is made for one byte, and longer ones are moved.
func begin(b []byte, field int) ([]byte, int) {
	b = append(b, byte(field<<3|wireBytes), 0)
	return b, len(b)
}

func end(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	w := binary.PutUvarint(length[:], uint64(n))
	b = append(b, length[1:w]...)
	copy(b[start+w-1:], b[start:start+n])
	copy(b[start-1:], length[:w])
	return b
}

// appendDigest appends d, unless it is zero.
func appendDigest(b []byte, field int, d Digest) []byte {
	if d.IsZero() {
		return b
	}
	sum := d.sum[:d.function.Size()]
	n := 1 + varintLen(uint64(2*len(sum))) + 2*len(sum)
	if d.size != 0 {
		n += 1 + varintLen(uint64(d.size))
	}
	b = binary.AppendUvarint(append(b, byte(field<<3|wireBytes)), uint64(n))
	b = binary.AppendUvarint(append(b, 1<<3|wireBytes), uint64(2*len(sum)))
	for _, c := range sum {
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return appendInt(b, 2, d.size)
}

func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// appendTime appends t, unless it is nil.
func appendTime(b []byte, field int, t *Timestamp) []byte {
	if t == nil {
		return b
	}
	return appendSeconds(b, field, t.Seconds, int64(t.Nanos))
}

// appendDuration appends d, also when it is 0.
func appendDuration(b []byte, field int, d time.Duration) []byte {
	return appendSeconds(b, field, int64(d/time.Second), int64(d%time.Second))
}

func appendSeconds(b []byte, field int, seconds, nanos int64) []byte {
	b, start := begin(b, field)
	b = appendInt(b, 1, seconds)
	b = appendInt(b, 2, nanos)
	return end(b, start)
}

// A reader reads one message, strictly: it stops at the first byte that a
// writer would not have written there, and err says which and why.
type reader struct {
	b        []byte // up to the end of the message
	pos      int    // counts from the start of the outermost message
	field    int    // whose tag next has read
	wire     int
	again    bool // the field before was the same one
	function Function
	err      error
}

// errTruncated says that the input ends within a value.
var errTruncated = errors.New("truncated")

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w at byte %d", err, r.pos)
	}
}

func (r *reader) failf(format string, args ...any) { r.fail(fmt.Errorf(format, args...)) }

// name puts the field's name in front of an error that just happened.
func (r *reader) name(field string) {
	if r.err != nil {
		r.err = fmt.Errorf("%s: %w", field, r.err)
	}
}

// next reads a tag. It returns false at the end and after an error.
func (r *reader) next() bool {
	if r.err != nil || r.pos == len(r.b) {
		return false
	}
	tag := r.varint()
	field := int(tag >> 3)
	switch {
	case r.err != nil:
	case field == 0 || tag>>3 > 1<<29-1:
		r.failf("impossible field number")
	case field < r.field:
		r.failf("field %d after field %d: fields must be in order", field, r.field)
	}
	r.again = field == r.field
	r.field, r.wire = field, int(tag&7)
	return r.err == nil
}

// unknown refuses a field that the message does not have.
func (r *reader) unknown() { r.failf("unknown field %d", r.field) }

// once refuses a second value of a field that is not repeated.
func (r *reader) once(wire int) bool {
	if r.again {
		r.failf("a second value")
		return false
	}
	return r.is(wire)
}

func (r *reader) is(wire int) bool {
	if r.wire != wire {
		r.failf("wire type %d, want %d", r.wire, wire)
	}
	return r.err == nil
}

// varint reads a varint in its shortest form.
func (r *reader) varint() uint64 {
	v, n := binary.Uvarint(r.b[r.pos:])
	switch {
	case n == 0:
		r.fail(errTruncated)
	case n < 0:
		r.failf("a number of more than 64 bits")
	case n != varintLen(v):
		r.failf("a number that is longer than necessary")
	default:
		r.pos += n
		return v
	}
	return 0
}

// number reads a singular number, which is not 0.
func (r *reader) number() uint64 {
	if !r.once(wireVarint) {
		return 0
	}
	v := r.varint()
	if v == 0 {
		r.failf("a default value is written out")
	}
	return v
}

func (r *reader) int64(field string) int64 {
	v := int64(r.number())
	r.name(field)
	return v
}

func (r *reader) int32(field string) int32 {
	v := int64(r.number())
	if v != int64(int32(v)) {
		r.failf("%d is not a number of 32 bits", v)
	}
	r.name(field)
	return int32(v)
}

func (r *reader) uint32(field string) uint32 {
	v := r.number()
	if v != uint64(uint32(v)) {
		r.failf("%d is not a number of 32 bits", v)
	}
	r.name(field)
	return uint32(v)
}

func (r *reader) bool(field string) bool {
	v := r.number()
	if v > 1 {
		r.failf("%d is neither true nor false", v)
	}
	r.name(field)
	return v != 0
}

// span reads a length and that many bytes, which stay the reader's.
func (r *reader) span() []byte {
	n := r.varint()
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.pos) {
		r.fail(errTruncated)
		return nil
	}
	r.pos += int(n)
	return r.b[r.pos-int(n) : r.pos]
}

// bytes reads a singular field of bytes, which is not empty.
func (r *reader) bytes(field string) []byte {
	defer r.name(field)
	return append([]byte(nil), r.filled()...)
}

// filled reads the bytes of a singular field, which is not empty.
func (r *reader) filled() []byte {
	if !r.once(wireBytes) {
		return nil
	}
	s := r.span()
	if len(s) == 0 {
		r.failf("a default value is written out")
	}
	return s
}

// text reads a singular string, which is not empty.
func (r *reader) text(field string) string {
	s := r.utf8(r.filled())
	r.name(field)
	return s
}

// element appends one element of a repeated string to list.
func (r *reader) element(field string, list *[]string) {
	i := len(*list)
	if r.is(wireBytes) {
		*list = append(*list, r.utf8(r.span()))
	}
	if r.err != nil {
		r.name(fmt.Sprintf("%s[%d]", field, i))
	}
}

func (r *reader) utf8(s []byte) string {
	if !utf8.Valid(s) {
		r.failf("%q is not UTF-8", s)
	}
	return string(s)
}

// message reads a singular message.
func (r *reader) message(field string, read func(*reader)) {
	if r.once(wireBytes) {
		r.nested(read)
	}
	r.name(field)
}

// repeated reads a message as the next element of list.
func repeated[T any](r *reader, field string, list *[]T, read func(*T, *reader)) {
	i := len(*list)
	if r.is(wireBytes) {
		*list = append(*list, *new(T))
		r.nested(func(r *reader) { read(&(*list)[i], r) })
	}
	if r.err != nil {
		r.name(fmt.Sprintf("%s[%d]", field, i))
	}
}

func (r *reader) nested(read func(*reader)) {
	inside := r.span()
	if r.err != nil {
		return
	}
	outer := *r
	r.b, r.pos, r.field = r.b[:r.pos], r.pos-len(inside), 0
	read(r)
	outer.err = r.err
	*r = outer
}

// digest reads a singular Digest.
func (r *reader) digest(field string) (d Digest) {
	r.message(field, func(r *reader) {
		var hash []byte
		var size int64
		for r.next() {
			switch r.field {
			case 1:
				hash = r.filled()
				r.name("hash")
			case 2:
				size = r.int64("size_bytes")
			default:
				r.unknown()
			}
		}
		if r.err != nil {
			return
		}
		d = Digest{function: r.function, size: size}
		switch {
		case !decodeHash(d.sum[:r.function.Size()], hash):
			r.failf("malformed hash %q: want %d lower-case hex digits", hash, 2*r.function.Size())
		case size < 0:
			r.failf("negative size %d", size)
		}
	})
	return d
}

// decodeHash says whether s is the hash sum in lower-case hex, and sets it.
func decodeHash[T string | []byte](sum []byte, s T) bool {
	if len(s) != 2*len(sum) {
		return false
	}
	var bad byte
	for i := range sum {
		hi, lo := unhex[s[2*i]], unhex[s[2*i+1]]
		sum[i] = hi<<4 | lo&15
		bad |= hi | lo
	}
	return bad < 16
}

// unhex is the value of a lower-case hex digit, and 0xff for any other byte.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(hexDigits) {
		t[hexDigits[i]] = byte(i)
	}
	return t
}()

// time reads a singular Timestamp.
func (r *reader) time(field string) *Timestamp {
	t := new(Timestamp)
	r.message(field, func(r *reader) {
		t.Seconds, t.Nanos = r.seconds()
	})
	return t
}

// duration reads a singular Duration that a time.Duration can hold: 292 years.
func (r *reader) duration(field string) (d time.Duration) {
	r.message(field, func(r *reader) {
		seconds, nanos := r.seconds()
		d = time.Duration(seconds)*time.Second + time.Duration(nanos)
		if s, n := int64(d/time.Second), int32(d%time.Second); s != seconds || n != nanos {
			r.failf("%d s and %d ns are not a duration", seconds, nanos)
		}
	})
	return d
}

func (r *reader) seconds() (seconds int64, nanos int32) {
	for r.next() {
		switch r.field {
		case 1:
			seconds = r.int64("seconds")
		case 2:
			nanos = r.int32("nanos")
		default:
			r.unknown()
		}
	}
	return seconds, nanos
}
