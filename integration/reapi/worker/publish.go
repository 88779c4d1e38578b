package worker

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/worker/proto/remoteworkerpb"
)

// publish puts a result that may be used again into the action cache. Of any
// other, where a bb-browser shows it, it leaves an account in the storage, and
// the answer says where.
func (r *run) publish(ctx context.Context, resp *rexec.ExecuteResponse) error {
	switch {
	case resp.CachedResult, r.w.NoCache:
		return nil
	case resp.Status.GetCode() == 0 && resp.Result.ExitCode == 0 && r.action != nil && !r.action.DoNotCache:
		return r.client.PutResult(ctx, r.task.Digest, resp.Result)
	case r.w.Browser == "":
		return nil
	}
	account, err := proto.Marshal(&remoteworkerpb.HistoricalExecuteResponse{
		ActionDigest: remote.ToDigest(r.task.Digest), ExecuteResponse: resp,
	})
	if err != nil {
		return err
	}
	d, err := r.w.Store.PutBytes(ctx, r.task.Digest.Function(), account)
	if err == nil {
		err = r.client.Upload(ctx, r.w.Store, []action.Digest{d})
	}
	if err != nil { // it is for people to look at: no reason to lose the answer
		r.w.Log.WarnContext(ctx, "no account of a result that is not cached", "action", r.task.Digest, "err", err)
		return nil
	}
	resp.Message = "Action details (uncached result): " + r.link(d)
	return nil
}

// link is the page of bb-browser for an account.
func (r *run) link(d action.Digest) string {
	b := strings.TrimSuffix(r.w.Browser, "/") + "/"
	if r.task.Instance != "" {
		b += r.task.Instance + "/"
	}
	return b + "blobs/" + d.Function().String() + "/historical_execute_response/" + d.Hash() + "-" + sizeOf(d) + "/"
}

// Status is the status of an answer whose execution failed with err.
func Status(ctx context.Context, err error) *status.Status {
	if ctx.Err() != nil {
		return status.New(codes.Canceled, "the scheduler stopped it")
	}
	if m, ok := errors.AsType[*remote.MissingError](err); ok {
		return missing(m)
	}
	if s, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		code := s.GRPCStatus().Code()
		if code == codes.Canceled || code == codes.Unknown {
			code = codes.Unavailable // of a call to the storage, not of the task
		}
		// What was being done, and what is wrong, without the code once more.
		return status.New(code, strings.Replace(err.Error(), s.Error(), s.GRPCStatus().Message(), 1))
	}
	code := codes.Internal
	switch _, malformed := errors.AsType[*remote.MalformedError](err); {
	case malformed, inputs.IsMalformed(err):
		code = codes.InvalidArgument
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE),
		errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM), errors.Is(err, cache.ErrUnwritable), errors.Is(err, errRoom):
		code = codes.ResourceExhausted // another worker may have what we lack
	case errors.Is(err, errLocal), remote.Transient(err), errors.Is(err, fs.ErrClosed):
		code = codes.Unavailable
	}
	return status.New(code, err.Error())
}

// missing names every blob that the client must upload first.
func missing(m *remote.MissingError) *status.Status {
	failure := &errdetails.PreconditionFailure{}
	for _, d := range m.Digests {
		failure.Violations = append(failure.Violations, &errdetails.PreconditionFailure_Violation{
			Type: "MISSING", Subject: remote.Resource(d),
		})
	}
	s, err := status.New(codes.FailedPrecondition, m.Error()).WithDetails(failure)
	if err != nil {
		return status.New(codes.Internal, err.Error())
	}
	return s
}
