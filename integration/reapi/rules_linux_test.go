package reapi_test

//lint:file-ignore SA1019 old clients are a part of the rules

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/staging"
)

// The tests in this file are called after the rules of the Remote Execution API
// that they pin down, in the order in which the protocol's own comments and
// documents give them.

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v (%v), want %v", what, got, err, want)
	}
}

// everyFunction calls f with each digest function of the store.
func everyFunction(t *testing.T, f func(t *testing.T, fn action.Function)) {
	for _, fn := range action.Functions() {
		t.Run(fn.String(), func(t *testing.T) { f(t, fn) })
	}
}

func TestRule01Digest(t *testing.T) {
	s := start(t, nil)
	everyFunction(t, func(t *testing.T, f action.Function) {
		s := s.with(t)
		data := []byte("content of " + f.String())
		right := reapi.ToDigest(action.Sum(f, data))
		wrong := map[string]*repb.Digest{
			"size":       {Hash: right.Hash, SizeBytes: right.SizeBytes + 1},
			"negative":   {Hash: right.Hash, SizeBytes: -1},
			"upper case": {Hash: strings.ToUpper(right.Hash), SizeBytes: right.SizeBytes},
			"other hash": {Hash: action.Sum(f, []byte("other")).Hash(), SizeBytes: right.SizeBytes},
			"short":      {Hash: right.Hash[1:], SizeBytes: right.SizeBytes},
			"not hex":    {Hash: "g" + right.Hash[1:], SizeBytes: right.SizeBytes},
			"path":       {Hash: "../../../../../../etc/passwd", SizeBytes: right.SizeBytes},
		}
		for _, name := range sortedKeys(wrong) {
			res, err := s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{
				DigestFunction: reapi.ToFunction(f), Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: wrong[name], Data: data}},
			})
			if err == nil {
				err = status.FromProto(res.Responses[0].Status).Err()
			}
			wantCode(t, "BatchUpdateBlobs with a wrong digest: "+name, err, codes.InvalidArgument)
		}
		if s.store.Has(t.Context(), action.Sum(f, data)) {
			t.Error("content was stored though its digest was wrong")
		}
		s.put(f, data) // the control
		if !s.store.Has(t.Context(), action.Sum(f, data)) {
			t.Error("content was not stored though its digest was right")
		}
	})
}

// with is s with another test to report to.
func (s *server) with(t *testing.T) *server {
	c := *s
	c.t = t
	return &c
}

func TestRule02EmptyBlob(t *testing.T) {
	s := start(t, nil)
	everyFunction(t, func(t *testing.T, f action.Function) {
		s := s.with(t)
		empty := reapi.ToDigest(action.Sum(f, nil))
		missing, err := s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{DigestFunction: reapi.ToFunction(f), BlobDigests: []*repb.Digest{empty}})
		if err != nil || len(missing.MissingBlobDigests) > 0 {
			t.Errorf("FindMissingBlobs: %v, %v", missing, err)
		}
		if got := s.read(f, empty); got != "" {
			t.Errorf("BatchReadBlobs: %q", got)
		}
		data, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(action.Sum(f, nil))})
		if err != nil || len(data) > 0 {
			t.Errorf("Read: %q, %v", data, err)
		}
		res, err := s.write("uploads/u/"+reapi.BlobName(action.Sum(f, nil)), 0, true, nil)
		if err != nil || res.CommittedSize != 0 {
			t.Errorf("Write: %v, %v", res, err)
		}
		_, err = s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{
			DigestFunction: reapi.ToFunction(f), BlobDigests: []*repb.Digest{{Hash: action.Sum(f, []byte("x")).Hash()}},
		})
		wantCode(t, "a digest of size 0 and another hash", err, codes.InvalidArgument)
	})
}

func TestRule03ResourceNames(t *testing.T) {
	s := start(t, nil)
	everyFunction(t, func(t *testing.T, f action.Function) {
		s := s.with(t)
		data := []byte("named by " + f.String())
		d := action.Sum(f, data)
		named := map[action.Function]string{action.BLAKE3: "blake3/", action.SHA256Tree: "sha256tree/", action.GitSHA1: "gitsha1/"}[f]
		tail := fmt.Sprintf("%s%s/%d", named, d.Hash(), d.Size())
		for _, name := range []string{
			"uploads/0b5a/blobs/" + tail, "a/uploads/0b5a/blobs/" + tail, "a/b/uploads/0b5a/blobs/" + tail, "uploads/0b5a/blobs/" + tail + "/x/y.o",
		} {
			if res, err := s.write(name, 0, true, data); err != nil || res.CommittedSize != d.Size() {
				t.Errorf("Write %s: %v, %v", name, res, err)
			}
		}
		for _, name := range []string{"blobs/" + tail, "a/b/blobs/" + tail} {
			if got, err := s.readAll(&bytestream.ReadRequest{ResourceName: name}); err != nil || !bytes.Equal(got, data) {
				t.Errorf("Read %s: %q, %v", name, got, err)
			}
		}
	})
	d := action.Sum(action.SHA256, []byte("x"))
	for _, name := range []string{
		"", "blobs", "blobs/" + d.Hash(), "blobs/" + d.Hash() + "/01", "blobs/" + d.Hash() + "/+1", "blobs/" + d.Hash() + "/1/more",
		"uploads/u/blobs/" + d.Hash() + "/1", "blobs/md4/" + d.Hash() + "/1", "compressed-blobs/brotli/" + d.Hash() + "/1",
		"operations/blobs/" + d.Hash() + "/1", "a//blobs/" + d.Hash() + "/1", "/blobs/" + d.Hash() + "/1", "blobs/blobs/" + d.Hash() + "/1",
	} {
		_, err := s.readAll(&bytestream.ReadRequest{ResourceName: name})
		wantCode(t, fmt.Sprintf("Read %q", name), err, codes.InvalidArgument)
	}
	// The optional header must say the same.
	s.put(action.SHA256, []byte("x"))
	name := reapi.BlobName(d)
	for header, want := range map[string]codes.Code{name: codes.OK, "blobs/other": codes.InvalidArgument} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "build.bazel.remote.execution.v2.resource-name", header)
		stream, err := s.bs.Read(ctx, &bytestream.ReadRequest{ResourceName: name})
		if err == nil {
			_, err = stream.Recv()
		}
		wantCode(t, "Read with the header "+header, err, want)
	}
}

func compress(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// pieces cuts data into messages.
func pieces(data []byte, size int) (list [][]byte) {
	for p := range slices.Chunk(data, size) {
		list = append(list, p)
	}
	return list
}

func TestRule04Write(t *testing.T) {
	s := start(t, nil)
	blobName := func(d action.Digest) string { return "uploads/" + d.Hash()[:8] + "/" + reapi.BlobName(d) }
	zstdName := func(d action.Digest) string {
		return "uploads/" + d.Hash()[:8] + "/compressed-" + strings.Replace(reapi.BlobName(d), "blobs/", "blobs/zstd/", 1)
	}
	t.Run("Present", func(t *testing.T) {
		s := s.with(t)
		data := random(3 << 20)
		d := action.Sum(action.SHA256, data)
		if res, err := s.write(blobName(d), 0, true, pieces(data, 1<<20)...); err != nil || res.CommittedSize != d.Size() {
			t.Fatalf("first: %v, %v", res, err)
		}
		// Only the first message comes: the answer does not wait for more.
		if res, err := s.write(blobName(d), 0, false, data[:10]); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("again: %v, %v", res, err)
		}
		if res, err := s.write(zstdName(d), 0, false, []byte("x")); err != nil || res.CommittedSize != -1 {
			t.Errorf("again, compressed: %v, %v", res, err)
		}
	})
	t.Run("Mismatch", func(t *testing.T) {
		s := s.with(t)
		data := random(300_000)
		d := action.Sum(action.SHA256, data)
		other := bytes.Clone(data)
		other[5]++
		for name, send := range map[string][]byte{"content": other, "longer": append(bytes.Clone(data), 1), "shorter": data[:1000]} {
			_, err := s.write(blobName(d), 0, true, pieces(send, 100_000)...)
			wantCode(t, name, err, codes.InvalidArgument)
			_, err = s.write(zstdName(d), 0, true, pieces(compress(t, send), 100_000)...)
			wantCode(t, name+", compressed", err, codes.InvalidArgument)
		}
		_, err := s.write(zstdName(d), 0, true, []byte("this is not zstd"))
		wantCode(t, "not zstd", err, codes.InvalidArgument)
		if s.store.Has(t.Context(), d) {
			t.Error("something was stored")
		}
		if res, err := s.write(blobName(d), 0, true, data); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("control: %v, %v", res, err)
		}
	})
	t.Run("Resume", func(t *testing.T) {
		s := s.with(t)
		data := random(900_000)
		d := action.Sum(action.SHA256, data)
		ask := func() *bytestream.QueryWriteStatusResponse {
			t.Helper()
			res, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: blobName(d)})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		if st := ask(); st.CommittedSize != 0 || st.Complete {
			t.Errorf("before: %v", st)
		}
		_, err := s.write(blobName(d), 0, false, pieces(data[:300_000], 100_000)...)
		if err == nil {
			t.Error("a write without finish_write succeeded")
		}
		st := ask()
		if st.CommittedSize != 300_000 || st.Complete {
			t.Fatalf("after a part: %v", st)
		}
		_, err = s.write(blobName(d), 100, true, data[100:])
		wantCode(t, "resume at a wrong offset", err, codes.OutOfRange)
		if st := ask(); st.CommittedSize != 300_000 {
			t.Errorf("after that: %v", st)
		}
		if res, err := s.write(blobName(d), 300_000, true, pieces(data[300_000:], 100_000)...); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("resume: %v, %v", res, err)
		}
		if st := ask(); st.CommittedSize != d.Size() || !st.Complete {
			t.Errorf("at the end: %v", st)
		}
	})
	t.Run("BrokenStream", func(t *testing.T) {
		s := s.with(t)
		data := random(500_000)
		d := action.Sum(action.SHA256, data)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.bs.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&bytestream.WriteRequest{ResourceName: blobName(d), Data: data[:200_000]}); err != nil {
			t.Fatal(err)
		}
		var at int64
		for at != 200_000 {
			res, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: blobName(d)})
			if err != nil {
				t.Fatal(err)
			}
			at = res.CommittedSize
		}
		cancel()
		for {
			res, err := s.write(blobName(d), at, true, data[at:])
			if status.Code(err) == codes.Aborted {
				continue // the server has not noticed yet
			}
			if err != nil || res.CommittedSize != d.Size() {
				t.Errorf("resume: %v, %v", res, err)
			}
			break
		}
	})
	t.Run("CompressedOffsets", func(t *testing.T) {
		s := s.with(t)
		data := bytes.Repeat([]byte("compressible "), 50_000)
		d := action.Sum(action.SHA256, data)
		// A part of the blob, then the rest: the first offset is of the blob,
		// those that follow add compressed bytes to it.
		half := compress(t, data[:400_000])
		if _, err := s.write(zstdName(d), 0, false, half); err == nil {
			t.Error("a write without finish_write succeeded")
		}
		st, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: zstdName(d)})
		if err != nil || st.CommittedSize != 400_000 {
			t.Fatalf("after a part: %v, %v", st, err)
		}
		rest := compress(t, data[400_000:])
		res, err := s.write(zstdName(d), 400_000, true, rest[:len(rest)/2], rest[len(rest)/2:])
		if err != nil || res.CommittedSize != 400_000+int64(len(rest)) {
			t.Errorf("resume: %v, %v", res, err)
		}
		if got := s.readBlob(d); !bytes.Equal(got, data) {
			t.Error("another blob than was written")
		}
	})
	t.Run("Offsets", func(t *testing.T) {
		s := s.with(t)
		data := random(1000)
		d := action.Sum(action.SHA256, data)
		stream, err := s.bs.Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&bytestream.WriteRequest{ResourceName: blobName(d), Data: data[:100]})
		_ = stream.Send(&bytestream.WriteRequest{WriteOffset: 50, Data: data[50:], FinishWrite: true})
		_, err = stream.CloseAndRecv()
		wantCode(t, "an offset that goes back", err, codes.InvalidArgument)
	})
}

func (s *server) readBlob(d action.Digest) []byte {
	s.t.Helper()
	data, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(d)})
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

func TestRule05Read(t *testing.T) {
	s := start(t, nil)
	data := random(700_000)
	d := action.Sum(action.SHA256, data)
	if _, err := s.write("uploads/u/"+reapi.BlobName(d), 0, true, data); err != nil {
		t.Fatal(err)
	}
	compressed := "compressed-" + strings.Replace(reapi.BlobName(d), "blobs/", "blobs/zstd/", 1)
	for _, c := range []struct{ offset, limit int64 }{{0, 0}, {1, 0}, {0, 1}, {100, 100}, {699_999, 5}, {700_000, 0}, {0, 700_000}, {300_000, 1 << 40}} {
		end := int64(len(data))
		if c.limit > 0 {
			end = min(end, c.offset+c.limit)
		}
		got, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(d), ReadOffset: c.offset, ReadLimit: c.limit})
		if err != nil || !bytes.Equal(got, data[c.offset:end]) {
			t.Errorf("offset %d, limit %d: %d bytes, %v", c.offset, c.limit, len(got), err)
		}
		if c.limit != 0 {
			continue
		}
		got, err = s.readAll(&bytestream.ReadRequest{ResourceName: compressed, ReadOffset: c.offset})
		if err != nil {
			t.Errorf("compressed, offset %d: %v", c.offset, err)
			continue
		}
		r, _ := zstd.NewReader(bytes.NewReader(got))
		if plain, err := io.ReadAll(r); err != nil || !bytes.Equal(plain, data[c.offset:]) {
			t.Errorf("compressed, offset %d: %d bytes, %v", c.offset, len(plain), err)
		}
	}
	for _, c := range []struct {
		req  *bytestream.ReadRequest
		want codes.Code
	}{
		{&bytestream.ReadRequest{ResourceName: reapi.BlobName(d), ReadOffset: 700_001}, codes.OutOfRange},
		{&bytestream.ReadRequest{ResourceName: reapi.BlobName(d), ReadOffset: -1}, codes.OutOfRange},
		{&bytestream.ReadRequest{ResourceName: reapi.BlobName(d), ReadLimit: -1}, codes.InvalidArgument},
		{&bytestream.ReadRequest{ResourceName: compressed, ReadLimit: 5}, codes.InvalidArgument},
		{&bytestream.ReadRequest{ResourceName: reapi.BlobName(action.Sum(action.SHA256, []byte("absent")))}, codes.NotFound},
	} {
		_, err := s.readAll(c.req)
		wantCode(t, c.req.String(), err, c.want)
	}
}

func TestRule06Batches(t *testing.T) {
	s := start(t, nil)
	big := make([]byte, 2<<20)
	d := reapi.ToDigest(action.Sum(action.SHA256, big))
	_, err := s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{
		{Digest: d, Data: big}, {Digest: d, Data: big},
	}})
	wantCode(t, "BatchUpdateBlobs of 4 MiB", err, codes.InvalidArgument)
	s.put(action.SHA256, big) // the control
	_, err = s.cas.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{d, d}})
	wantCode(t, "BatchReadBlobs of 4 MiB", err, codes.InvalidArgument)
	_, err = s.cas.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: []*repb.Digest{
		{Hash: d.Hash, SizeBytes: 1<<63 - 1}, {Hash: d.Hash, SizeBytes: 1<<63 - 1},
	}})
	wantCode(t, "BatchReadBlobs of more than there can be", err, codes.InvalidArgument)

	// Each blob has its own fate.
	good := []byte("good")
	res, err := s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{
		{Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("other"))), Data: []byte("wrong")},
		{Digest: reapi.ToDigest(action.Sum(action.SHA256, good)), Data: good},
		{Digest: d, Data: compress(t, big), Compressor: repb.Compressor_ZSTD},
		{Digest: d, Data: []byte("x"), Compressor: repb.Compressor_BROTLI},
		{Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("bomb"))), Data: compress(t, big), Compressor: repb.Compressor_ZSTD},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []codes.Code{codes.InvalidArgument, codes.OK, codes.OK, codes.InvalidArgument, codes.InvalidArgument} {
		if got := codes.Code(res.Responses[i].Status.GetCode()); got != want {
			t.Errorf("blob %d: %v: %s, want %v", i, got, res.Responses[i].Status.GetMessage(), want)
		}
	}
	absent := reapi.ToDigest(action.Sum(action.SHA256, []byte("absent")))
	read, err := s.cas.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{
		Digests: []*repb.Digest{absent, d}, AcceptableCompressors: []repb.Compressor_Value{repb.Compressor_BROTLI},
	})
	if err != nil || codes.Code(read.Responses[0].Status.GetCode()) != codes.NotFound || !bytes.Equal(read.Responses[1].Data, big) || read.Responses[1].Compressor != repb.Compressor_IDENTITY {
		t.Errorf("BatchReadBlobs: %v", err)
	}
	read, err = s.cas.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{
		Digests: []*repb.Digest{d}, AcceptableCompressors: []repb.Compressor_Value{repb.Compressor_ZSTD},
	})
	if err != nil || read.Responses[0].Compressor != repb.Compressor_ZSTD || len(read.Responses[0].Data) > 1000 {
		t.Errorf("BatchReadBlobs of zeros, zstd accepted: %v", err)
	}
	// An empty batch is how BuildStream asks whether there are batches.
	if _, err := s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{}); err != nil {
		t.Errorf("an empty BatchUpdateBlobs: %v", err)
	}
	if _, err := s.cas.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{}); err != nil {
		t.Errorf("an empty BatchReadBlobs: %v", err)
	}
}

func TestRule07GetTree(t *testing.T) {
	s := start(t, nil)
	f := action.BLAKE3
	leaf := &repb.Directory{Files: []*repb.FileNode{{Name: "f", Digest: s.put(f, []byte("f"))}}}
	var mids []*repb.DirectoryNode
	for i := range 10 {
		m := &repb.Directory{
			Directories: []*repb.DirectoryNode{{Name: "leaf", Digest: s.putMessage(f, leaf)}},
			Symlinks:    []*repb.SymlinkNode{{Name: "l", Target: fmt.Sprint(i)}},
		}
		mids = append(mids, &repb.DirectoryNode{Name: fmt.Sprintf("m%d", i), Digest: s.putMessage(f, m)})
	}
	absent := &repb.DirectoryNode{Name: "z", Digest: reapi.ToDigest(action.Sum(f, []byte("absent")))}
	root := s.putMessage(f, &repb.Directory{Directories: append(mids, absent)})
	get := func(size int32, token string) (pages []*repb.GetTreeResponse, err error) {
		stream, err := s.cas.GetTree(t.Context(), &repb.GetTreeRequest{RootDigest: root, DigestFunction: repb.DigestFunction_BLAKE3, PageSize: size, PageToken: token})
		for err == nil {
			var p *repb.GetTreeResponse
			if p, err = stream.Recv(); err == nil {
				pages = append(pages, p)
			}
		}
		if err == io.EOF {
			err = nil
		}
		return pages, err
	}
	pages, err := get(0, "")
	if err != nil || len(pages) != 1 || len(pages[0].Directories) != 12 || pages[0].NextPageToken != "" {
		t.Fatalf("whole: %d pages, %v", len(pages), err)
	}
	pages, err = get(5, "")
	if err != nil || len(pages) != 3 || len(pages[0].Directories) != 5 {
		t.Fatalf("in pages of 5: %d pages, %v", len(pages), err)
	}
	rest, err := get(5, pages[0].NextPageToken)
	if err != nil || len(rest) != 2 || !proto.Equal(rest[0].Directories[0], pages[1].Directories[0]) {
		t.Errorf("from the second page: %d pages, %v", len(rest), err)
	}
	_, err = get(5, "nonsense")
	wantCode(t, "a token that nobody gave", err, codes.InvalidArgument)
	root = absent.Digest
	_, err = get(0, "")
	wantCode(t, "an absent root", err, codes.NotFound)
}

func TestRule08Execute(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.MaxTimeout = func(string) time.Duration { return time.Hour } })
	t.Run("Stages", func(t *testing.T) {
		s := s.with(t)
		r := s.execute(s.action(call{script: "echo made > out; echo said; echo wrong >&2", command: outputs("out")}))
		if r.err != nil || r.response == nil {
			t.Fatal(r.err)
		}
		for i, op := range r.ops {
			if op.GetError() != nil {
				t.Errorf("Operation.error is set: %v", op.GetError())
			}
			last := i == len(r.ops)-1
			if op.Done != last || (r.stages(t)[i] == repb.ExecutionStage_COMPLETED) != last {
				t.Errorf("operation %d of %d: done %v, stage %v", i, len(r.ops), op.Done, r.stages(t)[i])
			}
		}
		res := r.response.Result
		if string(res.StdoutRaw) != "said\n" || string(res.StderrRaw) != "wrong\n" || res.ExitCode != 0 {
			t.Errorf("result: %v", res)
		}
		if f := output(res, "out"); f == nil || s.read(action.SHA256, f.Digest) != "made\n" {
			t.Errorf("output: %v", f)
		}
		if again := s.succeed(s.action(call{script: "echo made > out; echo said; echo wrong >&2", command: outputs("out")})); !again.CachedResult {
			t.Error("the second time is no hit")
		}
	})
	t.Run("Times", func(t *testing.T) {
		s := s.with(t)
		m := s.succeed(s.action(call{script: ": times"})).Result.ExecutionMetadata
		times := []interface{ AsTime() time.Time }{
			m.QueuedTimestamp, m.WorkerStartTimestamp, m.InputFetchStartTimestamp, m.InputFetchCompletedTimestamp, m.ExecutionStartTimestamp,
			m.ExecutionCompletedTimestamp, m.OutputUploadStartTimestamp, m.OutputUploadCompletedTimestamp, m.WorkerCompletedTimestamp,
		}
		for i, at := range times {
			if at.AsTime().Year() < 2020 || i > 0 && at.AsTime().Before(times[i-1].AsTime()) {
				t.Errorf("time %d of %v", i, m)
			}
		}
		if m.Worker == "" || m.VirtualExecutionDuration == nil {
			t.Errorf("metadata: %v", m)
		}
		used := new(runnerpb.POSIXResourceUsage)
		if len(m.AuxiliaryMetadata) != 1 || m.AuxiliaryMetadata[0].UnmarshalTo(used) != nil || used.MaximumResidentSetSize == 0 {
			t.Errorf("auxiliary_metadata: %v", m.AuxiliaryMetadata)
		}
	})
	t.Run("Missing", func(t *testing.T) {
		s := s.with(t)
		node := func(name string) *repb.FileNode {
			return &repb.FileNode{Name: name, Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing "+name)))}
		}
		r := s.execute(s.action(call{script: "true", root: &repb.Directory{
			Directories: []*repb.DirectoryNode{{Name: "d", Digest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing d")))}},
			Files:       []*repb.FileNode{node("f"), node("g")},
		}}))
		if r.err != nil || r.response == nil {
			t.Fatal(r.err)
		}
		wantMissing(t, status.FromProto(r.response.Status), "missing d", "missing f", "missing g")
		r = s.execute(reapi.ToDigest(action.Sum(action.SHA256, []byte("missing action"))))
		wantMissing(t, status.Convert(r.err), "missing action")
		a := s.putMessage(action.SHA256, &repb.Action{
			CommandDigest: reapi.ToDigest(action.Sum(action.SHA256, []byte("missing command"))), InputRootDigest: s.put(action.SHA256, nil),
		})
		r = s.execute(a)
		wantMissing(t, status.Convert(r.err), "missing command")
	})
	t.Run("Timeout", func(t *testing.T) {
		s := s.with(t)
		d := s.action(call{script: "echo begun; echo part > out; sleep 1000 & sleep 1000", command: outputs("out"), action: timeout(300 * time.Millisecond)})
		r := s.execute(d)
		if r.err != nil || r.response == nil || codes.Code(r.response.Status.GetCode()) != codes.DeadlineExceeded {
			t.Fatalf("%v, %v", r.response, r.err)
		}
		if string(r.response.Result.StdoutRaw) != "begun\n" || output(r.response.Result, "out") == nil {
			t.Errorf("what was there is not attached: %v", r.response.Result)
		}
		_, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
		wantCode(t, "the result of a time-out", err, codes.NotFound)
		r = s.execute(s.action(call{script: "true", action: timeout(2 * time.Hour)}))
		wantCode(t, "more time than the server allows", r.err, codes.InvalidArgument)
		r = s.execute(s.action(call{script: "true", action: timeout(-time.Second)}))
		wantCode(t, "a negative time", r.err, codes.InvalidArgument)
	})
	t.Run("Failed", func(t *testing.T) {
		s := s.with(t)
		d := s.action(call{script: "echo part > out; exit 7", command: outputs("out")})
		for range 2 {
			res := s.succeed(d)
			if res.Result.ExitCode != 7 || res.CachedResult || output(res.Result, "out") == nil {
				t.Errorf("%v", res)
			}
		}
		if res := s.succeed(s.action(call{script: "kill -9 $$"})); res.Result.ExitCode != 128+9 {
			t.Errorf("killed by signal 9: exit code %d", res.Result.ExitCode)
		}
		if res := s.succeed(s.action(call{args: []string{"no-such-program"}})); res.Result.ExitCode != 127 || !strings.Contains(res.Message, "could not be started") {
			t.Errorf("a program that is not there: %v", res)
		}
	})
	t.Run("MalformedInputs", func(t *testing.T) {
		s := s.with(t)
		file := s.put(action.SHA256, []byte("x"))
		for name, root := range map[string]*repb.Directory{
			"a slash":   {Files: []*repb.FileNode{{Name: "a/b", Digest: file}}},
			"dot dot":   {Files: []*repb.FileNode{{Name: "..", Digest: file}}},
			"unsorted":  {Files: []*repb.FileNode{{Name: "b", Digest: file}, {Name: "a", Digest: file}}},
			"twice":     {Files: []*repb.FileNode{{Name: "a", Digest: file}}, Symlinks: []*repb.SymlinkNode{{Name: "a", Target: "b"}}},
			"no digest": {Files: []*repb.FileNode{{Name: "a"}}},
		} {
			r := s.execute(s.action(call{script: "true", root: root}))
			if codes.Code(r.response.GetStatus().GetCode()) != codes.InvalidArgument {
				t.Errorf("%s: %v, %v", name, r.response, r.err)
			}
		}
		// A directory that is in itself cannot be made, but a file can lie about it.
		r := s.execute(s.action(call{script: "true", root: &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "d", Digest: file}}}}))
		if codes.Code(r.response.GetStatus().GetCode()) != codes.InvalidArgument {
			t.Errorf("a file as a directory: %v, %v", r.response, r.err)
		}
	})
	t.Run("Queue", func(t *testing.T) {
		s := start(t, func(o *execution.Options) { o.Jobs, o.MaxQueue = 1, 1 })
		gate := s.hold(t)
		waiting, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: ": waits"})})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := waiting.Recv(); err != nil {
			t.Fatal(err)
		}
		r := s.execute(s.action(call{script: ": too many"}))
		wantCode(t, "an action too many", r.err, codes.ResourceExhausted)
		if !slices.ContainsFunc(status.Convert(r.err).Details(), func(d any) bool { _, ok := d.(*errdetails.RetryInfo); return ok }) {
			t.Error("it does not say when to try again")
		}
		gate()
		if r := follow(waiting, nil); r.response == nil {
			t.Errorf("the one that waited: %v", r.err)
		}
	})
}

// hold fills one slot of the server until the function that it returns is
// called.
func (s *server) hold(t *testing.T) (release func()) {
	t.Helper()
	stream, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{
		script: "sleep 1000", action: func(a *repb.Action) { a.DoNotCache, a.Salt = true, random(8) },
	})})
	if err != nil {
		t.Fatal(err)
	}
	for {
		op, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		meta := new(repb.ExecuteOperationMetadata)
		if err := op.Metadata.UnmarshalTo(meta); err != nil {
			t.Fatal(err)
		}
		if meta.Stage == repb.ExecutionStage_EXECUTING {
			return sync.OnceFunc(func() {
				if _, err := s.ops.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: op.Name}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func outputs(list ...string) func(*repb.Command) {
	return func(c *repb.Command) { c.OutputPaths = list }
}

func timeout(d time.Duration) func(*repb.Action) {
	return func(a *repb.Action) { a.Timeout = durationpb.New(d) }
}

// wantMissing wants the error of an action that lacks the blobs with these
// contents.
func wantMissing(t *testing.T, st *status.Status, contents ...string) {
	t.Helper()
	if st.Code() != codes.FailedPrecondition {
		t.Errorf("%v, want FAILED_PRECONDITION", st)
	}
	var got, want []string
	for _, d := range st.Details() {
		if p, ok := d.(*errdetails.PreconditionFailure); ok {
			for _, v := range p.Violations {
				got = append(got, v.Type+" "+v.Subject)
			}
		}
	}
	for _, c := range contents {
		want = append(want, "MISSING "+reapi.BlobName(action.Sum(action.SHA256, []byte(c))))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("violations %q, want %q", got, want)
	}
}

func TestRule09DoNotCache(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.Jobs = 3 })
	never := s.action(call{script: "cat /proc/sys/kernel/random/uuid", action: func(a *repb.Action) { a.DoNotCache = true }})
	one, two := s.succeed(never), s.succeed(never)
	if one.CachedResult || two.CachedResult || bytes.Equal(one.Result.StdoutRaw, two.Result.StdoutRaw) {
		t.Errorf("do_not_cache: %v, %v", one, two)
	}
	_, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: never})
	wantCode(t, "the result of do_not_cache", err, codes.NotFound)

	// In flight: equal actions are one, but not with do_not_cache.
	for _, c := range []struct {
		name       string
		doNotCache bool
		skip       bool
		runs       int
	}{{"Merged", false, false, 1}, {"MergedSkipLookup", false, true, 1}, {"Apart", true, false, 3}} {
		t.Run(c.name, func(t *testing.T) {
			s := s.with(t)
			d := s.action(call{script: "sleep 0.5; cat /proc/sys/kernel/random/uuid", action: func(a *repb.Action) {
				a.DoNotCache, a.Salt = c.doNotCache, []byte(c.name)
			}})
			var mu sync.Mutex
			seen := map[string]bool{}
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					r := s.execute(d, func(r *repb.ExecuteRequest) { r.SkipCacheLookup = c.skip })
					mu.Lock()
					defer mu.Unlock()
					if r.err != nil || r.response.GetResult() == nil {
						t.Errorf("%v, %v", r.response, r.err)
						return
					}
					seen[string(r.response.Result.StdoutRaw)] = true
				})
			}
			all.Wait()
			if len(seen) != c.runs {
				t.Errorf("it ran %d times, want %d", len(seen), c.runs)
			}
		})
	}
	// skip_cache_lookup runs it again and replaces the result.
	d := s.action(call{script: "cat /proc/sys/kernel/random/uuid"})
	first := s.succeed(d)
	second := s.succeed(d, func(r *repb.ExecuteRequest) { r.SkipCacheLookup = true })
	third := s.succeed(d)
	if second.CachedResult || bytes.Equal(first.Result.StdoutRaw, second.Result.StdoutRaw) {
		t.Errorf("skip_cache_lookup: %v", second)
	}
	if !third.CachedResult || !bytes.Equal(third.Result.StdoutRaw, second.Result.StdoutRaw) {
		t.Errorf("after skip_cache_lookup: %v, want %v", third, second)
	}
}

func TestRule10WaitExecution(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.KeepAlive = 20 * time.Millisecond })
	r := follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: "operations/none"}))
	wantCode(t, "an operation that is not known", r.err, codes.NotFound)

	done := s.execute(s.action(call{script: ": done"}))
	r = follow(s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: done.name()}))
	if r.err != nil || len(r.ops) != 1 || !proto.Equal(r.response, done.response) {
		t.Errorf("of one that is done: %v, %v", r.ops, r.err)
	}

	// The first message comes at once; then come updates though nothing changes.
	stream, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: "sleep 1000", action: func(a *repb.Action) { a.DoNotCache = true }})})
	if err != nil {
		t.Fatal(err)
	}
	op, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	wait, err := s.exec.WaitExecution(t.Context(), &repb.WaitExecutionRequest{Name: op.Name})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, err := wait.Recv(); err != nil || again.Name != op.Name || again.Done {
			t.Fatalf("%v, %v", again, err)
		}
	}
	if _, err := s.ops.CancelOperation(t.Context(), &longrunningpb.CancelOperationRequest{Name: op.Name}); err != nil {
		t.Fatal(err)
	}
	if r := follow(wait, nil); codes.Code(r.response.GetStatus().GetCode()) != codes.Canceled {
		t.Errorf("after the operation was cancelled: %v, %v", r.response, r.err)
	}
}

func TestRule11Command(t *testing.T) {
	s := start(t, nil)
	script := "#!/bin/sh\necho ran $0 in $PWD\n"
	tool := &repb.FileNode{Name: "tool", Digest: s.put(action.SHA256, []byte(script)), IsExecutable: true}
	dir := s.putMessage(action.SHA256, &repb.Directory{Files: []*repb.FileNode{tool}})
	root := &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "sub", Digest: dir}}, Files: []*repb.FileNode{tool}}
	for _, c := range []struct {
		name, work string
		args       []string
		env        map[string]string
		want       string
	}{
		{"relative to the working directory", "sub", []string{"./tool"}, nil, "ran ./tool in /build/sub"},
		{"below it", "", []string{"sub/tool"}, nil, "ran sub/tool in /build"},
		{"absolute", "", []string{"/build/sub/tool"}, nil, "ran /build/sub/tool in /build"},
		{"on PATH", "", []string{"tool"}, map[string]string{"PATH": "/build/sub:/usr/bin:/bin"}, "ran /build/sub/tool in /build"},
		{"on PATH that is not given", "", []string{"echo", "found"}, nil, "found"},
		{"a working directory that is not there", "made/for/it", []string{"pwd"}, nil, "/build/made/for/it"},
		{"the working directory .", ".", []string{"pwd"}, nil, "/build"},
		{"variables in no order", "", []string{"sh", "-c", "echo $Z$A"}, map[string]string{"Z": "1", "A": "2"}, "12"},
	} {
		d := s.action(call{args: c.args, root: root, command: func(m *repb.Command) {
			m.WorkingDirectory = c.work
			for _, name := range slices.Backward(sortedKeys(c.env)) {
				m.EnvironmentVariables = append(m.EnvironmentVariables, &repb.Command_EnvironmentVariable{Name: name, Value: c.env[name]})
			}
		}})
		if res := s.succeed(d); strings.TrimSpace(string(res.Result.StdoutRaw)) != c.want {
			t.Errorf("%s: %q %q, want %q; %s", c.name, res.Result.StdoutRaw, res.Result.StderrRaw, c.want, res.Message)
		}
	}
	// Parents of outputs are there, outputs themselves are not.
	res := s.succeed(s.action(call{script: "echo made > a/b/out; ls -d a/b e 2>/dev/null; ls -d c/d || :", command: outputs("a/b/out", "c/d", "e/x")})).Result
	if output(res, "a/b/out") == nil || string(res.StdoutRaw) != "a/b\ne\n" {
		t.Errorf("parents of outputs: %v", res)
	}
	// Old lists, and output_paths wins.
	old := func(c *repb.Command) { c.OutputFiles, c.OutputDirectories = []string{"f"}, []string{"d"} }
	make := "mkdir d; echo f > f; echo g > g; echo x > d/x"
	res = s.succeed(s.action(call{script: make, command: old})).Result
	if len(res.OutputFiles) != 1 || len(res.OutputDirectories) != 1 || output(res, "f") == nil || res.OutputDirectories[0].Path != "d" {
		t.Errorf("output_files and output_directories: %v", res)
	}
	res = s.succeed(s.action(call{script: make, command: func(c *repb.Command) { old(c); c.OutputPaths = []string{"g"} }})).Result
	if len(res.OutputFiles) != 1 || len(res.OutputDirectories) != 0 || output(res, "g") == nil {
		t.Errorf("output_paths beside the old lists: %v", res)
	}
	r := s.execute(s.action(call{script: "mkdir f", command: old}))
	if codes.Code(r.response.GetStatus().GetCode()) != codes.FailedPrecondition {
		t.Errorf("a directory where output_files wants a file: %v, %v", r.response, r.err)
	}
	// "" is the whole working directory.
	res = s.succeed(s.action(call{script: "mkdir d; echo x > d/x", files: map[string]string{"in": "in"}, command: outputs("")})).Result
	if len(res.OutputDirectories) != 1 || res.OutputDirectories[0].Path != "" {
		t.Errorf("the whole working directory: %v", res)
	}
	for name, bad := range map[string]func(*repb.Command){
		"no arguments":          func(c *repb.Command) { c.Arguments = nil },
		"an absolute output":    outputs("/etc/passwd"),
		"an output outside":     outputs("../x"),
		"an absolute directory": func(c *repb.Command) { c.WorkingDirectory = "/etc" },
		"a directory outside":   func(c *repb.Command) { c.WorkingDirectory = "../.." },
		"a variable twice": func(c *repb.Command) {
			c.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "A"}, {Name: "A"}}
		},
		"a variable without name":  func(c *repb.Command) { c.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Value: "A"}} },
		"an output that ends in /": outputs("a/"),
	} {
		r := s.execute(s.action(call{script: "true", command: bad}))
		wantCode(t, name, r.err, codes.InvalidArgument)
	}
}

func TestRule12Outputs(t *testing.T) {
	s := start(t, nil)
	res := s.succeed(s.action(call{
		script:  "mkdir dir; echo x > dir/f; chmod 755 dir/f; ln -s f dir/l; cp -r dir dir/again; ln -s dir tolink; ln -s nowhere dangling; ln -s /abs/olute absolute; echo x > plain; chmod 644 plain",
		command: outputs("absolute", "dangling", "dir", "missing", "plain", "tolink"),
	})).Result
	targets := map[string]string{}
	for _, l := range res.OutputSymlinks {
		targets[l.Path] = l.Target
	}
	if want := map[string]string{"absolute": "/abs/olute", "dangling": "nowhere", "tolink": "dir"}; !maps.Equal(targets, want) {
		t.Errorf("output_symlinks: %v, want %v", targets, want)
	}
	var files, dirs []string
	for _, l := range oldFileLinks(res) {
		files = append(files, l.Path)
	}
	for _, l := range oldDirLinks(res) {
		dirs = append(dirs, l.Path)
	}
	if !slices.Equal(files, []string{"absolute", "dangling"}) || !slices.Equal(dirs, []string{"tolink"}) {
		t.Errorf("for REAPI 2.0: output_file_symlinks %q, output_directory_symlinks %q", files, dirs)
	}
	if f := output(res, "plain"); f == nil || f.IsExecutable {
		t.Errorf("plain: %v", f)
	}
	if len(res.OutputDirectories) != 1 || len(res.OutputFiles) != 1 {
		t.Fatalf("%v", res)
	}
	dir := res.OutputDirectories[0]
	data := s.read(action.SHA256, dir.TreeDigest)
	tree := new(repb.Tree)
	if err := proto.Unmarshal([]byte(data), tree); err != nil {
		t.Fatal(err)
	}
	if !dir.IsTopologicallySorted || data[0] != 0x0a || len(tree.Children) != 1 || tree.Root.Symlinks[0].Target != "f" || !tree.Root.Files[0].IsExecutable {
		t.Errorf("tree: %v, %v", dir, tree)
	}
	// The three formats; one that is not known counts as TREE_ONLY.
	for format, want := range map[int32][2]bool{0: {true, false}, 1: {false, true}, 2: {true, true}, 9: {true, false}} {
		res := s.succeed(s.action(call{script: "mkdir d; echo x > d/x", command: func(c *repb.Command) {
			c.OutputPaths, c.OutputDirectoryFormat = []string{"d"}, repb.Command_OutputDirectoryFormat(format)
		}})).Result
		if got := [2]bool{res.OutputDirectories[0].TreeDigest != nil, res.OutputDirectories[0].RootDirectoryDigest != nil}; got != want {
			t.Errorf("output_directory_format %d: tree and root %v, want %v", format, got, want)
		}
	}
	r := s.execute(s.action(call{script: "true", command: func(c *repb.Command) { c.OutputNodeProperties = []string{"colour"} }}))
	wantCode(t, "a node property that is not known", r.err, codes.InvalidArgument)
	r = s.execute(s.action(call{script: "mkfifo out", command: outputs("out")}))
	if codes.Code(r.response.GetStatus().GetCode()) != codes.FailedPrecondition || !strings.Contains(r.response.Status.Message, "named pipe") {
		t.Errorf("a named pipe as output: %v, %v", r.response, r.err)
	}
}

func TestRule13AbsoluteSymlinks(t *testing.T) {
	s := start(t, nil)
	caps, err := s.caps.GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil || caps.CacheCapabilities.SymlinkAbsolutePathStrategy != repb.SymlinkAbsolutePathStrategy_ALLOWED {
		t.Fatalf("%v, %v", caps, err)
	}
	res := s.succeed(s.action(call{script: "readlink in; ln -s /etc/x out", command: outputs("out"), root: &repb.Directory{
		Symlinks: []*repb.SymlinkNode{{Name: "in", Target: "/etc/absolute"}},
	}})).Result
	if string(res.StdoutRaw) != "/etc/absolute\n" || len(res.OutputSymlinks) != 1 || res.OutputSymlinks[0].Target != "/etc/x" {
		t.Errorf("%v", res)
	}
}

func TestRule14Inline(t *testing.T) {
	s := start(t, nil)
	d := s.action(call{
		script:  "head -c 100000 /dev/zero; head -c 6000000 /dev/zero >&2; echo small > small; head -c 6000000 /dev/zero > large",
		command: outputs("large", "small"),
	})
	want := func(what string, res *repb.ActionResult, stdout, small bool) {
		t.Helper()
		if got := len(res.StdoutRaw) == 100_000; got != stdout {
			t.Errorf("%s: stdout_raw has %d bytes", what, len(res.StdoutRaw))
		}
		if got := string(output(res, "small").Contents) == "small\n"; got != small {
			t.Errorf("%s: small is %q", what, output(res, "small").Contents)
		}
		if len(res.StderrRaw) > 0 || len(output(res, "large").Contents) > 0 || proto.Size(res) > 4<<20 {
			t.Errorf("%s: what does not fit is inside", what)
		}
		if res.StdoutDigest == nil || res.StderrDigest.GetSizeBytes() != 6_000_000 {
			t.Errorf("%s: the digests are not there", what)
		}
	}
	all := func(r *repb.ExecuteRequest) {
		r.InlineStdout, r.InlineStderr, r.InlineOutputFiles = true, true, []string{"large", "small"}
	}
	want("Execute", s.succeed(d, all).Result, true, true)
	want("Execute, cached", s.succeed(d, all).Result, true, true)
	want("Execute without hints", s.succeed(d).Result, false, false)
	res, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InlineStdout: true, InlineStderr: true, InlineOutputFiles: []string{"small", "large"}})
	if err != nil {
		t.Fatal(err)
	}
	want("GetActionResult", res, true, true)
}

func TestRule15UpdateActionResult(t *testing.T) {
	s := start(t, nil)
	d := reapi.ToDigest(action.Sum(action.SHA256, []byte("some action")))
	file := reapi.ToDigest(action.Sum(action.SHA256, []byte("output")))
	m := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "b", Digest: file}, {Path: "a", Digest: file}}, ExitCode: 3, StdoutRaw: []byte("hello")}
	_, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m})
	wantCode(t, "a result that names a blob that is not there", err, codes.FailedPrecondition)
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	wantCode(t, "that result", err, codes.NotFound)
	s.put(action.SHA256, []byte("output"))
	if _, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: m}); err != nil {
		t.Fatal(err)
	}
	got, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	if err != nil || len(got.OutputFiles) != 2 || got.ExitCode != 3 || string(got.StdoutRaw) != "hello" {
		t.Errorf("%v, %v", got, err)
	}
	// Another instance does not see it.
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d, InstanceName: "other"})
	wantCode(t, "in another instance", err, codes.NotFound)
	// Complete hits only.
	if err := os.Remove(filepath.Join(s.store.BlobDir(), s.store.BlobPath(action.Sum(action.SHA256, []byte("output"))))); err != nil {
		t.Fatal(err)
	}
	_, err = s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	wantCode(t, "after its output is gone", err, codes.NotFound)
	_, err = s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d})
	wantCode(t, "no result", err, codes.InvalidArgument)
}

func TestRule16FindMissing(t *testing.T) {
	s := start(t, nil)
	have := s.put(action.SHA256, []byte("have"))
	path := filepath.Join(s.store.BlobDir(), s.store.BlobPath(action.Sum(action.SHA256, []byte("have"))))
	old := time.Now().Add(-5 * time.Hour)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, old, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	var ask []*repb.Digest
	for i := range 1000 {
		ask = append(ask, reapi.ToDigest(action.Sum(action.SHA256, fmt.Append(nil, i))))
	}
	res, err := s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: append(ask, have)})
	if err != nil || len(res.MissingBlobDigests) != 1000 {
		t.Errorf("%d are missing, %v", len(res.GetMissingBlobDigests()), err)
	}
	if at := accessTime(t, path); time.Since(at) > time.Hour {
		t.Errorf("it counts as last used %v ago: its life was not made longer", time.Since(at))
	}
	_, err = s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{have, {Hash: strings.Repeat("a", 40), SizeBytes: 1}}})
	wantCode(t, "two digest functions in one request", err, codes.InvalidArgument)
}

// TestRule18SHA256Tree stores a blob under one of the published digests of the
// function; package sha256tree has them all.
func TestRule18SHA256Tree(t *testing.T) {
	s := start(t, nil)
	data := make([]byte, 2048)
	for i := range data {
		data[i] = byte(i % 251)
	}
	const hash = "b584996386f01793751c5cf0c39561f51b7e9924b818943b3cb2f6928cea0fa9"
	if d := s.put(action.SHA256Tree, data); d.Hash != hash {
		t.Errorf("hash %s, want %s", d.Hash, hash)
	}
	got, err := s.readAll(&bytestream.ReadRequest{ResourceName: "blobs/sha256tree/" + hash + "/2048"})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestEveryFunctionRuns runs an action with each digest function that
// GetCapabilities says actions can have.
func TestEveryFunctionRuns(t *testing.T) {
	s := start(t, nil)
	everyFunction(t, func(t *testing.T, f action.Function) {
		s := s.with(t)
		d := s.action(call{f: f, script: "cat in; mkdir d; cp in d/out", files: map[string]string{"in": "through " + f.String()}, command: outputs("d")})
		with := func(r *repb.ExecuteRequest) { r.DigestFunction = reapi.ToFunction(f) }
		if !execution.CanRun(f) {
			wantCode(t, "Execute", s.execute(d, with).err, codes.InvalidArgument)
			return
		}
		for _, cached := range []bool{false, true} {
			res := s.succeed(d, with)
			tree := new(repb.Tree)
			if err := proto.Unmarshal([]byte(s.read(f, res.Result.OutputDirectories[0].TreeDigest)), tree); err != nil {
				t.Fatal(err)
			}
			if got := s.read(f, tree.Root.Files[0].Digest); res.CachedResult != cached || got != "through "+f.String() || string(res.Result.StdoutRaw) != got {
				t.Errorf("cached %v: %v, output %q", cached, res, got)
			}
		}
	})
}

func TestRule19Platform(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.IgnoreProperties = []string{"Pool"} })
	run := func(props ...string) error {
		t.Helper()
		p := &repb.Platform{}
		for _, prop := range props {
			name, value, _ := strings.Cut(prop, "=")
			p.Properties = append(p.Properties, &repb.Platform_Property{Name: name, Value: value})
		}
		r := s.execute(s.action(call{script: "true", action: func(a *repb.Action) { a.Platform = p }}))
		return r.err
	}
	for _, props := range [][]string{{"OSFamily=linux"}, {"OSFamily=Linux"}, {"Pool=default"}, {"rootfs=host"}, {"container-image=host", "OSFamily=linux"}} {
		if err := run(props...); err != nil {
			t.Errorf("%q: %v", props, err)
		}
	}
	for want, list := range map[codes.Code][]string{
		codes.FailedPrecondition: {"OSFamily=windows", "ISA=sparc", "rootfs=nobody-gave-this-name"},
		codes.InvalidArgument:    {"gpu=yes"},
	} {
		for _, prop := range list {
			err := run(prop)
			wantCode(t, prop, err, want)
			if name, _, _ := strings.Cut(prop, "="); err != nil && !strings.Contains(err.Error(), name) && name != "rootfs" {
				t.Errorf("%s: the error does not name it: %v", prop, err)
			}
		}
	}
	// Clients before 2.2 say it in the command; where both do, the action's counts.
	for inCommand, want := range map[bool]codes.Code{true: codes.FailedPrecondition, false: codes.OK} {
		r := s.execute(s.action(call{
			script:  "true",
			command: func(c *repb.Command) { setOldPlatform(c, "OSFamily", "windows") },
			action: func(a *repb.Action) {
				if !inCommand {
					a.Platform = &repb.Platform{Properties: []*repb.Platform_Property{{Name: "OSFamily", Value: "linux"}}}
				}
			},
		}))
		wantCode(t, fmt.Sprintf("platform in the command, in the action too: %v", !inCommand), r.err, want)
	}
}

// TestNodeProperties gives files, links and directories times and modes of
// their own, in a small tree, which is copied, and in a large one, which is not,
// and wants those of outputs.
func TestNodeProperties(t *testing.T) {
	s := start(t, nil)
	own := func(seconds int64, mode uint32) *repb.NodeProperties {
		return &repb.NodeProperties{Mtime: &timestamppb.Timestamp{Seconds: seconds}, UnixMode: wrapperspb.UInt32(mode)}
	}
	data := s.put(action.SHA256, []byte("content"))
	for _, others := range []int{0, 1000} {
		sub := &repb.Directory{
			Files:          []*repb.FileNode{{Name: "f", Digest: data, NodeProperties: own(1_500_000_001, 0o640)}},
			Symlinks:       []*repb.SymlinkNode{{Name: "l", Target: "f", NodeProperties: own(1_500_000_002, 0o777)}},
			NodeProperties: own(1_500_000_003, 0o750),
		}
		many := &repb.Directory{}
		for i := range others {
			many.Files = append(many.Files, &repb.FileNode{Name: fmt.Sprintf("%04d", i), Digest: data})
		}
		root := &repb.Directory{
			Directories: []*repb.DirectoryNode{{Name: "many", Digest: s.putMessage(action.SHA256, many)}, {Name: "sub", Digest: s.putMessage(action.SHA256, sub)}},
			Files: []*repb.FileNode{
				{Name: "plain", Digest: data},
				{Name: "suid", Digest: data, IsExecutable: true, NodeProperties: own(1_500_000_004, 0o4755)},
			},
		}
		res := s.succeed(s.action(call{script: "stat -c '%n %Y %a' sub/f sub/l sub plain suid; cat sub/f; ls many | wc -l", root: root})).Result
		want := fmt.Sprintf("sub/f 1500000001 640\nsub/l 1500000002 777\nsub 1500000003 750\nplain %d 644\nsuid 1500000004 755\ncontent%d\n", staging.MTime, others)
		if string(res.StdoutRaw) != want {
			t.Errorf("with %d other files: %s, want %s; %s", others, res.StdoutRaw, want, res.StderrRaw)
		}
	}
	res := s.succeed(s.action(call{
		script: "echo x > f; chmod 640 f; touch -d @1400000001 f; mkdir d; echo y > d/f; chmod 751 d/f; touch -d @1400000002 d/f; ln -s f l",
		command: func(c *repb.Command) {
			c.OutputPaths, c.OutputNodeProperties = []string{"d", "f", "l"}, []string{"mtime", "unix_mode"}
		},
	})).Result
	f := output(res, "f").NodeProperties
	tree := new(repb.Tree)
	if err := proto.Unmarshal([]byte(s.read(action.SHA256, res.OutputDirectories[0].TreeDigest)), tree); err != nil {
		t.Fatal(err)
	}
	below := tree.Root.Files[0].NodeProperties
	if f.GetMtime().GetSeconds() != 1_400_000_001 || f.GetUnixMode().GetValue() != 0o640 || below.GetMtime().GetSeconds() != 1_400_000_002 ||
		below.GetUnixMode().GetValue() != 0o751 || tree.Root.NodeProperties.GetMtime() == nil || res.OutputSymlinks[0].NodeProperties.GetMtime() == nil {
		t.Errorf("%v, %v", res, tree)
	}
	if res := s.succeed(s.action(call{script: "echo x > f", command: outputs("f")})).Result; output(res, "f").NodeProperties != nil {
		t.Errorf("properties that nobody wants: %v", res)
	}
}

// TestHostIsInTheKey changes a file of the host that an action has read: its
// result is not found any more, though its digest is the same. Only root can
// put a file where actions see it.
func TestHostIsInTheKey(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("an ordinary user cannot change what actions see of the host")
		return
	}
	file, err := os.CreateTemp("/opt", "sbx-reapi-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file.Name())
	change := func(text string, age time.Duration) {
		t.Helper()
		at := time.Now().Add(-age) // what is younger than the run may have changed during it
		if err := errors.Join(file.Truncate(0), file.Chmod(0o644), os.WriteFile(file.Name(), []byte(text), 0o644), os.Chtimes(file.Name(), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	change("first", time.Hour)
	time.Sleep(50 * time.Millisecond) // its change must not seem to be of the time of the run
	s := start(t, nil)
	d := s.action(call{script: "cat " + file.Name()})
	if res := s.succeed(d); string(res.Result.StdoutRaw) != "first" || res.Message != "" {
		t.Fatalf("%v", res)
	}
	get := func() (*repb.ActionResult, error) {
		return s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d})
	}
	if res, err := get(); err != nil || string(res.StdoutRaw) != "first" {
		t.Fatalf("control: %v, %v", res, err)
	}
	change("other", 2*time.Hour)
	_, err = get()
	wantCode(t, "after the file has changed", err, codes.NotFound)
	if res := s.succeed(d); res.CachedResult || string(res.Result.StdoutRaw) != "other" {
		t.Errorf("%v", res)
	}
	change("first", time.Hour)
	if res, err := get(); err != nil || string(res.StdoutRaw) != "first" {
		t.Errorf("after the file is as it was: %v, %v", res, err)
	}
}
