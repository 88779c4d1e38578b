package execution

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

// GetOperation implements the RPC.
func (s *Server) GetOperation(_ context.Context, req *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	op, err := s.find(req.Name)
	if err != nil {
		return nil, err
	}
	m, _, err := s.message(op)
	return m, reapi.Error(err)
}

// ListOperations implements the RPC for the operations of one instance, which
// name says: "", "INSTANCE", "operations" or "INSTANCE/operations". The filter
// can be "done=true", "done=false" or nothing.
func (s *Server) ListOperations(ctx context.Context, req *longrunningpb.ListOperationsRequest) (*longrunningpb.ListOperationsResponse, error) {
	instance := reapi.InstanceOf(req.Name)
	size := int(req.PageSize)
	if size <= 0 || size > 1000 {
		size = 1000
	}
	var done, any bool
	switch strings.ReplaceAll(req.Filter, " ", "") {
	case "":
		any = true
	case "done=true":
		done = true
	case "done=false":
	default:
		return nil, status.Errorf(codes.InvalidArgument, "filter %q: use done=true, done=false or none", req.Filter)
	}
	s.mu.Lock()
	var list []*Operation
	for _, op := range s.ops {
		if op.Instance == instance && op.Name > req.PageToken && (any || done == (op.response != nil)) {
			list = append(list, op)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *Operation) int { return cmp.Compare(a.Name, b.Name) })
	res := &longrunningpb.ListOperationsResponse{}
	bytes := int64(0)
	for _, op := range list {
		m, _, err := s.message(op)
		if err != nil {
			return nil, reapi.Error(err)
		}
		bytes += int64(proto.Size(m)) + 8
		if n := len(res.Operations); n == size || n > 0 && bytes > storage.DefaultMaxBatch {
			res.NextPageToken = res.Operations[n-1].Name
			break
		}
		res.Operations = append(res.Operations, m)
	}
	return res, ctx.Err()
}

// CancelOperation implements the RPC: if nobody else waits for the same task,
// every process of it is killed at once.
func (s *Server) CancelOperation(_ context.Context, req *longrunningpb.CancelOperationRequest) (*emptypb.Empty, error) {
	op, err := s.find(req.Name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if op.response == nil {
		s.endEarly(op, status.New(codes.Canceled, "the operation was cancelled"))
	}
	return &emptypb.Empty{}, nil
}

// DeleteOperation implements the RPC: the answer of an operation that is done
// is forgotten.
func (s *Server) DeleteOperation(_ context.Context, req *longrunningpb.DeleteOperationRequest) (*emptypb.Empty, error) {
	op, err := s.find(req.Name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.done, op)
	if i < 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "operation %q is not done: cancel it first", req.Name)
	}
	s.drop(i)
	return &emptypb.Empty{}, nil
}

// WaitOperation implements the RPC: it returns when the operation is done, or
// after the timeout as it is then.
func (s *Server) WaitOperation(ctx context.Context, req *longrunningpb.WaitOperationRequest) (*longrunningpb.Operation, error) {
	op, err := s.find(req.Name)
	if err != nil {
		return nil, err
	}
	wait := time.Hour
	if req.Timeout != nil {
		wait = max(req.Timeout.AsDuration(), 0)
	}
	enough := time.NewTimer(wait)
	defer enough.Stop()
	s.wait(op, 1)
	defer s.wait(op, -1)
	for {
		m, changed, err := s.message(op)
		if err != nil || m.Done {
			return m, reapi.Error(err)
		}
		select {
		case <-changed:
		case <-enough.C:
			return m, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-s.ctx.Done():
			return nil, reapi.Busy(codes.Unavailable, time.Second, "%v", errStopped).Err()
		}
	}
}
