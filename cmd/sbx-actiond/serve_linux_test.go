package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/access"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
)

// asProgram says to the test's own binary that it is to be the program.
const asProgram = "SBX_TEST_AS_ACTIOND"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		program().Main()
	}
	os.Exit(m.Run())
}

// actiond is the program with these arguments.
func actiond(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// A running server.
type running struct {
	cmd        *exec.Cmd
	grpc, http string
	rest       chan string // what it said after it began to serve
}

// serving starts a server, which the test must end.
func serving(t *testing.T, cache string, args ...string) *running {
	t.Helper()
	r := &running{cmd: actiond(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--cache", cache}, args...)...), rest: make(chan string, 1)}
	out, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	var said strings.Builder
	for r.http == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if _, a, ok := strings.Cut(lines.Text(), "msg=serving address="); ok {
			r.grpc, _, _ = strings.Cut(a, " ")
		}
		if _, a, ok := strings.Cut(lines.Text(), `msg="serving HTTP" address=`); ok {
			r.http = a
		}
	}
	if r.http == "" {
		t.Fatalf("it did not start: %s", said.String())
	}
	go func() {
		var b strings.Builder
		for lines.Scan() {
			b.WriteString(lines.Text() + "\n")
		}
		r.rest <- b.String()
	}()
	return r
}

// memory is what the server uses of it, in bytes: VmRSS now, or VmHWM at most.
func (r *running) memory(t *testing.T, which string) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), which+":")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// end sends a signal and wants the server to end well.
func (r *running) end(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said := <-r.rest
	if err := r.cmd.Wait(); err != nil || !strings.Contains(said, "msg=stopped") {
		t.Errorf("after SIGTERM: %v: %s", err, said)
	}
}

func TestServeRefuses(t *testing.T) {
	dir := t.TempDir()
	empty, open := filepath.Join(dir, "empty"), filepath.Join(dir, "open")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(open, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"extra"}, `unexpected argument "extra"`},
		{[]string{"--listen", "nonsense"}, "want HOST:PORT"},
		{[]string{"--listen", "0.0.0.0:0"}, "give --allow-anyone"},
		{[]string{"--listen", "[::]:0"}, "give --allow-anyone"},
		{[]string{"--http", ":0"}, "give --allow-anyone"},
		{[]string{"--backend", "magic"}, `unknown backend "magic"`},
		{[]string{"--rootfs", "nobody"}, "sbx-action rootfs import"},
		{[]string{"--access", filepath.Join(dir, "none")}, "no such file"},
		{[]string{"--access", open}, "chmod 600"},
		{[]string{"--tls-cert", empty}, "belong together"},
		{[]string{"--tls-cert", empty, "--tls-key", empty}, "--tls-cert"},
		{[]string{"--instance", "a/blobs"}, "blobs"},
		{[]string{"--instance", "a colour=red"}, "max-blob, max-timeout"},
		{[]string{"--instance", "a", "--instance", "a"}, "twice"},
		{[]string{"--instance", "a max-blob=lots"}, "max-blob=lots"},
		{[]string{"--jobs", "0"}, "--jobs"},
		{[]string{"--timeout", "soon"}, "timeout"},
	} {
		cmd := actiond(t, append([]string{"serve", "--cache", cache}, c.args...)...)
		var out bytes.Buffer
		cmd.Stderr = &out
		err := cmd.Run()
		exit, _ := errors.AsType[*exec.ExitError](err)
		text := strings.TrimSpace(out.String())
		if exit == nil || exit.ExitCode() != 125 || !strings.Contains(text, strings.TrimPrefix(c.want, "--")) || strings.Contains(text, "\n") {
			t.Errorf("serve %q: %v: %s; want one line with %q", c.args, err, text, c.want)
		}
	}
}

func dialTo(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestServeSurvivesKill stores a blob and a result, and a part of another blob,
// kills the server, and finds them in the next one.
func TestServeSurvivesKill(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	first := serving(t, cache)
	second := actiond(t, "serve", "--listen", "127.0.0.1:0", "--cache", cache)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "another server serves") {
		t.Errorf("a second server of one store: %v: %s", err, out)
	}
	d := reapi.ToDigest(action.Sum(action.SHA256, []byte("blob")))
	conn := dialTo(t, first.grpc, insecure.NewCredentials())
	cas, ac := repb.NewContentAddressableStorageClient(conn), repb.NewActionCacheClient(conn)
	if _, err := cas.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d, Data: []byte("blob")}}}); err != nil {
		t.Fatal(err)
	}
	res := &repb.ActionResult{OutputFiles: []*repb.OutputFile{{Path: "x", Digest: d}}}
	if _, err := ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: d, ActionResult: res}); err != nil {
		t.Fatal(err)
	}
	// Half of a large upload comes, too.
	large := make([]byte, 16<<20)
	rand.Read(large)
	upload := "uploads/u/" + reapi.BlobName(action.Sum(action.SHA256, large))
	write, err := bytestream.NewByteStreamClient(conn).Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const part = 10 << 20
	for at := 0; at < part; at += 1 << 20 {
		if err := write.Send(&bytestream.WriteRequest{ResourceName: upload, WriteOffset: int64(at), Data: large[at : at+1<<20]}); err != nil {
			t.Fatal(err)
		}
	}
	written := func(r *running) int64 {
		t.Helper()
		st, err := bytestream.NewByteStreamClient(dialTo(t, r.grpc, insecure.NewCredentials())).QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: upload})
		if err != nil || st.Complete {
			t.Fatalf("QueryWriteStatus: %v, %v", st, err)
		}
		return st.CommittedSize
	}
	for written(first) < part {
		time.Sleep(time.Millisecond)
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	next := serving(t, cache)
	// It goes on where it ended, in this server and in the one after it.
	if n := written(next); n != part {
		t.Errorf("of the upload are there %d bytes, want %d", n, part)
	}
	resume := func(r *running, from, to int64, finish bool) (*bytestream.WriteResponse, error) {
		t.Helper()
		write, err := bytestream.NewByteStreamClient(dialTo(t, r.grpc, insecure.NewCredentials())).Write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = write.Send(&bytestream.WriteRequest{ResourceName: upload, WriteOffset: from, Data: large[from:to], FinishWrite: finish})
		return write.CloseAndRecv()
	}
	if res, err := resume(next, part, part+1<<20, false); err == nil {
		t.Errorf("a part: %v", res)
	}
	next.end(t)
	next = serving(t, cache)
	if n := written(next); n != part+1<<20 {
		t.Errorf("after SIGTERM are there %d bytes, want %d", n, part+1<<20)
	}
	for at := int64(part + 1<<20); at < int64(len(large)); at += 1 << 20 {
		end := at+1<<20 == int64(len(large))
		if res, err := resume(next, at, at+1<<20, end); (err == nil) != end {
			t.Fatalf("the rest, from %d: %v, %v", at, res, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "serve", "uploads", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %q, %v", left, err)
	}
	ac = repb.NewActionCacheClient(dialTo(t, next.grpc, insecure.NewCredentials()))
	if got, err := ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: d}); err != nil || len(got.OutputFiles) != 1 {
		t.Errorf("after the server was killed: %v, %v", got, err)
	}
	next.end(t)
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, dir: t.TempDir()}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.write("authority", a.cert, key, a.cert, key)
	return a
}

// write signs a certificate and writes it and its key to files.
func (a *authority) write(name string, c *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, by *ecdsa.PrivateKey) {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600),
	)
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue makes a certificate for name.
func (a *authority) issue(name string) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key, a.cert, a.key)
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func TestServeTLSAndRights(t *testing.T) {
	a := newAuthority(t)
	a.issue("server")
	builder, stranger := a.issue("builder"), newAuthority(t).issue("builder")
	sum := sha256.Sum256([]byte("s3cret"))
	list := a.file("access")
	if err := os.WriteFile(list, []byte("ci:sha256="+hex.EncodeToString(sum[:])+":read,upload@main\nbuilder:cert:execute,write@main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serving(t, filepath.Join(t.TempDir(), "cache"), "--tls-cert", a.file("server.pem"), "--tls-key", a.file("server.key"),
		"--tls-client-ca", a.file("authority.pem"), "--access", list, "--instance", "main", "--instance", "other max-blob=1K execute=no")
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(a.file("authority.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	with := func(certs ...tls.Certificate) *grpc.ClientConn {
		return dialTo(t, s.grpc, credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: certs}))
	}
	d := reapi.ToDigest(action.Sum(action.SHA256, []byte("blob")))
	for _, c := range []struct {
		name     string
		conn     *grpc.ClientConn
		token    string
		instance string
		find     codes.Code
		update   codes.Code // of the action cache
	}{
		{"nobody", with(), "", "main", codes.Unauthenticated, codes.Unauthenticated},
		{"a token", with(), "s3cret", "main", codes.OK, codes.PermissionDenied},
		{"a wrong token", with(), "guess", "main", codes.Unauthenticated, codes.Unauthenticated},
		{"a token elsewhere", with(), "s3cret", "other", codes.PermissionDenied, codes.PermissionDenied},
		{"a certificate", with(builder), "", "main", codes.OK, codes.OK},
		{"an instance that is not there", with(builder), "", "none", codes.NotFound, codes.NotFound},
		{"somebody else's certificate", with(stranger), "", "main", codes.Unavailable, codes.Unavailable},
		{"without TLS", dialTo(t, s.grpc, insecure.NewCredentials()), "s3cret", "main", codes.Unavailable, codes.Unavailable},
	} {
		ctx := t.Context()
		if c.token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
		}
		_, err := repb.NewContentAddressableStorageClient(c.conn).FindMissingBlobs(ctx, &repb.FindMissingBlobsRequest{InstanceName: c.instance, BlobDigests: []*repb.Digest{d}})
		if status.Code(err) != c.find {
			t.Errorf("%s: FindMissingBlobs: %v, want %v", c.name, err, c.find)
		}
		_, err = repb.NewActionCacheClient(c.conn).UpdateActionResult(ctx, &repb.UpdateActionResultRequest{InstanceName: c.instance, ActionDigest: d, ActionResult: &repb.ActionResult{}})
		if status.Code(err) != c.update {
			t.Errorf("%s: UpdateActionResult: %v, want %v", c.name, err, c.update)
		}
	}
	caps, err := repb.NewCapabilitiesClient(with(builder)).GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{InstanceName: "main"})
	if err != nil || !caps.ExecutionCapabilities.GetExecEnabled() || !caps.CacheCapabilities.ActionCacheUpdateCapabilities.UpdateEnabled {
		t.Errorf("capabilities of who may do everything: %v, %v", caps, err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer s3cret")
	caps, err = repb.NewCapabilitiesClient(with()).GetCapabilities(ctx, &repb.GetCapabilitiesRequest{InstanceName: "main"})
	if err != nil || caps.ExecutionCapabilities != nil || caps.CacheCapabilities.ActionCacheUpdateCapabilities.UpdateEnabled {
		t.Errorf("capabilities of who may read and upload: %v, %v", caps, err)
	}
	// The same rights over HTTP.
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for header, want := range map[string]int{"": 401, "Bearer s3cret": 200, "Bearer guess": 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+s.http+"/main/cas/"+d.Hash, strings.NewReader("blob"))
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		res, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("PUT with %q: %d, want %d", header, res.StatusCode, want)
		}
	}
	s.end(t)
}

// TestOwnClientOverTLS has our own client send and get blobs and a result through
// TLS, with a certificate and with a token, and be refused without, and with a
// server that it has no reason to trust.
func TestOwnClientOverTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue("server")
	a.issue("builder")
	sum := sha256.Sum256([]byte("s3cret"))
	list, header, wrong := a.file("access"), a.file("header"), a.file("wrong")
	if err := errors.Join(
		os.WriteFile(list, []byte("ci:sha256="+hex.EncodeToString(sum[:])+":read,write@main\nbuilder:cert:read,write@main\n"), 0o600),
		os.WriteFile(header, []byte("authorization: Bearer s3cret\n"), 0o600), os.WriteFile(wrong, []byte("authorization: Bearer guess\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s := serving(t, filepath.Join(t.TempDir(), "cache"), "--tls-cert", a.file("server.pem"), "--tls-key", a.file("server.key"),
		"--tls-client-ca", a.file("authority.pem"), "--access", list, "--instance", "main")
	ca, cert, key := a.file("authority.pem"), a.file("builder.pem"), a.file("builder.key")
	for name, c := range map[string]struct {
		scheme string
		with   connection
		want   codes.Code
	}{
		"a certificate":           {"grpcs", connection{ca: ca, cert: cert, key: key}, codes.OK},
		"a token":                 {"grpcs", connection{ca: ca, headers: header}, codes.OK},
		"a wrong token":           {"grpcs", connection{ca: ca, headers: wrong}, codes.Unauthenticated},
		"nothing":                 {"grpcs", connection{ca: ca}, codes.Unauthenticated},
		"a server without reason": {"grpcs", connection{cert: cert, key: key}, codes.Unavailable},
		"no TLS":                  {"grpc", connection{headers: header}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			options, err := c.with.options()
			if err != nil {
				t.Fatal(err)
			}
			options.Timeout, options.Attempts = 2*time.Minute, 1
			at, err := address("remote", c.scheme+"://"+s.grpc+"/main")
			if err != nil {
				t.Fatal(err)
			}
			client, err := remote.Dial(at, options)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			from, err := cache.Open(t.TempDir(), cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			large := make([]byte, 9<<20) // in a stream, and a small one in a batch
			rand.Read(large)
			var blobs []action.Digest
			for _, data := range [][]byte{large, []byte("small of " + name)} {
				d, err := from.PutBytes(t.Context(), action.SHA256, data)
				if err != nil {
					t.Fatal(err)
				}
				blobs = append(blobs, d)
			}
			err = client.Upload(t.Context(), from, blobs)
			if status.Code(err) != c.want {
				t.Fatalf("Upload: %v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			ran := action.Sum(action.SHA256, []byte("action of "+name))
			res := &action.Result{Files: []action.OutputFile{{Path: "large", Digest: blobs[0]}}}
			message, err := remote.ToResult(res)
			if err == nil {
				err = client.PutResult(t.Context(), ran, message)
			}
			if err != nil {
				t.Fatal(err)
			}
			to, err := cache.Open(t.TempDir(), cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			if err := client.Download(t.Context(), to, blobs); err != nil || !to.Has(t.Context(), blobs[0]) || !to.Has(t.Context(), blobs[1]) {
				t.Errorf("Download: %v", err)
			}
			if got, err := client.Result(t.Context(), ran); err != nil || len(got.Files) != 1 || got.Files[0].Digest != blobs[0] {
				t.Errorf("Result: %v, %v", got, err)
			}
		})
	}
	s.end(t)
}

// TestEveryMethodIsGuarded looks for methods that are served and that nobody has
// thought of when rights were given out.
func TestEveryMethodIsGuarded(t *testing.T) {
	n := 0
	for name := range knownMethods(t) {
		if n++; !access.Knows(name) {
			t.Errorf("%s is for nobody: access does not know it", name)
		}
	}
	if n < 30 {
		t.Errorf("only %d methods are served", n)
	}
}

// TestReflection asks as grpcurl does.
func TestReflection(t *testing.T) {
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialTo(t, s.grpc, insecure.NewCredentials())).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		res, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	list := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse()
	have := map[string]bool{}
	for _, svc := range list.GetService() {
		have[svc.Name] = true
	}
	const v2 = "build.bazel.remote.execution.v2."
	for _, want := range []string{
		v2 + "Execution", v2 + "ActionCache", v2 + "ContentAddressableStorage", v2 + "Capabilities", "google.bytestream.ByteStream",
		"google.longrunning.Operations", "build.bazel.remote.asset.v1.Fetch", "build.bazel.remote.asset.v1.Push",
		"build.bazel.remote.logstream.v1.LogStreamService", "grpc.health.v1.Health",
	} {
		if !have[want] {
			t.Errorf("%s is not served: %v", want, have)
			continue
		}
		res := ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: want}})
		if len(res.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s is not described: %v", want, res)
		}
	}
	res, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(text), `grpc_server_started_total{grpc_service="grpc.reflection.v1.ServerReflection",grpc_method="ServerReflectionInfo"} 1`) {
		t.Errorf("metrics: %v: %s", err, text)
	}
	s.end(t)
}

// TestServeInConstantMemory sends a blob that is larger than the memory that the
// server may have used, there and back.
func TestServeInConstantMemory(t *testing.T) {
	const size, most = 512 << 20, 192 << 20 // the race detector takes several times what is needed
	s := serving(t, filepath.Join(t.TempDir(), "cache"))
	bs := bytestream.NewByteStreamClient(dialTo(t, s.grpc, insecure.NewCredentials()))
	block := make([]byte, 1<<20)
	h := sha256.New()
	for range size / len(block) {
		h.Write(block)
	}
	name := fmt.Sprintf("blobs/%x/%d", h.Sum(nil), size)
	stream, err := bs.Write(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < size; at += len(block) {
		if err := stream.Send(&bytestream.WriteRequest{ResourceName: "uploads/u/" + name, WriteOffset: int64(at), Data: block, FinishWrite: at+len(block) == size}); err != nil {
			break
		}
	}
	if res, err := stream.CloseAndRecv(); err != nil || res.CommittedSize != size {
		t.Fatalf("%v, %v", res, err)
	}
	read, err := bs.Read(t.Context(), &bytestream.ReadRequest{ResourceName: name})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		res, err := read.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(res.Data)
	}
	if used := s.memory(t, "VmHWM"); n != size || used > most {
		t.Errorf("%d of %d bytes came back; the server had %d MiB of memory, want at most %d", n, size, used>>20, most>>20)
	}
	s.end(t)
}
