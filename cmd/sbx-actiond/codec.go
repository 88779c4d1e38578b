package main

import (
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

// messages are the buffers of messages that wait to be sent. gRPC's own pool has
// nothing between 32 KiB and 1 MiB: a piece of a blob, of which each stream has
// two on its way, would take four times its size.
var messages = mem.NewTieredBufferPool(256, 4<<10, 16<<10, 32<<10, 64<<10, 128<<10, 260<<10, 520<<10, 1<<20)

// A codec is gRPC's, but for where messages are encoded, and for what package wire
// is faster in.
type codec struct{ encoding.CodecV2 }

// Marshal implements [encoding.CodecV2].
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*repb.FindMissingBlobsResponse); ok {
		buf := messages.Get(wire.SizeFound(m))
		*buf = wire.AppendFound((*buf)[:0], m)
		return mem.BufferSlice{mem.NewBuffer(buf, messages)}, nil
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
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*repb.FindMissingBlobsRequest); ok {
		if wire.Find(data, m) {
			return nil
		}
		proto.Reset(m)
	}
	return c.CodecV2.Unmarshal(data, v)
}
