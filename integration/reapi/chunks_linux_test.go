package reapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

func TestRule17Chunks(t *testing.T) {
	s := start(t, nil)
	f := action.BLAKE3
	data := random(5 << 20)
	d := action.Sum(f, data)
	if _, err := s.write("uploads/u/"+reapi.BlobName(d), 0, true, pieces(data, 1<<20)...); err != nil {
		t.Fatal(err)
	}
	get := func(d action.Digest) (list []*repb.Digest, err error) {
		stream, err := s.cas.GetChunkMapping(t.Context(), &repb.GetChunkMappingRequest{
			BlobDigest: reapi.ToDigest(d), DigestFunction: reapi.ToFunction(f), ChunkingFunction: repb.ChunkingFunction_FAST_CDC_2020,
		})
		for err == nil {
			var res *repb.GetChunkMappingResponse
			if res, err = stream.Recv(); err == nil {
				list = append(list, res.ChunkDigests...)
			}
		}
		if err == io.EOF {
			err = nil
		}
		return list, err
	}
	register := func(d action.Digest, groups ...[]*repb.Digest) error {
		stream, err := s.cas.RegisterChunkMapping(t.Context())
		if err != nil {
			return err
		}
		for i, g := range groups {
			req := &repb.RegisterChunkMappingRequest{ChunkDigests: g}
			if i == 0 {
				req.BlobDigest, req.DigestFunction = reapi.ToDigest(d), reapi.ToFunction(f)
				req.ChunkingFunction = repb.ChunkingFunction_FAST_CDC_2020
			} else {
				req.BlobDigest = reapi.ToDigest(action.Sum(f, []byte("is ignored")))
			}
			if err := stream.Send(req); err != nil {
				break
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	}
	chunks, err := get(d)
	if err != nil || len(chunks) < 3 {
		t.Fatalf("GetChunkMapping: %d chunks, %v", len(chunks), err)
	}
	var all []byte
	for _, c := range chunks {
		all = append(all, s.read(f, c)...)
	}
	if !bytes.Equal(all, data) {
		t.Error("the chunks are not the blob")
	}
	old, err := s.cas.SplitBlob(t.Context(), &repb.SplitBlobRequest{BlobDigest: reapi.ToDigest(d), DigestFunction: reapi.ToFunction(f)})
	if err != nil || len(old.ChunkDigests) != len(chunks) || old.ChunkingFunction != repb.ChunkingFunction_FAST_CDC_2020 {
		t.Errorf("SplitBlob: %v, %v", old, err)
	}
	small := s.put(f, []byte("small"))
	if list, err := get(action.Sum(f, []byte("small"))); err != nil || len(list) != 1 || list[0].Hash != small.Hash {
		t.Errorf("of a small blob: %v, %v", list, err)
	}
	_, err = get(action.Sum(f, []byte("absent")))
	wantCode(t, "GetChunkMapping of an absent blob", err, codes.NotFound)

	s.lose(t, d)
	_, err = get(d)
	wantCode(t, "GetChunkMapping of a blob that is gone, and its chunks are not", err, codes.NotFound)

	// The other way: a blob of which only the chunks were sent.
	a, b := random(100_000), random(200_000)
	whole := action.Sum(f, append(bytes.Clone(a), b...))
	da, db := s.put(f, a), s.put(f, b)
	err = register(whole, []*repb.Digest{da}, nil, []*repb.Digest{reapi.ToDigest(action.Sum(f, bytes.Repeat([]byte("x"), 200_000)))})
	wantCode(t, "a chunk that is not there", err, codes.NotFound)
	wantCode(t, "chunks in the wrong order", register(whole, []*repb.Digest{db, da}), codes.InvalidArgument)
	wantCode(t, "too few chunks", register(whole, []*repb.Digest{db}), codes.InvalidArgument)
	wantCode(t, "too many chunks", register(whole, []*repb.Digest{da, db, da}), codes.InvalidArgument)
	if s.store.Has(t.Context(), whole) {
		t.Error("something was stored")
	}
	if err := register(whole, nil, []*repb.Digest{da}, nil, []*repb.Digest{db}, nil); err != nil {
		t.Errorf("RegisterChunkMapping: %v", err)
	}
	if got := s.readBlob(whole); !bytes.Equal(got, append(bytes.Clone(a), b...)) {
		t.Error("the spliced blob is another one")
	}
	if list, err := get(whole); err != nil || len(list) != 2 || list[0].Hash != da.Hash {
		t.Errorf("the chunks that a client has named: %v, %v", list, err)
	}
	c := s.put(f, random(1000))
	_, err = s.cas.SpliceBlob(t.Context(), &repb.SpliceBlobRequest{
		BlobDigest: reapi.ToDigest(action.Sum(f, []byte("not this"))), ChunkDigests: []*repb.Digest{c}, DigestFunction: reapi.ToFunction(f),
	})
	wantCode(t, "SpliceBlob of something else", err, codes.InvalidArgument)
	spliced, err := s.cas.SpliceBlob(t.Context(), &repb.SpliceBlobRequest{
		BlobDigest: reapi.ToDigest(whole), ChunkDigests: []*repb.Digest{da, db}, DigestFunction: reapi.ToFunction(f),
	})
	if err != nil || spliced.BlobDigest.Hash != whole.Hash() {
		t.Errorf("SpliceBlob: %v, %v", spliced, err)
	}
}

// TestChunksNeedRoom: what the server makes of chunks, or cuts into them, is asked for
// before anything is written.
func TestChunksNeedRoom(t *testing.T) {
	const left = 4 << 20
	var asked atomic.Int64 // the most
	s := startAs(t, filepath.Join(t.TempDir(), "cache"), storage.Options{Room: func(n int64) error {
		asked.Store(max(n, asked.Load()))
		if n > left {
			return status.Error(codes.ResourceExhausted, "no room")
		}
		return nil
	}}, nil)
	f := action.SHA256
	chunk := random(1 << 20)
	c := s.put(f, chunk)
	blob := func(n int) (action.Digest, []*repb.Digest) {
		return action.Sum(f, bytes.Repeat(chunk, n)), slices.Repeat([]*repb.Digest{c}, n)
	}
	splice := func(d action.Digest, chunks []*repb.Digest) error {
		_, err := s.cas.SpliceBlob(t.Context(), &repb.SpliceBlobRequest{BlobDigest: reapi.ToDigest(d), ChunkDigests: chunks})
		return err
	}
	register := func(d action.Digest, chunks []*repb.Digest) error {
		stream, err := s.cas.RegisterChunkMapping(t.Context())
		if err != nil {
			return err
		}
		_ = stream.Send(&repb.RegisterChunkMappingRequest{BlobDigest: reapi.ToDigest(d), ChunkDigests: chunks})
		_, err = stream.CloseAndRecv()
		return err
	}
	for range 3 { // what was refused takes nothing of the room
		d, chunks := blob(5)
		wantCode(t, "SpliceBlob", splice(d, chunks), codes.ResourceExhausted)
		wantCode(t, "RegisterChunkMapping", register(d, chunks), codes.ResourceExhausted)
		if s.store.Has(t.Context(), d) {
			t.Error("it was stored")
		}
	}
	for i, put := range []func(action.Digest, []*repb.Digest) error{splice, register, splice} {
		d, chunks := blob(4 - i) // nor what was made
		if err := put(d, chunks); err != nil || !s.store.Has(t.Context(), d) {
			t.Errorf("of %d chunks: %v", len(chunks), err)
		}
	}
	if n := asked.Load(); n != 5<<20 {
		t.Errorf("room for %d bytes was asked for", n)
	}
	data := random(5 << 20)
	d := action.Sum(f, data)
	if _, err := s.write("uploads/u/"+reapi.BlobName(d), 0, true, pieces(data, 1<<20)...); err != nil {
		t.Fatal(err)
	}
	_, err := s.cas.SplitBlob(t.Context(), &repb.SplitBlobRequest{BlobDigest: reapi.ToDigest(d)})
	wantCode(t, "SplitBlob", err, codes.ResourceExhausted)
	if !bytes.Equal(s.readBlob(d), data) {
		t.Error("the blob that was not cut is another one")
	}
}

// TestManyDigests: what requests make the server remember is bounded for all of them
// together, and a client that stands still holds nothing for long.
func TestManyDigests(t *testing.T) {
	s := startAs(t, filepath.Join(t.TempDir(), "cache"), storage.Options{MaxDigests: 100}, nil)
	f := action.SHA256
	wantBusy := func(what string, err error) {
		t.Helper()
		wantCode(t, what, err, codes.ResourceExhausted)
		if !slices.ContainsFunc(status.Convert(err).Details(), func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok }) {
			t.Errorf("%s: it does not say when to try again", what)
		}
	}
	one := s.put(f, []byte("x"))
	register := func(n int) error {
		stream, err := s.cas.RegisterChunkMapping(t.Context())
		if err != nil {
			return err
		}
		whole := action.Sum(f, bytes.Repeat([]byte("x"), n))
		_ = stream.Send(&repb.RegisterChunkMappingRequest{BlobDigest: reapi.ToDigest(whole), ChunkDigests: slices.Repeat([]*repb.Digest{one}, n)})
		_, err = stream.CloseAndRecv()
		return err
	}
	tree := func(n int) error {
		root := &repb.Directory{}
		for i := range n {
			root.Directories = append(root.Directories, &repb.DirectoryNode{Name: fmt.Sprintf("%03d", i), Digest: reapi.ToDigest(action.Sum(f, fmt.Append(nil, i)))})
		}
		stream, err := s.cas.GetTree(t.Context(), &repb.GetTreeRequest{RootDigest: s.putMessage(f, root)})
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			return nil
		}
		return err
	}
	for range 3 { // nothing is left of one when the next one comes
		wantBusy("RegisterChunkMapping of 101 chunks", register(101))
		wantBusy("GetTree of 101 directories", tree(101))
		if err := errors.Join(register(60), tree(60)); err != nil {
			t.Errorf("60 of them: %v", err)
		}
	}
	// Two that name 60 each, the first of which goes on when it likes.
	s = startAs(t, filepath.Join(t.TempDir(), "cache"), storage.Options{MaxDigests: 100, IdleStream: 100 * time.Millisecond}, nil)
	one = s.put(f, []byte("x"))
	stream, err := s.cas.RegisterChunkMapping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&repb.RegisterChunkMappingRequest{BlobDigest: one, ChunkDigests: slices.Repeat([]*repb.Digest{one}, 60)}); err != nil {
		t.Fatal(err)
	}
	err = stream.RecvMsg(new(repb.RegisterChunkMappingResponse))
	wantCode(t, "a stream that stands still", err, codes.DeadlineExceeded)
	eventually(t, func() bool { return register(60) == nil }) // the server has let go of it
}
