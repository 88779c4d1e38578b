package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
	"github.com/sbx-action/sbx-action/integration/reapi/share/agent"
)

// A desk is a user's agent, with the socket at which it listens.
type desk struct {
	socket string
	stop   func() // ends the agent as a signal would, and waits for it
}

func start(t *testing.T, idle time.Duration) *desk {
	t.Helper()
	d := &desk{socket: filepath.Join(t.TempDir(), "s")}
	os.Chmod(filepath.Dir(d.socket), 0o700)
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	a := agent.New(agent.Options{
		Idle: idle, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Connect: func(share.Target) (remote.Options, error) { return remote.Options{}, nil },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(d.stop)
	return d
}

// user is a link of a process with a store of its own.
func (d *desk) user(t *testing.T, address string, store *cache.Store) *share.Link {
	t.Helper()
	l := &share.Link{
		Target: share.Target{Store: store.Dir(), Address: "grpc://" + address + "/i", Timeout: time.Minute}, Socket: d.socket,
		Start: func(context.Context, string) error { return errors.New("nobody listens") },
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func open(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// result stores a result as the runner does, with an output of some size.
func result(t *testing.T, s *cache.Store, name string, size int, change func(*action.Result)) action.Digest {
	t.Helper()
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(len(name)), name[0], name[len(name)-1]})
	r.Read(data)
	file, err := s.PutBytes(t.Context(), action.BLAKE3, data)
	if err != nil {
		t.Fatal(err)
	}
	c := &action.Command{Arguments: []string{name}}
	a := &action.Action{Command: c.Digest(action.BLAKE3), InputRoot: action.Sum(action.BLAKE3, nil)}
	res := &action.Result{
		Files: []action.OutputFile{{Path: "f", Digest: file}},
		Metadata: &action.Metadata{Auxiliary: []action.Any{
			{TypeURL: "type.googleapis.com/build.bazel.remote.execution.v2.Action", Value: a.Marshal()},
			{TypeURL: "type.googleapis.com/build.bazel.remote.execution.v2.Command", Value: c.Marshal()},
		}},
	}
	if change != nil {
		change(res)
	}
	key := a.Digest(action.BLAKE3)
	if err := s.PutResult(t.Context(), key, res); err != nil {
		t.Fatal(err)
	}
	return key
}

// TestFromOneStoreToAnother, of two users with one remote.
func TestFromOneStoreToAnother(t *testing.T) {
	server := &remotetest.Server{}
	address := remotetest.Serve(t, server)
	a, b := open(t), open(t)
	mine, yours := start(t, time.Minute).user(t, address, a), start(t, time.Minute).user(t, address, b)
	key := result(t, a, "small", 1000, nil)
	large := result(t, a, "large", 6<<20, nil)
	if err := yours.Result(t.Context(), key); !errors.Is(err, action.ErrMiss) {
		t.Fatalf("before: %v", err)
	}
	if err := errors.Join(mine.Put(t.Context(), key), mine.Put(t.Context(), large), mine.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, k := range []action.Digest{key, large} {
		if err := yours.Result(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Result(t.Context(), k); err != nil {
			t.Errorf("it is not in the store, whole: %v", err)
		}
	}
	if hash := server.Counted().Twice(); hash != "" {
		t.Errorf("%s was uploaded twice", hash)
	}
}

// TestManyAtOnce: nothing is uploaded twice, whoever asks for it.
func TestManyAtOnce(t *testing.T) {
	server := &remotetest.Server{}
	address := remotetest.Serve(t, server)
	s := open(t)
	d := start(t, time.Minute)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := d.user(t, address, s)
			for j := range 5 {
				if err := l.Put(t.Context(), result(t, s, fmt.Sprint("x", (i+j)%10), 5000, nil)); err != nil {
					t.Error(err)
				}
			}
			if err := l.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if hash := server.Counted().Twice(); hash != "" || server.Results() != 10 {
		t.Errorf("%d results, want 10; twice: %q", server.Results(), hash)
	}
}

// TestWhatIsNotShared stays here.
func TestWhatIsNotShared(t *testing.T) {
	server := &remotetest.Server{}
	address := remotetest.Serve(t, server)
	s := open(t)
	l := start(t, time.Minute).user(t, address, s)
	bad := result(t, s, "fails", 10, func(r *action.Result) { r.ExitCode = 1 })
	odd := result(t, s, "differs", 10, func(r *action.Result) {
		*r = *r.WithVerification(&action.Verification{Differences: []string{"f"}})
	})
	for _, key := range []action.Digest{bad, odd} {
		if err := l.Put(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("%v, want that they were not sent", err)
	}
	if n := server.Results(); n != 0 {
		t.Errorf("%d results were sent", n)
	}
}

// TestDown: one request pays for finding out, one user is told, and when the
// remote is back what waited is sent.
func TestDown(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	var calls atomic.Int64
	server := &remotetest.Server{Fail: func(string) error {
		calls.Add(1)
		if down.Load() {
			return status.Error(codes.Unavailable, "injected")
		}
		return nil
	}}
	address := remotetest.Serve(t, server)
	s := open(t)
	d := start(t, time.Minute)
	key := result(t, s, "x", 10, nil)
	told := 0
	for range 20 {
		err := d.user(t, address, s).Result(t.Context(), key)
		down, ok := errors.AsType[*share.DownError](err)
		if !ok {
			t.Fatalf("%v, want that it is down", err)
		}
		if down.Say {
			told++
		}
	}
	if calls.Load() != 1 || told != 1 {
		t.Errorf("20 requests made %d calls, and %d users were told; want 1 and 1", calls.Load(), told)
	}
	l := d.user(t, address, s)
	if err := l.Put(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err == nil {
		t.Error("flush says that everything is sent")
	}
	d.stop()

	down.Store(false) // and another agent
	d = start(t, time.Minute)
	l = d.user(t, address, s)
	if _, err := l.Info(t.Context()); err != nil { // anything: the queue is on the disk
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil || server.Results() != 1 {
		t.Errorf("after the remote came back: %v, %d results", err, server.Results())
	}
}

// TestInterruptedUploadGoesOn in another process.
func TestInterruptedUploadGoesOn(t *testing.T) {
	const size = 8 << 20
	var cuts atomic.Int64
	server := &remotetest.Server{CutWrite: func(_ string, at int64) bool { return at >= 5<<20 && cuts.Add(1) == 1 }}
	address := remotetest.Serve(t, server)
	s := open(t)
	d := start(t, time.Minute)
	l := d.user(t, address, s)
	key := result(t, s, "x", size, nil)
	if err := l.Put(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); cuts.Load() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("control: the upload was not interrupted")
		}
	}
	l.Close()
	d.stop()
	l = start(t, time.Minute).user(t, address, s)
	if _, err := l.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := server.Counted().Bytes; n > size+2<<20 || server.Results() != 1 {
		t.Errorf("%d bytes were sent for an output of %d that broke off at 5 MiB; %d results", n, size, server.Results())
	}
}

// TestDamagedRemote: what a remote says is checked before it is believed.
func TestDamagedRemote(t *testing.T) {
	corrupt := action.Digest{}
	server := &remotetest.Server{Corrupt: func(d action.Digest) bool { return d == corrupt }}
	address := remotetest.Serve(t, server)
	a, b := open(t), open(t)
	d := start(t, time.Minute)
	mine, yours := d.user(t, address, a), d.user(t, address, b)
	key := result(t, a, "x", 100, nil)
	lost := result(t, a, "y", 100, nil)
	if err := errors.Join(mine.Put(t.Context(), key), mine.Put(t.Context(), lost), mine.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	res, err := a.Result(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	corrupt = res.Files[0].Digest
	if err := yours.Result(t.Context(), key); err == nil || b.Has(t.Context(), corrupt) {
		t.Errorf("a blob with another content was taken: %v", err)
	}
	if res, err = a.Result(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	server.Remove(res.Files[0].Digest)
	if err := yours.Result(t.Context(), lost); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a result without its output: %v, want a miss", err)
	}
}

// TestEnds: when nobody asks, and when it is told to.
func TestEnds(t *testing.T) {
	d := start(t, 50*time.Millisecond)
	there := func() bool { _, err := os.Lstat(d.socket); return err == nil } // to ask would keep it up
	for end := time.Now().Add(2 * time.Minute); there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end when it is idle")
		}
	}
	d = start(t, time.Hour)
	if !share.Listening(d.socket) {
		t.Fatal("control: it does not listen")
	}
	l := d.user(t, "127.0.0.1:1", open(t))
	if err := l.Quit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not end when it is told to")
		}
	}
}

// TestHostileClient: noise at the socket ends nothing but its own connection.
func TestHostileClient(t *testing.T) {
	d := start(t, time.Minute)
	for _, noise := range []string{"", "\x00", "\xff\xff\xff\xff", "\x05\x00\x00\x00hxxxx", "\x02\x00\x00\x00n\x00", "GET / HTTP/1.0\r\n\r\n"} {
		c, err := net.Dial("unix", d.socket)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, noise)
		c.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	server := &remotetest.Server{}
	l := d.user(t, remotetest.Serve(t, server), open(t))
	if err := l.Result(t.Context(), action.Sum(action.BLAKE3, nil)); !errors.Is(err, action.ErrMiss) {
		t.Errorf("after that: %v", err)
	}
}

// TestDamagedSqueezed: the user is told, in a line that is no miss, and goes on
// without; the store has nothing of it.
func TestDamagedSqueezed(t *testing.T) {
	var bad atomic.Bool
	server := &remotetest.Server{
		Compressors: []rexec.Compressor_Value{rexec.Compressor_ZSTD}, BatchCompressors: []rexec.Compressor_Value{rexec.Compressor_ZSTD},
		Squeeze: func(data []byte) []byte {
			z := remotetest.Zstd(data)
			if bad.Load() {
				z[len(z)/2] ^= 1
			}
			return z
		},
	}
	address := remotetest.Serve(t, server)
	a, b := open(t), open(t)
	mine, yours := start(t, time.Minute).user(t, address, a), start(t, time.Minute).user(t, address, b)
	for _, size := range []int{100_000, 6 << 20} {
		key := result(t, a, fmt.Sprint("of ", size), size, nil)
		if err := errors.Join(mine.Put(t.Context(), key), mine.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		bad.Store(true)
		err := yours.Result(t.Context(), key)
		if err == nil || errors.Is(err, action.ErrMiss) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%d bytes: %v, want what is wrong, in a line", size, err)
		}
		if _, err := b.Result(t.Context(), key); err == nil {
			t.Errorf("%d bytes: the store has it", size)
		}
		bad.Store(false)
		if err := yours.Result(t.Context(), key); err != nil {
			t.Errorf("control: %d bytes: %v", size, err)
		}
	}
}
