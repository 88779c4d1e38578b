package reapi

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

// MissingMax bounds the blobs that one error names.
const MissingMax = 10_000

// Missing is the error of an action whose inputs are not all there: a violation
// for each, so that the client uploads them and tries again.
func Missing(blobs []action.Digest) *status.Status {
	detail := &errdetails.PreconditionFailure{}
	for _, d := range blobs[:min(len(blobs), MissingMax)] {
		detail.Violations = append(detail.Violations, &errdetails.PreconditionFailure_Violation{
			Type: "MISSING", Subject: BlobName(d),
		})
	}
	more := ""
	if len(blobs) > 1 {
		more = fmt.Sprintf(" and %d more", len(blobs)-1)
	}
	st := status.Newf(codes.FailedPrecondition, "%v%s: not in the store; upload it and try again", blobs[0], more)
	if with, err := st.WithDetails(detail); err == nil {
		return with
	}
	return st
}

// Busy is the error of something that is worth trying again after a while.
func Busy(code codes.Code, after time.Duration, format string, args ...any) *status.Status {
	st := status.Newf(code, format, args...)
	if with, err := st.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(after)}); err == nil {
		return with
	}
	return st
}

// Error is err as a status: one that it is already, or what the store and the
// system's errors mean to a client.
func Error(err error) error {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, action.ErrMiss):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		// Not "not found": it may well be there.
		return Busy(codes.Unavailable, time.Second, "the server is out of resources: %v", err).Err()
	case errors.Is(err, cache.ErrUnwritable):
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
