package action

import (
	"context"
	"errors"
	"io"
	"os"
)

// ErrMiss says that a store does not have what it was asked for, or does not
// trust what it has.
var ErrMiss = errors.New("not in the cache")

// A Cache remembers results. Result returns an error wrapping [ErrMiss], with
// the reason, when it has none, has one that it no longer trusts, or lacks a
// blob that the result names: trees and what they name included.
type Cache interface {
	Result(ctx context.Context, key Digest) (*Result, error)
	// PutResult stores res after the blobs that it names.
	PutResult(ctx context.Context, key Digest, res *Result) error
}

// Blobs is content-addressed storage. The empty blob is always present.
// Errors about an absent or damaged blob wrap [ErrMiss].
type Blobs interface {
	// Open opens a blob for reading, at its start. The caller closes it.
	Open(ctx context.Context, d Digest) (*os.File, error)
	// Put stores the content of r under d, and refuses content that is not d's.
	Put(ctx context.Context, d Digest, r io.Reader) error
	// PutBytes stores data and returns its digest.
	PutBytes(ctx context.Context, f Function, data []byte) (Digest, error)
	// PutFile stores what src holds from its start to its end, by sharing
	// extents or copying, and returns its digest.
	PutFile(ctx context.Context, f Function, src *os.File) (Digest, error)
	// Has says whether d is present, and marks it as used.
	Has(ctx context.Context, d Digest) bool
}

// Notes are small records that can be lost: what the program has learned of an
// action, under a key of its own. The last writer wins.
type Notes interface {
	// Note returns an error wrapping [ErrMiss] when there is none.
	Note(ctx context.Context, key Digest) ([]byte, error)
	PutNote(ctx context.Context, key Digest, data []byte) error
}

// Layers keeps what staging has made of trees, by name: a file or a directory
// that later actions mount.
type Layers interface {
	// Layer returns the path of the layer called name and marks it as used,
	// or an error wrapping [ErrMiss].
	Layer(ctx context.Context, name string) (string, error)
	// PutLayer calls build with the path of something that does not exist
	// yet, publishes what build makes there, and returns its path. The blobs
	// refs are kept for as long as the layer is. If another process was
	// faster, its layer is returned.
	PutLayer(ctx context.Context, name string, refs []Digest, build func(path string) error) (string, error)
	// BlobDir is the directory, and BlobPath the path below it, with a slash
	// in front, at which a blob can be read: what backends.Root.Data and the
	// redirects of its layers need.
	BlobDir() string
	BlobPath(d Digest) string
}
