package reapi_test

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/webpage"
)

// TestPages follows every link from the first page on, and wants to have seen
// what an action was, its inputs, and its outputs.
func TestPages(t *testing.T) {
	s := start(t, nil)
	evil := "<script>alert(1)"
	s.succeed(s.action(call{
		script:  "cat in '" + evil + "'; echo oops >&2; mkdir d; cp in d/copy; printf '\\0\\1' > d/binary; ln -s copy d/l",
		files:   map[string]string{"in": "the input\n", evil: "of " + evil},
		command: outputs("d"),
	}))
	s.execute(s.action(call{script: "exit 3"}), func(r *repb.ExecuteRequest) { r.InstanceName = "secret" })
	h := &webpage.Handler{
		Store: s.store, Engine: s.engine,
		May: func(_ *http.Request, instance string) bool { return instance == "" }, Blobs: func(*http.Request) bool { return true },
	}
	web := httptest.NewServer(h)
	defer web.Close()
	get := func(path string) (int, http.Header, string) {
		t.Helper()
		res, err := http.Get(web.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header, string(body)
	}
	link := regexp.MustCompile(`href="(/[^"]*)"`)
	seen := map[string]string{}
	queue := []string{"/"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if _, ok := seen[path]; ok || path == "/metrics" {
			continue
		}
		code, header, body := get(path)
		if code != http.StatusOK {
			t.Errorf("%s: %d: %s", path, code, body)
		}
		seen[path] = body
		if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: the browser may do what it likes: %v", path, header)
		}
		if tar := strings.HasPrefix(path, "/tar/"); tar || strings.HasPrefix(path, "/raw/") {
			if want := map[bool]string{true: "application/x-tar", false: "application/octet-stream"}[tar]; header.Get("Content-Type") != want || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") {
				t.Errorf("%s: %v", path, header)
			}
			continue
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s has a script that somebody put there", path)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s shows another instance", path)
		}
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			queue = append(queue, html.UnescapeString(m[1]))
		}
	}
	var all strings.Builder
	kinds := map[string]int{}
	for path, body := range seen {
		all.WriteString(body)
		kind, _, _ := strings.Cut(path[1:], "/")
		kinds[kind]++
	}
	for _, kind := range []string{"", "operation", "directory", "tree", "blob", "raw", "tar"} {
		if kinds[kind] == 0 {
			t.Errorf("no link leads to a page of kind %q: %v", kind, kinds)
		}
	}
	for _, want := range []string{"the input", "oops", "/bin/sh", "staging inputs", "It is not text", "not present", "<b>2</b> ran", html.EscapeString(evil)} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("no page shows %q", want)
		}
	}
	for _, path := range []string{"/none", "/operation/none", "/blob/sha256/xyz/1", "/blob/../../etc/passwd", "/directory/" + "sha256/" + action.Sum(action.SHA256, []byte("absent")).Hash() + "/6"} {
		if code, _, _ := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
	// An archive of which something is gone is no archive.
	s.lose(t, action.Sum(action.SHA256, []byte("the input\n")))
	broken := 0
	for path := range seen {
		if !strings.HasPrefix(path, "/tar/") {
			continue
		}
		res, err := http.Get(web.URL + path)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		if err != nil {
			broken++
		}
	}
	if broken == 0 {
		t.Error("archives are sent though a file of them is gone")
	}
	for path := range seen {
		if strings.HasPrefix(path, "/operation/") && strings.Contains(path, "secret") {
			t.Error("a link leads into another instance")
		}
	}
}
