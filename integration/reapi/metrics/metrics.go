// Package metrics counts what a server does, and shows it in Prometheus's text
// format under the names that are usual for gRPC servers.
package metrics

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bounds are the upper bounds of the histograms' buckets, in seconds.
var bounds = [...]float64{0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800}

// A Histogram counts durations.
type Histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	sum     atomic.Int64 // nanoseconds
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// write writes h; labels is what is between the braces, or "".
func (h *Histogram) write(w io.Writer, name, labels string) {
	comma := ""
	if labels != "" {
		comma = ","
	}
	var n int64
	for i, b := range bounds {
		n += h.buckets[i].Load()
		fmt.Fprintf(w, "%s_bucket{%s%sle=\"%g\"} %d\n", name, labels, comma, b, n)
	}
	n += h.buckets[len(bounds)].Load()
	fmt.Fprintf(w, "%s_bucket{%s%sle=\"+Inf\"} %d\n", name, labels, comma, n)
	fmt.Fprintf(w, "%s_sum{%s} %g\n%s_count{%s} %d\n", name, labels, time.Duration(h.sum.Load()).Seconds(), name, labels, n)
}

// RPCs counts requests, by method and code.
type RPCs struct {
	started atomic.Int64

	mu      sync.Mutex
	methods map[string]*method // guarded by mu
}

type method struct {
	kind    string // "unary" and so on
	started atomic.Int64
	took    Histogram
	codes   [17]atomic.Int64
}

func (r *RPCs) of(name, kind string) *method {
	r.started.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.methods[name]
	if m == nil {
		if r.methods == nil {
			r.methods = map[string]*method{}
		}
		m = &method{kind: kind}
		r.methods[name] = m
	}
	return m
}

// Started is how many RPCs have begun.
func (r *RPCs) Started() int64 { return r.started.Load() }

func (m *method) begin() func(error) {
	m.started.Add(1)
	began := time.Now()
	return func(err error) {
		m.took.Observe(time.Since(began))
		m.codes[min(int(status.Code(err)), len(m.codes)-1)].Add(1)
	}
}

// Unary is an interceptor. Only methods that are served come here, so their
// names are few.
func (r *RPCs) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	end := r.of(info.FullMethod, "unary").begin()
	res, err := next(ctx, req)
	end(err)
	return res, err
}

// Stream is an interceptor.
func (r *RPCs) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	end := r.of(info.FullMethod, kindOf(info)).begin()
	err := next(srv, stream)
	end(err)
	return err
}

func kindOf(info *grpc.StreamServerInfo) string {
	switch {
	case info.IsClientStream && info.IsServerStream:
		return "bidi_stream"
	case info.IsClientStream:
		return "client_stream"
	}
	return "server_stream"
}

// Write writes everything in Prometheus's text format.
func (r *RPCs) Write(w io.Writer) {
	r.mu.Lock()
	methods := maps.Clone(r.methods)
	r.mu.Unlock()
	names := slices.Sorted(maps.Keys(methods))
	family(w, "grpc_server_started_total", "counter", "RPCs that began.")
	for _, name := range names {
		fmt.Fprintf(w, "grpc_server_started_total{%s} %d\n", methods[name].labels(name), methods[name].started.Load())
	}
	family(w, "grpc_server_handled_total", "counter", "RPCs that ended, by code.")
	for _, name := range names {
		for code := range methods[name].codes {
			if n := methods[name].codes[code].Load(); n > 0 {
				fmt.Fprintf(w, "grpc_server_handled_total{%s,grpc_code=%q} %d\n", methods[name].labels(name), codes.Code(code), n)
			}
		}
	}
	family(w, "grpc_server_handling_seconds", "histogram", "How long RPCs took.")
	for _, name := range names {
		methods[name].took.write(w, "grpc_server_handling_seconds", methods[name].labels(name))
	}
}

func (m *method) labels(full string) string {
	service, name, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return fmt.Sprintf("grpc_type=%q,grpc_service=%q,grpc_method=%q", m.kind, service, name)
}

func family(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// Value writes one metric without labels. kind is "counter" or "gauge".
func Value(w io.Writer, name, kind, help string, v float64) {
	family(w, name, kind, help)
	fmt.Fprintf(w, "%s %g\n", name, v)
}

// Durations writes a histogram without labels.
func Durations(w io.Writer, name, help string, h *Histogram) {
	family(w, name, "histogram", help)
	h.write(w, name, "")
}

// Process writes what is usual of a Go program. used is its CPU time.
func Process(w io.Writer, used time.Duration, began time.Time) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	Value(w, "go_goroutines", "gauge", "Goroutines there are.", float64(runtime.NumGoroutine()))
	Value(w, "go_memstats_heap_inuse_bytes", "gauge", "Bytes in use on the heap.", float64(m.HeapInuse))
	Value(w, "go_memstats_sys_bytes", "gauge", "Bytes that the program has of the system.", float64(m.Sys))
	memory(w)
	Value(w, "process_cpu_seconds_total", "counter", "CPU time of the program and its children.", used.Seconds())
	Value(w, "process_start_time_seconds", "gauge", "When the program began, in seconds since 1970.", float64(began.UnixMilli())/1000)
}

// memory writes what the system says of the process, where it has /proc.
func memory(w io.Writer) {
	var pages, resident float64
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		if n, _ := fmt.Sscan(string(data), &pages, &resident); n == 2 {
			size := float64(os.Getpagesize())
			Value(w, "process_virtual_memory_bytes", "gauge", "Address space of the program.", pages*size)
			Value(w, "process_resident_memory_bytes", "gauge", "Memory of the program.", resident*size)
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		Value(w, "process_open_fds", "gauge", "Open file descriptors.", float64(len(open)-1)) // one is for the list
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		Value(w, "process_max_fds", "gauge", "Most file descriptors that can be open.", float64(limit.Cur))
	}
}
