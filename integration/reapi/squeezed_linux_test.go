package reapi_test

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
)

// A cable is a way to a server, which counts what goes over it.
type cable struct {
	address  string
	up, down atomic.Int64
}

// through returns a cable to s, which is there until the test ends.
func (s *server) through(t *testing.T) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &cable{address: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", strings.TrimPrefix(s.address, "unix:"))
			if err != nil {
				near.Close()
				continue
			}
			all.Go(func() { carry(far, near, &w.up) })
			all.Go(func() { carry(near, far, &w.down) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.stop()
		all.Wait()
	})
	return w
}

// carry carries bytes until one side is gone, and counts them.
func carry(to, from net.Conn, n *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		n.Add(int64(k))
		if err == nil {
			_, err = to.Write(buf[:k])
		}
		if err != nil {
			return
		}
	}
}

// TestClientSqueezes: our client and our server speak zstd with each other about
// what it makes smaller, in batches and in streams, and about nothing else.
func TestClientSqueezes(t *testing.T) {
	text := func(n int) []byte { // 1:10 and more
		return bytes.Repeat([]byte("int main(void) { return printf(\"hello, world\\n\"); }\n"), n/52+1)[:n]
	}
	for _, c := range []struct {
		name     string
		contents [][]byte
		most     float64 // of the content's size, on the wire
		least    float64
	}{
		{"text", [][]byte{text(5000), text(100_000), text(1 << 20), text(12 << 20)}, 0.1, 0},
		{"noise", [][]byte{random(5000), random(100_000), random(1 << 20), random(12 << 20)}, 1.1, 1},
	} {
		s := start(t, nil)
		w := s.through(t)
		dial := func() *remote.Client {
			client, err := remote.Dial(remote.Address{Host: w.address}, remote.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			return client
		}
		open := func() *cache.Store {
			store, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			return store
		}
		from, to := open(), open()
		var digests []action.Digest
		var total int64
		for _, data := range c.contents {
			d, err := from.PutBytes(t.Context(), action.SHA256, data)
			if err != nil {
				t.Fatal(err)
			}
			digests = append(digests, d)
			total += d.Size()
		}
		if err := dial().Upload(t.Context(), from, digests); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, d := range digests {
			if got := s.readBlob(d); !bytes.Equal(got, c.contents[i]) {
				t.Errorf("%s: the server got something else for blob %d", c.name, i)
			}
		}
		if err := dial().Download(t.Context(), to, digests); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, d := range digests {
			f, err := to.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(f)
			f.Close()
			if err != nil || !bytes.Equal(got, c.contents[i]) {
				t.Errorf("%s: blob %d came back different (%v)", c.name, i, err)
			}
		}
		for way, n := range map[string]int64{"up": w.up.Load(), "down": w.down.Load()} {
			t.Logf("%s, %s: %d bytes on the wire for %d", c.name, way, n, total)
			if r := float64(n) / float64(total); r > c.most || r < c.least {
				t.Errorf("%s, %s: %d bytes on the wire for %d", c.name, way, n, total)
			}
		}
	}
}
