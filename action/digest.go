package action

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/internal/blake3"
)

// A Function is a digest function. Its values are those of REAPI's
// DigestFunction.Value.
type Function uint8

// The digest functions that the store keeps side by side.
const (
	SHA256 Function = 1
	BLAKE3 Function = 9
)

// String is the function's name in digests and flags.
func (f Function) String() string {
	switch f {
	case SHA256:
		return "sha256"
	case BLAKE3:
		return "blake3"
	}
	return "function" + strconv.Itoa(int(f))
}

// ParseFunction parses a name written by [Function.String].
func ParseFunction(s string) (Function, error) {
	for _, f := range []Function{SHA256, BLAKE3} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("unknown digest function %q: use sha256 or blake3", s)
}

// New returns a hash of f. f must be SHA256 or BLAKE3.
func (f Function) New() hash.Hash {
	switch f {
	case SHA256:
		return sha256.New()
	case BLAKE3:
		return blake3.New()
	}
	panic("action: no hash for " + f.String())
}

// A Digest names a blob by its content. It is a plain value: compare with ==,
// use as a map key. The zero Digest names nothing; any other was made by
// hashing or parsing and is safe to use in a file name.
type Digest struct {
	function Function
	sum      [32]byte
	size     int64
}

// Sum returns the digest of data.
func Sum(f Function, data []byte) Digest {
	d := Digest{function: f, size: int64(len(data))}
	switch f {
	case SHA256:
		d.sum = sha256.Sum256(data)
	case BLAKE3:
		d.sum = blake3.Sum256(data)
	default:
		panic("action: no hash for " + f.String())
	}
	return d
}

// NewDigest returns the digest of a blob of size bytes whose hash by f is sum:
// for hashes that were computed elsewhere, such as by [Function.New].
func NewDigest(f Function, sum [32]byte, size int64) (Digest, error) {
	if f != SHA256 && f != BLAKE3 {
		return Digest{}, fmt.Errorf("unsupported digest function %v", f)
	}
	if size < 0 {
		return Digest{}, fmt.Errorf("negative blob size %d", size)
	}
	return Digest{f, sum, size}, nil
}

// Function is the digest function; 0 for the zero Digest.
func (d Digest) Function() Function { return d.function }

// Hash is the hash in lower-case hex, 64 characters.
func (d Digest) Hash() string { return hex.EncodeToString(d.sum[:]) }

// Bytes is the hash as it is.
func (d Digest) Bytes() [32]byte { return d.sum }

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
	b := make([]byte, 0, len("blake3:/")+2*len(d.sum)+20)
	b = append(b, d.function.String()...)
	b = append(b, ':')
	b = hex.AppendEncode(b, d.sum[:])
	b = append(b, '/')
	return string(strconv.AppendInt(b, d.size, 10))
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

// ParseHash returns the digest of a blob of size bytes whose hash by f is the
// 64 lower-case hex digits sum.
func ParseHash(f Function, sum string, size int64) (Digest, error) {
	var raw [32]byte
	if !decodeHash(&raw, sum) {
		return Digest{}, fmt.Errorf("malformed hash %q: want 64 lower-case hex digits", sum)
	}
	return NewDigest(f, raw, size)
}
