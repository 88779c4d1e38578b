// Package fastcdc cuts blobs into chunks where their content says so, by FastCDC
// as of 2020 (Xia et al., doi 10.1109/TPDS.2020.2984632) with normalization
// level 2, as REAPI wants it: a change of a blob changes the chunks around it,
// and leaves the others alone.
package fastcdc

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// Params are what two parties must have in common to get the same chunks.
type Params struct {
	Average int    // bytes: a power of two from 1 KiB to 8 MiB
	Seed    uint32 // of the table of the rolling hash; 0: that of the paper
}

// Min is the size of the smallest chunk but for the last one.
func (p Params) Min() int { return p.Average / 4 }

// Max is the size of the largest chunk. What is smaller need not be cut.
func (p Params) Max() int { return p.Average * 4 }

// masks are those of the paper's second table, by the binary logarithm of the
// distance at which they make cuts likely.
var masks = [...]uint64{
	8: 0x0000001800035300, 9: 0x0000019000353000, 10: 0x0000590003530000, 11: 0x0000d90003530000,
	12: 0x0000d90103530000, 13: 0x0000d90303530000, 14: 0x0000d90313530000, 15: 0x0000d90f03530000,
	16: 0x0000d90303537000, 17: 0x0000d90703537000, 18: 0x0000d90707537000, 19: 0x0000d91707537000,
	20: 0x0000d91747537000, 21: 0x0000d91767537000, 22: 0x0000d93767537000, 23: 0x0000d93777537000,
	24: 0x0000d93777577000, 25: 0x0000db3777577000,
}

// gear is the table of the rolling hash: the first 64 bits of the MD5 of 64 times
// the same byte. (REAPI says "of the byte"; its test vectors, and everybody who
// has implemented it, are with the original code.)
var gear = sync.OnceValue(func() (t [256]uint64) {
	for i := range t {
		sum := md5.Sum(bytes.Repeat([]byte{byte(i)}, 64))
		t[i] = binary.BigEndian.Uint64(sum[:])
	}
	return t
})

// A Chunker gives the chunks of what it reads.
type Chunker struct {
	r             io.Reader
	min, avg, max int
	strict, eager uint64 // the masks before and after the average
	gear          [256]uint64
	buf           []byte
	begin, end    int
	exhausted     bool
}

const normalization = 2

// New returns a chunker of r.
func New(r io.Reader, p Params) (*Chunker, error) {
	if p.Average < 1<<10 || p.Average > 8<<20 || bits.OnesCount(uint(p.Average)) != 1 {
		return nil, fmt.Errorf("average chunk size %d: want a power of two from 1 KiB to 8 MiB", p.Average)
	}
	log := bits.TrailingZeros(uint(p.Average))
	c := &Chunker{
		r: r, min: p.Min(), avg: p.Average, max: p.Max(), gear: gear(),
		strict: masks[log+normalization], eager: masks[log-normalization], buf: make([]byte, 2*p.Max()),
	}
	for i := range c.gear {
		c.gear[i] ^= uint64(p.Seed)
	}
	return c, nil
}

// Next returns the next chunk, which is good until the next call, or io.EOF.
func (c *Chunker) Next() ([]byte, error) {
	if c.end-c.begin < c.max && !c.exhausted {
		c.end = copy(c.buf, c.buf[c.begin:c.end])
		c.begin = 0
		n, err := io.ReadFull(c.r, c.buf[c.end:])
		c.end += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			c.exhausted = true
		} else if err != nil {
			return nil, err
		}
	}
	if c.begin == c.end {
		return nil, io.EOF
	}
	n := c.cut(c.buf[c.begin:c.end])
	c.begin += n
	return c.buf[c.begin-n : c.begin], nil
}

// cut returns the size of the chunk that data begins with. As in the paper, two
// bytes are one step: the last one of an odd number is not looked at.
func (c *Chunker) cut(data []byte) int {
	if len(data) <= c.min {
		return len(data)
	}
	end := min(len(data), c.max)
	middle := min(c.avg, end) &^ 1
	var hash uint64
	i := c.min &^ 1
	for ; i < middle; i++ {
		hash = hash<<1 + c.gear[data[i]]
		if hash&c.strict == 0 {
			return i
		}
	}
	for ; i < end&^1; i++ {
		hash = hash<<1 + c.gear[data[i]]
		if hash&c.eager == 0 {
			return i
		}
	}
	return end
}
