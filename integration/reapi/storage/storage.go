// Package storage serves a [cache.Store] to clients of the Remote Execution
// API: content-addressed storage, ByteStream, the action cache.
//
// Blobs are checked on their way in: nothing is stored under a digest that is
// not its own. Memory is bounded whatever clients send: a blob goes through in
// pieces of 256 KiB, and what is too large for one message is refused.
package storage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// Options of a [Server]. The zero value is one that serves any blob.
type Options struct {
	// MaxBatch is how many bytes of blobs one batch may have; 0: 4 MiB less
	// room for what is around them, so that an answer fits into the message
	// size that every gRPC client allows.
	MaxBatch int64

	// MaxBlob is the size of the largest blob that is taken; 0: any.
	MaxBlob func(instance string) int64

	// Room says, as a status, why the disk has no room for n bytes more; nil: it
	// always has. It is asked before chunks are joined, or a blob is cut into them:
	// of these bytes nobody has sent one, so that a small request could fill the
	// disk with large blobs.
	Room func(n int64) error

	// IdleUpload is how long an upload that broke off can be resumed; 0: ten
	// minutes.
	IdleUpload time.Duration

	// Uploads is a directory for uploads of large blobs, so that they can be
	// resumed after this process has died: it must be on the file system of the
	// store, and nobody else's. "": they end with the process.
	Uploads string

	// IdleStream is how long a stream of ByteStream may stand still before it is
	// ended, so that clients that neither read nor write hold no memory and no
	// files; 0: two minutes.
	IdleStream time.Duration

	// MaxDigests is how many digests all requests together may make the server
	// remember that name or find any number of them, each with 100 bytes or so; 0: 2
	// million.
	MaxDigests int64

	Log *slog.Logger
}

// DefaultMaxBatch is what Options.MaxBatch means when it is 0.
const DefaultMaxBatch = 4<<20 - 64<<10

// A Server serves a store. Its methods may be called by any number of
// goroutines.
type Server struct {
	repb.UnimplementedContentAddressableStorageServer
	repb.UnimplementedActionCacheServer
	bytestream.UnimplementedByteStreamServer

	store   *cache.Store
	opts    Options
	results *Results
	uploads uploads
	streams sync.WaitGroup // what watch has begun
	reads   atomic.Int64   // that send a blob now
	digests atomic.Int64   // that requests remember now
	making  atomic.Int64   // bytes of blobs and chunks that are made of each other now

	expanding chan struct{} // one for each upload as zstd that waits for its client

	// Streams, where not nil, serves what ByteStream names that is no blob.
	Streams Streams
}

// Streams are the logs of running actions, which ByteStream reads and writes
// by names of their own.
type Streams interface {
	// Is says whether name is one of them.
	Is(name string) bool
	Read(*bytestream.ReadRequest, bytestream.ByteStream_ReadServer) error
	Write(first *bytestream.WriteRequest, stream bytestream.ByteStream_WriteServer) error
	Committed(name string) (size int64, complete bool, err error)
}

// New returns a server of store. The caller closes it.
func New(store *cache.Store, results *Results, o Options) *Server {
	if o.MaxBatch == 0 {
		o.MaxBatch = DefaultMaxBatch
	}
	if o.IdleUpload == 0 {
		o.IdleUpload = 10 * time.Minute
	}
	if o.IdleStream == 0 {
		o.IdleStream = 2 * time.Minute
	}
	if o.MaxDigests == 0 {
		o.MaxDigests = 2 << 20
	}
	if o.MaxBlob == nil {
		o.MaxBlob = func(string) int64 { return 0 }
	}
	if o.Room == nil {
		o.Room = func(int64) error { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{store: store, opts: o, results: results, uploads: uploads{idle: o.IdleUpload, dir: o.Uploads}, expanding: make(chan struct{}, maxExpanding)}
	s.uploads.recover()
	return s
}

// Register makes srv serve s.
func (s *Server) Register(srv *grpc.Server) {
	srv.RegisterService(blobStorage(), s)
	repb.RegisterActionCacheServer(srv, s)
	bytestream.RegisterByteStreamServer(srv, s)
}

// Close ends uploads that are not complete: see Options.Uploads. All requests must have ended.
func (s *Server) Close() error {
	s.streams.Wait()
	s.uploads.close()
	return nil
}

// watch is do, unless nothing moves for too long: then the request ends, and with
// it what do waits for. What do calls moved with, counts as movement if it
// changes.
func (s *Server) watch(do func(moved *atomic.Int64) error) error {
	var moved atomic.Int64
	done := make(chan error, 1)
	s.streams.Go(func() { done <- do(&moved) })
	idle := time.NewTimer(s.opts.IdleStream)
	defer idle.Stop()
	for seen := int64(0); ; idle.Reset(s.opts.IdleStream) {
		select {
		case err := <-done:
			return err
		case <-idle.C:
		}
		now := moved.Load()
		if now == seen {
			return status.Errorf(codes.DeadlineExceeded, "nothing of this stream has moved for %v", s.opts.IdleStream)
		}
		seen = now
	}
}

// remembered counts the digests that one request makes the server remember.
type remembered struct {
	s *Server
	n int64
}

// add says, as a status, why there cannot be n more.
func (r *remembered) add(n int) error {
	r.n += int64(n)
	if r.s.digests.Add(int64(n)) > r.s.opts.MaxDigests {
		return reapi.Busy(codes.ResourceExhausted, 5*time.Second, "this and other requests have more than %d digests: try again later, or name fewer", r.s.opts.MaxDigests).Err()
	}
	return nil
}

func (r *remembered) forget() { r.s.digests.Add(-r.n) }

// fail is err as a status, and in the log if it is our own.
func (s *Server) fail(ctx context.Context, what string, err error) error {
	if errors.Is(err, cache.ErrContent) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	st := reapi.Error(err)
	if c := status.Code(st); c == codes.Internal || c == codes.ResourceExhausted {
		s.opts.Log.WarnContext(ctx, what, "err", err)
	}
	return st
}

// tooLarge says, as a status, why a blob is not taken, or nil.
func (s *Server) tooLarge(instance string, d action.Digest) error {
	if limit := s.opts.MaxBlob(instance); limit > 0 && d.Size() > limit {
		return status.Errorf(codes.InvalidArgument, "blob %v is larger than the %d bytes that are taken here", d, limit)
	}
	return nil
}
