package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestIsOwnName(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:8981": true, "127.0.0.1": true, "127.1.2.3:1": true, "[::1]:8981": true, "[::1]": true, "::1": true,
		"localhost": true, "LocalHost:80": true, "": true,
		"evil.example": false, "evil.example:8981": false, "localhost.evil.example:8981": false, "127.0.0.1.evil.example": false,
		"10.0.0.1:8981": false, "0.0.0.0:8981": false, "[2001:db8::1]:8981": false, "127.0.0.1:1:2": false, "localhost:1@evil.example": false,
	} {
		if got := isOwnName(host); got != want {
			t.Errorf("isOwnName(%q) = %v, want %v", host, got, want)
		}
	}
}

// TestOwnNames asks as a page does whose name leads to this machine.
func TestOwnNames(t *testing.T) {
	secret := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("secret")) })
	ask := func(h http.Handler, host string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/cas/"+strings.Repeat("a", 64), nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := ask(secret, "evil.example:8981"); w.Code != 200 || w.Body.String() != "secret" {
		t.Fatalf("control: without the check: %d %s", w.Code, w.Body)
	}
	h := ownNames("127.0.0.1:8981", secret)
	if w := ask(h, "127.0.0.1:8981"); w.Code != 200 || w.Body.String() != "secret" {
		t.Errorf("by its address: %d %s", w.Code, w.Body)
	}
	w := ask(h, "evil.example:8981")
	if body := w.Body.String(); w.Code != 403 || strings.Contains(body, "secret") || !strings.Contains(body, "127.0.0.1:8981") || !strings.Contains(body, "--access") {
		t.Errorf("by another name: %d %s", w.Code, body)
	}
}

func TestOnlyHere(t *testing.T) {
	for _, c := range []struct {
		f    serveFlags
		want bool
	}{
		{serveFlags{http: "127.0.0.1:0"}, true},
		{serveFlags{http: "unix:/run/sbx"}, false},
		{serveFlags{http: "127.0.0.1:0", access: "file"}, false},
		{serveFlags{http: "127.0.0.1:0", tlsCert: "file"}, false},
		{serveFlags{http: "127.0.0.1:0", allowAnyone: true}, false},
	} {
		if got := c.f.onlyHere(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}
