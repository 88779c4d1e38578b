package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

// zstdMin is the size from which blobs are sent as zstd, if that pays: what is
// smaller is in a packet or two anyway.
const zstdMin = 4 << 10

// present is the committed size of a blob that was there, of a write as zstd.
const present = -1

// zstdResource is [Resource] of the blob as zstd.
func zstdResource(d action.Digest) string {
	return "compressed-blobs/zstd/" + strings.TrimPrefix(Resource(d), "blobs/")
}

// refusesZstd says that a server does not know what it said to know, or what
// the one before it at that address did.
func refusesZstd(err error) bool {
	return status.Code(err) == codes.InvalidArgument || status.Code(err) == codes.Unimplemented
}

// pays says whether a blob is worth squeezing.
func pays(f *os.File, size int64) (bool, error) {
	beginning := make([]byte, min(size, squeeze.Sample))
	if _, err := f.ReadAt(beginning, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return squeeze.Pays(beginning), nil
}

// part is a blob of a batch that is sent.
func part(d action.Digest, data []byte, zstd bool) *rexec.BatchUpdateBlobsRequest_Request {
	r := &rexec.BatchUpdateBlobsRequest_Request{Digest: ToDigest(d), Data: data}
	if zstd && d.Size() >= zstdMin && squeeze.Pays(data) {
		if out, ok := squeeze.Shrink(data); ok {
			r.Data, r.Compressor = out, rexec.Compressor_ZSTD
		}
	}
	return r
}

// putPart stores a blob of a batch that was received.
func putPart(ctx context.Context, dst Store, d action.Digest, r *rexec.BatchReadBlobsResponse_Response) error {
	data := r.Data
	switch r.Compressor {
	case rexec.Compressor_IDENTITY:
	case rexec.Compressor_ZSTD:
		if d.Size() > batchMax { // nobody asked for that in a batch
			return status.Errorf(codes.DataLoss, "%v came in a batch", d)
		}
		var err error
		if data, err = squeeze.Expand(data, d.Size()); err != nil {
			return status.Errorf(codes.DataLoss, "%v did not come as good zstd: %v", d, err)
		}
	default:
		return status.Errorf(codes.DataLoss, "%v came as %v, which was not asked for", d, r.Compressor)
	}
	return dst.Put(ctx, d, bytes.NewReader(data))
}

// flushAfter is how much of a blob may be squeezed before what it became is
// sent, full message or not: who waits for messages must not think that we hang.
const flushAfter = 16 << 20

// writeZstd sends the blob from an offset as one frame, and says how long that
// was. EOF means that the server has answered.
func (u *upload) writeZstd(stream bytestream.ByteStream_WriteClient, from int64, dog *watchdog) (int64, error) {
	s := &frameSender{stream: stream, name: u.name(), from: from, dog: dog, in: io.NewSectionReader(u.f, from, u.d.Size()-from)}
	n, err := squeeze.Copy(s, s)
	switch {
	case s.broke != nil:
		return s.sent, s.broke
	case err != nil:
		return s.sent, err
	case n < u.d.Size()-from:
		return s.sent, io.ErrUnexpectedEOF
	}
	return s.sent, s.send(last)
}

// Whether a message of a write is its last.
const (
	more = false
	last = true
)

// A frameSender sends what is written to it, and reads what that is made of.
type frameSender struct {
	stream bytestream.ByteStream_WriteClient
	name   string // "" once it is sent
	from   int64
	dog    *watchdog
	in     *io.SectionReader
	unsent int64 // bytes of the blob that were read since the last message
	buf    []byte
	sent   int64
	broke  error // what ended stream
}

func (s *frameSender) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.unsent += int64(n)
	s.dog.pat()
	return n, err
}

func (s *frameSender) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(chunk-len(s.buf), len(p))
		s.buf = append(s.buf, p[:k]...)
		n, p = n+k, p[k:]
		if len(s.buf) == chunk || s.unsent >= flushAfter {
			if err := s.send(more); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// send sends what is in buf. The first offset is one of the blob, to which those
// that follow add what was sent.
func (s *frameSender) send(finish bool) error {
	req := &bytestream.WriteRequest{ResourceName: s.name, WriteOffset: s.from + s.sent, Data: s.buf, FinishWrite: finish}
	if s.broke = s.stream.Send(req); s.broke != nil {
		return s.broke
	}
	s.dog.pat()
	s.sent += int64(len(s.buf))
	s.name, s.buf, s.unsent = "", s.buf[:0], 0
	return nil
}

// expand returns the next piece of a blob that comes as zstd.
func (r *blobReader) expand() ([]byte, error) {
	if r.frames == nil {
		var err error
		if r.frames, err = squeeze.NewReader(squeezedReader{r}); err != nil {
			return nil, r.blame(err)
		}
	}
	if r.room == nil {
		r.room = make([]byte, chunk)
	}
	for {
		n, err := r.frames.Read(r.room)
		if n > 0 {
			return r.room[:n], nil
		}
		if err != nil {
			return nil, r.blame(err)
		}
	}
}

// blame is what ended the stream, or that what it says is no zstd.
func (r *blobReader) blame(err error) error {
	switch {
	case r.broke != nil:
		return r.broke
	case err == io.EOF:
		return err
	}
	return status.Errorf(codes.DataLoss, "%v does not come as good zstd: after %d bytes: %v", r.d, r.at, err)
}

// A squeezedReader reads the stream of a blobReader.
type squeezedReader struct{ r *blobReader }

func (s squeezedReader) Read(p []byte) (int, error) {
	r := s.r
	if len(r.squeezed) == 0 {
		data, err := r.receive()
		if err != nil {
			if err != io.EOF {
				r.broke = err
			}
			return 0, err
		}
		// Frames without anything in them could go on for ever.
		if r.taken += int64(len(data)); r.taken > r.d.Size()+r.d.Size()/8+1<<20 {
			r.broke = status.Errorf(codes.DataLoss, "%v takes more as zstd than without", r.d)
			return 0, r.broke
		}
		r.squeezed = data
	}
	n := copy(p, r.squeezed)
	r.squeezed = r.squeezed[n:]
	return n, nil
}
