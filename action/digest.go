package action

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// A Digest names a blob by its content. It is a plain value: compare with ==,
// use as a map key. The zero Digest names nothing; any other was made by
// hashing or parsing and is safe to use in a file name.
type Digest struct {
	function Function
	sum      [maxSum]byte // as many bytes as the function has; the rest is 0
	size     int64
}

// NewDigest returns the digest of a blob of size bytes whose hash by f is sum:
// for hashes that were computed elsewhere, such as by [Function.New]. f is a
// function of 32 bytes.
func NewDigest(f Function, sum [32]byte, size int64) (Digest, error) {
	return DigestOf(f, sum[:], size)
}

// DigestOf is NewDigest for a function of any length.
func DigestOf(f Function, sum []byte, size int64) (Digest, error) {
	if !f.Known() {
		return Digest{}, fmt.Errorf("unsupported digest function %v", f)
	}
	if len(sum) != f.Size() {
		return Digest{}, fmt.Errorf("a hash of %d bytes, but %v has %d", len(sum), f, f.Size())
	}
	if size < 0 {
		return Digest{}, fmt.Errorf("negative blob size %d", size)
	}
	d := Digest{function: f, size: size}
	copy(d.sum[:], sum)
	return d, nil
}

// Shortened returns a digest of which no more is known than [Digest.Bytes]: of
// SHA384 and SHA512, half of the hash. That is enough to name a file.
func Shortened(f Function, sum [32]byte, size int64) (Digest, error) {
	if !f.Known() || size < 0 {
		return Digest{}, fmt.Errorf("unsupported digest function %v, or negative size %d", f, size)
	}
	d := Digest{function: f, size: size}
	copy(d.sum[:], sum[:])
	return d, nil
}

// Function is the digest function; 0 for the zero Digest.
func (d Digest) Function() Function { return d.function }

// Hash is the hash in lower-case hex: 64 characters, for SHA256 and BLAKE3.
func (d Digest) Hash() string { return hex.EncodeToString(d.sum[:d.function.Size()]) }

// Bytes is the hash as it is: followed by zeros where the function has less
// than 32 bytes, and the first 32 bytes where it has more.
func (d Digest) Bytes() [32]byte { return [32]byte(d.sum[:]) }

// AppendHash appends the hash to b.
func (d Digest) AppendHash(b []byte) []byte { return append(b, d.sum[:d.function.Size()]...) }

// Size is the size of the blob in bytes.
func (d Digest) Size() int64 { return d.size }

// IsZero says that d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// IsEmpty says that d names the blob of no bytes, which is always present.
func (d Digest) IsEmpty() bool { return d.size == 0 && d.function != 0 }

// String is "function:hash/size", as in "blake3:af13…/42".
func (d Digest) String() string {
	if d.IsZero() {
		return "no digest"
	}
	return string(d.Append(make([]byte, 0, len("sha256tree:/")+2*len(d.sum)+20)))
}

// Append appends what String says of a Digest that is not zero.
func (d Digest) Append(b []byte) []byte {
	b = append(b, d.function.String()...)
	b = append(b, ':')
	b = hex.AppendEncode(b, d.sum[:d.function.Size()])
	b = append(b, '/')
	return strconv.AppendInt(b, d.size, 10)
}

// ParseDigest parses the form written by [Digest.String], and no other
// spelling of it.
func ParseDigest(s string) (Digest, error) {
	name, rest, ok1 := strings.Cut(s, ":")
	sum, size, ok2 := strings.Cut(rest, "/")
	if !ok1 || !ok2 {
		return Digest{}, fmt.Errorf("malformed digest %q: want FUNCTION:HASH/SIZE", s)
	}
	f, err := ParseFunction(name)
	if err != nil {
		return Digest{}, fmt.Errorf("malformed digest %q: %w", s, err)
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != size {
		return Digest{}, fmt.Errorf("malformed digest %q: size %q is not a plain decimal number", s, size)
	}
	d, err := ParseHash(f, sum, n)
	if err != nil {
		return Digest{}, fmt.Errorf("malformed digest %q: %w", s, err)
	}
	return d, nil
}

// ParseHash returns the digest of a blob of size bytes whose hash by f is sum,
// in lower-case hex digits.
func ParseHash(f Function, sum string, size int64) (Digest, error) {
	d := Digest{function: f, size: size}
	switch {
	case !f.Known():
		return Digest{}, fmt.Errorf("unsupported digest function %v", f)
	case !decodeHash(d.sum[:f.Size()], sum):
		return Digest{}, fmt.Errorf("malformed hash %q: want %d lower-case hex digits", sum, 2*f.Size())
	case size < 0:
		return Digest{}, fmt.Errorf("negative blob size %d", size)
	}
	return d, nil
}
