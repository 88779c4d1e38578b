package execution

import (
	"context"
	"errors"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	logpb "github.com/bazelbuild/remote-apis/build/bazel/remote/logstream/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

// A Server is an engine's RPCs.
type Server struct {
	repb.UnimplementedExecutionServer
	longrunningpb.UnimplementedOperationsServer
	*Engine
}

// Register makes srv serve e.
func (e *Engine) Register(srv *grpc.Server) {
	s := &Server{Engine: e}
	repb.RegisterExecutionServer(srv, s)
	longrunningpb.RegisterOperationsServer(srv, s)
	logpb.RegisterLogStreamServiceServer(srv, &e.logs)
}

// Execute implements the RPC.
func (s *Server) Execute(req *repb.ExecuteRequest, stream grpc.ServerStreamingServer[longrunningpb.Operation]) error {
	op, err := s.submit(stream.Context(), req)
	if err != nil {
		return err
	}
	defer s.wait(op, -1)
	return s.follow(op, stream)
}

// submit makes an operation of a request, for which the caller waits: of one that
// has a result, one that is done.
func (e *Engine) submit(ctx context.Context, req *repb.ExecuteRequest) (*Operation, error) {
	d, err := reapi.InferDigest(req.DigestFunction, req.ActionDigest)
	if err != nil {
		return nil, err
	}
	if !CanRun(d.Function()) {
		return nil, status.Errorf(codes.InvalidArgument, "actions are not run with digest function %v: GetCapabilities lists those that are", d.Function())
	}
	if err := reapi.CheckInstance(req.InstanceName); err != nil {
		return nil, err
	}
	if e.opts.Refuse != nil && e.opts.Refuse(req.InstanceName) {
		return nil, status.Errorf(codes.FailedPrecondition, "nothing is run in instance %q: it is a cache only", req.InstanceName)
	}
	j, err := e.prepare(ctx, req.InstanceName, d)
	if err != nil {
		return nil, err
	}
	miss := ""
	if !req.SkipCacheLookup && !j.action.DoNotCache {
		res, err := e.cached(ctx, req, d)
		if err == nil {
			return e.hit(req, d, res), nil
		}
		miss = err.Error()
		if !errors.Is(err, action.ErrMiss) { // a broken cache costs time, not builds
			e.opts.Log.WarnContext(ctx, "result unreadable", "action", d, "err", err)
		}
	}
	j.parent = traceParent(ctx)
	return e.begin("", req, j, miss)
}

// traceParent is the header by which clients say to which trace a request
// belongs.
func traceParent(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("traceparent"); len(v) == 1 {
		return v[0]
	}
	return ""
}

// cached is the response for a result that is in the store.
func (e *Engine) cached(ctx context.Context, req *repb.ExecuteRequest, d action.Digest) (*repb.ExecuteResponse, error) {
	res, err := e.opts.Results.Find(ctx, req.InstanceName, d)
	if err != nil {
		return nil, err
	}
	in := storage.Inline{Stdout: req.InlineStdout, Stderr: req.InlineStderr, Files: req.InlineOutputFiles}
	m, err := e.opts.Results.Message(ctx, res, in, e.opts.MaxInline)
	return &repb.ExecuteResponse{Result: m, CachedResult: true}, err
}

// WaitExecution implements the RPC: it sends the state of the operation at
// once, and then every change.
func (s *Server) WaitExecution(req *repb.WaitExecutionRequest, stream grpc.ServerStreamingServer[longrunningpb.Operation]) error {
	op, err := s.find(req.Name)
	if err != nil {
		return err
	}
	s.wait(op, 1)
	defer s.wait(op, -1)
	return s.follow(op, stream)
}

// follow sends op, for which the caller waits, as it is, at every change, and now and then, until it is done
// or the client is gone.
func (e *Engine) follow(op *Operation, stream grpc.ServerStreamingServer[longrunningpb.Operation]) error {
	tick := time.NewTicker(e.opts.KeepAlive)
	defer tick.Stop()
	for {
		m, changed, err := e.message(op)
		if err != nil {
			return reapi.Error(err)
		}
		if err := stream.Send(m); err != nil || m.Done {
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-e.ctx.Done():
			return reapi.Busy(codes.Unavailable, time.Second, "%v: WaitExecution will find this operation when it is back", errStopped).Err()
		}
	}
}
