package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// buffers are those of n bytes in which a transport has data.
func buffers(data []byte, n int) (list mem.BufferSlice) {
	for len(data) > 0 {
		part := data[:min(n, len(data))]
		list = append(list, mem.SliceBuffer(part))
		data = data[len(part):]
	}
	return list
}

func findRequest(digests int) *repb.FindMissingBlobsRequest {
	m := &repb.FindMissingBlobsRequest{InstanceName: "some/where", DigestFunction: repb.DigestFunction_BLAKE3}
	for i := range digests {
		m.BlobDigests = append(m.BlobDigests, &repb.Digest{Hash: fmt.Sprintf("%064x", i), SizeBytes: int64(i) << (i % 50)})
	}
	return m
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFind(t *testing.T) {
	for _, n := range []int{0, 1, 2, 255, 256, 257, 3000} {
		want := findRequest(n)
		data := encode(t, want)
		for _, size := range []int{1, 7, 16 << 10, 1 << 20} {
			got := new(repb.FindMissingBlobsRequest)
			if !Find(buffers(data, size), got) || !proto.Equal(got, want) {
				t.Errorf("%d digests in buffers of %d: read as %v", n, size, got)
			}
		}
	}
}

// TestFindLeaves has what Find leaves to generated code, which takes some of it.
func TestFindLeaves(t *testing.T) {
	good := encode(t, findRequest(3))
	for what, data := range map[string][]byte{
		"an unknown field":              append(good[:len(good):len(good)], 0x50, 1),
		"an unknown field of a digest":  {0x12, 2, 0x50, 1},
		"a digest that is a number":     {0x10, 1},
		"an instance that is no text":   {0x0a, 1, 0xff},
		"a hash that is no text":        {0x12, 3, 0x0a, 1, 0xff},
		"a digest without its end":      good[:len(good)-3],
		"a hash longer than its digest": {0x12, 3, 0x0a, 2, 'a'},
		"a length of 2^63":              append([]byte{0x0a}, bytes.Repeat([]byte{0xff}, 9)...),
		"a tag without its end":         {0x80},
		"a negative size":               encode(t, &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{{Hash: "ab", SizeBytes: -1}}}),
	} {
		if got := new(repb.FindMissingBlobsRequest); Find(buffers(data, 5), got) {
			t.Errorf("%s was read as %v", what, got)
		}
	}
}

func TestFound(t *testing.T) {
	for _, m := range []*repb.FindMissingBlobsResponse{
		{},
		{MissingBlobDigests: findRequest(600).BlobDigests},
		{MissingBlobDigests: []*repb.Digest{{}, {SizeBytes: 1}, {Hash: "ab"}, {Hash: strings.Repeat("a", 128), SizeBytes: 1<<63 - 1}, {Hash: "ab", SizeBytes: -1}}},
	} {
		got := appendFound(nil, m)
		if want := encode(t, m); !bytes.Equal(got, want) || sizeFound(m) != len(want) {
			t.Errorf("%d digests: %d bytes, said to be %d, want %d:\n%x\n%x", len(m.MissingBlobDigests), len(got), sizeFound(m), len(want), got, want)
		}
	}
}

// FuzzFind: what Find reads, generated code reads, and as the same.
func FuzzFind(f *testing.F) {
	f.Add(encode(f, findRequest(3)), 7)
	f.Add([]byte{0x12, 0, 0x18, 9, 0x18, 0x80, 0x80, 0, 0x0a, 0}, 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		got, want := new(repb.FindMissingBlobsRequest), new(repb.FindMissingBlobsRequest)
		if !Find(buffers(data, max(n, 1)), got) {
			return
		}
		if err := proto.Unmarshal(data, want); err != nil || !proto.Equal(got, want) {
			t.Errorf("%x was read as %v, want %v, %v", data, got, want, err)
		}
	})
}
