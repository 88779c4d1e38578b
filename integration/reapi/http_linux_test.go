package reapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/httpcache"
	"github.com/sbx-action/sbx-action/integration/reapi/storage"
)

func TestHTTPCache(t *testing.T) {
	s := start(t, nil)
	results := &storage.Results{Store: s.store, Witness: s.witness}
	h := &httpcache.Handler{Store: s.store, Results: results, MaxBlob: func(string) int64 { return 1 << 20 }}
	web := httptest.NewServer(h)
	defer web.Close()
	header := http.Header{}
	do := func(method, path string, body []byte, chunked bool) (int, []byte) {
		t.Helper()
		var r io.Reader = bytes.NewReader(body)
		if chunked {
			r = struct{ io.Reader }{r}
		}
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+path, r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, data
	}
	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	for _, f := range []action.Function{action.SHA256, action.BLAKE3, action.SHA256Tree, action.SHA1, action.MD5, action.SHA384, action.SHA512} {
		data := random(300_000)
		path := "/cas/" + action.Sum(f, data).Hash()
		code, _ := do("GET", path, nil, false)
		want("GET before", code, 404)
		code, _ = do("PUT", path, data[1:], false)
		want("PUT of something else", code, 400)
		code, _ = do("PUT", path, data, f == action.SHA1)
		want("PUT", code, 200)
		code, got := do("GET", "/some/instance"+path, nil, false)
		want("GET", code, 200)
		if !bytes.Equal(got, data) {
			t.Errorf("%v: %d bytes are others", f, len(got))
		}
		code, got = do("HEAD", path, nil, false)
		if want("HEAD", code, 200); len(got) > 0 {
			t.Errorf("HEAD gave %d bytes", len(got))
		}
	}
	// A client that goes away in the middle is no fault of the server's.
	var log bytes.Buffer
	h.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, path := range []string{"/cas/", "/ac/"} {
		c, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "PUT %s%064d HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", path, 1)
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		want("PUT of half a body to "+path, res.StatusCode, 400)
	}
	if log.Len() > 0 {
		t.Errorf("the log blames the server: %s", &log)
	}
	code, _ := do("GET", "/cas/"+action.Sum(action.SHA256, nil).Hash(), nil, false)
	want("GET of the empty blob", code, 200)
	big := make([]byte, 1<<20+1)
	for _, chunked := range []bool{false, true} {
		code, _ = do("PUT", "/cas/"+action.Sum(action.SHA256, big).Hash(), big, chunked)
		want("PUT of more than is taken", code, 400)
	}

	for _, f := range []action.Function{action.SHA256, action.BLAKE3, action.SHA512} {
		key := action.Sum(f, []byte("an action"))
		m := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "out", Digest: reapi.ToDigest(action.Sum(f, []byte("the output")))}}}
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		ac := "/ac/" + key.Hash()
		code, _ = do("PUT", ac, body, false)
		want("PUT of a result without its output", code, 400)
		s.put(f, []byte("the output"))
		code, _ = do("PUT", ac, body, false)
		want("PUT of a result", code, 200)
		code, got := do("GET", ac, nil, false)
		back := new(repb.ActionResult)
		if err := proto.Unmarshal(got, back); code != 200 || err != nil || !proto.Equal(back, m) {
			t.Errorf("GET of a result: %d, %v, %v", code, back, err)
		}
		// The same cache as over gRPC.
		if res, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: reapi.ToDigest(key), DigestFunction: reapi.ToFunction(f)}); err != nil || !proto.Equal(res, m) {
			t.Errorf("over gRPC: %v, %v", res, err)
		}
		code, _ = do("GET", "/other"+ac, nil, false)
		want("GET of a result in another instance", code, 404)
		s.lose(t, action.Sum(f, []byte("the output")))
		code, _ = do("GET", ac, nil, false)
		want("GET of a result whose output is gone", code, 404)
	}
	code, _ = do("PUT", "/ac/"+strings.Repeat("a", 64), []byte("\xff anything"), false)
	want("PUT of anything as a result", code, 400)
	h.Raw = true
	code, _ = do("PUT", "/ac/"+strings.Repeat("a", 64), []byte("\xff anything"), false)
	want("PUT of anything as a result, if that is allowed", code, 200)
	code, got := do("GET", "/ac/"+strings.Repeat("a", 64), nil, false)
	if want("GET of it", code, 200); string(got) != "\xff anything" {
		t.Errorf("it is %q", got)
	}
	for path, status := range map[string]int{"/": 404, "/cas": 404, "/cas/xyz": 400, "/cas/" + strings.Repeat("g", 64): 400, "/blobs/cas/" + strings.Repeat("a", 64): 404} {
		code, _ = do("GET", path, nil, false)
		want("GET "+path, code, status)
	}
	// A web page whose name leads to this machine.
	mine := action.Sum(action.SHA256, []byte("from a page")).Hash()
	for name, value := range map[string]string{"Origin": "http://a.example", "Sec-Fetch-Site": "same-origin"} {
		header = http.Header{name: {value}}
		code, _ = do("PUT", "/cas/"+mine, []byte("from a page"), false)
		want("PUT with "+name, code, 403)
		code, _ = do("GET", "/cas/"+mine, nil, false)
		want("GET with "+name, code, 404)
	}
	for value, status := range map[string]int{"gzip": 415, "identity": 200} { // what is said of the body has to be so
		header = http.Header{"Content-Encoding": {value}}
		code, _ = do("PUT", "/ac/"+strings.Repeat("b", 64), []byte("\xff anything"), false)
		want("PUT with Content-Encoding "+value, code, status)
	}
	header = http.Header{}
	code, _ = do("PUT", "/cas/"+mine, []byte("from a page"), false)
	want("PUT without them", code, 200)
	code, _ = do("DELETE", "/cas/"+strings.Repeat("a", 64), nil, false)
	want("DELETE", code, 405)
}
