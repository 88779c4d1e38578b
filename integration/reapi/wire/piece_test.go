package wire_test

import (
	"bytes"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

// TestPiece has pieces of many sizes be what a ReadResponse with their data is, in
// buffers that had something else in them before.
func TestPiece(t *testing.T) {
	c := wire.NewCodec()
	for n := range 3 {
		for _, size := range []int{1, 2, 127, 128, 253, 254, 255, 300, 4000, 16<<10 - 64, 16 << 10, 260 << 10, 1 << 20, 4 << 20, 4<<20 + 1, 5 << 20} {
			data := bytes.Repeat([]byte{byte(n), byte(size), byte(size >> 8)}, size/3+1)[:size]
			unsent := wire.NewPiece(size)
			if len(unsent.Data()) != size {
				t.Fatalf("%d bytes of data, want %d", len(unsent.Data()), size)
			}
			copy(unsent.Data(), bytes.Repeat([]byte("stale"), size/5+1))
			unsent.Free()
			p := wire.NewPiece(size)
			copy(p.Data(), data)
			got, err := c.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			want, err := proto.Marshal(&bytestream.ReadResponse{Data: data})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Materialize(), want) {
				t.Errorf("%d bytes: it is another message", size)
			}
			got.Free()
		}
	}
}
