package storage

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/fastcdc"
)

// Chunking is how blobs are cut that a client wants in chunks.
var Chunking = fastcdc.Params{Average: 512 << 10}

// ChunkParams is Chunking for GetCapabilities.
func ChunkParams() *repb.FastCdc2020Params {
	return &repb.FastCdc2020Params{AvgChunkSizeBytes: uint64(Chunking.Average), Seed: Chunking.Seed}
}

// A mapping is the chunks of a blob. It is a note, in the form of a
// SplitBlobResponse. The blob and its chunks are blobs of the store like any
// other, and each lives for itself.
type mapping struct {
	chunks   []action.Digest
	function repb.ChunkingFunction_Value
}

func mappingKey(d action.Digest) action.Digest {
	return action.Sum(action.BLAKE3, []byte("chunks of "+d.String()))
}

// mapping returns the chunks of d that are noted, if all of them are there.
func (s *Server) mapping(ctx context.Context, d action.Digest) (*mapping, bool) {
	note, err := s.store.Note(ctx, mappingKey(d))
	if err != nil {
		return nil, false
	}
	m := new(repb.SplitBlobResponse)
	if proto.Unmarshal(note, m) != nil {
		return nil, false
	}
	r := &mapping{function: m.ChunkingFunction}
	for _, c := range m.ChunkDigests {
		chunk, err := reapi.Digest(d.Function(), c)
		if err != nil || !s.store.Holds(ctx, chunk) {
			return nil, false
		}
		r.chunks = append(r.chunks, chunk)
	}
	return r, true
}

func (s *Server) keepMapping(ctx context.Context, d action.Digest, m *mapping) error {
	note, err := proto.Marshal(&repb.SplitBlobResponse{ChunkDigests: toDigests(m.chunks), ChunkingFunction: m.function})
	if err != nil {
		return err
	}
	return s.store.PutNote(ctx, mappingKey(d), note)
}

func toDigests(list []action.Digest) (all []*repb.Digest) {
	for _, d := range list {
		all = append(all, reapi.ToDigest(d))
	}
	return all
}

// split returns the chunks of d, which it makes if there are none.
func (s *Server) split(ctx context.Context, d action.Digest) (*mapping, error) {
	file, err := s.store.OpenContent(ctx, d) // its life is made longer, too
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if m, ok := s.mapping(ctx, d); ok {
		return m, nil
	}
	m := &mapping{function: repb.ChunkingFunction_FAST_CDC_2020}
	if d.Size() < int64(Chunking.Max()) { // too small to be worth it
		m.chunks = []action.Digest{d}
		return m, nil
	}
	made, err := s.room(d.Size())
	if err != nil {
		return nil, err
	}
	defer made()
	cutter, err := fastcdc.New(file, Chunking)
	if err != nil {
		return nil, err
	}
	for {
		chunk, err := cutter.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		c, err := s.store.PutBytes(ctx, d.Function(), chunk)
		if err != nil {
			return nil, err
		}
		m.chunks = append(m.chunks, c)
	}
	return m, s.keepMapping(ctx, d, m)
}

// splice makes d of chunks, and notes them.
func (s *Server) splice(ctx context.Context, instance string, d action.Digest, m *mapping) error {
	if err := s.tooLarge(instance, d); err != nil {
		return err
	}
	left := d.Size()
	for _, c := range m.chunks {
		if left -= c.Size(); left < 0 {
			return status.Errorf(codes.InvalidArgument, "the chunks have more than the %d bytes of blob %v", d.Size(), d)
		}
	}
	if left > 0 {
		return status.Errorf(codes.InvalidArgument, "the chunks have %d bytes less than blob %v", left, d)
	}
	if !s.store.Holds(ctx, d) {
		if err := s.join(ctx, d, m.chunks); err != nil {
			return err
		}
		return s.keepMapping(ctx, d, m)
	}
	if _, ok := s.mapping(ctx, d); ok {
		return nil
	}
	// It is there, but nobody has said that these are its chunks: we do not
	// take a client's word for it.
	if err := s.isJoined(ctx, d, m.chunks); err != nil {
		return err
	}
	return s.keepMapping(ctx, d, m)
}

func (s *Server) join(ctx context.Context, d action.Digest, chunks []action.Digest) error {
	made, err := s.room(d.Size())
	if err != nil {
		return err
	}
	defer made()
	w := s.store.NewWriterOf(ctx, d)
	defer w.Abort()
	if err := s.copyChunks(ctx, w, chunks); err != nil {
		return err
	}
	return w.CommitAs(d)
}

// room says, as a status, why there is no room for size bytes beside those of the
// requests that go on, which may not have written any yet. What is to be called
// when they are made, or not, is done.
func (s *Server) room(size int64) (done func(), err error) {
	if err := s.opts.Room(size); err != nil { // before it is added to others: it may be any number
		return nil, err
	}
	done = func() { s.making.Add(-size) }
	if err := s.opts.Room(s.making.Add(size)); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// isJoined says whether d is what chunks give.
func (s *Server) isJoined(ctx context.Context, d action.Digest, chunks []action.Digest) error {
	h := d.Function().NewSized(d.Size())
	if err := s.copyChunks(ctx, h, chunks); err != nil {
		return err
	}
	if got, err := action.DigestOf(d.Function(), h.Sum(nil), d.Size()); err != nil || got != d {
		return status.Errorf(codes.InvalidArgument, "the chunks are those of %v, not of %v", got, d)
	}
	return nil
}

func (s *Server) copyChunks(ctx context.Context, to io.Writer, chunks []action.Digest) error {
	block := pieces.Get().(*[piece]byte)
	defer pieces.Put(block)
	for _, c := range chunks {
		if c.IsEmpty() {
			continue
		}
		file, err := s.store.OpenContent(ctx, c)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{file}, block[:])
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

// SplitBlob implements the RPC of REAPI 2.12.
func (s *Server) SplitBlob(ctx context.Context, req *repb.SplitBlobRequest) (*repb.SplitBlobResponse, error) {
	d, err := reapi.InferDigest(req.DigestFunction, req.BlobDigest)
	if err != nil {
		return nil, err
	}
	m, err := s.split(ctx, d)
	if err != nil {
		return nil, s.fail(ctx, "split a blob", err)
	}
	return &repb.SplitBlobResponse{ChunkDigests: toDigests(m.chunks), ChunkingFunction: m.function}, nil
}

// chunksPerMessage keeps messages far below 4 MiB.
const chunksPerMessage = 10_000

// GetChunkMapping implements the RPC of REAPI 2.13.
func (s *Server) GetChunkMapping(req *repb.GetChunkMappingRequest, stream grpc.ServerStreamingServer[repb.GetChunkMappingResponse]) error {
	d, err := reapi.InferDigest(req.DigestFunction, req.BlobDigest)
	if err != nil {
		return err
	}
	m, err := s.split(stream.Context(), d)
	if err != nil {
		return s.fail(stream.Context(), "split a blob", err)
	}
	res := &repb.GetChunkMappingResponse{ChunkingFunction: m.function}
	for rest := m.chunks; ; {
		n := min(len(rest), chunksPerMessage)
		res.ChunkDigests, rest = toDigests(rest[:n]), rest[n:]
		if err := stream.Send(res); err != nil || len(rest) == 0 {
			return err
		}
		res = &repb.GetChunkMappingResponse{}
	}
}

// SpliceBlob implements the RPC of REAPI 2.12.
func (s *Server) SpliceBlob(ctx context.Context, req *repb.SpliceBlobRequest) (*repb.SpliceBlobResponse, error) {
	d, err := reapi.InferDigest(req.DigestFunction, req.BlobDigest)
	if err != nil {
		return nil, err
	}
	m := &mapping{function: req.ChunkingFunction}
	if err := m.add(d.Function(), req.ChunkDigests); err != nil {
		return nil, err
	}
	if err := s.splice(ctx, req.InstanceName, d, m); err != nil {
		return nil, s.fail(ctx, "splice a blob", err)
	}
	return &repb.SpliceBlobResponse{BlobDigest: reapi.ToDigest(d)}, nil
}

// maxChunks bounds the chunks of one blob.
const maxChunks = 1 << 20

func (m *mapping) add(f action.Function, list []*repb.Digest) error {
	if len(m.chunks)+len(list) > maxChunks {
		return status.Errorf(codes.InvalidArgument, "more than %d chunks", maxChunks)
	}
	for _, c := range list {
		d, err := reapi.Digest(f, c)
		if err != nil {
			return err
		}
		m.chunks = append(m.chunks, d)
	}
	return nil
}

type registerStream = grpc.ClientStreamingServer[repb.RegisterChunkMappingRequest, repb.RegisterChunkMappingResponse]

// RegisterChunkMapping implements the RPC of REAPI 2.13. All but the chunks is
// taken from the first message.
func (s *Server) RegisterChunkMapping(stream registerStream) error {
	first, err := stream.Recv()
	if err == io.EOF {
		return status.Error(codes.InvalidArgument, "a stream without a request")
	}
	if err != nil {
		return err
	}
	d, err := reapi.InferDigest(first.DigestFunction, first.BlobDigest)
	if err != nil {
		return err
	}
	all := &remembered{s: s}
	m := &mapping{function: first.ChunkingFunction}
	err = s.watch(func(moved *atomic.Int64) error {
		err := receiveChunks(stream, first, d.Function(), m, all, moved)
		if err != nil {
			all.forget()
		}
		return err
	})
	if err != nil {
		return err
	}
	defer all.forget()
	if err := s.splice(stream.Context(), first.InstanceName, d, m); err != nil {
		return s.fail(stream.Context(), "splice a blob", err)
	}
	return stream.SendAndClose(&repb.RegisterChunkMappingResponse{})
}

// receiveChunks adds to m what the messages of a stream name, from req on.
func receiveChunks(stream registerStream, req *repb.RegisterChunkMappingRequest, f action.Function, m *mapping, all *remembered, moved *atomic.Int64) error {
	for {
		if err := all.add(len(req.ChunkDigests)); err != nil {
			return err
		}
		if err := m.add(f, req.ChunkDigests); err != nil {
			return err
		}
		var err error
		if req, err = stream.Recv(); err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		moved.Add(1)
	}
}
