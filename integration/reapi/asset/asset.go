// Package asset serves the Remote Asset API: blobs and directories of the store
// by URI. BuildStream keeps its artifacts that way; Bazel asks for downloads.
//
// What was pushed is a note of the store, under the instance, the kind of asset,
// the URI and the qualifiers: an AssetRecord as documented at [Server.keep]. It
// is found as long as everything that it names is there, and that counts as used
// whenever it is fetched.
package asset

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	assetpb "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// A Server serves assets. Set its fields before Register.
type Server struct {
	assetpb.UnimplementedFetchServer
	assetpb.UnimplementedPushServer

	Store *cache.Store
	Log   *slog.Logger

	// Upstream are the hosts from which blobs that nobody has pushed are
	// downloaded, by http and https; "*" is any. Empty: none is.
	Upstream []string
	Client   *http.Client // nil: http.DefaultClient
	MaxBlob  int64        // of a download, in bytes; 0: any
}

// Register makes srv serve s.
func (s *Server) Register(srv *grpc.Server) {
	assetpb.RegisterFetchServer(srv, s)
	assetpb.RegisterPushServer(srv, s)
}

// A kind of asset is in its key.
type kind string

const (
	blob      kind = "blob"
	directory kind = "directory"
)

// A name is what an asset is found by.
type name struct {
	kind       kind
	instance   string
	qualifiers []*assetpb.Qualifier
}

// key is the key of the note of an asset.
func (n *name) key(uri string) action.Digest {
	b := []byte("asset " + string(n.kind) + "\x00" + n.instance + "\x00" + uri)
	for _, q := range n.qualifiers {
		b = append(append(append(append(b, 0), q.Name...), 0), q.Value...)
	}
	return action.Sum(action.BLAKE3, b)
}

const (
	uriMax       = 16 << 10
	urisMax      = 1000
	qualifierMax = 16 << 10
)

// newName checks what every request has. The error is a status.
func newName(k kind, instance string, uris []string, qualifiers []*assetpb.Qualifier) (*name, error) {
	if len(uris) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no URI is given")
	}
	if len(uris) > urisMax {
		return nil, status.Errorf(codes.InvalidArgument, "%d URIs: at most %d are taken", len(uris), urisMax)
	}
	for _, u := range uris {
		if u == "" || len(u) > uriMax {
			return nil, status.Errorf(codes.InvalidArgument, "a URI of %d bytes: want 1 to %d", len(u), uriMax)
		}
		if strings.Contains(u, "\x00") { // it separates the parts of a key
			return nil, status.Errorf(codes.InvalidArgument, "URI %q has a NUL byte", u)
		}
	}
	n := &name{k, instance, slices.Clone(qualifiers)}
	slices.SortFunc(n.qualifiers, func(a, b *assetpb.Qualifier) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	for i, q := range n.qualifiers {
		if q.Name == "" || len(q.Name)+len(q.Value) > qualifierMax {
			return nil, status.Errorf(codes.InvalidArgument, "qualifier %d has no name, or is too long", i)
		}
		if strings.Contains(q.Name+q.Value, "\x00") {
			return nil, status.Errorf(codes.InvalidArgument, "qualifier %q has a NUL byte", q.Name)
		}
		if i > 0 && q.Name == n.qualifiers[i-1].Name {
			return nil, status.Errorf(codes.InvalidArgument, "qualifier %q is there twice", q.Name)
		}
	}
	return n, nil
}

// A record is what a note says of an asset.
type record struct {
	d       action.Digest
	refs    []action.Digest // blobs that must be there, too
	dirs    []action.Digest // directories that must be
	pushed  time.Time
	expires time.Time // zero: never
}

// keep stores r under every URI. The note is a PushDirectoryRequest without its
// names: root_directory_digest is the asset, blob or directory, and expire_at
// when it ends; uris has one element, the time of the push in RFC 3339.
func (s *Server) keep(ctx context.Context, n *name, uris []string, r *record) error {
	m := &assetpb.PushDirectoryRequest{
		Uris:                []string{r.pushed.UTC().Format(time.RFC3339Nano)},
		RootDirectoryDigest: reapi.ToDigest(r.d), DigestFunction: reapi.ToFunction(r.d.Function()),
		ReferencesBlobs: digests(r.refs), ReferencesDirectories: digests(r.dirs),
	}
	if !r.expires.IsZero() {
		m.ExpireAt = timestamppb.New(r.expires)
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	for _, u := range uris {
		if err := s.Store.PutNote(ctx, n.key(u), data); err != nil {
			return err
		}
	}
	return nil
}

func digests(list []action.Digest) (all []*repb.Digest) {
	for _, d := range list {
		all = append(all, reapi.ToDigest(d))
	}
	return all
}

// find returns what was pushed under uri, if it is still whole. Else the error
// wraps [action.ErrMiss].
func (s *Server) find(ctx context.Context, n *name, uri string) (*record, error) {
	data, err := s.Store.Note(ctx, n.key(uri))
	if err != nil {
		return nil, err
	}
	m := new(assetpb.PushDirectoryRequest)
	if err := proto.Unmarshal(data, m); err != nil || len(m.Uris) != 1 {
		return nil, action.ErrMiss
	}
	r := &record{}
	if r.d, err = reapi.InferDigest(m.DigestFunction, m.RootDirectoryDigest); err != nil {
		return nil, action.ErrMiss
	}
	f := r.d.Function()
	if r.refs, err = parse(f, m.ReferencesBlobs); err != nil {
		return nil, action.ErrMiss
	}
	if r.dirs, err = parse(f, m.ReferencesDirectories); err != nil {
		return nil, action.ErrMiss
	}
	r.pushed, _ = time.Parse(time.RFC3339Nano, m.Uris[0])
	if m.ExpireAt != nil {
		if r.expires = m.ExpireAt.AsTime(); r.expires.Before(time.Now()) {
			return nil, action.ErrMiss
		}
	}
	return r, s.whole(ctx, n.kind, r)
}

func parse(f action.Function, list []*repb.Digest) (all []action.Digest, err error) {
	for _, m := range list {
		d, err := reapi.Digest(f, m)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// whole says whether everything that r names is there, and marks it as used.
func (s *Server) whole(ctx context.Context, k kind, r *record) error {
	blobs, dirs := r.refs, r.dirs
	if k == blob {
		blobs = append([]action.Digest{r.d}, blobs...)
	} else {
		dirs = append([]action.Digest{r.d}, dirs...)
	}
	for _, d := range blobs {
		if !s.Store.Has(ctx, d) {
			return lost(d)
		}
	}
	seen := map[action.Digest]bool{}
	for _, d := range dirs {
		if err := s.wholeTree(ctx, d, seen); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// A missing blob is a miss that names it.
type missing struct{ d action.Digest }

func (m missing) Error() string { return "blob " + m.d.String() + " is not in the store" }
func (m missing) Unwrap() error { return action.ErrMiss }

func lost(d action.Digest) error { return missing{d} }

// wholeTree is whole for a directory and all below it.
func (s *Server) wholeTree(ctx context.Context, root action.Digest, seen map[action.Digest]bool) error {
	queue := []action.Digest{root}
	for len(queue) > 0 && ctx.Err() == nil {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if seen[d] {
			continue
		}
		seen[d] = true
		m, err := s.directory(ctx, d)
		if err != nil {
			return err
		}
		for i := range m.Files {
			if f := m.Files[i].Digest; !seen[f] {
				seen[f] = true
				if !s.Store.Has(ctx, f) {
					return lost(f)
				}
			}
		}
		for i := range m.Directories {
			queue = append(queue, m.Directories[i].Digest)
		}
	}
	return ctx.Err()
}

const maxDirectory = 64 << 20

func (s *Server) directory(ctx context.Context, d action.Digest) (*action.Directory, error) {
	if d.Size() > maxDirectory {
		return nil, status.Errorf(codes.InvalidArgument, "directory %v is larger than %d bytes", d, maxDirectory)
	}
	file, err := s.Store.Open(ctx, d)
	if errors.Is(err, action.ErrMiss) {
		return nil, lost(d)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data := make([]byte, d.Size())
	if n, err := file.ReadAt(data, 0); n < len(data) {
		return nil, err
	}
	m, err := action.ParseDirectory(data, d.Function())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "blob %v is no directory: %v", d, err)
	}
	return m, nil
}

// push is both Push methods.
func (s *Server) push(ctx context.Context, n *name, uris []string, r *record) error {
	r.pushed = time.Now()
	if !r.expires.IsZero() && r.expires.Before(r.pushed) {
		return status.Errorf(codes.InvalidArgument, "expire_at %v is in the past", r.expires)
	}
	err := s.whole(ctx, n.kind, r)
	if m, ok := errors.AsType[missing](err); ok {
		return reapi.Missing([]action.Digest{m.d}).Err()
	}
	if err == nil {
		err = s.keep(ctx, n, uris, r)
	}
	return reapi.Error(err)
}

// pushed is what the two requests to push have in common.
type pushed interface {
	GetExpireAt() *timestamppb.Timestamp
	GetReferencesBlobs() []*repb.Digest
	GetReferencesDirectories() []*repb.Digest
	GetDigestFunction() repb.DigestFunction_Value
}

func newRecord(req pushed, d *repb.Digest) (r *record, err error) {
	r = &record{}
	if r.d, err = reapi.InferDigest(req.GetDigestFunction(), d); err != nil {
		return nil, err
	}
	if r.refs, err = parse(r.d.Function(), req.GetReferencesBlobs()); err != nil {
		return nil, err
	}
	if r.dirs, err = parse(r.d.Function(), req.GetReferencesDirectories()); err != nil {
		return nil, err
	}
	if at := req.GetExpireAt(); at != nil {
		if err := at.CheckValid(); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "expire_at: %v", err)
		}
		r.expires = at.AsTime()
	}
	return r, nil
}

// PushBlob implements the RPC.
func (s *Server) PushBlob(ctx context.Context, req *assetpb.PushBlobRequest) (*assetpb.PushBlobResponse, error) {
	n, err := newName(blob, req.InstanceName, req.Uris, req.Qualifiers)
	if err != nil {
		return nil, err
	}
	r, err := newRecord(req, req.BlobDigest)
	if err != nil {
		return nil, err
	}
	if err := s.promised(ctx, n, r.d); err != nil && status.Code(err) != codes.NotFound { // push names what is missing
		return nil, err
	}
	return &assetpb.PushBlobResponse{}, s.push(ctx, n, req.Uris, r)
}

// PushDirectory implements the RPC.
func (s *Server) PushDirectory(ctx context.Context, req *assetpb.PushDirectoryRequest) (*assetpb.PushDirectoryResponse, error) {
	n, err := newName(directory, req.InstanceName, req.Uris, req.Qualifiers)
	if err != nil {
		return nil, err
	}
	r, err := newRecord(req, req.RootDirectoryDigest)
	if err != nil {
		return nil, err
	}
	return &assetpb.PushDirectoryResponse{}, s.push(ctx, n, req.Uris, r)
}

// found is the first of uris that was pushed, and is as the client wants it.
func (s *Server) found(ctx context.Context, n *name, uris []string, f action.Function, oldest *timestamppb.Timestamp) (string, *record, error) {
	for _, u := range uris {
		r, err := s.find(ctx, n, u)
		switch {
		case errors.Is(err, action.ErrMiss):
			continue
		case err != nil:
			return "", nil, reapi.Error(err)
		case f != 0 && r.d.Function() != f:
			continue
		case oldest != nil && r.pushed.Before(oldest.AsTime()):
			continue
		}
		return u, r, nil
	}
	return "", nil, nil
}

// absent is the error of an asset that nobody has pushed. If the client named
// places of others, it is about them, and belongs into the answer; else it is
// about us. BuildStream relies on that.
func absent(uris []string) error {
	return status.Errorf(codes.NotFound, "nobody has pushed %q with these qualifiers, or it is not whole any more", uris[0])
}

func upstream(uris []string) bool {
	return slices.ContainsFunc(uris, func(u string) bool {
		return strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://")
	})
}

func wanted(v repb.DigestFunction_Value) (action.Function, error) {
	if v == repb.DigestFunction_UNKNOWN {
		return 0, nil
	}
	return reapi.Function(v, "")
}

// FetchBlob implements the RPC.
func (s *Server) FetchBlob(ctx context.Context, req *assetpb.FetchBlobRequest) (*assetpb.FetchBlobResponse, error) {
	n, err := newName(blob, req.InstanceName, req.Uris, req.Qualifiers)
	if err != nil {
		return nil, err
	}
	f, err := wanted(req.DigestFunction)
	if err != nil {
		return nil, err
	}
	uri, r, err := s.found(ctx, n, req.Uris, f, req.OldestContentAccepted)
	if err == nil && r == nil {
		if !upstream(req.Uris) {
			return nil, absent(req.Uris)
		}
		uri, r, err = s.download(ctx, n, req, cmp.Or(f, action.SHA256))
		if st, ok := status.FromError(err); ok && err != nil && st.Code() != codes.InvalidArgument {
			return &assetpb.FetchBlobResponse{Status: st.Proto()}, nil // theirs, not ours
		}
	}
	if err != nil {
		return nil, err
	}
	return &assetpb.FetchBlobResponse{
		Status: status.New(codes.OK, "").Proto(), Uri: uri, Qualifiers: req.Qualifiers, ExpiresAt: expiry(r),
		BlobDigest: reapi.ToDigest(r.d), DigestFunction: reapi.ToFunction(r.d.Function()),
	}, nil
}

// FetchDirectory implements the RPC. Directories are not made of downloads.
func (s *Server) FetchDirectory(ctx context.Context, req *assetpb.FetchDirectoryRequest) (*assetpb.FetchDirectoryResponse, error) {
	n, err := newName(directory, req.InstanceName, req.Uris, req.Qualifiers)
	if err != nil {
		return nil, err
	}
	f, err := wanted(req.DigestFunction)
	if err != nil {
		return nil, err
	}
	uri, r, err := s.found(ctx, n, req.Uris, f, req.OldestContentAccepted)
	switch {
	case err != nil:
		return nil, err
	case r == nil && upstream(req.Uris):
		return &assetpb.FetchDirectoryResponse{Status: status.Convert(absent(req.Uris)).Proto()}, nil
	case r == nil:
		return nil, absent(req.Uris)
	}
	return &assetpb.FetchDirectoryResponse{
		Status: status.New(codes.OK, "").Proto(), Uri: uri, Qualifiers: req.Qualifiers, ExpiresAt: expiry(r),
		RootDirectoryDigest: reapi.ToDigest(r.d), DigestFunction: reapi.ToFunction(r.d.Function()),
	}, nil
}

func expiry(r *record) *timestamppb.Timestamp {
	if r.expires.IsZero() {
		return nil
	}
	return timestamppb.New(r.expires)
}
