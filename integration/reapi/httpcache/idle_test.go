package httpcache

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestIdle has clients that stop in the middle of a request and of an answer.
func TestIdle(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 64<<20) // more than the kernel takes for a connection
	ended := make(chan error, 1)
	web := httptest.NewServer(Idle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil && r.Method == http.MethodGet {
			_, err = io.Copy(w, bytes.NewReader(large))
		}
		ended <- err
	}), 500*time.Millisecond))
	defer web.Close()
	for name, request := range map[string]string{
		"a body that stops":           "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegin",
		"an answer that nobody reads": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err == nil { // else the test's own time-out
			t.Errorf("%s: the request succeeded", name)
		}
		c.Close()
	}
}

// deadlines notes what it is told.
type deadlines struct {
	http.ResponseWriter
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

// TestIdleIsNotSlow: the time begins anew with each piece of a body or an answer,
// and is over with the request.
func TestIdleIsNotSlow(t *testing.T) {
	h := Idle(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); n != 5 || err != nil {
			t.Errorf("the body: %d bytes, %v", n, err)
		}
		if n, err := w.(io.ReaderFrom).ReadFrom(io.LimitReader(zeros{}, 3*step+1)); n != 3*step+1 || err != nil {
			t.Errorf("the answer: %d bytes, %v", n, err)
		}
		w.Write([]byte("end"))
	}), time.Hour)
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	begun := time.Now()
	h.ServeHTTP(d, httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/", iotest.OneByteReader(strings.NewReader("12345"))))
	for name, list := range map[string][]time.Time{"read": d.read, "write": d.write} {
		if len(list) < 6 || !list[len(list)-1].IsZero() {
			t.Fatalf("%s deadlines: %v, want one for each piece, and none at the end", name, list)
		}
		for _, at := range list[:len(list)-1] {
			if at.Before(begun.Add(time.Hour)) {
				t.Errorf("%s deadline %v, of a request that began at %v", name, at, begun)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
