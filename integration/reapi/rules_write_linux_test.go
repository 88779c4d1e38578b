package reapi_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

func TestRule04Write(t *testing.T) {
	s := start(t, nil)
	blobName := func(d action.Digest) string { return "uploads/" + d.Hash()[:8] + "/" + reapi.BlobName(d) }
	zstdName := func(d action.Digest) string {
		return "uploads/" + d.Hash()[:8] + "/compressed-" + strings.Replace(reapi.BlobName(d), "blobs/", "blobs/zstd/", 1)
	}
	t.Run("Present", func(t *testing.T) {
		s := s.with(t)
		data := random(3 << 20)
		d := action.Sum(action.SHA256, data)
		if res, err := s.write(blobName(d), 0, true, pieces(data, 1<<20)...); err != nil || res.CommittedSize != d.Size() {
			t.Fatalf("first: %v, %v", res, err)
		}
		// Only the first message comes: the answer does not wait for more.
		if res, err := s.write(blobName(d), 0, false, data[:10]); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("again: %v, %v", res, err)
		}
		if res, err := s.write(zstdName(d), 0, false, []byte("x")); err != nil || res.CommittedSize != -1 {
			t.Errorf("again, compressed: %v, %v", res, err)
		}
	})
	t.Run("Mismatch", func(t *testing.T) {
		s := s.with(t)
		data := random(300_000)
		d := action.Sum(action.SHA256, data)
		other := bytes.Clone(data)
		other[5]++
		for name, send := range map[string][]byte{"content": other, "longer": append(bytes.Clone(data), 1), "shorter": data[:1000]} {
			_, err := s.write(blobName(d), 0, true, pieces(send, 100_000)...)
			wantCode(t, name, err, codes.InvalidArgument)
			_, err = s.write(zstdName(d), 0, true, pieces(compress(t, send), 100_000)...)
			wantCode(t, name+", compressed", err, codes.InvalidArgument)
		}
		_, err := s.write(zstdName(d), 0, true, []byte("this is not zstd"))
		wantCode(t, "not zstd", err, codes.InvalidArgument)
		if s.store.Has(t.Context(), d) {
			t.Error("something was stored")
		}
		if res, err := s.write(blobName(d), 0, true, data); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("control: %v, %v", res, err)
		}
	})
	t.Run("Resume", func(t *testing.T) {
		s := s.with(t)
		data := random(900_000)
		d := action.Sum(action.SHA256, data)
		ask := func() *bytestream.QueryWriteStatusResponse {
			t.Helper()
			res, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: blobName(d)})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		if st := ask(); st.CommittedSize != 0 || st.Complete {
			t.Errorf("before: %v", st)
		}
		_, err := s.write(blobName(d), 0, false, pieces(data[:300_000], 100_000)...)
		if err == nil {
			t.Error("a write without finish_write succeeded")
		}
		st := ask()
		if st.CommittedSize != 300_000 || st.Complete {
			t.Fatalf("after a part: %v", st)
		}
		_, err = s.write(blobName(d), 100, true, data[100:])
		wantCode(t, "resume at a wrong offset", err, codes.OutOfRange)
		if st := ask(); st.CommittedSize != 300_000 {
			t.Errorf("after that: %v", st)
		}
		if res, err := s.write(blobName(d), 300_000, true, pieces(data[300_000:], 100_000)...); err != nil || res.CommittedSize != d.Size() {
			t.Errorf("resume: %v, %v", res, err)
		}
		if st := ask(); st.CommittedSize != d.Size() || !st.Complete {
			t.Errorf("at the end: %v", st)
		}
	})
	t.Run("BrokenStream", func(t *testing.T) {
		s := s.with(t)
		data := random(500_000)
		d := action.Sum(action.SHA256, data)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.bs.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&bytestream.WriteRequest{ResourceName: blobName(d), Data: data[:200_000]}); err != nil {
			t.Fatal(err)
		}
		var at int64
		for at != 200_000 {
			res, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: blobName(d)})
			if err != nil {
				t.Fatal(err)
			}
			at = res.CommittedSize
		}
		cancel()
		for {
			res, err := s.write(blobName(d), at, true, data[at:])
			if status.Code(err) == codes.Aborted {
				continue // the server has not noticed yet
			}
			if err != nil || res.CommittedSize != d.Size() {
				t.Errorf("resume: %v, %v", res, err)
			}
			break
		}
	})
	t.Run("CompressedOffsets", func(t *testing.T) {
		s := s.with(t)
		data := bytes.Repeat([]byte("compressible "), 50_000)
		d := action.Sum(action.SHA256, data)
		// A part of the blob, then the rest: the first offset is of the blob,
		// those that follow add compressed bytes to it.
		half := compress(t, data[:400_000])
		if _, err := s.write(zstdName(d), 0, false, half); err == nil {
			t.Error("a write without finish_write succeeded")
		}
		st, err := s.bs.QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: zstdName(d)})
		if err != nil || st.CommittedSize != 400_000 {
			t.Fatalf("after a part: %v, %v", st, err)
		}
		rest := compress(t, data[400_000:])
		res, err := s.write(zstdName(d), 400_000, true, rest[:len(rest)/2], rest[len(rest)/2:])
		if err != nil || res.CommittedSize != 400_000+int64(len(rest)) {
			t.Errorf("resume: %v, %v", res, err)
		}
		if got := s.readBlob(d); !bytes.Equal(got, data) {
			t.Error("another blob than was written")
		}
	})
	t.Run("Offsets", func(t *testing.T) {
		s := s.with(t)
		data := random(1000)
		d := action.Sum(action.SHA256, data)
		stream, err := s.bs.Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&bytestream.WriteRequest{ResourceName: blobName(d), Data: data[:100]})
		_ = stream.Send(&bytestream.WriteRequest{WriteOffset: 50, Data: data[50:], FinishWrite: true})
		_, err = stream.CloseAndRecv()
		wantCode(t, "an offset that goes back", err, codes.InvalidArgument)
	})
}
