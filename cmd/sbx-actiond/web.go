package main

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/sbx-action/sbx-action/integration/reapi/access"
	"github.com/sbx-action/sbx-action/integration/reapi/httpcache"
)

// serveHTTP serves the HTTP cache on the address of --http. What ends it goes
// into failed.
func (f *serveFlags) serveHTTP(p *serverParts, failed chan<- error) (*http.Server, error) {
	l, err := listen(f.http)
	if err != nil {
		return nil, err
	}
	blobs := &httpcache.Handler{
		Store: p.store, Results: p.results, Raw: f.anyResult, Log: p.log,
		MaxBlob: func(name string) int64 { return p.in.of(name).maxBlob },
	}
	web := &http.Server{
		Handler: p.guard.HTTP(blobs, needsOf), TLSConfig: p.tls, MaxHeaderBytes: maxHeaders,
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
	return web, nil
}

// needsOf is the right that a request over HTTP needs, and in which instance.
func needsOf(r *http.Request) (instance string, right access.Rights) {
	name, kind, _, ok := httpcache.Split(r.URL.Path)
	switch {
	case !ok:
		return "", access.Read
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return name, access.Read
	case kind == "ac":
		return name, access.Write
	}
	return name, access.Upload
}
