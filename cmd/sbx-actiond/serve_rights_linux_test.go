package main

import (
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
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/access"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
)

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
	data := make([]byte, 200_000)
	large := action.Sum(action.SHA256, data)
	for _, c := range []struct {
		name     string
		conn     *grpc.ClientConn
		token    string
		instance string
		find     codes.Code // and of uploads
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
		// Uploads do not take the usual way from the wire.
		_, err = repb.NewContentAddressableStorageClient(c.conn).BatchUpdateBlobs(ctx, &repb.BatchUpdateBlobsRequest{
			InstanceName: c.instance, Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: reapi.ToDigest(large), Data: data}},
		})
		if status.Code(err) != c.find {
			t.Errorf("%s: BatchUpdateBlobs: %v, want %v", c.name, err, c.find)
		}
		stream, err := bytestream.NewByteStreamClient(c.conn).Write(ctx)
		if err == nil {
			_ = stream.Send(&bytestream.WriteRequest{ResourceName: c.instance + "/uploads/u/" + reapi.BlobName(large), Data: data, FinishWrite: true})
			_, err = stream.CloseAndRecv()
		}
		if status.Code(err) != c.find {
			t.Errorf("%s: Write: %v, want %v", c.name, err, c.find)
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
