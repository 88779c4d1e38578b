package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// opens counts how often something below a directory is opened, be it a file or a
// directory that is listed, between its making and its end.
type opens struct{ fd int }

func watchOpens(t *testing.T, dir string) *opens {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		_, err = unix.InotifyAddWatch(fd, path, unix.IN_OPEN)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o := &opens{fd}
	o.count(t) // those of our own walk
	return o
}

func (o *opens) count(t *testing.T) (n int) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		got, err := unix.Read(o.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < got; n++ {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			at += unix.SizeofInotifyEvent + int(e.Len)
		}
	}
}

// TestManySmallBlobs stores as many as CI has patience for ('go run ./bench/remote
// -fill 1000000' has more). The server needs no more memory for them, finds them
// all, and the next one opens no more files when it starts than that of an empty
// store.
func TestManySmallBlobs(t *testing.T) {
	total, batch := 50_000, 1000
	if testing.Short() {
		total = 5000
	}
	cache := filepath.Join(t.TempDir(), "cache")
	starts := func() int {
		t.Helper()
		o := watchOpens(t, cache)
		s := serving(t, cache)
		n := o.count(t)
		s.end(t)
		return n
	}
	serving(t, cache).end(t) // makes the directories
	empty := starts()

	s := serving(t, cache)
	before := s.memory(t, "VmRSS")
	cas := repb.NewContentAddressableStorageClient(dialTo(t, s.grpc, insecure.NewCredentials()))
	blob := func(i int) []byte { return fmt.Appendf(nil, "blob %d of the many small ones", i) }
	send := func(from int) error {
		req, ask := &repb.BatchUpdateBlobsRequest{}, &repb.FindMissingBlobsRequest{}
		for i := from; i < from+batch; i++ {
			d := reapi.ToDigest(action.Sum(action.SHA256, blob(i)))
			req.Requests = append(req.Requests, &repb.BatchUpdateBlobsRequest_Request{Digest: d, Data: blob(i)})
			ask.BlobDigests = append(ask.BlobDigests, d)
		}
		if _, err := cas.BatchUpdateBlobs(t.Context(), req); err != nil {
			return err
		}
		res, err := cas.FindMissingBlobs(t.Context(), ask)
		if err == nil && len(res.MissingBlobDigests) > 0 {
			err = fmt.Errorf("%d of the blobs from %d on are missing", len(res.MissingBlobDigests), from)
		}
		return err
	}
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for from := c * batch; from < total; from += 4 * batch {
				if err := send(from); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	// What grows is what the collector has not got to yet, not what is kept: that
	// would be 100 bytes each at the least.
	after := s.memory(t, "VmHWM")

	if after > before+128<<20 {
		t.Errorf("memory was %d MiB, and up to %d MiB while blobs came", before>>20, after>>20)
	}
	// The server syncs what it has got by itself.
	for {
		if _, err := os.Stat(filepath.Join(cache, "synced")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.end(t)
	full := starts()

	if full > empty+50 {
		t.Errorf("a start opened %d files and directories of a store with %d blobs, and %d of an empty one", full, total, empty)
	}
}
