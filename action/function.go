package action

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"strconv"

	"github.com/sbx-action/sbx-action/internal/blake3"
	"github.com/sbx-action/sbx-action/internal/sha256tree"
)

// A Function is a digest function. Its values are those of REAPI's
// DigestFunction.Value.
type Function uint8

// The digest functions that the store keeps side by side. Ours are SHA256 and
// BLAKE3; the others are for clients of a server.
const (
	SHA256     Function = 1
	SHA1       Function = 2
	MD5        Function = 3
	SHA384     Function = 5
	SHA512     Function = 6
	SHA256Tree Function = 8
	BLAKE3     Function = 9
	GitSHA1    Function = 10
)

// Functions returns all of them, the preferred first.
func Functions() []Function {
	return []Function{BLAKE3, SHA256, SHA256Tree, SHA384, SHA512, SHA1, GitSHA1, MD5}
}

// maxSum is the size of the longest hash, in bytes.
const maxSum = sha512.Size

// Known says whether f is one of [Functions].
func (f Function) Known() bool { return f.Size() != 0 }

// Size is the size of a hash in bytes; 0 for a function that is not known.
func (f Function) Size() int {
	switch f {
	case SHA256, BLAKE3, SHA256Tree:
		return 32
	case SHA1, GitSHA1:
		return sha1.Size
	case MD5:
		return md5.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

// String is the function's name in digests and flags.
func (f Function) String() string {
	switch f {
	case SHA256:
		return "sha256"
	case BLAKE3:
		return "blake3"
	case SHA1:
		return "sha1"
	case MD5:
		return "md5"
	case SHA384:
		return "sha384"
	case SHA512:
		return "sha512"
	case SHA256Tree:
		return "sha256tree"
	case GitSHA1:
		return "gitsha1"
	}
	return "function" + strconv.Itoa(int(f))
}

// ParseFunction parses a name written by [Function.String].
func ParseFunction(s string) (Function, error) {
	for _, f := range Functions() {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("unknown digest function %q: use sha256 or blake3", s)
}

// New returns a hash of f, which must be one that is known and not GitSHA1:
// that begins with the size, see [Function.NewSized].
func (f Function) New() hash.Hash {
	switch f {
	case SHA256:
		return sha256.New()
	case BLAKE3:
		return blake3.New()
	case SHA1:
		return sha1.New()
	case MD5:
		return md5.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	case SHA256Tree:
		return sha256tree.New()
	}
	panic("action: no hash for " + f.String())
}

// NewSized returns a hash by f of a blob of size bytes.
func (f Function) NewSized(size int64) hash.Hash {
	if f != GitSHA1 {
		return f.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

// Sum returns the digest of data.
func Sum(f Function, data []byte) Digest {
	d := Digest{function: f, size: int64(len(data))}
	switch f {
	case SHA256:
		sum := sha256.Sum256(data)
		copy(d.sum[:], sum[:])
	case BLAKE3:
		sum := blake3.Sum256(data)
		copy(d.sum[:], sum[:])
	default:
		h := f.NewSized(d.size)
		h.Write(data)
		h.Sum(d.sum[:0])
	}
	return d
}
