package reapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/httpcache"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

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
	squeezed := &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: compress(t, big), Compressor: repb.Compressor_ZSTD}
	_, err = s.cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{squeezed, squeezed}})
	wantCode(t, "BatchUpdateBlobs of what becomes 4 MiB", err, codes.InvalidArgument)
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

// TestSmallBlobsStayPacked reads a small blob in every way that there is: none needs
// a file of its own for it.
func TestSmallBlobsStayPacked(t *testing.T) {
	s := start(t, nil)
	data := []byte("small, and read often")
	d := action.Sum(action.SHA256, data)
	s.put(action.SHA256, data)
	web := httptest.NewServer(&httpcache.Handler{Store: s.store})
	defer web.Close()
	if got, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(d), ReadOffset: 7, ReadLimit: 3}); err != nil || string(got) != "and" {
		t.Errorf("Read: %q, %v", got, err)
	}
	squeezed, err := s.readAll(&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + d.Hash() + "/" + strconv.Itoa(len(data))})
	if got, bad := squeeze.Expand(squeezed, d.Size()); err != nil || bad != nil || !bytes.Equal(got, data) {
		t.Errorf("Read as zstd: %q, %v, %v", got, err, bad)
	}
	res, err := http.Get(web.URL + "/cas/" + d.Hash())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, data) {
		t.Errorf("GET: %q, %v", got, err)
	}
	if got := s.read(action.SHA256, reapi.ToDigest(d)); got != string(data) {
		t.Errorf("BatchReadBlobs: %q", got)
	}
	chunks, err := s.cas.SplitBlob(t.Context(), &repb.SplitBlobRequest{BlobDigest: reapi.ToDigest(d)})
	if err != nil || len(chunks.ChunkDigests) != 1 {
		t.Errorf("SplitBlob: %v, %v", chunks, err)
	}
	path := filepath.Join(s.store.BlobDir(), s.store.BlobPath(d))
	if _, err := os.Lstat(path); err == nil {
		t.Error("it has a file")
	}
	if file, err := s.store.Open(t.Context(), d); err != nil { // the control
		t.Error(err)
	} else {
		file.Close()
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestRule16FindMissing(t *testing.T) {
	s := start(t, nil)
	content := bytes.Repeat([]byte("have"), 2000) // more than is packed
	have := s.put(action.SHA256, content)
	path := filepath.Join(s.store.BlobDir(), s.store.BlobPath(action.Sum(action.SHA256, content)))
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
	res, err := s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: slices.Insert(slices.Clone(ask), 700, have)})
	if err != nil || !proto.Equal(res, &repb.FindMissingBlobsResponse{MissingBlobDigests: ask}) {
		t.Errorf("%d are missing, %v; want the others, in their order", len(res.GetMissingBlobDigests()), err)
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
