package httpcache

import (
	"io"
	"net/http"
	"time"
)

// Idle returns a handler that is next, but for clients that neither send nor
// take anything for so long: their connection is closed, and with it ends what
// it held. A body as a whole may take as long as it likes.
func Idle(next http.Handler, most time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &patientBody{r.Body, c, most}
		}
		next.ServeHTTP(&patientWriter{w, c, most}, r)
		// The next request of the connection has its own time.
		_ = c.SetReadDeadline(time.Time{})
		_ = c.SetWriteDeadline(time.Time{})
	})
}

type patientBody struct {
	io.ReadCloser
	c    *http.ResponseController
	most time.Duration
}

func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.c.SetReadDeadline(time.Now().Add(b.most))
	return b.ReadCloser.Read(p)
}

type patientWriter struct {
	http.ResponseWriter
	c    *http.ResponseController
	most time.Duration
}

// Unwrap is for [http.ResponseController].
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *patientWriter) Write(p []byte) (int, error) {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.most))
	return w.ResponseWriter.Write(p)
}

// step is how much must go through within the time.
const step = 4 << 20

// ReadFrom lets the kernel send a file by itself, a step at a time.
func (w *patientWriter) ReadFrom(r io.Reader) (n int64, err error) {
	all, ok := r.(*io.LimitedReader)
	if !ok {
		all = &io.LimitedReader{R: r, N: 1<<63 - 1}
	}
	for all.N > 0 {
		_ = w.c.SetWriteDeadline(time.Now().Add(w.most))
		part := &io.LimitedReader{R: all.R, N: min(step, all.N)}
		want := part.N
		got, err := io.Copy(w.ResponseWriter, part)
		n += got
		all.N -= got
		if err != nil || got < want {
			return n, err
		}
	}
	return n, nil
}
