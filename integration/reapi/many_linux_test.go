package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

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

// TestManySqueezedWrites: of those who send zstd slowly, only so many have a
// decoder; who sends a blob as a whole, or as it is, need not care.
func TestManySqueezedWrites(t *testing.T) {
	s := start(t, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	blob := func(i int) (action.Digest, []byte) {
		own := append([]byte{byte(i), byte(i >> 8)}, data...)
		return action.Sum(action.SHA256, own), own
	}
	names := func(i int) (squeezed, plain string) {
		d, _ := blob(i)
		name := reapi.BlobName(d)
		return "uploads/u/compressed-blobs/zstd/" + name[len("blobs/"):], "uploads/u/" + name
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 128 {
		_, own := blob(i)
		name, _ := names(i)
		w, err := s.bs.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Send(&bytestream.WriteRequest{ResourceName: name, Data: compress(t, own[:len(own)/2])}); err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at == 0; { // until it has been expanded
			st, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: name})
			if err != nil {
				t.Fatal(err)
			}
			at = st.CommittedSize
		}
	}
	_, own := blob(1000)
	squeezed, _ := names(1000)
	z := compress(t, own)
	_, err := s.write(squeezed, 0, true, z[:len(z)/2], z[len(z)/2:])
	wantCode(t, "one more", err, codes.ResourceExhausted)
	if res, err := s.write(squeezed, 0, true, z); err != nil || res.CommittedSize != int64(len(z)) {
		t.Errorf("as a whole: %v, %v", res, err)
	}
	_, own = blob(1001)
	_, plain := names(1001)
	if res, err := s.write(plain, 0, true, pieces(own, 100_000)...); err != nil || res.CommittedSize != int64(len(own)) {
		t.Errorf("as it is: %v, %v", res, err)
	}
	cancel()
	d, own := blob(1002)
	squeezed, _ = names(1002)
	z = compress(t, own)
	for { // as soon as the server has noticed
		_, err := s.write(squeezed, 0, true, z[:len(z)/2], z[len(z)/2:])
		if err == nil {
			break
		}
		wantCode(t, "after they are gone", err, codes.ResourceExhausted)
	}
	if got := s.readBlob(d); !bytes.Equal(got, own) {
		t.Error("it came back different")
	}
}
