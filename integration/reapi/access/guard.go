package access

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/sbx-action/sbx-action/integration/reapi"
)

// needs are the rights that methods need: one of those that are given. What is
// not here needs any right at all, in any instance, if its service is listed
// with "*"; else nobody has it.
var needs = map[string]Rights{
	"/build.bazel.remote.execution.v2.ActionCache/GetActionResult":                    Read,
	"/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult":                 Write,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs":     Read | Upload,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs":       Read,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree":              Read,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/SplitBlob":            Read,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/GetChunkMapping":      Read,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs":     Upload,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/SpliceBlob":           Upload,
	"/build.bazel.remote.execution.v2.ContentAddressableStorage/RegisterChunkMapping": Upload,
	"/google.bytestream.ByteStream/Read":                                              Read,
	"/google.bytestream.ByteStream/Write":                                             Upload,
	"/google.bytestream.ByteStream/QueryWriteStatus":                                  Upload,
	"/build.bazel.remote.execution.v2.Execution/Execute":                              Execute,
	"/build.bazel.remote.execution.v2.Execution/WaitExecution":                        Execute,
	"/google.longrunning.Operations/*":                                                Execute,
	"/build.bazel.remote.logstream.v1.LogStreamService/CreateLogStream":               Execute,
	"/build.bazel.remote.asset.v1.Fetch/*":                                            Read,
	"/build.bazel.remote.asset.v1.Push/*":                                             Write,
	"/build.bazel.remote.execution.v2.Capabilities/GetCapabilities":                   Everything,
	"/grpc.reflection.v1.ServerReflection/*":                                          Everything,
	"/grpc.reflection.v1alpha.ServerReflection/*":                                     Everything,
}

// free are the methods for which nobody is asked: load balancers have no name.
var free = map[string]bool{
	"/grpc.health.v1.Health/Check": true, "/grpc.health.v1.Health/Watch": true, "/grpc.health.v1.Health/List": true,
}

func need(method string) (Rights, bool) {
	if r, ok := needs[method]; ok {
		return r, true
	}
	r, ok := needs[method[:strings.LastIndexByte(method, '/')+1]+"*"]
	return r, ok
}

// Knows says whether somebody can have the right to call a method, or everybody
// may.
func Knows(method string) bool {
	_, ok := need(method)
	return ok || free[method]
}

// A Guard asks a list for every request.
type Guard struct {
	List *List

	// Known says whether there is an instance of that name.
	Known func(instance string) bool
}

type whoKey struct{}

// From is who the request of ctx comes from; nil if nobody has asked.
func From(ctx context.Context) *Somebody {
	who, _ := ctx.Value(whoKey{}).(*Somebody)
	return who
}

// who finds out who a gRPC request comes from.
func (g *Guard) who(ctx context.Context) (*Somebody, error) {
	var chain []*x509.Certificate
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
			chain = t.State.VerifiedChains[0]
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	header := ""
	if values := md.Get("authorization"); len(values) == 1 {
		header = values[0]
	} else if len(values) > 1 {
		return nil, status.Error(codes.Unauthenticated, "more than one authorization")
	}
	who, err := g.List.Who(header, chain)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	return who, nil
}

// Tap is for grpc.InTapHandle: it sends away, before their first message is
// read, those who can have no right to what they ask for. Messages of others
// cost memory; theirs must not.
func (g *Guard) Tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	if free[info.FullMethodName] {
		return ctx, nil
	}
	r, ok := need(info.FullMethodName)
	if !ok {
		return ctx, nil // grpc says that there is no such method
	}
	who, err := g.who(ctx)
	if err != nil {
		return nil, err
	}
	if who.Anywhere()&r == 0 {
		return nil, denied(who, r, "some instance")
	}
	return ctx, nil
}

// check says, as a status, whether who may call method in an instance.
func (g *Guard) check(who *Somebody, method, instance string) error {
	r, ok := need(method)
	if !ok {
		return status.Errorf(codes.PermissionDenied, "%s is for nobody", method)
	}
	if err := reapi.CheckInstance(instance); err != nil {
		return err
	}
	if g.Known != nil && !g.Known(instance) {
		return status.Errorf(codes.NotFound, "there is no instance %q here", instance)
	}
	if who.May(instance)&r != 0 {
		return nil
	}
	return denied(who, r, fmt.Sprintf("instance %q", instance))
}

// denied is the error of who lacks a right.
func denied(who *Somebody, r Rights, where string) error {
	if who.Name == "" {
		return status.Error(codes.Unauthenticated, "this needs credentials: a bearer token, a name and password, or a certificate")
	}
	return status.Errorf(codes.PermissionDenied, "%s may not do this: it needs the right to %s in %s", who.Name, describe(r), where)
}

func describe(r Rights) string { return strings.ReplaceAll(r.String(), ",", " or ") }

// instance is the instance that a message names, whatever it calls it.
func instance(m any) string {
	switch m := m.(type) {
	case interface{ GetInstanceName() string }:
		return m.GetInstanceName()
	case interface{ GetResourceName() string }:
		return reapi.InstanceOf(m.GetResourceName())
	case interface{ GetParent() string }:
		return m.GetParent()
	case interface{ GetName() string }: // of operations
		return reapi.InstanceOf(m.GetName())
	}
	return ""
}

// Unary is an interceptor.
func (g *Guard) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if free[info.FullMethod] {
		return next(ctx, req)
	}
	who, err := g.who(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.check(who, info.FullMethod, instance(req)); err != nil {
		return nil, err
	}
	return next(context.WithValue(ctx, whoKey{}, who), req)
}

// Stream is an interceptor: the first message says which instance.
func (g *Guard) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if free[info.FullMethod] {
		return next(srv, stream)
	}
	who, err := g.who(stream.Context())
	if err != nil {
		return err
	}
	return next(srv, &guarded{
		ServerStream: stream, ctx: context.WithValue(stream.Context(), whoKey{}, who),
		check: func(m any) error { return g.check(who, info.FullMethod, instance(m)) },
	})
}

// A guarded stream checks its first message before anybody sees it.
type guarded struct {
	grpc.ServerStream
	ctx   context.Context
	check func(m any) error // nil once it was asked
}

func (g *guarded) Context() context.Context { return g.ctx }

func (g *guarded) RecvMsg(m any) error {
	if err := g.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if check := g.check; check != nil {
		if err := check(m); err != nil {
			return err
		}
		g.check = nil
	}
	return nil
}

// Anywhere, in the place of an instance, is any of them.
const Anywhere = "*/*"

// HTTP lets through to next who has one of the rights that needs says a request
// needs, in an instance or [Anywhere].
func (g *Guard) HTTP(next http.Handler, needs func(*http.Request) (instance string, r Rights)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var chain []*x509.Certificate
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			chain = r.TLS.VerifiedChains[0]
		}
		name, right := needs(r)
		who, err := g.List.Who(r.Header.Get("Authorization"), chain)
		may := Rights(0)
		if err == nil && name == Anywhere {
			may = who.Anywhere()
		} else if err == nil {
			may = who.May(name)
		}
		switch {
		case err != nil, who.Name == "" && may&right == 0:
			w.Header().Set("WWW-Authenticate", `Basic realm="sbx-action"`)
			http.Error(w, "this needs credentials", http.StatusUnauthorized)
		case name != Anywhere && g.Known != nil && !g.Known(name):
			http.Error(w, "there is no such instance", http.StatusNotFound)
		case may&right == 0:
			http.Error(w, who.Name+" may not do this", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, who)))
		}
	})
}
