package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func rows() (list []row) {
	for _, c := range []int{1, 8, 64} {
		list = append(list, row{fmt.Sprintf("/bin/true, 1 unique input, c=%d", c), c, "/s", 1, uniqueActions})
	}
	for _, c := range []int{1, 8} {
		list = append(list, row{fmt.Sprintf("/bin/true, 1000 shared inputs, c=%d", c), c, "/s", 1, sharedActions})
	}
	for _, c := range []int{1, 8} {
		list = append(list,
			row{fmt.Sprintf("batch update 1 KiB x100, c=%d", c), c, "/s", 100, batchUpdate(1<<10, 100)},
			row{fmt.Sprintf("batch read 1 KiB x100, c=%d", c), c, "/s", 100, batchRead(1<<10, 100)},
			row{fmt.Sprintf("batch update 1 MiB x3, c=%d", c), c, "MB/s", 3 * 1.048576, batchUpdate(1<<20, 3)},
			row{fmt.Sprintf("batch read 1 MiB x3, c=%d", c), c, "MB/s", 3 * 1.048576, batchRead(1<<20, 3)},
			row{fmt.Sprintf("bytestream write 1 KiB, c=%d", c), c, "/s", 1, streamWrite(1 << 10)},
			row{fmt.Sprintf("bytestream read 1 KiB, c=%d", c), c, "/s", 1, streamRead(1 << 10)},
			row{fmt.Sprintf("bytestream write 1 MiB, c=%d", c), c, "MB/s", 1.048576, streamWrite(1 << 20)},
			row{fmt.Sprintf("bytestream read 1 MiB, c=%d", c), c, "MB/s", 1.048576, streamRead(1 << 20)},
		)
	}
	for _, c := range []int{1, 4} {
		list = append(list,
			row{fmt.Sprintf("bytestream write 100 MiB, c=%d", c), c, "MB/s", 104.8576, streamWrite(100 << 20)},
			row{fmt.Sprintf("bytestream read 100 MiB, c=%d", c), c, "MB/s", 104.8576, streamRead(100 << 20)},
		)
	}
	for _, c := range []int{1, 8} {
		list = append(list,
			row{fmt.Sprintf("find missing, 1000 present, c=%d", c), c, "/s", 1000, findMissing(true)},
			row{fmt.Sprintf("find missing, 1000 absent, c=%d", c), c, "/s", 1000, findMissing(false)},
		)
	}
	for _, c := range []int{1, 8, 64} {
		list = append(list,
			row{fmt.Sprintf("action cache put, c=%d", c), c, "/s", 1, putResults},
			row{fmt.Sprintf("action cache get, c=%d", c), c, "/s", 1, getResults},
		)
	}
	return list
}

func digest(data []byte) *repb.Digest {
	sum := sha256.Sum256(data)
	return &repb.Digest{Hash: hex.EncodeToString(sum[:]), SizeBytes: int64(len(data))}
}

// unlike returns size bytes that are like no others; n makes them so.
func unlike(n int64, size int) []byte {
	b := make([]byte, size)
	copy(b, block)
	for at := len(block); at < size; at += len(block) {
		copy(b[at:], block)
	}
	copy(b, fmt.Appendf(nil, "%s %d ", nonce, n))
	return b
}

var nonce, block = func() (string, []byte) {
	b := make([]byte, 1<<20)
	rand.Read(b)
	return hex.EncodeToString(b[:8]), b
}()

func put(ctx context.Context, t *target, blobs ...[]byte) error {
	req := &repb.BatchUpdateBlobsRequest{}
	for _, b := range blobs {
		req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digest(b), Data: b})
	}
	res, err := repb.NewContentAddressableStorageClient(t.conn).BatchUpdateBlobs(ctx, req)
	if err != nil {
		return err
	}
	for _, r := range res.Responses {
		if r.Status.GetCode() != 0 {
			return status.FromProto(r.Status).Err()
		}
	}
	return nil
}

func marshal(m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

// execute runs the action and wants it to succeed, not from a cache.
func execute(ctx context.Context, t *target, action []byte) error {
	stream, err := repb.NewExecutionClient(t.conn).Execute(ctx, &repb.ExecuteRequest{ActionDigest: digest(action)})
	if err != nil {
		return err
	}
	for {
		op, err := stream.Recv()
		if err != nil {
			return err
		}
		if !op.Done {
			continue
		}
		res := new(repb.ExecuteResponse)
		if err := op.GetResponse().UnmarshalTo(res); err != nil {
			return err
		}
		if res.GetStatus().GetCode() != 0 {
			return status.FromProto(res.Status).Err()
		}
		if res.CachedResult || res.Result.ExitCode != 0 {
			return fmt.Errorf("exit code %d, cached %v", res.Result.ExitCode, res.CachedResult)
		}
		_, err = stream.Recv()
		if err == io.EOF {
			return nil
		}
		return err
	}
}

func uniqueActions(ctx context.Context, t *target) (call, error) {
	command := marshal(&repb.Command{Arguments: []string{"/bin/true"}})
	if err := put(ctx, t, command); err != nil {
		return nil, err
	}
	return func(n int64) func(context.Context) error {
		file := unlike(n, 40)
		root := marshal(&repb.Directory{Files: []*repb.FileNode{{Name: "input", Digest: digest(file)}}})
		a := marshal(&repb.Action{CommandDigest: digest(command), InputRootDigest: digest(root)})
		return func(ctx context.Context) error {
			if err := put(ctx, t, file, root, a); err != nil {
				return err
			}
			return execute(ctx, t, a)
		}
	}, nil
}

func sharedActions(ctx context.Context, t *target) (call, error) {
	command := marshal(&repb.Command{Arguments: []string{"/bin/true"}})
	dir := &repb.Directory{}
	blobs := [][]byte{command}
	for i := range 1000 {
		b := unlike(int64(i), 4096)
		dir.Files = append(dir.Files, &repb.FileNode{Name: fmt.Sprintf("file%04d", i), Digest: digest(b)})
		if blobs = append(blobs, b); len(blobs) < 500 {
			continue
		}
		if err := put(ctx, t, blobs...); err != nil {
			return nil, err
		}
		blobs = nil
	}
	root := marshal(dir)
	if err := put(ctx, t, append(blobs, root)...); err != nil {
		return nil, err
	}
	return func(n int64) func(context.Context) error {
		a := marshal(&repb.Action{CommandDigest: digest(command), InputRootDigest: digest(root), Salt: fmt.Append(nil, nonce, n)})
		return func(ctx context.Context) error {
			if err := put(ctx, t, a); err != nil {
				return err
			}
			return execute(ctx, t, a)
		}
	}, nil
}

func batchUpdate(size, count int) func(context.Context, *target) (call, error) {
	return func(_ context.Context, t *target) (call, error) {
		cas := repb.NewContentAddressableStorageClient(t.conn)
		return func(n int64) func(context.Context) error {
			req := &repb.BatchUpdateBlobsRequest{}
			for i := range count {
				b := unlike(n*1000+int64(i), size)
				req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digest(b), Data: b})
			}
			return func(ctx context.Context) error {
				res, err := cas.BatchUpdateBlobs(ctx, req)
				if err == nil && len(res.Responses) != count {
					err = fmt.Errorf("%d answers", len(res.Responses))
				}
				return err
			}
		}, nil
	}
}

func batchRead(size, count int) func(context.Context, *target) (call, error) {
	return func(ctx context.Context, t *target) (call, error) {
		cas := repb.NewContentAddressableStorageClient(t.conn)
		var reqs []*repb.BatchReadBlobsRequest
		for range 50 {
			req := &repb.BatchReadBlobsRequest{}
			var blobs [][]byte
			for range count {
				b := unlike(serial.Add(1), size)
				blobs = append(blobs, b)
				req.Digests = append(req.Digests, digest(b))
			}
			if err := put(ctx, t, blobs...); err != nil {
				return nil, err
			}
			reqs = append(reqs, req)
		}
		return func(n int64) func(context.Context) error {
			req := reqs[n%int64(len(reqs))]
			return func(ctx context.Context) error {
				res, err := cas.BatchReadBlobs(ctx, req)
				if err == nil && len(res.Responses[0].Data) != size {
					err = fmt.Errorf("%d bytes: %v", len(res.Responses[0].Data), res.Responses[0].Status)
				}
				return err
			}
		}, nil
	}
}

// upload writes data in messages of 1 MiB.
func upload(ctx context.Context, t *target, data []byte, d *repb.Digest, n int64) error {
	stream, err := bytestream.NewByteStreamClient(t.conn).Write(ctx)
	if err != nil {
		return err
	}
	for at := 0; ; {
		end := min(at+1<<20, len(data))
		req := &bytestream.WriteRequest{WriteOffset: int64(at), Data: data[at:end], FinishWrite: end == len(data)}
		if at == 0 {
			req.ResourceName = fmt.Sprintf("uploads/%s-%d/blobs/%s/%d", nonce, n, d.Hash, d.SizeBytes)
		}
		if err := stream.Send(req); err != nil || end == len(data) {
			break // CloseAndRecv has the reason
		}
		at = end
	}
	res, err := stream.CloseAndRecv()
	if err == nil && res.CommittedSize != d.SizeBytes {
		err = fmt.Errorf("%d bytes were committed", res.CommittedSize)
	}
	return err
}

func streamWrite(size int) func(context.Context, *target) (call, error) {
	return func(_ context.Context, t *target) (call, error) {
		return func(n int64) func(context.Context) error {
			data := unlike(n, size)
			d := digest(data)
			return func(ctx context.Context) error { return upload(ctx, t, data, d, n) }
		}, nil
	}
}

func streamRead(size int) func(context.Context, *target) (call, error) {
	return func(ctx context.Context, t *target) (call, error) {
		bs := bytestream.NewByteStreamClient(t.conn)
		data := unlike(serial.Add(1), size)
		d := digest(data)
		if err := upload(ctx, t, data, d, serial.Add(1)); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("blobs/%s/%d", d.Hash, d.SizeBytes)
		return func(int64) func(context.Context) error {
			return func(ctx context.Context) error {
				stream, err := bs.Read(ctx, &bytestream.ReadRequest{ResourceName: name})
				if err != nil {
					return err
				}
				for got := 0; ; {
					res, err := stream.Recv()
					if err == io.EOF && got == size {
						return nil
					}
					if err != nil {
						return fmt.Errorf("after %d bytes: %w", got, err)
					}
					got += len(res.Data)
				}
			}
		}, nil
	}
}

func findMissing(present bool) func(context.Context, *target) (call, error) {
	return func(ctx context.Context, t *target) (call, error) {
		cas := repb.NewContentAddressableStorageClient(t.conn)
		req := &repb.FindMissingBlobsRequest{}
		var blobs [][]byte
		for range 1000 {
			b := unlike(serial.Add(1), 64)
			blobs = append(blobs, b)
			req.BlobDigests = append(req.BlobDigests, digest(b))
		}
		want := len(blobs)
		if present {
			want = 0
			if err := put(ctx, t, blobs...); err != nil {
				return nil, err
			}
		}
		return func(int64) func(context.Context) error {
			return func(ctx context.Context) error {
				res, err := cas.FindMissingBlobs(ctx, req)
				if err == nil && len(res.MissingBlobDigests) != want {
					err = fmt.Errorf("%d are missing, want %d", len(res.MissingBlobDigests), want)
				}
				return err
			}
		}, nil
	}
}

// result is an action result with one output, that is there.
func result(ctx context.Context, t *target) (*repb.ActionResult, error) {
	out := unlike(serial.Add(1), 100)
	return &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "out", Digest: digest(out)}}}, put(ctx, t, out)
}

func putResults(ctx context.Context, t *target) (call, error) {
	ac := repb.NewActionCacheClient(t.conn)
	m, err := result(ctx, t)
	return func(n int64) func(context.Context) error {
		req := &repb.UpdateActionResultRequest{ActionDigest: digest(unlike(n, 100)), ActionResult: m}
		return func(ctx context.Context) error {
			_, err := ac.UpdateActionResult(ctx, req)
			return err
		}
	}, err
}

func getResults(ctx context.Context, t *target) (call, error) {
	ac := repb.NewActionCacheClient(t.conn)
	m, err := result(ctx, t)
	if err != nil {
		return nil, err
	}
	var keys []*repb.Digest
	for range 100 {
		keys = append(keys, digest(unlike(serial.Add(1), 100)))
		if _, err := ac.UpdateActionResult(ctx, &repb.UpdateActionResultRequest{ActionDigest: keys[len(keys)-1], ActionResult: m}); err != nil {
			return nil, err
		}
	}
	return func(n int64) func(context.Context) error {
		req := &repb.GetActionResultRequest{ActionDigest: keys[n%int64(len(keys))]}
		return func(ctx context.Context) error {
			_, err := ac.GetActionResult(ctx, req)
			return err
		}
	}, nil
}
