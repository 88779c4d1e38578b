package storage

import (
	"io"
	"sync"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

// piece is how much of a blob one message carries.
const piece = 256 << 10

// Of reads beyond fastReads at a time, a message carries smallPiece, and nothing is
// squeezed: what waits to be sent to a client that does not take it is memory, and
// an encoder is more. With its frame it fits into 16 KiB.
const (
	fastReads  = 64
	smallPiece = 16<<10 - 64
)

var smallPieces = sync.Pool{New: func() any { return new([smallPiece]byte) }}

var pieces = sync.Pool{New: func() any { return new([piece]byte) }}

type readStream = bytestream.ByteStream_ReadServer

// Read implements the RPC: offset and limit are of the uncompressed blob.
func (s *Server) Read(req *bytestream.ReadRequest, stream readStream) error {
	if err := sameName(stream, req.ResourceName); err != nil {
		return err
	}
	if s.Streams != nil && s.Streams.Is(req.ResourceName) {
		return s.Streams.Read(req, stream)
	}
	r, err := reapi.ParseRead(req.ResourceName)
	if err != nil {
		return err
	}
	size := r.Digest.Size()
	switch {
	case req.ReadOffset < 0 || req.ReadOffset > size:
		return status.Errorf(codes.OutOfRange, "read_offset %d: the blob has %d bytes", req.ReadOffset, size)
	case req.ReadLimit < 0:
		return status.Errorf(codes.InvalidArgument, "read_limit %d is negative", req.ReadLimit)
	case req.ReadLimit != 0 && r.Compressor != repb.Compressor_IDENTITY:
		return status.Error(codes.InvalidArgument, "read_limit is not for compressed blobs: leave it 0")
	}
	file, err := s.store.OpenContent(stream.Context(), r.Digest)
	if err != nil {
		return s.fail(stream.Context(), "read a blob", err)
	}
	n := size - req.ReadOffset
	if req.ReadLimit > 0 {
		n = min(n, req.ReadLimit)
	}
	in := io.NewSectionReader(file, req.ReadOffset, n)
	send := func(moved *atomic.Int64) error {
		defer file.Close()
		many := s.reads.Add(1) > fastReads && n > piece
		defer s.reads.Add(-1)
		if r.Compressor == repb.Compressor_ZSTD && many {
			b := smallPieces.Get().(*[smallPiece]byte)
			defer smallPieces.Put(b)
			return squeeze.Store(&sender{stream, moved}, in, b[:])
		}
		if r.Compressor == repb.Compressor_ZSTD {
			_, err := squeeze.Copy(&sender{stream, moved}, in)
			return err
		}
		return sendPieces(stream, moved, in, many)
	}
	if n <= piece { // one message, for which nobody has to wait
		err = send(new(atomic.Int64))
	} else {
		err = s.watch(send)
	}
	return s.fail(stream.Context(), "read a blob", err)
}

// A sender sends what is written to it, a message for each write.
type sender struct {
	stream readStream
	moved  *atomic.Int64
}

func (s *sender) Write(p []byte) (int, error) {
	if err := s.stream.Send(&bytestream.ReadResponse{Data: p}); err != nil {
		return 0, err
	}
	s.moved.Add(1)
	return len(p), nil
}

// sendPieces sends what in holds, in small messages if there are many who do.
func sendPieces(stream readStream, moved *atomic.Int64, in *io.SectionReader, many bool) error {
	most := int64(piece)
	if many {
		most = smallPiece
	}
	for left := in.Size(); left > 0; {
		n := min(left, most)
		m := wire.NewPiece(int(n))
		if _, err := io.ReadFull(in, m.Data()); err != nil {
			m.Free()
			return err
		}
		if err := stream.SendMsg(m); err != nil {
			return err
		}
		moved.Add(1)
		left -= n
	}
	return nil
}

// nameHeader repeats the name of the resource, for proxies.
const nameHeader = "build.bazel.remote.execution.v2.resource-name"

// sameName refuses a header that names another resource than the request.
func sameName(stream grpc.ServerStream, name string) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	for _, v := range md.Get(nameHeader) {
		if v != name {
			return status.Errorf(codes.InvalidArgument, "the header %s says %q, the request %q", nameHeader, v, name)
		}
	}
	return nil
}
