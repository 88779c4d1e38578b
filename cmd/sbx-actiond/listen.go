package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/sbx-action/sbx-action/integration/reapi/wire"
)

const (
	// maxMessage is the size of the largest message that is taken: of
	// FindMissingBlobs with 100,000 digests, or of a large ActionResult.
	maxMessage = 16 << 20
	// maxStreams bounds the requests of one connection at a time.
	maxStreams = 1000
	// maxHeaders bounds what comes before a message.
	maxHeaders = 64 << 10
	// drain is how long requests may take to end when the server stops.
	drain = 3 * time.Second
)

// rpcServer returns a server with all services of p.
func rpcServer(p *serverParts) (*grpc.Server, *health.Server) {
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(p.rpcs.Unary, p.guard.Unary), grpc.ChainStreamInterceptor(p.rpcs.Stream, p.guard.Stream),
		grpc.InTapHandle(p.guard.Tap), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(64 << 20), grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders), grpc.ConnectionTimeout(20 * time.Second),
		// A client that is gone without a word is noticed within a minute.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 40 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(4 << 20),
		grpc.ReadBufferSize(64 << 10), grpc.WriteBufferSize(64 << 10),
		grpc.ForceServerCodecV2(wire.NewCodec()),
	}
	if p.tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(p.tls)))
	}
	srv := grpc.NewServer(options...)
	p.storage.Register(srv)
	p.caps.Register(srv)
	p.asset.Register(srv)
	if p.engine != nil {
		p.engine.Register(srv)
	}
	status := health.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, status)
	reflection.Register(srv)
	return srv, status
}

// serve serves p until ctx is done.
func (f *serveFlags) serve(ctx context.Context, p *serverParts) error {
	rpcs, pages, err := f.listeners()
	if err != nil {
		return err
	}
	srv, status := rpcServer(p)
	failed := make(chan error, len(rpcs)+1)
	for _, l := range rpcs {
		p.log.Info("serving", "address", l.Addr().String(), "store", p.store.Dir())
		go func() { failed <- srv.Serve(l) }()
	}
	if pages != nil {
		defer f.serveHTTP(p, pages, failed).Close()
	}
	defer p.trimmer.start(ctx)()
	sync := time.NewTicker(time.Second)
	defer sync.Stop()
	var synced int64
loop:
	for {
		select {
		case <-sync.C:
			now := p.rpcs.Started() + p.web.Load()
			if now == synced && (p.engine == nil || p.engine.Counts().Running == 0) {
				continue // nothing can have been written
			}
			synced = now
			if serr := p.store.Sync(ctx); serr != nil && ctx.Err() == nil {
				p.log.Warn("sync the store", "err", serr)
			}
		case err = <-failed:
			break loop
		case <-ctx.Done():
			break loop
		}
	}
	status.Shutdown()
	if p.engine != nil {
		p.engine.Drain(drain)
	}
	stop(srv)
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	p.log.Info("stopped")
	return nil
}

// stop lets requests end, for a while, and then ends them. Connections that have not
// become any, which gRPC would wait for, end with the process.
func stop(srv *grpc.Server) {
	stopped := make(chan struct{})
	go func() {
		srv.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
		return
	case <-time.After(drain):
	}
	go srv.Stop()
	select {
	case <-stopped:
	case <-time.After(time.Second):
	}
}

// listeners listens wherever the flags say; pages is nil without --http. Nobody is
// served before all of them are there.
func (f *serveFlags) listeners() (rpcs []net.Listener, pages net.Listener, err error) {
	for _, address := range f.listen {
		var l net.Listener
		if l, err = listen("listen", address); err != nil {
			break
		}
		rpcs = append(rpcs, l)
	}
	if err == nil && f.http != "" {
		pages, err = listen("http", f.http)
	}
	if err != nil {
		for _, l := range rpcs {
			_ = l.Close()
		}
		return nil, nil, err
	}
	return rpcs, pages, nil
}

// listen listens on HOST:PORT or unix:PATH, which a flag says. The socket of a server that was
// killed is replaced.
func listen(flag, address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("--%s %s: %w: want HOST:PORT, such as 127.0.0.1:8980, or unix:PATH", flag, address, err)
		}
		return l, nil
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("--%s %s: another server listens there", flag, address)
		}
		_ = os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("--%s %s: %w", flag, address, err)
	}
	return l, nil
}
