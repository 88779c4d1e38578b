package reapi_test

import (
	"bytes"
	"io"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
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
