package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// Results is the action cache as clients see it: under the digests of their
// actions, in instances that do not see each other's.
//
// What a client has uploaded is stored under a key of its own, that no action
// can have: whoever may upload results in one instance must not be able to give
// one to another instance, or to those who use the store without a server. What
// ran here is not stored under the client's digest, because on the host's root file
// system that does not say everything that the result depends on. A note under
// the client's digest holds the action that ran instead, as package action has
// it; whoever asks gets the result of that action, sealed with what it saw of
// the host, if the host is still as it was. So a result that a compiler made
// that has since been upgraded is not found.
//
// The size of an action is in none of the keys: clients of the HTTP protocol do
// not say it.
//
// The note of an action has its canonical bytes, after the letter "a". An upload
// that comes later leaves a note of the letter "u".
type Results struct {
	Store   *cache.Store
	Witness action.Witness
}

const (
	noteAction = 'a'
	noteUpload = 'u'
)

// upload is the key of a result that a client has uploaded.
func (r *Results) upload(instance string, d action.Digest) action.Digest {
	return action.Sum(d.Function(), []byte("instance "+instance+"\x00"+d.Function().String()+":"+d.Hash()))
}

func (r *Results) note(instance string, d action.Digest) action.Digest {
	return action.Sum(action.BLAKE3, []byte("reapi "+instance+"\x00"+d.Function().String()+":"+d.Hash()))
}

func (r *Results) notes() action.Notes { return cache.PackedNotes{Store: r.Store} }

// Find returns the result of the action whose digest is d, complete, or an
// error wrapping [action.ErrMiss] that says why there is none.
func (r *Results) Find(ctx context.Context, instance string, d action.Digest) (*action.Result, error) {
	note, err := r.notes().Note(ctx, r.note(instance, d))
	if err == nil && len(note) > 0 && note[0] == noteAction {
		ran, err := action.ParseAction(note[1:], d.Function())
		if err != nil {
			return nil, fmt.Errorf("result %v: its note is damaged: %w: %w", d, err, action.ErrMiss)
		}
		sealed, err := r.Witness.Recall(ctx, ran)
		if err != nil {
			return nil, err
		}
		return r.Store.PackedResult(ctx, sealed.Digest(d.Function()))
	}
	return r.Store.PackedResult(ctx, r.upload(instance, d))
}

// rawMax bounds what of each stream is in a result itself, so that a client gets
// all of it in a message of the usual size.
const rawMax = 1 << 20

// Upload stores what a client says is the result of d. Every blob that it names
// must be there; else the error wraps [action.ErrMiss].
func (r *Results) Upload(ctx context.Context, instance string, d action.Digest, res *action.Result) error {
	for _, stream := range []struct {
		raw  *[]byte
		blob *action.Digest
	}{{&res.StdoutRaw, &res.Stdout}, {&res.StderrRaw, &res.Stderr}} {
		if len(*stream.raw) <= rawMax {
			continue
		}
		var err error
		if *stream.blob, err = r.Store.PutBytes(ctx, d.Function(), *stream.raw); err != nil {
			return err
		}
		*stream.raw = nil
	}
	if err := r.Store.PutPackedResult(ctx, r.upload(instance, d), res); err != nil {
		return err
	}
	if old, err := r.notes().Note(ctx, r.note(instance, d)); err != nil || len(old) == 0 || old[0] == noteUpload {
		return nil
	}
	return r.notes().PutNote(ctx, r.note(instance, d), []byte{noteUpload})
}

// Ran notes that the action d of a client ran as the action ran. Its result is
// in the store.
func (r *Results) Ran(ctx context.Context, instance string, d action.Digest, ran *action.Action) error {
	return r.notes().PutNote(ctx, r.note(instance, d), append([]byte{noteAction}, ran.Marshal()...))
}

// Inline says what a client would like to have in a result itself.
type Inline struct {
	Stdout, Stderr bool
	Files          []string
}

// Message is res for a client: with what it wants inside, as far as a message
// of max bytes has room for it.
func (r *Results) Message(ctx context.Context, res *action.Result, in Inline, max int64) (*repb.ActionResult, error) {
	m, err := reapi.ToResult(res)
	if err != nil {
		return nil, err
	}
	if m.ExecutionMetadata != nil {
		m.ExecutionMetadata.AuxiliaryMetadata = slices.DeleteFunc(m.ExecutionMetadata.AuxiliaryMetadata, isOrigin)
	}
	left := max - int64(proto.Size(m))
	fill := func(want bool, d action.Digest, raw *[]byte) {
		if !want || d.IsZero() || len(*raw) > 0 || d.Size() > left-16 {
			return
		}
		if data, err := r.Store.Read(ctx, d); err == nil { // else: a hint that is not followed
			*raw, left = data, left-d.Size()-16
		}
	}
	fill(in.Stdout, res.Stdout, &m.StdoutRaw)
	fill(in.Stderr, res.Stderr, &m.StderrRaw)
	for i, f := range m.OutputFiles {
		fill(slices.Contains(in.Files, f.Path), res.Files[i].Digest, &f.Contents)
	}
	return m, nil
}

// isOrigin says whether a is the action or the command that a result of the
// store carries for ourselves.
func isOrigin(a *anypb.Any) bool {
	name := a.GetTypeUrl()
	return strings.HasSuffix(name, "/build.bazel.remote.execution.v2.Action") || strings.HasSuffix(name, "/build.bazel.remote.execution.v2.Command")
}

// GetActionResult implements the RPC.
func (s *Server) GetActionResult(ctx context.Context, req *repb.GetActionResultRequest) (*repb.ActionResult, error) {
	d, err := reapi.InferDigest(req.DigestFunction, req.ActionDigest)
	if err != nil {
		return nil, err
	}
	res, err := s.results.Find(ctx, req.InstanceName, d)
	if err != nil {
		return nil, s.fail(ctx, "look a result up", err)
	}
	m, err := s.results.Message(ctx, res, Inline{req.InlineStdout, req.InlineStderr, req.InlineOutputFiles}, s.opts.MaxBatch)
	return m, s.fail(ctx, "look a result up", err)
}

// UpdateActionResult implements the RPC.
func (s *Server) UpdateActionResult(ctx context.Context, req *repb.UpdateActionResultRequest) (*repb.ActionResult, error) {
	d, err := reapi.InferDigest(req.DigestFunction, req.ActionDigest)
	if err != nil {
		return nil, err
	}
	if req.ActionResult == nil {
		return nil, status.Error(codes.InvalidArgument, "action_result is missing")
	}
	res, err := reapi.Result(d.Function(), req.ActionResult)
	if err != nil {
		return nil, err
	}
	switch err := s.results.Upload(ctx, req.InstanceName, d, res); {
	case errors.Is(err, action.ErrMiss):
		return nil, status.Errorf(codes.FailedPrecondition, "%v: upload what the result names first", err)
	case err != nil:
		return nil, s.fail(ctx, "store a result", err)
	}
	return s.results.Message(ctx, res, Inline{}, s.opts.MaxBatch)
}
