package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func hashed(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func token(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256=" + hex.EncodeToString(sum[:])
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func parse(t *testing.T, lines ...string) *List {
	t.Helper()
	l, err := Parse(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWho(t *testing.T) {
	l := parse(t,
		"# who may do what", "",
		"alice:"+hashed(t, "secret")+":read,write",
		"bob:"+hashed(t, "other:with colon"),
		"ci:"+token("t0k3n")+":execute@main read@*",
		"*:-:read@public",
	)
	for _, c := range []struct {
		header, name, instance string
		rights                 Rights
		denied                 bool
	}{
		{"", "", "public", Read, false},
		{"", "", "main", 0, false},
		{basic("alice", "secret"), "alice", "x", Read | Write | Upload, false},
		{basic("alice", "secret"), "alice", "x", Read | Write | Upload, false}, // from memory
		{basic("alice", "wrong"), "", "", 0, true},
		{basic("alice", ""), "", "", 0, true},
		{basic("alice", strings.Repeat("x", 100)), "", "", 0, true},
		{basic("nobody", "secret"), "", "", 0, true},
		{basic("bob", "other:with colon"), "bob", "x", Read | Upload | Execute, false},
		{"Bearer t0k3n", "ci", "main", Read | Upload | Execute, false},
		{"bearer t0k3n", "ci", "else", Read, false},
		{"Bearer t0k3", "", "", 0, true},
		{"Bearer ", "", "", 0, true},
		{"Digest x", "", "", 0, true},
		{"Basic !!!", "", "", 0, true},
		{basic("ci", "t0k3n"), "", "", 0, true},
		{basic("*", "-"), "", "", 0, true},
	} {
		who, err := l.Who(c.header, nil)
		if (err != nil) != c.denied {
			t.Errorf("%q: %v", c.header, err)
			continue
		}
		if !c.denied && (who.Name != c.name || who.May(c.instance) != c.rights) {
			t.Errorf("%q: %q may %v in %q, want %q and %v", c.header, who.Name, who.May(c.instance), c.instance, c.name, c.rights)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := hashed(t, "x")
	for text, want := range map[string]string{
		"alice":                                 "want NAME:SECRET",
		":" + good:                              "want NAME:SECRET",
		"alice:":                                "want NAME:SECRET",
		"alice:plain":                           "neither a bcrypt hash",
		"alice:{SHA}xyz":                        "neither a bcrypt hash",
		"alice:sha256=12":                       "64 hex digits",
		"alice:" + good + ":root":               `right "root"`,
		"alice:" + good + ":read,":              `right ""`,
		"*:" + good:                             "the name *",
		"alice:-:read":                          "the name *",
		"a:" + good + "\na:" + good:             "line 2: a is there twice",
		"a:" + token("x") + "\nb:" + token("x"): "line 2: b is there twice",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access")
	if err := os.WriteFile(path, []byte("alice:"+hashed(t, "x")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(path); err != nil || l.ForAnybody() {
		t.Errorf("control: %v", err)
	}
}

// A message says in which instance it is.
type message struct{ instance, name, resource string }

type (
	byInstance struct{ message }
	byName     struct{ message }
	byResource struct{ message }
)

func (m byInstance) GetInstanceName() string { return m.instance }
func (m byName) GetName() string             { return m.name }
func (m byResource) GetResourceName() string { return m.resource }

// A stream gives one message after the other.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }
func (s *stream) RecvMsg(any) error        { return nil }

func with(header string) context.Context {
	if header == "" {
		return context.Background()
	}
	return metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", header))
}

func TestGuard(t *testing.T) {
	g := &Guard{
		List: parse(t,
			"reader:"+token("r")+":read@main", "builder:"+token("b")+":execute@main", "uploader:"+token("u")+":upload@main",
			"writer:"+token("w")+":write@main", "other:"+token("o")+":read,write,execute@other",
		),
		Known: func(instance string) bool { return instance == "main" || instance == "other" },
	}
	const (
		ac    = "/build.bazel.remote.execution.v2.ActionCache/"
		cas   = "/build.bazel.remote.execution.v2.ContentAddressableStorage/"
		bytes = "/google.bytestream.ByteStream/"
		exec  = "/build.bazel.remote.execution.v2.Execution/"
		ops   = "/google.longrunning.Operations/"
	)
	in := byInstance{message{instance: "main"}}
	blob := byResource{message{resource: "main/blobs/x/1"}}
	upload := byResource{message{resource: "main/uploads/u/blobs/x/1"}}
	op := byName{message{name: "main/operations/x"}}
	for _, c := range []struct {
		method string
		req    any
		may    string // the first letters of those who may
	}{
		{ac + "GetActionResult", in, "rb"},
		{ac + "UpdateActionResult", in, "w"},
		{cas + "FindMissingBlobs", in, "rbuw"},
		{cas + "BatchReadBlobs", in, "rb"},
		{cas + "BatchUpdateBlobs", in, "buw"},
		{cas + "SpliceBlob", in, "buw"},
		{cas + "RegisterChunkMapping", in, "buw"},
		{cas + "GetTree", in, "rb"},
		{bytes + "Read", blob, "rb"},
		{bytes + "Write", upload, "buw"},
		{exec + "Execute", in, "b"},
		{exec + "WaitExecution", op, "b"},
		{ops + "ListOperations", byName{message{name: "main"}}, "b"},
		{ops + "CancelOperation", op, "b"},
		{"/build.bazel.remote.asset.v1.Push/PushBlob", in, "w"},
		{"/build.bazel.remote.asset.v1.Fetch/FetchBlob", in, "rb"},
		{"/build.bazel.remote.execution.v2.Capabilities/GetCapabilities", in, "rbuw"},
		{"/some.new.Service/Method", in, ""},
		{exec + "NewMethod", in, ""},
	} {
		for _, who := range []string{"r", "b", "u", "w", "o", ""} {
			header := ""
			if who != "" {
				header = "Bearer " + who
			}
			want := codes.PermissionDenied
			switch {
			case who != "" && strings.Contains(c.may, who):
				want = codes.OK
			case who == "" && c.may != "":
				want = codes.Unauthenticated
			}
			_, err := g.Unary(with(header), c.req, &grpc.UnaryServerInfo{FullMethod: c.method}, func(ctx context.Context, _ any) (any, error) {
				if From(ctx) == nil {
					t.Error("nobody is in the context")
				}
				return nil, nil
			})
			if status.Code(err) != want {
				t.Errorf("%s by %q: %v, want %v", c.method, who, err, want)
			}
			reached := false
			err = g.Stream(nil, &stream{ctx: with(header)}, &grpc.StreamServerInfo{FullMethod: c.method}, func(_ any, s grpc.ServerStream) error {
				err := s.RecvMsg(c.req)
				reached = err == nil
				return err
			})
			if status.Code(err) != want || reached != (want == codes.OK) {
				t.Errorf("%s by %q as a stream: %v, want %v", c.method, who, err, want)
			}
		}
	}
	for header, want := range map[string]codes.Code{"Bearer wrong": codes.Unauthenticated, "": codes.Unauthenticated} {
		_, err := g.Unary(with(header), in, &grpc.UnaryServerInfo{FullMethod: cas + "FindMissingBlobs"}, nil)
		if status.Code(err) != want {
			t.Errorf("%q: %v, want %v", header, err, want)
		}
	}
	_, err := g.Unary(with("Bearer r"), byInstance{message{instance: "unknown"}}, &grpc.UnaryServerInfo{FullMethod: cas + "GetTree"}, nil)
	if status.Code(err) != codes.NotFound {
		t.Errorf("an instance that is not there: %v", err)
	}
	two := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", "Bearer r", "authorization", "Bearer b"))
	_, err = g.Unary(two, in, &grpc.UnaryServerInfo{FullMethod: cas + "FindMissingBlobs"}, nil)
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("two names at once: %v", err)
	}
	if _, err := g.Unary(with(""), nil, &grpc.UnaryServerInfo{FullMethod: "/grpc.health.v1.Health/Check"}, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
		t.Errorf("health is for everybody: %v", err)
	}
}

func TestGuardHTTP(t *testing.T) {
	g := &Guard{List: parse(t, "reader:"+hashed(t, "pw")+":read", "*:-:read@public")}
	h := g.HTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), func(r *http.Request) (string, Rights) {
		if r.Method == http.MethodPut {
			return "main", Upload
		}
		return strings.Trim(r.URL.Path, "/"), Read
	})
	for _, c := range []struct {
		method, path, header string
		want                 int
	}{
		{"GET", "/main", "", 401},
		{"GET", "/public", "", 200},
		{"GET", "/main", basic("reader", "pw"), 200},
		{"PUT", "/main", basic("reader", "pw"), 403},
		{"GET", "/public", basic("reader", "no"), 401},
		{"PUT", "/main", "", 401},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s %s: %d, want %d", c.method, c.path, c.header, w.Code, c.want)
		}
	}
}
