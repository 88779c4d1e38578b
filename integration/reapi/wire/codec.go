package wire

import (
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // what Codec is made of
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// messages are the buffers of messages that wait to be sent. gRPC's own pool has
// nothing between 32 KiB and 1 MiB: a piece of a blob, of which each stream has
// two on its way, would take four times its size.
var messages = newDirty(256, 4<<10, 16<<10, 32<<10, 64<<10, 128<<10, 260<<10, 520<<10, 1<<20, 2<<20, 4<<20)

// A Codec is gRPC's, but for where messages are encoded, for those that are a
// [Receiver] or a [Piece], and for those of FindMissingBlobs: see [Find].
type Codec struct{ encoding.CodecV2 }

// NewCodec returns a codec for servers: see [grpc.ForceServerCodecV2].
func NewCodec() Codec { return Codec{encoding.GetCodecV2("proto")} }

// A Receiver is a message that takes itself from what the transport has read. It
// calls Ref for what it keeps after it has returned.
type Receiver interface {
	Receive(data mem.BufferSlice) error
}

// Marshal implements [encoding.CodecV2].
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*repb.FindMissingBlobsResponse); ok {
		buf := messages.Get(sizeFound(m))
		*buf = appendFound((*buf)[:0], m)
		return mem.BufferSlice{mem.NewBuffer(buf, messages)}, nil
	}
	if p, ok := v.(*Piece); ok {
		return p.marshal(), nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	size := proto.Size(m)
	if mem.IsBelowBufferPoolingThreshold(size) {
		return c.CodecV2.Marshal(v)
	}
	buf := messages.Get(size)
	if _, err := (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend((*buf)[:0], m); err != nil {
		messages.Put(buf)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(buf, messages)}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case Receiver:
		return m.Receive(data)
	case *repb.FindMissingBlobsRequest:
		if Find(data, m) {
			return nil
		}
		proto.Reset(m)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// unmarshal is what gRPC's own codec does.
func unmarshal(data mem.BufferSlice, m proto.Message) error {
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return proto.Unmarshal(buf.ReadOnlyData(), m)
}
