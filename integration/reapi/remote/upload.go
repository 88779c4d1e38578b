package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
)

// A Source has the blobs that are uploaded: a store. The reader's content is
// that of the digest, else the server refuses it.
type Source interface {
	Open(ctx context.Context, d action.Digest) (*os.File, error)
}

// presence is for how long we rely on the server to have what it had. Servers
// keep for hours what they said to have.
const presence = 10 * time.Minute

// presentMax bounds what a client remembers, in digests.
const presentMax = 1 << 18

// findMax is how many digests are asked for at once: 1.5 MB.
const findMax = 20_000

// Missing returns those of digests that the server does not have.
func (c *Client) Missing(ctx context.Context, digests []action.Digest) (missing []action.Digest, err error) {
	ask := c.unknown(digests)
	for part := range slices.Chunk(ask, findMax) {
		req := &rexec.FindMissingBlobsRequest{
			InstanceName: c.instance, DigestFunction: rexec.DigestFunction_Value(part[0].Function()),
		}
		for _, d := range part {
			req.BlobDigests = append(req.BlobDigests, ToDigest(d))
		}
		var resp *rexec.FindMissingBlobsResponse
		err := c.call(ctx, func(ctx context.Context) (err error) {
			resp, err = c.blobs.FindMissingBlobs(ctx, req)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find missing blobs on %v: %w", c.addr, err)
		}
		lacks := map[action.Digest]bool{}
		for _, m := range resp.MissingBlobDigests {
			if d, err := FromDigest(m, part[0].Function()); err == nil {
				lacks[d] = true
			}
		}
		for _, d := range part {
			if lacks[d] {
				missing = append(missing, d)
			} else {
				c.has(d)
			}
		}
	}
	return missing, nil
}

// unknown are the digests, each once, that we have to ask for.
func (c *Client) unknown(digests []action.Digest) (ask []action.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[action.Digest]bool, len(digests))
	limit := c.now().Add(-presence)
	for _, d := range digests {
		if seen[d] || d.IsZero() || d.IsEmpty() {
			continue
		}
		seen[d] = true
		if since, ok := c.present[instanceDigest{c.instance, d}]; !ok || since.Before(limit) {
			ask = append(ask, d)
		}
	}
	return ask
}

// has notes that the server has d.
func (c *Client) has(d action.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.present) >= presentMax {
		c.present = map[instanceDigest]time.Time{}
	}
	c.present[instanceDigest{c.instance, d}] = c.now()
}

// Forget makes the client ask again for everything: the server has lost
// something that it had.
func (c *Client) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present = map[instanceDigest]time.Time{}
}

// Upload sees to it that the server has every one of digests: what it lacks is
// read from src. What another call is uploading is waited for, not sent twice.
func (c *Client) Upload(ctx context.Context, src Source, digests []action.Digest) error {
	for {
		asked := c.now()
		missing, err := c.Missing(ctx, digests)
		if err != nil || len(missing) == 0 {
			return err
		}
		mine, others := c.board(missing, nil, asked)
		if err := c.send(ctx, src, mine); err != nil {
			return err
		}
		again, err := wait(ctx, others)
		if err != nil || !again {
			return err
		}
	}
}

// send uploads blobs and lands their flights, also of those that were not begun.
func (c *Client) send(ctx context.Context, src Source, digests []action.Digest) error {
	if len(digests) == 0 {
		return nil
	}
	landed := &sync.Map{}
	land := func(list []action.Digest, err error) {
		for _, d := range list {
			if _, twice := landed.LoadOrStore(d, true); twice {
				continue
			}
			if err == nil {
				c.has(d)
			}
			c.land(d, nil, err)
		}
	}
	l, err := c.limits(ctx)
	if err != nil {
		land(digests, err)
		return err
	}
	groups, large := batches(digests, l)
	for _, d := range large {
		groups = append(groups, []action.Digest{d})
	}
	err = each(ctx, c.slots, groups, func(ctx context.Context, g []action.Digest) error {
		var err error
		if l.alone(g[0]) {
			err = c.sendStream(ctx, src, g[0], l.zstd)
		} else {
			err = c.sendBatch(ctx, src, g, l.zstdBatch)
		}
		land(g, err)
		return err
	})
	if err != nil {
		land(digests, err)
	}
	return err
}

// sendBatch uploads small blobs in one message; those that failed for what may
// pass are sent again.
func (c *Client) sendBatch(ctx context.Context, src Source, digests []action.Digest, zstd bool) error {
	left := digests
	return c.again(ctx, func() (progress bool, err error) {
		req := &rexec.BatchUpdateBlobsRequest{
			InstanceName: c.instance, DigestFunction: rexec.DigestFunction_Value(digests[0].Function()),
		}
		for _, d := range left {
			data, err := read(ctx, src, d)
			if err != nil {
				return false, err
			}
			req.Requests = append(req.Requests, part(d, data, zstd))
		}
		call, cancel := context.WithTimeout(ctx, c.opts.stall())
		defer cancel()
		resp, err := c.blobs.BatchUpdateBlobs(call, req)
		if err != nil {
			return false, fmt.Errorf("upload to %v: %w", c.addr, err)
		}
		done := map[string]bool{}
		for _, r := range resp.Responses {
			if code(r.GetStatus().GetCode()) == codes.OK {
				done[r.GetDigest().GetHash()] = true
			} else {
				err = fmt.Errorf("upload %s to %v: %w", r.GetDigest().GetHash(), c.addr, status.FromProto(r.Status).Err())
			}
		}
		before := len(left)
		left = slices.DeleteFunc(slices.Clone(left), func(d action.Digest) bool { return done[d.Hash()] })
		if len(left) > 0 && err == nil {
			err = fmt.Errorf("upload to %v: it did not say what became of %v", c.addr, left[0])
		}
		return len(left) < before, err
	})
}

func read(ctx context.Context, src Source, d action.Digest) ([]byte, error) {
	f, err := src.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, d.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// chunk is how much of a stream goes into one message.
const chunk = 256 << 10

// sendStream uploads one large blob, and goes on where an earlier attempt
// stopped, also one of an earlier process.
func (c *Client) sendStream(ctx context.Context, src Source, d action.Digest, zstd bool) error {
	f, err := src.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	u := &upload{c: c, d: d, f: f}
	if zstd && d.Size() >= zstdMin {
		if u.zstd, err = pays(f, d.Size()); err != nil {
			return err
		}
	}
	err = c.again(ctx, func() (bool, error) {
		before := u.committed
		err := u.attempt(ctx)
		for again := u.anew(err); again; again = u.anew(err) {
			err = u.attempt(ctx)
		}
		return u.committed > before, err
	})
	if err != nil {
		return fmt.Errorf("upload %v to %v: %w", d, c.addr, err)
	}
	return nil
}

// An upload is a blob on its way.
type upload struct {
	c         *Client
	d         action.Digest
	f         *os.File
	zstd      bool  // how it is sent
	from      int64 // where the last attempt began, in bytes of the blob
	committed int64 // what the server said that it has, of the blob
	try       int   // how often it was begun anew
	plain     bool  // the server cannot go on with an upload
}

func (u *upload) name() string {
	name := Resource(u.d)
	if u.zstd {
		name = zstdResource(u.d)
	}
	return u.c.inInstance("uploads/" + u.c.uploadID(u.d, u.try) + "/" + name)
}

// attempt sends what the server does not have yet.
func (u *upload) attempt(ctx context.Context) error {
	from, complete, err := u.status(ctx)
	if err != nil || complete {
		return err
	}
	u.from = from
	ctx, dog := u.c.watched(ctx)
	defer dog.stop()
	stream, err := u.c.streams.Write(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	var sent int64
	if u.zstd {
		sent, err = u.writeZstd(stream, from, dog)
	} else {
		err = u.write(stream, from, dog)
	}
	all := err == nil
	if err != nil && err != io.EOF {
		return cause(ctx, err)
	}
	resp, err := stream.CloseAndRecv() // after EOF it says what was wrong
	switch {
	case status.Code(err) == codes.AlreadyExists:
		return nil
	case err != nil:
		return cause(ctx, err)
	case resp.CommittedSize == u.d.Size():
		return nil
	case u.zstd && (resp.CommittedSize == present || all && resp.CommittedSize == from+sent):
		return nil
	}
	return status.Errorf(codes.Unavailable, "%d bytes were taken of %d", resp.CommittedSize, u.d.Size())
}

// anew says whether an upload that ended with err is to be begun anew in a
// plainer way, and prepares that: without what is there already, then without
// zstd.
func (u *upload) anew(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition, codes.Unimplemented:
	default:
		return false
	}
	switch {
	case u.from > 0: // it does not like to go on
		u.plain = true
	case u.zstd:
		u.zstd = false
		u.c.forget()
	default:
		return false
	}
	u.from, u.committed = 0, 0
	u.try++
	return true
}

// status asks how much the server has.
func (u *upload) status(ctx context.Context) (from int64, complete bool, err error) {
	if u.plain {
		return 0, false, nil
	}
	call, cancel := context.WithTimeout(ctx, u.c.opts.timeout())
	defer cancel()
	resp, err := u.c.streams.QueryWriteStatus(call, &bytestream.QueryWriteStatusRequest{ResourceName: u.name()})
	switch status.Code(err) {
	case codes.OK:
		if resp.Complete {
			return 0, true, nil
		}
		u.committed = min(max(resp.CommittedSize, 0), u.d.Size())
		return u.committed, false, nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return 0, false, err
	}
	return 0, false, nil // it does not know the upload, or what we ask
}

// write sends the blob from an offset. EOF means that the server has answered.
func (u *upload) write(stream bytestream.ByteStream_WriteClient, from int64, dog *watchdog) error {
	buf := make([]byte, chunk)
	for at, first := from, true; first || at < u.d.Size(); first = false {
		n, err := u.f.ReadAt(buf[:min(chunk, u.d.Size()-at)], at)
		if err != nil && (!errors.Is(err, io.EOF) || at+int64(n) < u.d.Size()) {
			return err
		}
		req := &bytestream.WriteRequest{WriteOffset: at, Data: buf[:n], FinishWrite: at+int64(n) == u.d.Size()}
		if first {
			req.ResourceName = u.name()
		}
		if err := stream.Send(req); err != nil {
			return err
		}
		dog.pat()
		at += int64(n)
	}
	return nil
}
