package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

// A Store takes what is downloaded. It is compared with ==: two calls that
// download the same blob into the same store share the transfer.
type Store interface {
	Source
	Has(ctx context.Context, d action.Digest) bool
	// Put refuses content that is not d's.
	Put(ctx context.Context, d action.Digest, r io.Reader) error
}

// A MissingError names the blobs that a server does not have.
type MissingError struct {
	Digests []action.Digest
}

func (e *MissingError) Error() string {
	var b strings.Builder
	for i, d := range e.Digests {
		if i == 3 {
			fmt.Fprintf(&b, " and %d more", len(e.Digests)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(d.String())
	}
	return "the remote store lacks " + b.String()
}

// Unwrap makes it a miss.
func (e *MissingError) Unwrap() error { return action.ErrMiss }

// Download sees to it that dst has every one of digests. If the server lacks
// some, the others are there afterwards, and the error is a [MissingError] that
// names them all.
func (c *Client) Download(ctx context.Context, dst Store, digests []action.Digest) error {
	for {
		lack := lacking(ctx, dst, digests)
		if len(lack) == 0 {
			return nil
		}
		mine, others := c.board(lack, dst, time.Time{})
		if err := c.receive(ctx, dst, mine); err != nil {
			return err
		}
		again, err := wait(ctx, others)
		if err != nil || !again {
			return err
		}
	}
}

func lacking(ctx context.Context, dst Store, digests []action.Digest) (lack []action.Digest) {
	seen := make(map[action.Digest]bool, len(digests))
	for _, d := range digests {
		if !seen[d] && !d.IsZero() && !dst.Has(ctx, d) {
			lack = append(lack, d)
		}
		seen[d] = true
	}
	return lack
}

// receive downloads blobs and lands their flights.
func (c *Client) receive(ctx context.Context, dst Store, digests []action.Digest) error {
	if len(digests) == 0 {
		return nil
	}
	var mu sync.Mutex
	landed := map[action.Digest]bool{} // guarded by mu
	var missing []action.Digest        // guarded by mu
	land := func(d action.Digest, err error) {
		mu.Lock()
		defer mu.Unlock()
		if landed[d] {
			return
		}
		landed[d] = true
		if status.Code(err) == codes.NotFound {
			missing = append(missing, d)
		}
		c.land(d, dst, err)
	}
	l, err := c.limits(ctx)
	if err == nil {
		groups, large := batches(digests, l)
		for _, d := range large {
			groups = append(groups, []action.Digest{d})
		}
		err = each(ctx, c.slots, groups, func(ctx context.Context, g []action.Digest) error {
			if l.alone(g[0]) {
				err := c.receiveStream(ctx, dst, g[0], l.zstd && g[0].Size() >= zstdMin)
				land(g[0], err)
				return unlessMissing(err)
			}
			return c.receiveBatch(ctx, dst, g, l.zstdBatch, land)
		})
	}
	if err != nil {
		for _, d := range digests {
			land(d, err)
		}
		return fmt.Errorf("download from %v: %w", c.addr, err)
	}
	if len(missing) > 0 {
		slices.SortFunc(missing, func(a, b action.Digest) int { return strings.Compare(a.String(), b.String()) })
		return &MissingError{missing}
	}
	return nil
}

func unlessMissing(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return err
}

// receiveBatch downloads small blobs in one message. land is told of each.
func (c *Client) receiveBatch(ctx context.Context, dst Store, digests []action.Digest, zstd bool, land func(action.Digest, error)) error {
	left := slices.Clone(digests)
	return c.again(ctx, func() (progress bool, err error) {
		f := digests[0].Function()
		req := &rexec.BatchReadBlobsRequest{InstanceName: c.instance, DigestFunction: rexec.DigestFunction_Value(f)}
		for _, d := range left {
			req.Digests = append(req.Digests, ToDigest(d))
			if zstd && d.Size() >= zstdMin {
				req.AcceptableCompressors = []rexec.Compressor_Value{rexec.Compressor_ZSTD}
			}
		}
		call, cancel := context.WithTimeout(ctx, c.opts.stall())
		defer cancel()
		resp, err := c.blobs.BatchReadBlobs(call, req)
		if err != nil {
			return false, err
		}
		before := len(left)
		for _, r := range resp.Responses {
			d, derr := FromDigest(r.GetDigest(), f)
			i := slices.Index(left, d)
			if derr != nil || i < 0 {
				continue
			}
			got := status.FromProto(r.GetStatus()).Err()
			if got == nil {
				got = putPart(ctx, dst, d, r)
			}
			if got != nil && status.Code(got) != codes.NotFound {
				err = got
				continue
			}
			land(d, got)
			left = slices.Delete(left, i, i+1)
		}
		if len(left) > 0 && err == nil {
			err = status.Errorf(codes.Internal, "it did not say what became of %v", left[0])
		}
		return len(left) < before, err
	})
}

// receiveStream downloads one large blob.
func (c *Client) receiveStream(ctx context.Context, dst Store, d action.Digest, zstd bool) error {
	r := &blobReader{c: c, ctx: ctx, d: d, zstd: zstd}
	defer r.close()
	err := dst.Put(ctx, d, r)
	if r.err != nil && !errors.Is(r.err, io.EOF) {
		return r.err // what it really was
	}
	return err
}

// A blobReader reads a blob, and goes on where it was when the connection broke.
type blobReader struct {
	c      *Client
	ctx    context.Context
	d      action.Digest
	zstd   bool // how it is sent
	at     int64
	stream bytestream.ByteStream_ReadClient // nil: to be opened at at
	dog    *watchdog
	watch  context.Context
	buf    []byte
	err    error

	// Of a blob that is sent as zstd:
	frames   *squeeze.Reader // of stream
	squeezed []byte          // that frames has not read yet
	taken    int64           // bytes that came in stream
	broke    error           // what ended stream, if it was not frames
	room     []byte          // for buf
}

func (r *blobReader) Read(p []byte) (int, error) {
	if len(r.buf) == 0 && r.err == nil {
		if r.at == r.d.Size() {
			r.err = io.EOF
		} else {
			r.err = r.c.again(r.ctx, r.fill)
		}
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// fill gets the next piece. A server that no longer knows zstd is asked for the
// blob as it is.
func (r *blobReader) fill() (progress bool, err error) {
	if r.stream == nil {
		err = r.open()
	}
	if err == nil && r.zstd {
		r.buf, err = r.expand()
	} else if err == nil {
		r.buf, err = r.receive()
	}
	if err != nil {
		err = cause(r.watch, err)
		if errors.Is(err, io.EOF) {
			err = status.Errorf(codes.Internal, "%v ended after %d bytes", r.d, r.at)
		}
		r.close()
		if r.zstd && refusesZstd(err) {
			r.zstd = false
			r.c.forget()
			return r.fill()
		}
		return false, err
	}
	r.at += int64(len(r.buf))
	if r.at > r.d.Size() {
		r.buf = nil
		return false, status.Errorf(codes.DataLoss, "%v has more than its size", r.d)
	}
	return true, nil
}

func (r *blobReader) open() (err error) {
	r.watch, r.dog = r.c.watched(r.ctx)
	name := Resource(r.d)
	if r.zstd {
		name = zstdResource(r.d)
	}
	r.stream, err = r.c.streams.Read(r.watch, &bytestream.ReadRequest{ResourceName: r.c.inInstance(name), ReadOffset: r.at})
	return err
}

// receive returns what is in the next message that has something in it.
func (r *blobReader) receive() ([]byte, error) {
	for {
		resp, err := r.stream.Recv()
		if err != nil {
			return nil, err
		}
		r.dog.pat()
		if len(resp.Data) > 0 {
			return resp.Data, nil
		}
	}
}

func (r *blobReader) close() {
	if r.dog != nil {
		r.dog.stop()
	}
	if r.frames != nil {
		r.frames.Close()
	}
	r.stream, r.dog, r.frames, r.squeezed, r.taken, r.broke = nil, nil, nil, nil, 0, nil
}
