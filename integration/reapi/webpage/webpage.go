// Package webpage shows to people what a server does and has: what runs and
// what ran, with command, inputs, outputs and times, and every blob and tree.
// It only reads.
package webpage

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"size": size, "since": since, "link": link,
}).Parse(pageText))

// A Handler serves the pages. Set its fields before use.
type Handler struct {
	Store  *cache.Store
	Engine *execution.Engine // nil: nothing is run here

	// May says whether the client of a request may read in an instance, and
	// Blobs whether in any: blobs are the same in all, and who knows a digest
	// has seen what it is of.
	May   func(r *http.Request, instance string) bool
	Blobs func(r *http.Request) bool
}

// A view is what a page shows: one of the fields.
type view struct {
	Title      string
	Home       *home
	Operation  *operation
	Directory  *directory
	Blob       *blob
	Problem    string
	Background bool
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Nothing of what others have stored may run in the browser.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	v, err := h.view(w, r)
	if errors.Is(err, errSent) {
		return
	}
	code := http.StatusOK
	if err != nil {
		v, code = &view{Title: "Not here", Problem: err.Error()}, http.StatusNotFound
	}
	var text bytes.Buffer // a page is whole or an error
	if err := page.Execute(&text, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = text.WriteTo(w) // the client is gone
}

// errSent says that the answer was sent already.
var errSent = errors.New("sent")

func (h *Handler) view(w http.ResponseWriter, r *http.Request) (*view, error) {
	switch kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); kind {
	case "":
		if rest == "" {
			return h.home(r), nil
		}
	case "operation":
		return h.operation(r, rest)
	case "directory", "tree", "blob", "raw", "tar":
		if !h.Blobs(r) {
			return nil, errors.New("you may not read blobs here")
		}
		of := ""
		if kind == "tar" { // tar/directory/… or tar/tree/…
			of, rest, _ = strings.Cut(rest, "/")
		}
		d, err := parseDigest(rest)
		if err != nil {
			return nil, err
		}
		switch kind {
		case "directory":
			return h.directory(r.Context(), d)
		case "tree":
			return h.tree(r.Context(), d)
		case "raw":
			return nil, h.raw(w, r, d)
		case "tar":
			return nil, h.tar(w, r, of, d)
		}
		return h.blob(r.Context(), d)
	}
	return nil, fmt.Errorf("there is no page %q", r.URL.Path)
}

// parseDigest parses FUNCTION/HASH/SIZE.
func parseDigest(path string) (action.Digest, error) {
	parts := strings.Split(path, "/")
	if len(parts) != 3 {
		return action.Digest{}, fmt.Errorf("want FUNCTION/HASH/SIZE, not %q", path)
	}
	return action.ParseDigest(parts[0] + ":" + parts[1] + "/" + parts[2])
}

// link is the path of a page about d.
func link(kind string, d action.Digest) string {
	return fmt.Sprintf("/%s/%v/%s/%d", kind, d.Function(), d.Hash(), d.Size())
}

func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v := float64(n)
	i := 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := time.Since(t)
	if d > time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}

// home is what runs, waits and ran.
type home struct {
	Counts                 execution.Counts
	Jobs                   int
	Free                   int  // slots
	Cache                  bool // nothing is run
	Running, Waiting, Done []*operation
	Store                  string
}

const homeMost = 200

func (h *Handler) home(r *http.Request) *view {
	p := &home{Cache: h.Engine == nil, Store: h.Store.Dir()}
	if h.Engine != nil {
		p.Counts, p.Jobs = h.Engine.Counts(), h.Engine.Jobs()
		for _, v := range h.Engine.Views(homeMost, func(instance string) bool { return h.May(r, instance) }) {
			switch op := h.describe(r.Context(), v); {
			case v.Response != nil:
				p.Done = append(p.Done, op)
			case v.Stage == repb.ExecutionStage_EXECUTING:
				p.Running = append(p.Running, op)
			default:
				p.Waiting = append(p.Waiting, op)
			}
		}
		p.Free = max(p.Jobs-p.Counts.Running, 0)
	}
	return &view{Title: "sbx-action", Home: p}
}

// An operation is one with its command.
type operation struct {
	execution.View
	State    string // a word
	Took     string
	Command  *repb.Command
	Action   *repb.Action
	Root     action.Digest
	CommandD action.Digest
	Line     string // the command on one line
	Inputs   *directory
	Result   *repb.ActionResult
	Files    []output
	Output   []stream
	Times    []span
}

type output struct {
	Path, Note string
	Link       string
	Size       int64
}

type stream struct {
	Name, Text, Link string
}

// A span is a part of the time that an operation took, for a bar of 100 units.
type span struct {
	Name, Took  string
	From, Width float64
}

// describe reads what op was to do. What is gone from the store is left out.
func (h *Handler) describe(ctx context.Context, v execution.View) *operation {
	op := &operation{View: v, State: stateOf(v), Took: took(v)}
	a, c := new(repb.Action), new(repb.Command)
	if h.message(ctx, v.Digest, a) != nil {
		return op
	}
	op.Action = a
	f := v.Digest.Function()
	op.Root, _ = reapi.Digest(f, a.InputRootDigest)
	var err error
	if op.CommandD, err = reapi.Digest(f, a.CommandDigest); err == nil && h.message(ctx, op.CommandD, c) == nil {
		op.Command, op.Line = c, strings.Join(c.Arguments, " ")
		if len(op.Line) > 160 {
			op.Line = op.Line[:160] + "…"
		}
		op.Line = strings.ToValidUTF8(op.Line, "�")
	}
	return op
}

func stateOf(v execution.View) string {
	switch {
	case v.Response == nil:
		return strings.ToLower(v.Stage.String())
	case v.Response.CachedResult:
		return "hit"
	case v.Response.GetStatus().GetCode() != 0:
		return strings.ToLower(codes.Code(v.Response.Status.Code).String())
	case v.Response.GetResult().GetExitCode() != 0:
		return fmt.Sprintf("exit code %d", v.Response.Result.ExitCode)
	}
	return "done"
}

// Class is how the state is coloured.
func (op *operation) Class() string {
	switch op.State {
	case "done", "hit":
		return "good"
	case "queued", "executing", "cache_check":
		return "busy"
	}
	return "bad"
}

func took(v execution.View) string {
	if v.Ended.IsZero() {
		return since(v.Begun)
	}
	if v.Started.IsZero() && v.Response.GetCachedResult() {
		return "" // nothing ran
	}
	return v.Ended.Sub(v.Begun).Round(100 * time.Microsecond).String()
}

func (h *Handler) operation(r *http.Request, name string) (*view, error) {
	if h.Engine == nil {
		return nil, errors.New("nothing is run here")
	}
	v, ok := h.Engine.View(name)
	if !ok || !h.May(r, v.Instance) {
		return nil, fmt.Errorf("there is no operation %q, or it ended long ago", name)
	}
	op := h.describe(r.Context(), v)
	if !op.Root.IsZero() && h.Blobs(r) {
		left := inputsMost
		op.Inputs, _ = h.below(r.Context(), op.Root, &left) // what is gone is not shown
	}
	if res := v.Response.GetResult(); res != nil {
		op.Result = res
		h.results(r.Context(), op)
	}
	return &view{Title: op.State + ": " + op.Line, Operation: op}, nil
}

// results lists outputs, and what the command wrote.
func (h *Handler) results(ctx context.Context, op *operation) {
	f, res := op.Digest.Function(), op.Result
	for _, o := range res.OutputFiles {
		if d, err := reapi.Digest(f, o.Digest); err == nil {
			note := ""
			if o.IsExecutable {
				note = "executable"
			}
			op.Files = append(op.Files, output{o.Path, note, link("blob", d), d.Size()})
		}
	}
	for _, o := range res.OutputDirectories {
		kind, m := "tree", o.TreeDigest
		if m == nil {
			kind, m = "directory", o.RootDirectoryDigest
		}
		if d, err := reapi.Digest(f, m); err == nil {
			op.Files = append(op.Files, output{o.Path + "/", "directory", link(kind, d), d.Size()})
		}
	}
	for _, o := range res.OutputSymlinks {
		op.Files = append(op.Files, output{Path: o.Path, Note: "→ " + o.Target})
	}
	for _, s := range []struct {
		name string
		raw  []byte
		m    *repb.Digest
	}{{"standard output", res.StdoutRaw, res.StdoutDigest}, {"standard error", res.StderrRaw, res.StderrDigest}} {
		st := stream{Name: s.name}
		if d, err := reapi.Digest(f, s.m); err == nil && d.Size() > 0 {
			st.Link = link("blob", d)
			if len(s.raw) == 0 {
				s.raw, _ = h.begin(ctx, d)
			}
		}
		if st.Text = readable(s.raw); st.Text != "" || st.Link != "" {
			op.Output = append(op.Output, st)
		}
	}
	op.Times = spans(res.ExecutionMetadata)
}

// spans are the stages of an action.
func spans(m *repb.ExecutedActionMetadata) (list []span) {
	if m.GetWorkerCompletedTimestamp() == nil || m.QueuedTimestamp == nil || m.ExecutionCompletedTimestamp == nil {
		return nil
	}
	zero := m.QueuedTimestamp.AsTime()
	whole := max(m.WorkerCompletedTimestamp.AsTime().Sub(zero).Seconds(), 1e-9)
	at := func(name string, from, to *timestamppb.Timestamp) {
		d := to.AsTime().Sub(from.AsTime())
		list = append(list, span{
			name, d.Round(10 * time.Microsecond).String(),
			100 * from.AsTime().Sub(zero).Seconds() / whole, max(100*d.Seconds()/whole, 0.3),
		})
	}
	at("in the queue", m.QueuedTimestamp, m.WorkerStartTimestamp)
	at("staging inputs", m.InputFetchStartTimestamp, m.InputFetchCompletedTimestamp)
	at("running", m.ExecutionStartTimestamp, m.ExecutionCompletedTimestamp)
	at("collecting outputs", m.OutputUploadStartTimestamp, m.OutputUploadCompletedTimestamp)
	return list
}

// shown is how much of a blob a page shows.
const shown = 64 << 10

// begin is the first bytes of a blob.
func (h *Handler) begin(ctx context.Context, d action.Digest) ([]byte, error) {
	file, err := h.Store.OpenContent(ctx, d)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, shown))
}

// readable is b as text, or "" if it is none.
func readable(b []byte) string {
	cut := len(b)
	for cut > 0 && len(b)-cut < utf8.UTFMax && !utf8.RuneStart(b[cut-1]) {
		cut--
	}
	if !utf8.Valid(b) && (cut == 0 || !utf8.Valid(b[:cut-1])) || strings.IndexByte(string(b), 0) >= 0 {
		return ""
	}
	return strings.ToValidUTF8(string(b), "�")
}

const maxMessage = 16 << 20

func (h *Handler) message(ctx context.Context, d action.Digest, m proto.Message) error {
	if d.IsZero() || d.Size() > maxMessage {
		return action.ErrMiss
	}
	file, err := h.Store.OpenContent(ctx, d)
	if err != nil {
		return err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxMessage))
	if err != nil {
		return err
	}
	return proto.Unmarshal(data, m)
}

// A blob is its beginning.
type blob struct {
	Digest action.Digest
	Text   string
	Cut    bool
}

func (h *Handler) blob(ctx context.Context, d action.Digest) (*view, error) {
	data, err := h.begin(ctx, d)
	if err != nil {
		return nil, err
	}
	return &view{Title: "blob", Blob: &blob{d, readable(data), d.Size() > shown}}, nil
}

// raw sends a blob as a file to keep: the browser must not interpret it.
func (h *Handler) raw(w http.ResponseWriter, r *http.Request, d action.Digest) error {
	file, err := h.Store.OpenContent(r.Context(), d)
	if err != nil {
		return err
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+d.Hash()[:16]+`"`)
	http.ServeContent(w, r, "", time.Time{}, file)
	return errSent
}
