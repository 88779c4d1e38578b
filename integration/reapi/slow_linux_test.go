package reapi_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

// storeFiles is how many files of the store this process has open.
func (s *server) storeFiles(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, s.store.BlobDir()) {
			n++
		}
	}
	return n
}

// TestSlowClients has clients that begin to read or to write and then do
// nothing. Others are served all the same, and some time later nothing is held
// for them but what an upload needs to go on.
func TestSlowClients(t *testing.T) {
	const each = 40
	s := startAs(t, filepath.Join(t.TempDir(), "cache"), storage.Options{IdleStream: time.Second}, nil)
	// Without a number a client takes up to 16 MiB of a stream that nobody reads.
	conn := s.connect(t, grpc.WithStaticStreamWindowSize(64<<10))
	defer conn.Close()
	data := make([]byte, 8<<20)
	d := action.Sum(action.SHA256, data)
	if _, err := s.write("uploads/u/"+reapi.BlobName(d), 0, true, pieces(data, 1<<20)...); err != nil {
		t.Fatal(err)
	}
	half := random(600_000) // not stored: half of it comes
	dh := action.Sum(action.SHA256, half)
	upload := func(i int) string { return fmt.Sprintf("uploads/slow-%d/%s", i, reapi.BlobName(dh)) }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads []bytestream.ByteStream_ReadClient
	var writes []bytestream.ByteStream_WriteClient
	for i := range each {
		r, err := s.bs.Read(ctx, &bytestream.ReadRequest{ResourceName: reapi.BlobName(d)})
		if err != nil {
			t.Fatal(err)
		}
		w, err := s.bs.Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Send(&bytestream.WriteRequest{ResourceName: upload(i), Data: half[:300_000]}); err != nil {
			t.Fatal(err)
		}
		reads, writes = append(reads, r), append(writes, w)
	}
	// The connection's flow control is full of what they do not read: another
	// client has one of its own, as other programs do.
	other := s.another(t)
	if res := other.succeed(other.action(call{script: "echo well"})); string(res.Result.StdoutRaw) != "well\n" {
		t.Errorf("another client: %v", res)
	}
	for _, w := range writes {
		wantCode(t, "the end of a write in which nothing comes", w.RecvMsg(new(bytestream.WriteResponse)), codes.DeadlineExceeded)
	}
	eventually(t, func() bool { return s.storeFiles(t) == each }) // those of the uploads
	for _, r := range reads {
		var err error
		for n := 0; err == nil; n++ {
			_, err = r.Recv()
		}
		wantCode(t, "the end of a read that took nothing", err, codes.DeadlineExceeded)
	}
	for {
		res, err := other.write(upload(5), 300_000, true, half[300_000:])
		if status.Code(err) == codes.Aborted {
			continue // the server is about to give it up
		}
		if err != nil || res.CommittedSize != dh.Size() {
			t.Errorf("an upload that stood still goes on: %v, %v", res, err)
		}
		break
	}
}
