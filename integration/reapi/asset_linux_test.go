package reapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	assetpb "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
)

func TestRule20Assets(t *testing.T) {
	s := start(t, nil)
	ctx := t.Context()
	// No URI: INVALID_ARGUMENT, which is how BuildStream finds out that there is
	// an asset cache.
	_, err := s.fetch.FetchBlob(ctx, &assetpb.FetchBlobRequest{})
	wantCode(t, "FetchBlob without a URI", err, codes.InvalidArgument)
	_, err = s.fetch.FetchDirectory(ctx, &assetpb.FetchDirectoryRequest{})
	wantCode(t, "FetchDirectory without a URI", err, codes.InvalidArgument)
	_, err = s.push.PushBlob(ctx, &assetpb.PushBlobRequest{})
	wantCode(t, "PushBlob without a URI", err, codes.InvalidArgument)
	_, err = s.push.PushDirectory(ctx, &assetpb.PushDirectoryRequest{})
	wantCode(t, "PushDirectory without a URI", err, codes.InvalidArgument)

	uris := []string{"urn:fdc:buildstream.build:2020:v1:a", "urn:b"}
	file := s.put(action.SHA256, []byte("in the directory"))
	sub := s.putMessage(action.SHA256, &repb.Directory{Files: []*repb.FileNode{{Name: "f", Digest: file}}})
	root := s.putMessage(action.SHA256, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "d", Digest: sub}}})
	branch := []*assetpb.Qualifier{{Name: "vcs.branch", Value: "main"}, {Name: "resource_type", Value: "x"}}
	_, err = s.fetch.FetchDirectory(ctx, &assetpb.FetchDirectoryRequest{Uris: uris})
	wantCode(t, "FetchDirectory of what nobody has pushed", err, codes.NotFound)
	if _, err := s.push.PushDirectory(ctx, &assetpb.PushDirectoryRequest{Uris: uris, Qualifiers: branch, RootDirectoryDigest: root, ReferencesBlobs: []*repb.Digest{file}}); err != nil {
		t.Fatal(err)
	}
	get := func(q ...*assetpb.Qualifier) (*assetpb.FetchDirectoryResponse, error) {
		return s.fetch.FetchDirectory(ctx, &assetpb.FetchDirectoryRequest{Uris: []string{"urn:none", "urn:b"}, Qualifiers: q})
	}
	// Qualifiers in any order, and not without them.
	res, err := get(branch[1], branch[0])
	if err != nil || codes.Code(res.Status.GetCode()) != codes.OK || res.Uri != "urn:b" || !proto.Equal(res.RootDirectoryDigest, root) {
		t.Errorf("%v, %v", res, err)
	}
	_, err = get()
	wantCode(t, "without its qualifiers", err, codes.NotFound)
	_, err = s.fetch.FetchBlob(ctx, &assetpb.FetchBlobRequest{Uris: uris, Qualifiers: branch})
	wantCode(t, "a directory as a blob", err, codes.NotFound)
	_, err = s.fetch.FetchDirectory(ctx, &assetpb.FetchDirectoryRequest{Uris: uris, Qualifiers: branch, InstanceName: "other"})
	wantCode(t, "in another instance", err, codes.NotFound)
	_, err = s.fetch.FetchDirectory(ctx, &assetpb.FetchDirectoryRequest{Uris: uris, Qualifiers: branch, OldestContentAccepted: timestamppb.New(time.Now().Add(time.Hour))})
	wantCode(t, "older than the client wants it", err, codes.NotFound)

	absent := &repb.Digest{Hash: action.Sum(action.SHA256, []byte("absent")).Hash(), SizeBytes: 6}
	for name, req := range map[string]*assetpb.PushDirectoryRequest{
		"the directory":             {Uris: uris, RootDirectoryDigest: absent},
		"a blob that it needs":      {Uris: uris, RootDirectoryDigest: root, ReferencesBlobs: []*repb.Digest{absent}},
		"a directory that it needs": {Uris: uris, RootDirectoryDigest: root, ReferencesDirectories: []*repb.Digest{absent}},
	} {
		_, err := s.push.PushDirectory(ctx, req)
		wantCode(t, "push, but there is not "+name, err, codes.FailedPrecondition)
	}
	_, err = s.push.PushDirectory(ctx, &assetpb.PushDirectoryRequest{Uris: uris, RootDirectoryDigest: root, ExpireAt: timestamppb.New(time.Now().Add(-time.Hour))})
	wantCode(t, "push of what has expired", err, codes.InvalidArgument)

	blob := s.put(action.SHA256, []byte("a blob"))
	// A checksum that a blob is pushed under is a promise to those who fetch it.
	sri := func(content string) []*assetpb.Qualifier {
		sum := sha256.Sum256([]byte(content))
		return []*assetpb.Qualifier{{Name: "checksum.sri", Value: "sha256-" + base64.StdEncoding.EncodeToString(sum[:])}}
	}
	for content, want := range map[string]codes.Code{"a blob": codes.OK, "another": codes.InvalidArgument} {
		_, err = s.push.PushBlob(ctx, &assetpb.PushBlobRequest{Uris: uris, BlobDigest: blob, Qualifiers: sri(content)})
		wantCode(t, "push with the checksum of "+content, err, want)
	}
	_, err = s.push.PushBlob(ctx, &assetpb.PushBlobRequest{Uris: []string{"urn:b\x00vcs.branch\x00main"}, BlobDigest: blob})
	wantCode(t, "a URI that would pass for another with qualifiers", err, codes.InvalidArgument)
	if _, err := s.push.PushBlob(ctx, &assetpb.PushBlobRequest{Uris: uris, BlobDigest: blob, ExpireAt: timestamppb.New(time.Now().Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}
	got, err := s.fetch.FetchBlob(ctx, &assetpb.FetchBlobRequest{Uris: uris})
	if err != nil || !proto.Equal(got.BlobDigest, blob) || got.ExpiresAt == nil {
		t.Errorf("%v, %v", got, err)
	}
	// What is not whole any more is not found.
	s.lose(t, action.Sum(action.SHA256, []byte("in the directory")))
	_, err = get(branch...)
	wantCode(t, "after a file of it is gone", err, codes.NotFound)
}

func TestRule20Download(t *testing.T) {
	s := start(t, nil)
	hits := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		switch r.URL.Path {
		case "/file":
			w.Write([]byte("content of " + r.Header.Get("X-Who")))
		case "/away":
			http.Redirect(w, r, "http://example.invalid/", http.StatusFound)
		case "/denied":
			http.Error(w, "no", http.StatusForbidden)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	sum := sha256.Sum256([]byte("content of me"))
	sri := &assetpb.Qualifier{Name: "checksum.sri", Value: "sha256-" + base64.StdEncoding.EncodeToString(sum[:])}
	who := &assetpb.Qualifier{Name: "http_header:X-Who", Value: "me"}
	fetch := func(path string, q ...*assetpb.Qualifier) (*assetpb.FetchBlobResponse, error) {
		return s.fetch.FetchBlob(t.Context(), &assetpb.FetchBlobRequest{Uris: []string{web.URL + path}, Qualifiers: q})
	}
	if res, err := fetch("/file"); err != nil || codes.Code(res.Status.GetCode()) != codes.PermissionDenied || hits > 0 {
		t.Fatalf("without leave to download: %v, %v, %d requests", res, err, hits)
	}
	s.asset.Upstream = []string{"127.0.0.1"}
	res, err := fetch("/file", sri, who)
	if err != nil || codes.Code(res.Status.GetCode()) != codes.OK || s.read(action.SHA256, res.BlobDigest) != "content of me" {
		t.Fatalf("%v, %v", res, err)
	}
	if _, err := fetch("/file", sri, who); err != nil || hits != 1 {
		t.Errorf("a second time: %v, %d requests", err, hits)
	}
	// What others do wrong is in the answer.
	for path, want := range map[string]codes.Code{"/none": codes.NotFound, "/denied": codes.PermissionDenied, "/away": codes.Unavailable, "/file": codes.Aborted} {
		if res, err := fetch(path, sri); err != nil || codes.Code(res.Status.GetCode()) != want {
			t.Errorf("%s: %v, %v, want %v inside", path, res, err, want)
		}
	}
	_, err = fetch("/file", &assetpb.Qualifier{Name: "colour", Value: "red"})
	wantCode(t, "a qualifier that is not known", err, codes.InvalidArgument)
}
