// Package httpcache serves a store over Bazel's HTTP cache protocol, which
// ccache, sccache, Gradle plug-ins and curl speak, too:
//
//	GET, HEAD, PUT /[INSTANCE/]cas/HASH   a blob
//	GET, HEAD, PUT /[INSTANCE/]ac/HASH    the result of an action
//
// The protocol does not say which digest function HASH is of. Its length does, but
// for those that have the length of SHA-256: they are tried in turn, so that
// clients of BLAKE3 are served, too.
//
// A blob is checked on its way in. A result is an ActionResult message; it goes
// through the same checks as over gRPC, and is found only as long as every blob
// that it names is there. What is no such message is refused, or with
// Handler.Raw kept as it is, for clients that use /ac for anything; no other
// protocol sees it.
package httpcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

// A Handler serves a store. Set its fields before use.
type Handler struct {
	Store   *cache.Store
	Results *storage.Results
	MaxBlob func(instance string) int64 // nil, or 0: any
	Raw     bool                        // take anything for a result
	Log     *slog.Logger
}

// maxResult is the size of the largest result, in bytes.
const maxResult = 16 << 20

// Split returns the instance, "ac" or "cas", and the hash of a path, and
// whether it is one of this protocol.
func Split(path string) (instance, kind, hash string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(parts) < 2 {
		return "", "", "", false
	}
	kind, hash = parts[len(parts)-2], parts[len(parts)-1]
	instance = strings.Join(parts[:len(parts)-2], "/")
	return instance, kind, hash, (kind == "ac" || kind == "cas") && reapi.CheckInstance(instance) == nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	instance, kind, hash, ok := Split(r.URL.Path)
	if !ok {
		http.Error(w, "want /cas/HASH or /ac/HASH, with the instance in front of it", http.StatusNotFound)
		return
	}
	// A page that a browser shows must not write, whoever's name it has given to
	// this machine's address. No other client says where it comes from.
	if r.Method == http.MethodPut && (r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "") {
		http.Error(w, "nothing is taken from web pages: no header Origin or Sec-Fetch-Site, please", http.StatusForbidden)
		return
	}
	if e := r.Header.Get("Content-Encoding"); r.Method == http.MethodPut && e != "" && !strings.EqualFold(e, "identity") {
		http.Error(w, fmt.Sprintf("the body is taken as it is, not with Content-Encoding %.20q", e), http.StatusUnsupportedMediaType)
		return
	}
	fs, err := functions(hash)
	if err != nil {
		http.Error(w, status.Convert(err).Message(), http.StatusBadRequest)
		return
	}
	switch r.Method + " " + kind {
	case "GET cas", "HEAD cas":
		err = h.getBlob(w, r, fs, hash)
	case "PUT cas":
		err = h.putBlob(r, instance, fs, hash)
	case "GET ac", "HEAD ac":
		err = h.getResult(w, r, instance, fs, hash)
	case "PUT ac":
		err = h.putResult(r, instance, fs, hash)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		http.Error(w, "use GET, HEAD or PUT", http.StatusMethodNotAllowed)
		return
	}
	if err != nil {
		h.fail(w, r, err)
	}
}

// functions are those that hash may be of.
func functions(hash string) ([]action.Function, error) {
	f, err := reapi.Function(repb.DigestFunction_UNKNOWN, hash)
	if err == nil {
		_, err = action.ParseHash(f, hash, 0)
	}
	if f == action.SHA256 {
		return []action.Function{f, action.BLAKE3, action.SHA256Tree}, err
	}
	return []action.Function{f}, err
}

// fail answers with what err means.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusInternalServerError
	switch c := status.Code(reapi.Error(err)); {
	case errors.Is(err, cache.ErrContent), c == codes.InvalidArgument, c == codes.FailedPrecondition:
		code = http.StatusBadRequest
	case c == codes.NotFound:
		code = http.StatusNotFound
	case c == codes.ResourceExhausted:
		code = http.StatusInsufficientStorage
	case c == codes.Unavailable:
		code = http.StatusServiceUnavailable
	case c == codes.Canceled:
		return
	}
	if code == http.StatusInternalServerError && h.Log != nil {
		h.Log.WarnContext(r.Context(), "http cache", "path", r.URL.Path, "err", err)
	}
	http.Error(w, status.Convert(reapi.Error(err)).Message(), code)
}

// getBlob sends a blob of which only the hash is known.
func (h *Handler) getBlob(w http.ResponseWriter, r *http.Request, fs []action.Function, hash string) error {
	d, err := h.find(r.Context(), fs, hash)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if d.IsEmpty() || r.Method == http.MethodHead {
		w.Header().Set("Content-Length", strconv.FormatInt(d.Size(), 10))
		return nil
	}
	file, err := h.Store.OpenContent(r.Context(), d)
	if err != nil {
		return err
	}
	defer file.Close()
	// Ranges, too; the name and the time are none of the client's business.
	http.ServeContent(w, r, "", time.Time{}, file)
	return nil
}

// find returns the digest of the blob that has the hash, whatever its size.
func (h *Handler) find(ctx context.Context, fs []action.Function, hash string) (d action.Digest, err error) {
	for _, f := range fs {
		if d, err = h.Store.FindBlob(ctx, f, hash); !errors.Is(err, action.ErrMiss) {
			break
		}
	}
	return d, err
}

// putBlob stores the body if it has the hash.
func (h *Handler) putBlob(r *http.Request, instance string, fs []action.Function, hash string) error {
	limit := int64(0)
	if h.MaxBlob != nil {
		limit = h.MaxBlob(instance)
	}
	if limit > 0 && r.ContentLength > limit {
		return status.Errorf(codes.InvalidArgument, "the blob has %d bytes, at most %d are taken", r.ContentLength, limit)
	}
	sent := &body{r: r.Body}
	body := io.Reader(sent)
	if limit > 0 {
		body = io.LimitReader(body, limit+1)
	}
	w := h.Store.NewWriter(r.Context(), fs[0])
	defer w.Abort()
	if _, err := io.Copy(struct{ io.Writer }{w}, body); err != nil {
		return cmp.Or(sent.err, err)
	}
	if limit > 0 && w.Size() > limit {
		return status.Errorf(codes.InvalidArgument, "the blob has more than %d bytes", limit)
	}
	got := w.Sum()
	for i := 1; got.Hash() != hash && i < len(fs); i++ {
		if err := w.Rehash(fs[i]); err != nil {
			return err
		}
		got = w.Sum()
	}
	if got.Hash() != hash {
		return status.Errorf(codes.InvalidArgument, "the blob has another hash than %s", hash)
	}
	return w.CommitAs(got)
}

// A body is what a client sends. An error of it is the client's, and a status.
type body struct {
	r   io.Reader
	err error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF {
		b.err = status.Errorf(codes.InvalidArgument, "the body ended early: %v", err)
		err = b.err
	}
	return n, err
}

func (h *Handler) rawKey(instance string, f action.Function, hash string) action.Digest {
	return action.Sum(action.BLAKE3, []byte("http "+instance+"\x00"+f.String()+":"+hash))
}

func (h *Handler) getResult(w http.ResponseWriter, r *http.Request, instance string, fs []action.Function, hash string) error {
	data, err := h.result(r.Context(), instance, fs, hash)
	if errors.Is(err, action.ErrMiss) && h.Raw {
		data, err = h.Store.Note(r.Context(), h.rawKey(instance, fs[0], hash))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(data) // the client is gone
	}
	return nil
}

// result is the message of the result of an action of which only the hash is
// known.
func (h *Handler) result(ctx context.Context, instance string, fs []action.Function, hash string) (data []byte, err error) {
	for _, f := range fs {
		var d action.Digest
		if d, err = action.ParseHash(f, hash, 0); err != nil {
			return nil, err
		}
		var res *action.Result
		if res, err = h.Results.Find(ctx, instance, d); errors.Is(err, action.ErrMiss) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := h.Results.Message(ctx, res, storage.Inline{}, maxResult)
		if err != nil {
			return nil, err
		}
		return proto.Marshal(m)
	}
	return nil, err
}

func (h *Handler) putResult(r *http.Request, instance string, fs []action.Function, hash string) error {
	data, err := io.ReadAll(io.LimitReader(&body{r: r.Body}, maxResult+1))
	if err != nil {
		return err
	}
	if len(data) > maxResult {
		return status.Errorf(codes.InvalidArgument, "the result has more than %d bytes", maxResult)
	}
	m := new(repb.ActionResult)
	err = proto.Unmarshal(data, m)
	if err != nil || len(m.ProtoReflect().GetUnknown()) > 0 {
		if h.Raw {
			return h.Store.PutNote(r.Context(), h.rawKey(instance, fs[0], hash), data)
		}
		return status.Error(codes.InvalidArgument, "the body is no ActionResult message")
	}
	// What it names, and has inside, is so by one of the functions.
	var first error
	for _, f := range fs {
		if err = h.upload(r.Context(), instance, f, hash, m); !errors.Is(err, action.ErrMiss) && status.Code(err) != codes.InvalidArgument {
			return err
		}
		first = cmp.Or(first, err)
	}
	if status.Code(first) == codes.InvalidArgument {
		return first
	}
	return status.Errorf(codes.FailedPrecondition, "%v: put what the result names first", first)
}

func (h *Handler) upload(ctx context.Context, instance string, f action.Function, hash string, m *repb.ActionResult) error {
	d, err := action.ParseHash(f, hash, 0)
	if err != nil {
		return err
	}
	res, err := reapi.Result(f, m)
	if err != nil {
		return err
	}
	return h.Results.Upload(ctx, instance, d, res)
}
