package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
)

// fill stores n blobs of about 100 bytes in our server, finds them all, and
// compares its start with that of an empty one.
func fill(dir string, n, jobs int, program string) error {
	store := filepath.Join(dir, "filled")
	start := func() (*target, func(), time.Duration, error) {
		began := time.Now()
		t, stop, err := startOwn(dir, store, jobs, program)
		return t, stop, time.Since(began), err
	}
	_, stop, _, err := start() // makes the store
	if err != nil {
		return err
	}
	stop()
	t, stop, empty, err := start()
	if err != nil {
		return err
	}
	began := time.Now()
	took, err := fillWith(t, n)
	report(t, "%d blobs of 100 bytes: %.0f/s, and found again in %.1f s", n, float64(n)/took.Seconds(), (time.Since(began) - took).Seconds())
	stop()
	if err != nil {
		return err
	}
	t, stop, full, err := start()
	if err != nil {
		return err
	}
	defer stop()
	report(t, "start with them: %d ms, and %d ms without", full.Milliseconds(), empty.Milliseconds())
	return nil
}

const perBatch = 1000

// fillWith stores the blobs, which takes as long as it says, and looks for them.
func fillWith(t *target, n int) (took time.Duration, err error) {
	cas := repb.NewContentAddressableStorageClient(t.conn)
	requests := func(each func(from int, blobs [][]byte) error) error {
		var next atomic.Int64
		var mu sync.Mutex
		var failed error
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for from := int(next.Add(perBatch)) - perBatch; from < n; from = int(next.Add(perBatch)) - perBatch {
					var blobs [][]byte
					for i := from; i < min(from+perBatch, n); i++ {
						blobs = append(blobs, unlike(int64(i), 100))
					}
					if err := each(from, blobs); err != nil {
						mu.Lock()
						failed = errors.Join(failed, err)
						mu.Unlock()
						return
					}
				}
			})
		}
		clients.Wait()
		return failed
	}
	ctx, began := context.Background(), time.Now()
	err = requests(func(_ int, blobs [][]byte) error { return put(ctx, t, blobs...) })
	took = time.Since(began)
	if err != nil {
		return took, err
	}
	return took, requests(func(from int, blobs [][]byte) error {
		req := &repb.FindMissingBlobsRequest{}
		for _, b := range blobs {
			req.BlobDigests = append(req.BlobDigests, digest(b))
		}
		res, err := cas.FindMissingBlobs(ctx, req)
		if err == nil && len(res.MissingBlobDigests) > 0 {
			err = fmt.Errorf("from %d on, %d blobs are missing", from, len(res.MissingBlobDigests))
		}
		return err
	})
}

// large sends a blob of so many zeros to our server and gets it back.
func large(dir string, size int64, jobs int, program string) error {
	t, stop, err := startOwn(dir, filepath.Join(dir, "large"), jobs, program)
	if err != nil {
		return err
	}
	defer stop()
	block := make([]byte, 1<<20)
	h := sha256.New()
	for at := int64(0); at < size; at += int64(len(block)) {
		h.Write(block[:min(int64(len(block)), size-at)])
	}
	name := fmt.Sprintf("blobs/%s/%d", hex.EncodeToString(h.Sum(nil)), size)
	report(t, "before")
	bs, began := bytestream.NewByteStreamClient(t.conn), time.Now()
	write, err := bs.Write(context.Background())
	if err != nil {
		return err
	}
	for at := int64(0); at < size; at += int64(len(block)) {
		n := min(int64(len(block)), size-at)
		req := &bytestream.WriteRequest{ResourceName: "uploads/large/" + name, WriteOffset: at, Data: block[:n], FinishWrite: at+n == size}
		if write.Send(req) != nil {
			break // CloseAndRecv has the reason
		}
	}
	if _, err := write.CloseAndRecv(); err != nil {
		return err
	}
	report(t, "%d bytes written: %.0f MB/s", size, float64(size)/1e6/time.Since(began).Seconds())
	began = time.Now()
	read, err := bs.Read(context.Background(), &bytestream.ReadRequest{ResourceName: name})
	if err != nil {
		return err
	}
	got := int64(0)
	for {
		res, err := read.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got += int64(len(res.Data))
	}
	if got != size {
		return fmt.Errorf("%d bytes came back", got)
	}
	report(t, "%d bytes read: %.0f MB/s", size, float64(size)/1e6/time.Since(began).Seconds())
	return nil
}

// report prints a line, with the memory that the server uses and has used at
// most.
func report(t *target, format string, args ...any) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.pids[0]))
	mib := func(field string) int {
		_, rest, _ := strings.Cut(string(data), field+":")
		var kib int
		_, _ = fmt.Sscan(rest, &kib)
		return kib >> 10
	}
	fmt.Printf("%-70s memory %d MiB, at most %d\n", fmt.Sprintf(format, args...), mib("VmRSS"), mib("VmHWM"))
}
