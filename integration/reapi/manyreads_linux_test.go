package reapi_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

// TestManyReads: what waits for clients that do not read takes little memory: one
// of many gets small messages, and nothing is squeezed for him. It is the same
// blob all the same.
func TestManyReads(t *testing.T) {
	s := start(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	d := action.Sum(action.SHA256, data)
	if err := s.store.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	name := reapi.BlobName(d)
	open := func(name string) (stream bytestream.ByteStream_ReadClient, first []byte) {
		t.Helper()
		stream, err := s.bs.Read(t.Context(), &bytestream.ReadRequest{ResourceName: name})
		if err != nil {
			t.Fatal(err)
		}
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return stream, m.Data
	}
	rest := func(stream bytestream.ByteStream_ReadClient, all []byte) (_ []byte, most int) {
		t.Helper()
		all = bytes.Clone(all)
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return all, most
			}
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, len(m.Data))
			all = append(all, m.Data...)
		}
	}
	const large = 64 << 10
	for range 64 { // they get one message each, and do not read on
		if _, first := open(name); len(first) < large {
			t.Fatalf("control: one of few gets messages of %d bytes", len(first))
		}
	}
	got, most := rest(open(name))
	if !bytes.Equal(got, data) || most > large {
		t.Errorf("one of many: the same %v, messages of up to %d bytes", bytes.Equal(got, data), most)
	}
	frame, most := rest(open("compressed-blobs/zstd/" + name[len("blobs/"):]))
	got, err := squeeze.Expand(frame, d.Size())
	if err != nil || !bytes.Equal(got, data) || most > large {
		t.Errorf("one of many, zstd: %v, messages of up to %d bytes", err, most)
	}
	if len(frame) < len(data) {
		t.Errorf("for one of many the blob was squeezed: to %d bytes", len(frame))
	}
}
