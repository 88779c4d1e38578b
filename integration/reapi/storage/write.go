package storage

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

type writeStream = bytestream.ByteStream_WriteServer

// Write implements the RPC. An upload whose stream breaks off is kept for a
// while, and goes on where QueryWriteStatus says.
func (s *Server) Write(stream writeStream) error {
	first := new(wire.WriteRequest)
	err := stream.RecvMsg(first)
	if err == io.EOF {
		return status.Error(codes.InvalidArgument, "a write without a request")
	}
	if err != nil {
		return err
	}
	if err := sameName(stream, first.ResourceName); err != nil {
		return err
	}
	if s.Streams != nil && s.Streams.Is(first.ResourceName) {
		return s.Streams.Write(first.Whole(), stream)
	}
	r, err := reapi.ParseWrite(first.ResourceName)
	if err != nil {
		return err
	}
	if err := s.tooLarge(r.Instance, r.Digest); err != nil {
		return err
	}
	if first.FinishWrite { // everything is here
		return s.write(stream, first, r, new(atomic.Int64))
	}
	return s.watch(func(moved *atomic.Int64) error { return s.write(stream, first, r, moved) })
}

// write stores a blob of which the first part has come.
func (s *Server) write(stream writeStream, first *wire.WriteRequest, r reapi.Resource, moved *atomic.Int64) error {
	defer first.Free()
	ctx := stream.Context()
	if s.store.Holds(ctx, r.Digest) {
		return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: whole(r)})
	}
	if done, err := s.writeSmall(ctx, first, r); err != nil {
		return err
	} else if done {
		return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: whole(r)})
	}
	if r.Compressor != repb.Compressor_IDENTITY && !first.FinishWrite { // what is here as a whole waits for nobody
		if err := s.expand(ctx); err != nil {
			return err
		}
		defer func() { <-s.expanding }()
	}
	u, err := s.uploads.take(first.ResourceName)
	if err != nil {
		return err
	}
	if u.w == nil {
		if u.w, err = s.writer(ctx, first, r); err != nil {
			s.uploads.done(first.ResourceName)
			return s.fail(ctx, "take an upload up", err)
		}
		u.size.Store(u.w.Size())
	}
	u.w.SetContext(ctx)
	if first.WriteOffset != u.w.Size() {
		// What was said before is still true: the client can ask and resume.
		defer s.uploads.keep(first.ResourceName, u)
		return status.Errorf(codes.OutOfRange, "write_offset %d: this upload has %d bytes so far; QueryWriteStatus says so, too", first.WriteOffset, u.w.Size())
	}
	in := &requests{stream: stream, upload: u, req: first, name: first.ResourceName, at: first.WriteOffset, moved: moved}
	defer in.done()
	if err = s.receive(u.w, in, r); err == nil && u.w.Size() != r.Digest.Size() {
		err = status.Errorf(codes.InvalidArgument, "blob %v: the upload ended after %d bytes", r.Digest, u.w.Size())
	}
	if err == nil {
		err = u.w.CommitAs(r.Digest)
	}
	if err != nil {
		return s.broken(ctx, first.ResourceName, u, in, err)
	}
	s.uploads.done(first.ResourceName)
	// Of a compressed blob: the bytes that were sent.
	return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: in.at})
}

// writeSmall stores a small blob that has come as a whole, without what it takes to
// receive one in pieces, and says whether it was one.
func (s *Server) writeSmall(ctx context.Context, first *wire.WriteRequest, r reapi.Resource) (bool, error) {
	if !s.store.Packs(r.Digest) || r.Compressor != repb.Compressor_IDENTITY || !first.FinishWrite ||
		first.WriteOffset != 0 || first.Len() != r.Digest.Size() || s.uploads.has(first.ResourceName) {
		return false, nil
	}
	b, err := cache.Check(r.Digest, first.Whole().Data)
	if err == nil {
		err = s.store.PutChecked(ctx, b)
	}
	return true, s.fail(ctx, "store a blob", err)
}

// keepFrom is the size from which a blob's upload outlives the server: below it,
// sending it again costs less than a name for its file.
const keepFrom = 8 << 20

// writer begins an upload, or takes up one of an earlier server.
func (s *Server) writer(ctx context.Context, first *wire.WriteRequest, r reapi.Resource) (*cache.Writer, error) {
	if path := s.uploads.path(first.ResourceName); path != "" && r.Digest.Size() >= keepFrom && !first.FinishWrite {
		return s.store.NewKeptWriter(ctx, r.Digest.Function(), r.Digest.Size(), path)
	}
	return s.store.NewWriterOf(ctx, r.Digest), nil
}

// broken keeps an upload whose client is gone, and ends any other.
func (s *Server) broken(ctx context.Context, name string, u *upload, in *requests, err error) error {
	if in.lost {
		s.uploads.keep(name, u)
		return reapi.Error(err)
	}
	u.w.Abort()
	s.uploads.done(name)
	if errors.Is(err, errPresent) {
		return in.present()
	}
	return s.fail(ctx, "store a blob", err)
}

// whole is the committed size of a blob that was there before.
func whole(r reapi.Resource) int64 {
	if r.Compressor != repb.Compressor_IDENTITY {
		return -1
	}
	return r.Digest.Size()
}

// receive writes to w what in gives.
func (s *Server) receive(w *cache.Writer, in *requests, r reapi.Resource) error {
	limited := &bounded{w: w, size: &in.upload.size, left: r.Digest.Size() - w.Size(), d: r.Digest}
	// Somebody else may be faster: then the rest need not come.
	in.enough = func() bool { return r.Digest.Size() > piece && s.store.Has(in.stream.Context(), r.Digest) }
	in.whole = whole(r)
	if r.Compressor == repb.Compressor_IDENTITY {
		return in.each(limited.writeParts)
	}
	d, err := squeeze.NewReader(in)
	if err != nil {
		return in.cause(err)
	}
	defer d.Close()
	block := pieces.Get().(*[piece]byte)
	defer pieces.Put(block)
	_, err = io.CopyBuffer(limited, d, block[:])
	return in.cause(err)
}

// Uploads as zstd wait for expandWait until there are fewer than maxExpanding, whose
// clients may take their time: each has memory for the window that the client
// chose, of up to 8 MiB.
const (
	maxExpanding = 128
	expandWait   = 3 * time.Second
)

// expand waits for one of the places in s.expanding.
func (s *Server) expand(ctx context.Context) error {
	select {
	case s.expanding <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(expandWait)
	defer timer.Stop()
	select {
	case s.expanding <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return reapi.Busy(codes.ResourceExhausted, expandWait, "%d clients are sending zstd, and no more can at a time: try again, or send the blob as it is", maxExpanding).Err()
	}
}

// A bounded writer refuses more than a blob has.
type bounded struct {
	w    *cache.Writer
	size *atomic.Int64
	left int64
	d    action.Digest
}

func (b *bounded) writeParts(parts [][]byte) error {
	for _, p := range parts {
		b.left -= int64(len(p))
	}
	if b.left < 0 {
		return status.Errorf(codes.InvalidArgument, "blob %v: more data than it has", b.d)
	}
	_, err := b.w.WriteParts(parts)
	b.size.Store(b.w.Size())
	return err
}

func (b *bounded) Write(p []byte) (int, error) {
	if err := b.writeParts([][]byte{p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// errPresent says that the blob came from elsewhere meanwhile.
var errPresent = errors.New("present already")

// requests are the messages of a Write.
type requests struct {
	stream writeStream
	upload *upload
	req    *wire.WriteRequest // the one at hand, whose data is in use
	begun  bool               // req was looked at
	rest   [][]byte           // what Read has not returned of it
	name   string
	at     int64 // the offset that the next one must have
	moved  *atomic.Int64
	enough func() bool
	whole  int64
	ended  bool
	lost   bool  // the stream broke off
	err    error // what ended it, but for its end
}

// next returns the data of the next message, which are there until next or done is
// called, or io.EOF after the last one.
func (r *requests) next() ([][]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	data, err := r.receive()
	if err != nil && err != io.EOF {
		r.err = err
	}
	return data, err
}

func (r *requests) receive() ([][]byte, error) {
	if r.begun {
		r.done()
		if r.ended {
			return nil, io.EOF
		}
		r.req = new(wire.WriteRequest)
		err := r.stream.RecvMsg(r.req)
		if err == io.EOF {
			// Without finish_write: more may come in another stream.
			r.lost = true
			return nil, status.Errorf(codes.Aborted, "the stream ended after %d bytes, without finish_write: resume there", r.at)
		}
		if err != nil {
			r.lost = true
			return nil, err
		}
		if r.moved.Add(1)%16 == 0 && r.enough() {
			return nil, errPresent
		}
	}
	r.begun = true
	if r.req.ResourceName != "" && r.req.ResourceName != r.name {
		return nil, status.Errorf(codes.InvalidArgument, "resource_name changed within a write, to %q", r.req.ResourceName)
	}
	if r.req.WriteOffset != r.at {
		return nil, status.Errorf(codes.InvalidArgument, "write_offset %d, want %d", r.req.WriteOffset, r.at)
	}
	r.at += r.req.Len()
	r.ended = r.req.FinishWrite
	return r.req.Parts(), nil
}

// done says that the data are not in use any more.
func (r *requests) done() {
	if r.req != nil {
		r.req.Free()
		r.req, r.rest = nil, nil
	}
}

// each calls f with the data of every message.
func (r *requests) each(f func([][]byte) error) error {
	for {
		parts, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(parts); err != nil {
			return err
		}
		if r.ended {
			return nil
		}
	}
}

// Read implements [io.Reader], for a decoder.
func (r *requests) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var err error
		if r.rest, err = r.next(); err != nil {
			return 0, err
		}
		for len(r.rest) > 0 && len(r.rest[0]) == 0 {
			r.rest = r.rest[1:]
		}
	}
	n := copy(p, r.rest[0])
	if r.rest[0] = r.rest[0][n:]; len(r.rest[0]) == 0 {
		r.rest = r.rest[1:]
	}
	return n, nil
}

// cause is why reading ended: the stream's own reason, or else that the data is
// not what it should be.
func (r *requests) cause(err error) error {
	switch {
	case err == nil || r.err != nil:
		return r.err
	case status.Code(err) != codes.Unknown:
		return err
	case errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, zstd.ErrCRCMismatch), isZstd(err):
		return status.Errorf(codes.InvalidArgument, "the data is not good zstd: %v", err)
	}
	return err
}

func isZstd(err error) bool {
	// The decoder has more errors than it exports; the store's say of what.
	return !errors.Is(err, cache.ErrUnwritable) && !errors.Is(err, context.Canceled)
}

// present ends a write of what came from elsewhere.
func (r *requests) present() error {
	return r.stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: r.whole})
}

// QueryWriteStatus implements the RPC: how much of an upload is here.
func (s *Server) QueryWriteStatus(ctx context.Context, req *bytestream.QueryWriteStatusRequest) (*bytestream.QueryWriteStatusResponse, error) {
	if s.Streams != nil && s.Streams.Is(req.ResourceName) {
		size, complete, err := s.Streams.Committed(req.ResourceName)
		return &bytestream.QueryWriteStatusResponse{CommittedSize: size, Complete: complete}, err
	}
	r, err := reapi.ParseWrite(req.ResourceName)
	if err != nil {
		return nil, err
	}
	if s.store.Holds(ctx, r.Digest) {
		return &bytestream.QueryWriteStatusResponse{CommittedSize: r.Digest.Size(), Complete: true}, nil
	}
	return &bytestream.QueryWriteStatusResponse{CommittedSize: s.uploads.size(req.ResourceName)}, nil
}
