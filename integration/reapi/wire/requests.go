package wire

import (
	"bytes"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// much is from how many bytes on it pays to leave data where it is.
const much = 32 << 10

// scattered says that data is in buffers so small that keeping them would take
// more memory, and more time, than one.
func scattered(data mem.BufferSlice, size int) bool { return len(data) > 16 && size/len(data) < 4<<10 }

// held is what of a message stays in the transport's buffers.
type held struct{ data mem.BufferSlice }

func (h *held) hold(data mem.BufferSlice) {
	data.Ref()
	h.data = data
}

// Free gives the buffers back. What the message said of them is not to be used
// any more.
func (h *held) Free() {
	h.data.Free()
	h.data = nil
}

// A WriteRequest is one of ByteStream. Where a [Codec] has received it, Data may be
// empty: Parts has it.
type WriteRequest struct {
	bytestream.WriteRequest
	held

	parts [][]byte
}

// Parts are the data of the request, until Free is called.
func (r *WriteRequest) Parts() [][]byte {
	if r.parts == nil && len(r.Data) > 0 {
		return [][]byte{r.Data}
	}
	return r.parts
}

// Whole is the request with Data, and without Parts.
func (r *WriteRequest) Whole() *bytestream.WriteRequest {
	if r.parts != nil {
		r.Data, r.parts = bytes.Join(r.parts, nil), nil
		r.Free()
	}
	return &r.WriteRequest
}

// Len is how many bytes of data there are.
func (r *WriteRequest) Len() int64 { return int64(len(r.Data)) + length(r.parts) }

const dataOfWrite = 10 // WriteRequest.data

// Receive implements [Receiver].
func (r *WriteRequest) Receive(data mem.BufferSlice) error { return r.receive(data, much) }

func (r *WriteRequest) receive(data mem.BufferSlice, much int) error {
	size := data.Len()
	if size < much || scattered(data, size) {
		return unmarshal(data, &r.WriteRequest)
	}
	rest, parts, ok := newCursor(data).without(dataOfWrite, size)
	if !ok {
		return unmarshal(data, &r.WriteRequest)
	}
	if err := proto.Unmarshal(rest, &r.WriteRequest); err != nil {
		return err
	}
	if parts != nil {
		r.parts = parts
		r.hold(data)
	}
	return nil
}

// A BatchUpdateBlobsRequest is one in which the Data of large blobs is empty where a
// [Codec] has received it: Parts has it.
type BatchUpdateBlobsRequest struct {
	repb.BatchUpdateBlobsRequest
	held

	parts map[int][][]byte
}

// Parts are the data of a part of the batch, until Free is called, or nil where they
// are in its Data.
func (r *BatchUpdateBlobsRequest) Parts(i int) [][]byte { return r.parts[i] }

// Len is how many bytes of data a part of the batch has.
func (r *BatchUpdateBlobsRequest) Len(i int) int64 {
	if parts, ok := r.parts[i]; ok {
		return length(parts)
	}
	return int64(len(r.Requests[i].GetData()))
}

func length(parts [][]byte) (n int64) {
	for _, p := range parts {
		n += int64(len(p))
	}
	return n
}

const (
	requestsOfBatch = 2 // BatchUpdateBlobsRequest.requests
	dataOfRequest   = 2 // BatchUpdateBlobsRequest.Request.data
)

// Receive implements [Receiver].
func (r *BatchUpdateBlobsRequest) Receive(data mem.BufferSlice) error { return r.receive(data, much) }

func (r *BatchUpdateBlobsRequest) receive(data mem.BufferSlice, much int) error {
	size := data.Len()
	if size < much || scattered(data, size) {
		return unmarshal(data, &r.BatchUpdateBlobsRequest)
	}
	large := func(f field) bool {
		return f.number == requestsOfBatch && f.kind == protowire.BytesType && f.v >= uint64(much)
	}
	small, some := size, false
	c := newCursor(data)
	ok := c.fields(size, func(f field) bool {
		if large(f) {
			small, some = small-int(f.v), true
		}
		return c.skip(f)
	})
	if !ok || !some {
		return unmarshal(data, &r.BatchUpdateBlobsRequest)
	}
	rest, all := make([]byte, 0, small+1<<10), map[int][][]byte{}
	c, n := newCursor(data), 0
	ok = c.fields(size, func(f field) (ok bool) {
		if f.number == requestsOfBatch && f.kind == protowire.BytesType {
			n++
		}
		if !large(f) {
			rest, ok = c.copy(rest, f)
			return ok
		}
		one, parts, ok := c.without(dataOfRequest, int(f.v))
		if parts != nil {
			all[n-1] = parts
		}
		rest = protowire.AppendBytes(protowire.AppendTag(rest, f.number, f.kind), one)
		return ok
	})
	if !ok {
		return unmarshal(data, &r.BatchUpdateBlobsRequest)
	}
	if err := proto.Unmarshal(rest, &r.BatchUpdateBlobsRequest); err != nil {
		return err
	}
	r.parts = all
	r.hold(data)
	return nil
}
