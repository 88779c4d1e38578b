package wire

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A count is a pool that knows how many of its buffers are in use, and spoils what
// comes back.
type count struct{ n int }

func (c *count) Get(size int) *[]byte {
	c.n++
	b := make([]byte, size)
	return &b
}

func (c *count) Put(b *[]byte) {
	c.n--
	clear((*b)[:cap(*b)])
}

// cut is data in buffers of at most size bytes, as a transport would have read it.
// All are large enough to come from pool.
func cut(data []byte, size int, pool *count) (s mem.BufferSlice) {
	for part := range slices.Chunk(data, size) {
		b := pool.Get(max(len(part), 4096))
		*b = (*b)[:copy(*b, part)]
		s = append(s, mem.NewBuffer(b, pool))
	}
	return s
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// equal compares what is known of two messages: what is not known may have been
// encoded in another way.
func equal(t *testing.T, a, b proto.Message) bool {
	t.Helper()
	known := func(m proto.Message) proto.Message {
		to := m.ProtoReflect().New().Interface()
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(marshal(t, m), to); err != nil {
			t.Fatal(err)
		}
		return to
	}
	return proto.Equal(known(a), known(b))
}

// same receives data as a write and as a batch, and wants what proto.Unmarshal
// makes of it.
func same(t *testing.T, data []byte, size, much int) (left bool) {
	t.Helper()
	pool := &count{}

	in := cut(data, size, pool)
	write, want := new(WriteRequest), new(bytestream.WriteRequest)
	err, wantErr := write.receive(in, much), proto.Unmarshal(data, want)
	in.Free() // as gRPC does: what is left is what the request holds
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("a write of %d bytes in pieces of %d: %v, want %v", len(data), size, err, wantErr)
	}
	if err == nil {
		left = write.parts != nil
		if got := bytes.Join(write.Parts(), nil); !bytes.Equal(got, want.Data) || write.Len() != int64(len(got)) {
			t.Fatalf("the parts have %d bytes, and Len is %d, want %d", len(got), write.Len(), len(want.Data))
		}
		if got := write.Whole(); !equal(t, got, want) {
			t.Fatalf("a write of %d bytes in pieces of %d is another", len(data), size)
		}
	}
	write.Free()
	if pool.n != 0 {
		t.Fatalf("%d buffers of a write are not free", pool.n)
	}

	in = cut(data, size, pool)
	batch, wantBatch := new(BatchUpdateBlobsRequest), new(repb.BatchUpdateBlobsRequest)
	err, wantErr = batch.receive(in, much), proto.Unmarshal(data, wantBatch)
	in.Free()
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("a batch of %d bytes in pieces of %d: %v, want %v", len(data), size, err, wantErr)
	}
	if err == nil {
		left = left || batch.parts != nil
		for i, r := range batch.Requests {
			if parts := batch.Parts(i); parts != nil {
				r.Data = bytes.Join(parts, nil)
			}
			if batch.Len(i) != int64(len(r.Data)) {
				t.Fatalf("Len is %d, want %d", batch.Len(i), len(r.Data))
			}
		}
		if !equal(t, &batch.BatchUpdateBlobsRequest, wantBatch) {
			t.Fatalf("a batch of %d bytes in pieces of %d is another", len(data), size)
		}
	}
	batch.Free()
	if pool.n != 0 {
		t.Fatalf("%d buffers of a batch are not free", pool.n)
	}
	return left
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = r.Read(b)
	return b
}

func batchOf(sizes ...int) *repb.BatchUpdateBlobsRequest {
	m := &repb.BatchUpdateBlobsRequest{InstanceName: "main", DigestFunction: repb.DigestFunction_BLAKE3}
	for i, n := range sizes {
		m.Requests = append(m.Requests, &repb.BatchUpdateBlobsRequest_Request{
			Digest: &repb.Digest{Hash: "ab", SizeBytes: int64(n)}, Data: noise(n), Compressor: repb.Compressor_Value(i % 2),
		})
	}
	return m
}

// unusual are requests that no generated code would send, and that are right.
func unusual(t testing.TB) map[string][]byte {
	w := marshal(t, &bytestream.WriteRequest{ResourceName: "uploads/u/blobs/x/1", WriteOffset: 1 << 40, Data: noise(100_000), FinishWrite: true})
	big := func(number protowire.Number, n int) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), noise(n))
	}
	b := marshal(t, batchOf(50_000, 100, 40_000))
	return map[string][]byte{
		"data twice: the last one counts":  slices.Concat(w, big(dataOfWrite, 60_000)),
		"data twice: the last one is none": slices.Concat(w, big(dataOfWrite, 0)),
		"data first":                       slices.Concat(big(dataOfWrite, 60_000), w[:23]),
		"a field that nobody knows":        slices.Concat(w, big(77, 40_000), b),
		"data in a number":                 slices.Concat(w, protowire.AppendVarint(protowire.AppendTag(nil, dataOfWrite, protowire.VarintType), 7)),
		"fixed numbers":                    slices.Concat(protowire.AppendFixed64(protowire.AppendTag(nil, 90, protowire.Fixed64Type), 1), w, protowire.AppendFixed32(protowire.AppendTag(nil, 91, protowire.Fixed32Type), 1)),
		"a group":                          slices.Concat(w, protowire.AppendTag(nil, 99, protowire.StartGroupType), big(3, 9), protowire.AppendTag(nil, 99, protowire.EndGroupType)),
		"a request without data":           slices.Concat(b, protowire.AppendBytes(protowire.AppendTag(nil, requestsOfBatch, protowire.BytesType), big(55, 50_000))),
		"a request with data twice":        slices.Concat(b, protowire.AppendBytes(protowire.AppendTag(nil, requestsOfBatch, protowire.BytesType), slices.Concat(big(dataOfRequest, 50_000), big(dataOfRequest, 3)))),
		"a number with too many bytes":     slices.Concat([]byte{0x90, 0x80, 0x00, 0x85, 0x80, 0x00}, w),
	}
}

// TestReceive compares what is received with what proto.Unmarshal makes of it, and
// counts the buffers that are kept.
func TestReceive(t *testing.T) {
	for _, size := range []int{700, 4096, 5000, 16 << 10, 1 << 20} {
		for _, n := range []int{0, 1, 1000, much - 100, much, 300_000} {
			m := &bytestream.WriteRequest{ResourceName: "uploads/u/blobs/x/1", WriteOffset: 7, Data: noise(n), FinishWrite: n%2 == 0}
			if left := same(t, marshal(t, m), size, much); size != 4096 && left != (n >= much && size > 4096) {
				t.Errorf("a write of %d bytes in pieces of %d is left where it is: %v", n, size, left)
			}
		}
		for _, b := range []*repb.BatchUpdateBlobsRequest{batchOf(), batchOf(0, 10, 20), batchOf(200_000, 5, 100_000, much), batchOf(100, much, 0)} {
			same(t, marshal(t, b), size, much)
		}
		for name, data := range unusual(t) {
			same(t, data, size, much)
			if same(t, data, size, 1<<30) {
				t.Errorf("%s: what is not much was left where it is", name)
			}
		}
	}
	// What is cut off anywhere is an error, or not, for both.
	data := marshal(t, batchOf(20, 30))
	for n := range data {
		same(t, data[:n], 7, 0)
	}
	bad := marshal(t, &bytestream.WriteRequest{ResourceName: "xxxx", Data: noise(much)})
	bad[3] = 0xff // no UTF-8
	same(t, bad, 16<<10, much)
}

// TestMessagesOfOthers has the codec take and send what is no Receiver.
func TestMessagesOfOthers(t *testing.T) {
	c := NewCodec()
	for _, n := range []int{10, 100_000} {
		want := batchOf(n)
		out, err := c.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := new(repb.BatchUpdateBlobsRequest)
		if err := c.Unmarshal(out, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("a message of %d bytes: %v, or another", n, err)
		}
		// The same under a codec that knows no Receiver: the data are in Data.
		bare := new(WriteRequest)
		write := &bytestream.WriteRequest{ResourceName: "x", Data: noise(n)}
		in := mem.BufferSlice{mem.SliceBuffer(marshal(t, write))}
		if err := c.CodecV2.Unmarshal(in, bare); err != nil || !bytes.Equal(bytes.Join(bare.Parts(), nil), write.Data) {
			t.Errorf("a write of %d bytes, by gRPC's codec: %v, or another", n, err)
		}
		out.Free()
	}
	if _, err := c.Marshal("no message"); err == nil {
		t.Error("a string was marshaled")
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(marshal(f, batchOf(3, 40, 1)), uint16(5), uint16(10))
	f.Add(marshal(f, &bytestream.WriteRequest{ResourceName: "name", WriteOffset: 300, Data: noise(70), FinishWrite: true}), uint16(4096), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, size, much uint16) {
		same(t, data, int(size)+len(data)/50+1, int(much)) // not thousands of buffers
	})
}
