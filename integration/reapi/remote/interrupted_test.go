package remote_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
)

// TestInterruptedUploadGoesOn: first within a client, then in another process.
func TestInterruptedUploadGoesOn(t *testing.T) {
	const size = 8 << 20
	var cuts atomic.Int64
	server := &remotetest.Server{CutWrite: func(_ string, at int64) bool { return at >= 3<<20 && cuts.Add(1) == 1 }}
	c := dial(t, server, remote.Options{Attempts: 2})
	from := open(t)
	digests := put(t, from, action.SHA256, size)
	if err := c.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if cuts.Load() < 1 {
		t.Fatal("control: the upload was not interrupted")
	}
	// What was on its way when the server broke off may be sent again.
	if n := server.Counted().Bytes; n > size+1<<20 {
		t.Errorf("%d bytes were sent for a blob of %d that broke off at 3 MiB", n, size)
	}

	cuts.Store(0)
	server = &remotetest.Server{CutWrite: func(_ string, at int64) bool { return at >= 3<<20 && cuts.Add(1) == 1 }}
	c = dial(t, server, remote.Options{Sender: "me"})
	if err := c.Upload(t.Context(), from, digests); err == nil {
		t.Fatal("control: an upload that broke off went well without a second attempt")
	}
	again, err := remote.Dial(c.Address(), remote.Options{Sender: "me"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if n := server.Counted().Bytes; n > size+1<<20 {
		t.Errorf("%d bytes were sent for a blob of %d by a client that had the sender of one before", n, size)
	}
}

// TestUploadToServerThatCannotGoOn: bazel-remote and bb_storage are such.
func TestUploadToServerThatCannotGoOn(t *testing.T) {
	var cuts atomic.Int64
	server := &remotetest.Server{NoResume: true, CutWrite: func(_ string, at int64) bool { return at >= 3<<20 && cuts.Add(1) == 1 }}
	c := dial(t, server, remote.Options{Attempts: 3})
	from := open(t)
	digests := put(t, from, action.SHA256, 8<<20)
	if err := c.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if _, ok := server.Blob(digests[0]); !ok || cuts.Load() < 1 {
		t.Errorf("there %v, broke off %d times", ok, cuts.Load())
	}
}

func TestInterruptedDownloadGoesOn(t *testing.T) {
	var cuts atomic.Int64
	server := &remotetest.Server{CutRead: func(_ string, at int64) bool { return at >= 3<<20 && cuts.Add(1) == 1 }}
	c := dial(t, server, remote.Options{Attempts: 2})
	to := open(t)
	d := server.Put(action.SHA256, noise(1, 8<<20))
	if err := c.Download(t.Context(), to, []action.Digest{d}); err != nil {
		t.Fatal(err)
	}
	if got := content(t, to, d); !bytes.Equal(got, noise(1, 8<<20)) || cuts.Load() < 1 {
		t.Errorf("the content differs, or the download was never interrupted (%d)", cuts.Load())
	}
}

// TestSilentServer: a server that takes calls and never answers.
func TestSilentServer(t *testing.T) {
	release := make(chan struct{})
	var silent atomic.Bool
	server := &remotetest.Server{Fail: func(string) error {
		if silent.Load() {
			<-release
		}
		return nil
	}}
	t.Cleanup(func() { close(release) })
	store := open(t)
	digests := put(t, store, action.SHA256, 10, 5<<20)
	var c *remote.Client
	for limit := 50 * time.Millisecond; ; limit *= 4 { // on a busy machine an answer takes longer
		c = dial(t, server, remote.Options{Timeout: limit, Stall: limit})
		err := c.Upload(t.Context(), store, digests[:1])
		if err == nil {
			break
		}
		if !remote.Transient(err) || limit > time.Minute {
			t.Fatal("control: ", err)
		}
	}
	silent.Store(true)
	c.Forget()
	for what, err := range map[string]error{
		"result":   func() error { _, err := c.Result(t.Context(), digests[0]); return err }(),
		"upload":   c.Upload(t.Context(), store, digests),
		"download": c.Download(t.Context(), open(t), digests),
		"stream":   c.Download(t.Context(), open(t), digests[1:]),
	} {
		if err == nil || !remote.Transient(err) {
			t.Errorf("%s: %v, want an error that may pass", what, err)
		}
	}
}

func TestOverloadedServerIsAskedAgain(t *testing.T) {
	var calls sync.Map
	server := &remotetest.Server{Fail: func(method string) error {
		if _, again := calls.LoadOrStore(method, true); !again { // the first of each kind
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	}}
	c := dial(t, server, remote.Options{Attempts: 5})
	from, to := open(t), open(t)
	digests := put(t, from, action.SHA256, 10, 20, 5<<20)
	if err := c.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if err := c.Download(t.Context(), to, digests); err != nil {
		t.Fatal(err)
	}
}

func TestCanceledDownloadLeavesNothingInFlight(t *testing.T) {
	release := make(chan struct{})
	var held atomic.Bool
	held.Store(true)
	begun := make(chan struct{}, 100)
	server := &remotetest.Server{Fail: func(method string) error {
		if method == "BatchReadBlobs" && held.Load() {
			begun <- struct{}{}
			<-release
		}
		return nil
	}}
	c := dial(t, server, remote.Options{})
	d := server.Put(action.SHA256, noise(1, 100))
	to := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Download(ctx, to, []action.Digest{d}) }()
	<-begun
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was canceled", err)
	}
	held.Store(false)
	close(release)
	if err := c.Download(t.Context(), to, []action.Digest{d}); err != nil {
		t.Errorf("the next download: %v", err)
	}
}
