// Package tracing sends what became of actions to an OpenTelemetry collector:
// OTLP over HTTP, in JSON (opentelemetry.io/docs/specs/otlp). It is written by
// hand because the libraries for it are larger than the server.
//
// An action is a span with one child for each of its stages. If the client sent
// a traceparent header (w3.org/TR/trace-context), the span belongs to its trace.
// A collector that is away costs spans, and nothing else.
package tracing

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Span is a piece of time with a name.
type Span struct {
	Name       string
	Begin, End time.Time
	Failed     string // what went wrong, or ""
	Attributes map[string]string
	Children   []Span
}

const (
	pending = 1000 // spans that wait to be sent
	batch   = 200
	pause   = 2 * time.Second
)

// An Exporter sends spans in the background.
type Exporter struct {
	url    string
	log    *slog.Logger
	client http.Client
	spans  chan sent
	done   sync.WaitGroup
	stop   context.CancelFunc
}

type sent struct {
	parent string
	span   Span
}

// New returns an exporter to the collector at url, such as
// http://127.0.0.1:4318. The caller closes it.
func New(url string, log *slog.Logger) (*Exporter, error) {
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		return nil, fmt.Errorf("%q is no address of a collector: want http://HOST:PORT", url)
	}
	if !strings.HasSuffix(url, "/v1/traces") {
		url = strings.TrimSuffix(url, "/") + "/v1/traces"
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &Exporter{url: url, log: log, client: http.Client{Timeout: 5 * time.Second}, spans: make(chan sent, pending), stop: stop}
	e.done.Go(func() { e.run(ctx) })
	return e, nil
}

// Send sends s, as part of the trace that parent, a traceparent header, says.
// It never waits.
func (e *Exporter) Send(parent string, s Span) {
	select {
	case e.spans <- sent{parent, s}:
	default:
	}
}

// Close sends what waits, if the collector takes it soon.
func (e *Exporter) Close() error {
	e.stop()
	e.done.Wait()
	return nil
}

func (e *Exporter) run(ctx context.Context) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var list []sent
	said := false
	flush := func() {
		if len(list) == 0 {
			return
		}
		err := e.post(list)
		if err != nil && !said {
			e.log.Warn("traces are lost", "err", err)
		}
		said = err != nil
		list = list[:0]
	}
	for {
		select {
		case s := <-e.spans:
			if list = append(list, s); len(list) >= batch {
				flush()
			}
		case <-tick.C:
			flush()
		case <-ctx.Done():
			for len(e.spans) > 0 {
				list = append(list, <-e.spans)
			}
			flush()
			return
		}
	}
}

func (e *Exporter) post(list []sent) error {
	body, err := encode(list)
	if err != nil {
		return err
	}
	res, err := e.client.Post(e.url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", e.url, res.Status)
	}
	return nil
}

// The messages of OTLP that are needed, in its JSON form: identifiers in hex,
// 64-bit numbers as text.
type (
	otlpRequest struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	otlpResource struct {
		Resource   otlpAttributes `json:"resource"`
		ScopeSpans []otlpScope    `json:"scopeSpans"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpAttributes struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpAttribute struct {
		Key   string `json:"key"`
		Value struct {
			StringValue string `json:"stringValue"`
		} `json:"value"`
	}
	otlpSpan struct {
		TraceID      string          `json:"traceId"`
		SpanID       string          `json:"spanId"`
		ParentSpanID string          `json:"parentSpanId,omitempty"`
		Name         string          `json:"name"`
		Kind         int             `json:"kind"`
		Start        string          `json:"startTimeUnixNano"`
		End          string          `json:"endTimeUnixNano"`
		Attributes   []otlpAttribute `json:"attributes,omitempty"`
		Status       *otlpStatus     `json:"status,omitempty"`
	}
	otlpStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	}
)

const (
	kindInternal = 1
	kindServer   = 2
	statusError  = 2
)

func attribute(key, value string) (a otlpAttribute) {
	a.Key, a.Value.StringValue = key, value
	return a
}

func encode(list []sent) ([]byte, error) {
	scope := otlpScope{}
	scope.Scope.Name = "sbx-action"
	for _, s := range list {
		trace, parent, ok := parseParent(s.parent)
		if !ok {
			trace, parent = random(16), ""
		}
		scope.Spans = appendSpan(scope.Spans, trace, parent, kindServer, &s.span)
	}
	return json.Marshal(otlpRequest{[]otlpResource{{
		Resource:   otlpAttributes{[]otlpAttribute{attribute("service.name", "sbx-action")}},
		ScopeSpans: []otlpScope{scope},
	}}})
}

func appendSpan(list []otlpSpan, trace, parent string, kind int, s *Span) []otlpSpan {
	o := otlpSpan{
		TraceID: trace, SpanID: random(8), ParentSpanID: parent, Name: s.Name, Kind: kind,
		Start: strconv.FormatInt(s.Begin.UnixNano(), 10), End: strconv.FormatInt(s.End.UnixNano(), 10),
	}
	for key, value := range s.Attributes {
		o.Attributes = append(o.Attributes, attribute(key, value))
	}
	if s.Failed != "" {
		o.Status = &otlpStatus{statusError, s.Failed}
	}
	list = append(list, o)
	for i := range s.Children {
		list = appendSpan(list, trace, o.SpanID, kindInternal, &s.Children[i])
	}
	return list
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// parseParent parses a traceparent header: VERSION-TRACE-SPAN-FLAGS.
func parseParent(s string) (trace, span string, ok bool) {
	parts := strings.Split(s, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || len(parts[2]) != 16 || parts[0] == "ff" {
		return "", "", false
	}
	for _, p := range parts[:3] {
		if _, err := hex.DecodeString(p); err != nil || strings.ToLower(p) != p {
			return "", "", false
		}
	}
	if strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return "", "", false
	}
	return parts[1], parts[2], true
}
