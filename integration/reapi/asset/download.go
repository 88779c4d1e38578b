package asset

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	assetpb "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// downloadMax is how long one download may take if the client does not say.
const downloadMax = 10 * time.Minute

// download gets the first of the URIs that it can from upstream, and keeps it
// as if it had been pushed. The error is a status: InvalidArgument is the
// client's fault, any other what upstream said.
func (s *Server) download(ctx context.Context, n *name, req *assetpb.FetchBlobRequest, f action.Function) (string, *record, error) {
	want, header, err := qualified(n.qualifiers)
	if err != nil {
		return "", nil, err
	}
	if f == action.GitSHA1 {
		return "", nil, status.Errorf(codes.InvalidArgument, "a download cannot have a digest of %v: it needs the size first", f)
	}
	limit := downloadMax
	if req.Timeout != nil {
		limit = req.Timeout.AsDuration()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for _, u := range req.Uris {
		d, err := s.get(ctx, u, header, want, f)
		if err != nil {
			last = err
			continue
		}
		r := &record{d: d, pushed: time.Now()}
		if err := s.keep(ctx, n, []string{u}, r); err != nil {
			s.Log.WarnContext(ctx, "a download is not remembered", "uri", u, "err", err)
		}
		return u, r, nil
	}
	return "", nil, cmp.Or(last, absent(req.Uris))
}

// A checksum is what a download must have.
type checksum struct {
	new func() hash.Hash
	sum []byte
}

// qualified reads the qualifiers that a download knows. The status of any other
// is InvalidArgument, as REAPI wants it.
func qualified(list []*assetpb.Qualifier) (*checksum, http.Header, error) {
	var want *checksum
	header := http.Header{}
	for _, q := range list {
		name, of, _ := strings.Cut(q.Name, ":")
		switch name {
		case "checksum.sri":
			var err error
			if want, err = parseSRI(q.Value); err != nil {
				return nil, nil, err
			}
		case "http_header":
			header.Set(of, q.Value)
		case "resource_type", "bazel.canonical_id":
		default:
			return nil, nil, status.Errorf(codes.InvalidArgument, "qualifier %q is not known for downloads", q.Name)
		}
	}
	return want, header, nil
}

// parseSRI parses a checksum as Subresource Integrity writes it.
func parseSRI(value string) (*checksum, error) {
	algorithm, sum, _ := strings.Cut(value, "-")
	raw, err := base64.StdEncoding.DecodeString(sum)
	fn := map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}[algorithm]
	if err != nil || fn == nil || len(raw) != fn().Size() {
		return nil, status.Errorf(codes.InvalidArgument, "qualifier checksum.sri=%q: want sha256-, sha384- or sha512- and the hash in base64", value)
	}
	return &checksum{fn, raw}, nil
}

// promised refuses, as a status, a blob that has not the checksum that n says:
// clients that fetch it by that would take it for checked.
func (s *Server) promised(ctx context.Context, n *name, d action.Digest) error {
	for _, q := range n.qualifiers {
		if q.Name != "checksum.sri" {
			continue
		}
		want, err := parseSRI(q.Value)
		if err != nil {
			return err
		}
		file, err := s.Store.Open(ctx, d)
		if err != nil {
			return reapi.Error(err)
		}
		defer file.Close()
		h := want.new()
		if _, err := io.Copy(h, file); err != nil {
			return reapi.Error(err)
		}
		if string(h.Sum(nil)) != string(want.sum) {
			return status.Errorf(codes.InvalidArgument, "blob %v does not have the checksum %q", d, q.Value)
		}
	}
	return nil
}

// allowed says whether s may ask the host of u.
func (s *Server) allowed(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") &&
		(slices.Contains(s.Upstream, "*") || slices.Contains(s.Upstream, u.Hostname()))
}

func (s *Server) get(ctx context.Context, uri string, header http.Header, want *checksum, f action.Function) (action.Digest, error) {
	none := action.Digest{}
	u, err := url.Parse(uri)
	if err != nil {
		return none, status.Errorf(codes.InvalidArgument, "%q: %v", uri, err)
	}
	if !s.allowed(u) {
		return none, status.Errorf(codes.PermissionDenied, "%q is nowhere this server may download from: see --fetch-from", uri)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return none, status.Errorf(codes.InvalidArgument, "%q: %v", uri, err)
	}
	req.Header = header
	client := http.Client{}
	if s.Client != nil {
		client = *s.Client
	}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 10 || !s.allowed(r.URL) {
			return errors.New("redirected to a place that this server may not download from, or too often")
		}
		return nil
	}
	res, err := client.Do(req)
	if err != nil {
		return none, upstreamError(ctx, uri, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone:
		return none, status.Errorf(codes.NotFound, "%q: %s", uri, res.Status)
	case res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusUnauthorized:
		return none, status.Errorf(codes.PermissionDenied, "%q: %s", uri, res.Status)
	case res.StatusCode != http.StatusOK:
		return none, status.Errorf(codes.Unavailable, "%q: %s", uri, res.Status)
	}
	return s.save(ctx, uri, res.Body, want, f)
}

func upstreamError(ctx context.Context, uri string, err error) error {
	if ctx.Err() != nil {
		return status.Errorf(codes.DeadlineExceeded, "%q: %v", uri, err)
	}
	return status.Errorf(codes.Unavailable, "%q: %v", uri, err)
}

// save stores what body holds, if it has the checksum.
func (s *Server) save(ctx context.Context, uri string, body io.Reader, want *checksum, f action.Function) (action.Digest, error) {
	w := s.Store.NewWriter(ctx, f)
	defer w.Abort()
	to := io.Writer(w)
	var h hash.Hash
	if want != nil {
		h = want.new()
		to = io.MultiWriter(w, h)
	}
	if s.MaxBlob > 0 {
		body = io.LimitReader(body, s.MaxBlob+1)
	}
	n, err := io.Copy(struct{ io.Writer }{to}, body)
	switch {
	case err != nil:
		return action.Digest{}, upstreamError(ctx, uri, err)
	case s.MaxBlob > 0 && n > s.MaxBlob:
		return action.Digest{}, status.Errorf(codes.ResourceExhausted, "%q is larger than %d bytes", uri, s.MaxBlob)
	case want != nil && string(h.Sum(nil)) != string(want.sum):
		return action.Digest{}, status.Errorf(codes.Aborted, "%q does not have the checksum that was asked for", uri)
	}
	d, err := w.Commit()
	if err != nil {
		return d, status.Error(codes.ResourceExhausted, err.Error())
	}
	return d, nil
}
