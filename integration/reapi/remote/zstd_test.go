package remote_test

import (
	"bytes"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
)

var zstd = []rexec.Compressor_Value{rexec.Compressor_ZSTD}

// half is n bytes that zstd makes about half as many.
func half(seed uint64, n int) []byte {
	var b []byte
	for line := range slices.Chunk(noise(seed, n/2+64), 64) {
		b = append(append(b, line...), line...)
	}
	return b[:n]
}

func putContent(t *testing.T, s *cache.Store, f action.Function, contents ...[]byte) (list []action.Digest) {
	t.Helper()
	for _, data := range contents {
		d, err := s.PutBytes(t.Context(), f, data)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

// TestZstd: blobs go as zstd where the server says that it knows it, and nowhere
// else. The server refuses what it did not announce.
func TestZstd(t *testing.T) {
	for _, c := range []struct {
		name           string
		streams, batch []rexec.Compressor_Value
		large, small   bool // whether blobs above and below 256 KiB get smaller
	}{
		{"Nowhere", nil, nil, false, false},
		{"Another", []rexec.Compressor_Value{rexec.Compressor_BROTLI}, []rexec.Compressor_Value{rexec.Compressor_DEFLATE}, false, false},
		{"Streams", zstd, nil, true, false},
		{"Everywhere", zstd, zstd, true, true},
	} {
		for _, f := range []action.Function{action.SHA256, action.BLAKE3} { // BLAKE3 is named in resources
			t.Run(c.name+"/"+f.String(), func(t *testing.T) {
				for _, part := range []struct {
					name     string
					smaller  bool
					contents [][]byte
				}{
					{"large", c.large, [][]byte{half(1, 1<<20), half(2, 300<<10), half(3, 260<<10)}},
					{"small", c.small, [][]byte{half(4, 4<<10), half(5, 100<<10), half(6, 64<<10), half(7, 250<<10)}},
					{"tiny", false, [][]byte{half(8, 4095), half(9, 1000), {}, {'x'}}},
					{"noise", false, [][]byte{noise(1, 1<<20), noise(2, 300<<10), noise(3, 100<<10), noise(4, 5000)}},
				} {
					if len(c.streams) > 0 && len(c.batch) == 0 && part.name == "large" {
						part.contents = append(part.contents, half(10, 256<<10))
					}
					server := &remotetest.Server{Compressors: c.streams, BatchCompressors: c.batch, BatchMax: 512 << 10}
					client := dial(t, server, remote.Options{})
					from, to := open(t), open(t)
					digests := putContent(t, from, f, part.contents...)
					if err := client.Upload(t.Context(), from, digests); err != nil {
						t.Fatalf("%s: upload: %v", part.name, err)
					}
					if err := client.Download(t.Context(), to, digests); err != nil {
						t.Fatalf("%s: download: %v", part.name, err)
					}
					var total int64
					for i, d := range digests {
						total += d.Size()
						if !bytes.Equal(content(t, to, d), part.contents[i]) {
							t.Errorf("%s: blob %d came back different", part.name, i)
						}
					}
					if n := server.Counted().Bytes; part.smaller && n > total*2/3 || !part.smaller && n != total {
						t.Errorf("%s: %d bytes were sent of %d, want less: %v", part.name, n, total, part.smaller)
					}
				}
			})
		}
	}
}

func TestCapabilitiesAreAskedForOnce(t *testing.T) {
	server := &remotetest.Server{Compressors: zstd, BatchCompressors: zstd}
	c := dial(t, server, remote.Options{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := c.Check(t.Context(), action.SHA256); err != nil {
				t.Error(err)
			}
			if _, err := c.Writable(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := server.Counted().Messages["GetCapabilities"]; n != 1 {
		t.Errorf("they were asked for %d times", n)
	}
}

// TestInterruptedZstdGoesOn: within a client, and in another one.
func TestInterruptedZstdGoesOn(t *testing.T) {
	const size = 4 << 20 // 2 MiB as zstd
	data := half(1, size)
	var cuts atomic.Int64
	cut := func(_ string, at int64) bool { return at >= 1<<20 && cuts.Add(1) == 1 }
	for name, attempts := range map[string]int{"once more": 2, "by another client": 1} {
		cuts.Store(0)
		server := &remotetest.Server{Compressors: zstd, BatchMax: 1 << 20, CutWrite: cut}
		c := dial(t, server, remote.Options{Attempts: attempts, Sender: "me"})
		from := open(t)
		digests := putContent(t, from, action.SHA256, data)
		if err := c.Upload(t.Context(), from, digests); (err == nil) != (attempts > 1) {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := remote.Dial(c.Address(), remote.Options{Sender: "me"})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Upload(t.Context(), from, digests); err != nil {
			t.Fatal(err)
		}
		again.Close()
		if n := server.Counted().Bytes; n > size*3/4 || cuts.Load() < 1 {
			t.Errorf("%s: %d bytes were sent for a blob of 2 MiB that broke off %d times after 1 MiB", name, n, cuts.Load())
		}
		if got, _ := server.Blob(digests[0]); !bytes.Equal(got, data) {
			t.Errorf("%s: the server has something else", name)
		}
	}

	cuts.Store(0)
	server := &remotetest.Server{Compressors: zstd, BatchMax: 1 << 20, CutRead: cut}
	c := dial(t, server, remote.Options{Attempts: 2})
	to := open(t)
	d := server.Put(action.SHA256, data)
	if err := c.Download(t.Context(), to, []action.Digest{d}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, to, d), data) || cuts.Load() < 1 {
		t.Errorf("the content differs, or the download was never interrupted (%d)", cuts.Load())
	}
}

// TestZstdThatCannotGoOn: the server keeps nothing of an upload, or says that it
// has what it then does not want to go on with. One attempt must do for both.
func TestZstdThatCannotGoOn(t *testing.T) {
	data := half(1, 4<<20)
	var cuts atomic.Int64
	server := &remotetest.Server{
		Compressors: zstd, BatchMax: 1 << 20, NoResume: true,
		CutWrite: func(_ string, at int64) bool { return at >= 1<<20 && cuts.Add(1) == 1 },
	}
	c := dial(t, server, remote.Options{Attempts: 2})
	from := open(t)
	digests := putContent(t, from, action.SHA256, data)
	if err := c.Upload(t.Context(), from, digests); err != nil || cuts.Load() < 1 {
		t.Fatalf("broke off %d times: %v", cuts.Load(), err)
	}

	cuts.Store(0)
	var resumed atomic.Int64
	server = &remotetest.Server{
		Compressors: zstd, BatchMax: 1 << 20,
		CutWrite: func(_ string, at int64) bool { return at >= 1<<20 && cuts.Add(1) == 1 },
	}
	server.Fail = func(method string) error {
		if method == "Write" && cuts.Load() > 0 && resumed.Add(1) == 1 {
			return status.Error(codes.InvalidArgument, "injected: go on with what?")
		}
		return nil
	}
	c = dial(t, server, remote.Options{Sender: "me"})
	if err := c.Upload(t.Context(), from, digests); err == nil {
		t.Fatal("control: the upload was not interrupted")
	}
	if err := c.Upload(t.Context(), from, digests); err != nil || resumed.Load() < 2 {
		t.Errorf("after %d tries: %v", resumed.Load(), err)
	}
	if got, _ := server.Blob(digests[0]); !bytes.Equal(got, data) {
		t.Error("the server has something else")
	}
}

// TestZstdThatIsRefused: by a server that took the place of one that knew it.
func TestZstdThatIsRefused(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.Unimplemented} {
		var calls sync.Map
		server := &remotetest.Server{Compressors: zstd, BatchMax: 512 << 10, Fail: func(method string) error {
			if _, again := calls.LoadOrStore(method, true); !again && (method == "Read" || method == "Write") {
				return status.Error(code, "injected: no zstd")
			}
			return nil
		}}
		c := dial(t, server, remote.Options{})
		from, to := open(t), open(t)
		data := half(1, 1<<20)
		digests := putContent(t, from, action.BLAKE3, data)
		if err := c.Upload(t.Context(), from, digests); err != nil {
			t.Fatalf("%v: upload: %v", code, err)
		}
		if n := server.Counted().Bytes; n != int64(len(data)) {
			t.Errorf("%v: %d bytes were sent, want %d", code, n, len(data))
		}
		if err := c.Download(t.Context(), to, digests); err != nil {
			t.Fatalf("%v: download: %v", code, err)
		}
		if !bytes.Equal(content(t, to, digests[0]), data) {
			t.Errorf("%v: it came back different", code)
		}
		if n := server.Counted().Messages["GetCapabilities"]; n < 2 {
			t.Errorf("%v: the server was not asked again what it can", code)
		}
	}
}

// TestDamagedZstd: nothing is taken, and no more is read than there can be.
func TestDamagedZstd(t *testing.T) {
	for _, size := range []int{100_000, 2 << 20} {
		data := half(1, size)
		d := action.Sum(action.SHA256, data)
		for name, f := range map[string]func([]byte) []byte{
			"none":          nil,
			"a bit":         func(z []byte) []byte { z[len(z)/2] ^= 1; return z },
			"an end":        func(z []byte) []byte { return z[:len(z)/2] },
			"nothing":       func([]byte) []byte { return nil },
			"no zstd":       func([]byte) []byte { return data },
			"other content": func([]byte) []byte { return remotetest.Zstd(half(2, size)) },
			"less content":  func([]byte) []byte { return remotetest.Zstd(data[:size-1]) },
			"more content":  func([]byte) []byte { return remotetest.Zstd(append([]byte{'x'}, data...)) },
			"a bomb":        func([]byte) []byte { return remotetest.Zstd(make([]byte, 16<<20)) },
			"empty frames":  func([]byte) []byte { return bytes.Repeat([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, 1<<20) },
			"a huge window": func([]byte) []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 1, 0, 0} },
			"an endless size": func([]byte) []byte {
				return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, bytes.Repeat([]byte{math.MaxUint8}, 8)...)
			},
		} {
			server := &remotetest.Server{Compressors: zstd, BatchCompressors: zstd, BatchMax: 1 << 20}
			if f != nil {
				server.Squeeze = func(data []byte) []byte { return f(remotetest.Zstd(data)) }
			}
			c := dial(t, server, remote.Options{Attempts: 3})
			server.Put(action.SHA256, data)
			to := open(t)
			err := c.Download(t.Context(), to, []action.Digest{d})
			if (err == nil) != (f == nil) || to.Has(t.Context(), d) != (f == nil) {
				t.Errorf("%d bytes, %s: %v, and there: %v", size, name, err, to.Has(t.Context(), d))
			}
		}
	}
}
