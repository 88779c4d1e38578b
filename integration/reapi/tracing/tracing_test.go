package tracing

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestExport(t *testing.T) {
	got := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer collector.Close()
	e, err := New(collector.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Unix(1_700_000_000, 5)
	e.Send("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", Span{
		Name: "action", Begin: begin, End: begin.Add(time.Second), Failed: "exit code 3", Attributes: map[string]string{"digest": "d"},
		Children: []Span{{Name: "run", Begin: begin, End: begin}},
	})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	text := <-got
	path, body, _ := strings.Cut(text, " application/json ")
	var m otlpRequest
	if err := json.Unmarshal([]byte(body), &m); err != nil || path != "/v1/traces" {
		t.Fatalf("%s: %v", text, err)
	}
	spans := m.ResourceSpans[0].ScopeSpans[0].Spans
	if len(spans) != 2 {
		t.Fatalf("%s", text)
	}
	s, child := spans[0], spans[1]
	if s.TraceID != "0123456789abcdef0123456789abcdef" || s.ParentSpanID != "0123456789abcdef" || s.Start != "1700000000000000005" || s.Status.Code != statusError {
		t.Errorf("%+v", s)
	}
	if child.TraceID != s.TraceID || child.ParentSpanID != s.SpanID || child.SpanID == s.SpanID {
		t.Errorf("%+v", child)
	}
}

func TestParent(t *testing.T) {
	good := "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	if _, _, ok := parseParent(good); !ok {
		t.Error("control: a good one was refused")
	}
	for _, bad := range []string{"", "00", good[1:], strings.ToUpper(good), "ff" + good[2:], strings.Replace(good, "-0123456789abcdef-01", "-0000000000000000-01", 1), strings.Replace(good, "a", "g", 1)} {
		if _, _, ok := parseParent(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := New("collector:4318", nil); err == nil {
		t.Error("an address without http:// was taken")
	}
}
