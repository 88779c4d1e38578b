package main

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/integration/reapi/access"
	"github.com/sbx-action/sbx-action/integration/reapi/httpcache"
	"github.com/sbx-action/sbx-action/integration/reapi/metrics"
	"github.com/sbx-action/sbx-action/integration/reapi/webpage"
)

// serveHTTP serves the HTTP cache, the pages and the metrics at l. What ends it goes
// into failed.
func (f *serveFlags) serveHTTP(p *serverParts, l net.Listener, failed chan<- error) *http.Server {
	blobs := &httpcache.Handler{
		Store: p.store, Results: p.results, Raw: f.anyResult, Log: p.log,
		MaxBlob: func(name string) int64 { return p.in.of(name).maxBlob },
	}
	pages := &webpage.Handler{
		Store: p.store, Engine: p.engine,
		May: func(r *http.Request, instance string) bool {
			return access.From(r.Context()).May(instance)&access.Read != 0
		},
		Blobs: func(r *http.Request) bool { return access.From(r.Context()).Anywhere()&access.Read != 0 },
	}
	route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.web.Add(1)
		switch _, _, _, isBlob := httpcache.Split(r.URL.Path); {
		case isBlob:
			blobs.ServeHTTP(w, r)
		case r.URL.Path == "/metrics":
			p.metrics(w)
		default:
			pages.ServeHTTP(w, r)
		}
	})
	guarded := p.guard.HTTP(route, needsOf)
	if f.onlyHere() {
		guarded = ownNames(l.Addr().String(), guarded)
	}
	web := &http.Server{
		Handler: httpcache.Idle(guarded, 2*time.Minute), TLSConfig: p.tls, MaxHeaderBytes: maxHeaders,
		// A body may take long, but not the headers, and not the next request.
		ReadHeaderTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	p.log.Info("serving HTTP", "address", l.Addr().String())
	go func() {
		serve := web.Serve
		if p.tls != nil {
			serve = func(l net.Listener) error { return web.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return web
}

// needsOf is the right that a request over HTTP needs, and in which instance.
func needsOf(r *http.Request) (instance string, right access.Rights) {
	name, kind, _, ok := httpcache.Split(r.URL.Path)
	switch {
	case !ok: // a page, which looks more closely
		return access.Anywhere, access.Everything
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return name, access.Read
	case kind == "ac":
		return name, access.Write
	}
	return name, access.Upload
}

// metrics writes what Prometheus collects.
func (p *serverParts) metrics(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	p.rpcs.Write(w)
	if p.engine != nil {
		c := p.engine.Counts()
		metrics.Value(w, "sbx_actions_running", "gauge", "Actions that run.", float64(c.Running))
		metrics.Value(w, "sbx_actions_queued", "gauge", "Actions that wait.", float64(c.Queued))
		metrics.Value(w, "sbx_action_slots", "gauge", "Actions that can run at a time.", float64(p.engine.Jobs()))
		metrics.Value(w, "sbx_actions_executed_total", "counter", "Actions that ran.", float64(c.Executed))
		metrics.Value(w, "sbx_actions_failed_total", "counter", "Actions that ran and failed.", float64(c.Failed))
		metrics.Value(w, "sbx_actions_cancelled_total", "counter", "Actions that were cancelled.", float64(c.Cancelled))
		metrics.Value(w, "sbx_actions_abandoned_total", "counter", "Operations for which no client waited.", float64(c.Stale))
		metrics.Value(w, "sbx_actions_cached_total", "counter", "Requests that had a result.", float64(c.Hits))
		metrics.Value(w, "sbx_actions_merged_total", "counter", "Requests that joined one in flight.", float64(c.Merged))
		metrics.Durations(w, "sbx_action_queue_seconds", "How long actions waited.", &p.waited)
		metrics.Durations(w, "sbx_action_run_seconds", "How long actions ran, with staging and collecting.", &p.ran)
	}
	p.trimmer.write(w)
	if free, _, err := diskSpace(p.store.Dir()); err == nil {
		metrics.Value(w, "sbx_store_free_bytes", "gauge", "Free space where the store is.", float64(free))
	}
	metrics.Process(w, cpuTime(), p.began)
}

// cpuTime is what this program and its children have used.
func cpuTime() (d time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return d
}
