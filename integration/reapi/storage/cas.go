package storage

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

// parallel calls each for every i below n, on as many goroutines as there are
// processors if n is large enough for that to pay, and waits.
func parallel(n, enough int, each func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n/enough)
	if workers < 2 {
		for i := range n {
			each(i)
		}
		return
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				each(i)
			}
		})
	}
	all.Wait()
}

// FindMissingBlobs implements the RPC. Blobs that are there count as used now.
func (s *Server) FindMissingBlobs(ctx context.Context, req *repb.FindMissingBlobsRequest) (*repb.FindMissingBlobsResponse, error) {
	if len(req.BlobDigests) == 0 {
		return &repb.FindMissingBlobsResponse{}, nil
	}
	f, err := reapi.Function(req.DigestFunction, req.BlobDigests[0].GetHash())
	if err != nil {
		return nil, err
	}
	const run = 64 // that one goroutine takes at once: processors that write beside each other wait
	all := req.BlobDigests
	absent := make([]bool, len(all))
	runs := (len(all) + run - 1) / run
	errs := make([]error, runs)
	var count atomic.Int64
	parallel(runs, 256/run, func(r int) {
		n := int64(0)
		for i := r * run; i < min((r+1)*run, len(all)); i++ {
			d, err := reapi.Digest(f, all[i])
			if err != nil {
				errs[r] = err
				return
			}
			if !s.store.Holds(ctx, d) {
				absent[i] = true
				n++
			}
		}
		count.Add(n)
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	res := &repb.FindMissingBlobsResponse{MissingBlobDigests: make([]*repb.Digest, 0, count.Load())}
	for i, is := range absent {
		if is {
			res.MissingBlobDigests = append(res.MissingBlobDigests, all[i])
		}
	}
	return res, ctx.Err()
}

// blobStorage describes the service, with a BatchUpdateBlobs whose data are not
// copied.
func blobStorage() *grpc.ServiceDesc {
	desc := repb.ContentAddressableStorage_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i, m := range desc.Methods {
		if m.MethodName == "BatchUpdateBlobs" {
			desc.Methods[i].Handler = handleBatchUpdate
		}
	}
	return &desc
}

func handleBatchUpdate(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	req := new(wire.BatchUpdateBlobsRequest)
	if err := decode(req); err != nil {
		return nil, err
	}
	defer req.Free()
	if intercept == nil {
		return srv.(*Server).batchUpdate(ctx, req)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: repb.ContentAddressableStorage_BatchUpdateBlobs_FullMethodName}
	return intercept(ctx, req, info, func(ctx context.Context, _ any) (any, error) { return srv.(*Server).batchUpdate(ctx, req) })
}

// batchUpdate is BatchUpdateBlobs.
func (s *Server) batchUpdate(ctx context.Context, req *wire.BatchUpdateBlobsRequest) (*repb.BatchUpdateBlobsResponse, error) {
	var total int64
	for i, r := range req.Requests {
		n := req.Len(i)
		if r.Compressor == repb.Compressor_ZSTD { // what it becomes counts, too: a small message must not fill memory
			n = max(n, r.Digest.GetSizeBytes())
		}
		if n > s.opts.MaxBatch-total { // the sum of two sizes may be more than there are
			return nil, status.Errorf(codes.InvalidArgument, "the batch has more than the %d bytes, before they were compressed, that are taken at once: use ByteStream for large blobs", s.opts.MaxBatch)
		}
		total += n
	}
	res := &repb.BatchUpdateBlobsResponse{Responses: make([]*repb.BatchUpdateBlobsResponse_Response, len(req.Requests))}
	if len(req.Requests) == 0 {
		return res, nil
	}
	f, err := reapi.Function(req.DigestFunction, req.Requests[0].GetDigest().GetHash())
	if err != nil {
		return nil, err
	}
	blobs := make([]cache.Checked, len(req.Requests))
	errs := make([]error, len(req.Requests))
	enough := 16
	if total/int64(len(blobs)) >= piece { // each is much work
		enough = 1
	}
	parallel(len(blobs), enough, func(i int) { blobs[i], errs[i] = s.take(ctx, req, f, i) })
	// What is small costs less together.
	small := make([]cache.Checked, 0, len(blobs))
	for i, b := range blobs {
		if errs[i] == nil && s.store.Packs(b.Digest()) {
			small = append(small, b)
		}
	}
	packed := len(small) > 0 && s.store.Pack(ctx, small...)
	if packed && len(small) == len(blobs) {
		enough = len(blobs) + 1
	}
	parallel(len(blobs), enough, func(i int) {
		err, d := errs[i], blobs[i].Digest()
		if err == nil && !d.IsZero() && !(packed && s.store.Packs(d)) {
			err = s.store.PutChecked(ctx, blobs[i])
		}
		if err != nil {
			err = s.fail(ctx, "store a blob", err)
		}
		res.Responses[i] = &repb.BatchUpdateBlobsResponse_Response{Digest: req.Requests[i].Digest, Status: status.Convert(err).Proto()}
	})
	return res, nil
}

// take returns the blob that a part of a batch has, or what is wrong with it. What is
// large it stores, and returns none.
func (s *Server) take(ctx context.Context, req *wire.BatchUpdateBlobsRequest, f action.Function, i int) (cache.Checked, error) {
	r, parts := req.Requests[i], req.Parts(i)
	d, err := reapi.Digest(f, r.Digest)
	if err != nil {
		return cache.Checked{}, err
	}
	if err := s.tooLarge(req.InstanceName, d); err != nil {
		return cache.Checked{}, err
	}
	data := r.Data
	switch r.Compressor {
	case repb.Compressor_IDENTITY:
		if parts != nil {
			return cache.Checked{}, s.store.PutParts(ctx, d, parts)
		}
	case repb.Compressor_ZSTD:
		if parts != nil {
			data = bytes.Join(parts, nil)
		}
		if data, err = squeeze.Expand(data, d.Size()); err != nil {
			return cache.Checked{}, status.Errorf(codes.InvalidArgument, "blob %v: %v", d, err)
		}
	default:
		return cache.Checked{}, status.Errorf(codes.InvalidArgument, "blob %v: compressor %v is not known here", d, r.Compressor)
	}
	return cache.Check(d, data)
}

// BatchReadBlobs implements the RPC.
func (s *Server) BatchReadBlobs(ctx context.Context, req *repb.BatchReadBlobsRequest) (*repb.BatchReadBlobsResponse, error) {
	res := &repb.BatchReadBlobsResponse{Responses: make([]*repb.BatchReadBlobsResponse_Response, len(req.Digests))}
	if len(req.Digests) == 0 {
		return res, nil
	}
	f, err := reapi.Function(req.DigestFunction, req.Digests[0].GetHash())
	if err != nil {
		return nil, err
	}
	var total int64
	for _, d := range req.Digests {
		// One at a time: the sum of two sizes may be more than there are.
		if size := max(d.GetSizeBytes(), 0); size > s.opts.MaxBatch-total {
			return nil, status.Errorf(codes.InvalidArgument, "the batch has more than the %d bytes that are sent at once: use ByteStream for large blobs", s.opts.MaxBatch)
		} else {
			total += size
		}
	}
	compress := slices.Contains(req.AcceptableCompressors, repb.Compressor_ZSTD)
	parallel(len(req.Digests), 16, func(i int) {
		r := &repb.BatchReadBlobsResponse_Response{Digest: req.Digests[i]}
		data, err := s.readOne(ctx, f, req.Digests[i])
		if err == nil {
			r.Data, r.Compressor = data, repb.Compressor_IDENTITY
			if compress {
				if out, ok := squeeze.Shrink(data); ok {
					r.Data, r.Compressor = out, repb.Compressor_ZSTD
				}
			}
		}
		r.Status = status.Convert(s.fail(ctx, "read a blob", err)).Proto()
		res.Responses[i] = r
	})
	return res, nil
}

func (s *Server) readOne(ctx context.Context, f action.Function, m *repb.Digest) ([]byte, error) {
	d, err := reapi.Digest(f, m)
	if err != nil {
		return nil, err
	}
	return s.store.Read(ctx, d)
}
