// Package archtest pins the import graph: imports point one way,
//
//	cmd -> integration, cache, staging -> action -> backends
//
// and a new edge is a decision, which shows up in review as a change of the
// table here.
package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sbx-action/sbx-action"

// A row says what a package may import besides the standard library: packages
// of ours, by their directory, and modules of others, by their path.
type row struct {
	dir     string
	imports string
	tests   string // what its _test.go files may import besides
}

var table = []row{
	// The interface of the backends knows paths and limits, and nothing of ours.
	{"backends", "", ""},
	{"backends/native", "backends internal/helper golang.org/x/sys", "backends/backendtest"},
	{"backends/foreign", "backends internal/helper golang.org/x/sys", ""},
	{"backends/bazelsandbox", "backends backends/foreign", "backends/backendtest"},
	{"backends/bubblewrap", "backends backends/foreign", "backends/backendtest"},
	{"backends/chroot", "backends backends/foreign", "backends/backendtest"},
	{"backends/docker", "backends backends/foreign", "backends/backendtest"},
	{"backends/firejail", "backends backends/foreign", "backends/backendtest"},
	{"backends/landlock", "backends internal/helper golang.org/x/sys", "backends/backendtest"},
	{"backends/linuxuserchroot", "backends backends/foreign", "backends/backendtest"},
	{"backends/minijail", "backends backends/foreign", "backends/backendtest"},
	{"backends/vm", "backends backends/foreign internal/helper golang.org/x/sys", "backends/backendtest"},
	{"backends/sandboxexec", "backends", ""},
	{"backends/userchroot", "backends backends/foreign", "backends/backendtest"},
	{"backends/lxc", "backends backends/foreign", "backends/backendtest"},
	{"backends/nspawn", "backends backends/foreign", "backends/backendtest"},
	{"backends/oci", "backends backends/foreign github.com/opencontainers/runtime-spec", "backends/backendtest backends/native"},
	{"backends/podman", "backends backends/foreign", "backends/backendtest"},
	{"backends/proot", "backends backends/foreign", "backends/backendtest"},
	{"backends/schroot", "backends backends/foreign", "backends/backendtest"},
	{"backends/backendtest", "backends backends/backendtest/promise", "backends/native backends/bubblewrap"},
	{"backends/backendtest/promise", "backends backends/backendtest/probe golang.org/x/sys", ""},
	{"backends/backendtest/probe", "golang.org/x/sys", ""},
	{"backends/backendtest/probe/sbx-probe", "backends/backendtest/probe", ""},

	// The vocabulary and the algorithm. The generated code of REAPI is for
	// its tests alone.
	{"action", "backends internal/blake3 internal/sha256tree", "github.com/bazelbuild/remote-apis google.golang.org/protobuf"},

	// Runs an action again under other conditions, and compares.
	{"reproduce", "action backends", ""},

	// Says what a command did to its root.
	{"leftover", "golang.org/x/sys", ""},

	// An action in a file.
	{"carry", "action", ""},

	{"cache", "action internal/durable go.etcd.io/bbolt golang.org/x/sys", "cache/cachetest"},
	{"cache/pack", "action cache", ""},
	{"history", "action cache internal/fields", ""},
	{"compare", "action", ""},
	{"why", "action cache compare history staging", "backends"},
	{"cache/cachetest", "action cache internal/durable", ""},
	{"staging", "action backends internal/await internal/durable internal/erofs internal/fields internal/openat internal/spelling golang.org/x/sys", "cache"},

	// How other build systems meet us.
	{"integration/actionfile", "action internal/spelling internal/strictyaml staging", "github.com/santhosh-tekuri/jsonschema go.yaml.in/yaml"},
	{"integration/bwrap", "golang.org/x/sys", "internal/rebuildtest"},
	{"integration/cc", "action backends internal/durable staging golang.org/x/sys", ""},

	// Many jobs at a time, and the view of them. They know nothing of actions.
	{"schedule", "", ""},
	{"progress", "golang.org/x/sys", "progress/screen"},
	{"progress/screen", "", ""},

	// Small packages that know nothing of the rest and that anyone may use.
	{"internal/archtest", "", ""},
	{"internal/blake3", "", "github.com/zeebo/blake3"},
	{"internal/durable", "golang.org/x/sys", ""},
	{"internal/erofs", "golang.org/x/sys", ""},
	{"internal/fields", "", ""},
	{"internal/front", "internal/durable golang.org/x/sys", "internal/rebuildtest"},
	{"internal/helper", "backends golang.org/x/sys", "internal/rebuildtest"},
	{"internal/warm", "golang.org/x/sys", ""},
	{"internal/rebuildtest", "", ""},
	{"internal/sha256tree", "", ""},
	{"internal/typecheck", "", ""},
	{"internal/openat", "golang.org/x/sys", ""},
	{"internal/await", "", ""},
	{"internal/spelling", "", ""},
	{"internal/strictyaml", "internal/spelling github.com/goccy/go-yaml", "go.yaml.in/yaml"},

	// How other build systems, and what they have, meet us.
	{"integration/reapi", "action cache " + reapi, "backends backends/native cache cache/pack internal/durable staging integration/reapi/asset integration/reapi/capabilities integration/reapi/execution integration/reapi/httpcache integration/reapi/remote integration/reapi/squeeze integration/reapi/storage integration/reapi/webpage integration/reapi/wire integration/reapi/worker/proto/runnerpb github.com/klauspost/compress golang.org/x/sys"},
	{"integration/reapi/access", "integration/reapi golang.org/x/crypto google.golang.org/grpc", ""},
	{"integration/reapi/asset", "action cache integration/reapi " + reapi, ""},
	{"integration/reapi/httpcache", "action cache integration/reapi integration/reapi/storage " + reapi, ""},
	{"integration/reapi/capabilities", "action integration/reapi " + reapi, ""},
	{"integration/reapi/execution", "action backends cache internal/durable integration/reapi integration/reapi/inputs integration/reapi/storage integration/reapi/worker/proto/runnerpb staging golang.org/x/sys " + reapi, ""},
	{"integration/reapi/inputs", "action cache staging", ""},
	{"integration/reapi/storage", "action cache integration/reapi integration/reapi/fastcdc integration/reapi/squeeze integration/reapi/wire github.com/klauspost/compress " + reapi, ""},
	{"integration/baserock", "action integration/component internal/spelling internal/strictyaml staging", ""},
	{
		"integration/component", "action backends internal/spelling internal/strictyaml progress schedule staging github.com/google/go-containerregistry github.com/klauspost/compress github.com/ulikunitz/xz golang.org/x/sys",
		"",
	},
	{"integration/reapi/fastcdc", "", ""},
	{"integration/reapi/wire", "github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/squeeze", "github.com/klauspost/compress", ""},
	{"integration/reapi/tracing", "", ""},
	{"integration/reapi/metrics", "google.golang.org/grpc", ""},
	{"integration/reapi/webpage", "action cache integration/reapi integration/reapi/execution staging " + reapi, ""},
	{"integration/ownerstate", "staging golang.org/x/sys", ""},
	{"integration/images", "action staging github.com/google/go-containerregistry github.com/klauspost/compress github.com/ulikunitz/xz", "cache"},

	// Clients of the Remote Execution API, and workers of other people's clusters.
	{"integration/reapi/remote", "action integration/reapi/squeeze cloud.google.com/go/longrunning github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", "cache integration/reapi/remote/remotetest"},
	{"integration/reapi/remote/remotetest", "action integration/reapi/squeeze github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/share", "action backends staging golang.org/x/sys", ""},
	{"integration/reapi/share/agent", "action cache integration/reapi/remote integration/reapi/share staging github.com/bazelbuild/remote-apis golang.org/x/sys google.golang.org/grpc", "integration/reapi/remote/remotetest"},
	{"integration/reapi/worker", "action backends cache integration/reapi/inputs integration/reapi/remote integration/reapi/worker/proto/remoteworkerpb integration/reapi/worker/proto/runnerpb staging github.com/bazelbuild/remote-apis golang.org/x/sys google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", "backends/native integration/reapi/remote/remotetest integration/reapi/worker/workertest"},
	{"integration/reapi/worker/buildbarn", "integration/reapi/remote integration/reapi/worker integration/reapi/worker/proto/remoteworkerpb github.com/bazelbuild/remote-apis google.golang.org/grpc google.golang.org/protobuf", "integration/reapi/remote/remotetest integration/reapi/worker/workertest"},
	{"integration/reapi/worker/bots", "action integration/reapi/remote integration/reapi/worker integration/reapi/worker/proto/botspb github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", "integration/reapi/remote/remotetest integration/reapi/worker/workertest"},
	{"integration/reapi/worker/runner", "action backends cache integration/reapi/worker/proto/runnerpb staging golang.org/x/sys google.golang.org/grpc google.golang.org/protobuf", "backends/native"},
	{"integration/reapi/worker/workertest", "action integration/reapi/remote integration/reapi/remote/remotetest integration/reapi/worker/proto/botspb integration/reapi/worker/proto/remoteworkerpb github.com/bazelbuild/remote-apis google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/worker/proto/botspb", "google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/worker/proto/remoteworkerpb", "github.com/bazelbuild/remote-apis google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/worker/proto/runnerpb", "google.golang.org/grpc google.golang.org/protobuf", ""},
	{"integration/reapi/worker/proto/depset", "github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/protobuf", ""},

	// What both programs are made of.
	{"cmd/commandline", "action internal/spelling", ""},
	{"cmd/wiring", "action backends backends/bazelsandbox backends/bubblewrap backends/chroot backends/docker backends/firejail backends/landlock backends/linuxuserchroot backends/lxc backends/minijail backends/native backends/nspawn backends/oci backends/podman backends/proot backends/sandboxexec backends/schroot backends/userchroot backends/vm cmd/commandline integration/reapi/share internal/durable staging", ""},

	// The heavy command: what it is linked with is nobody's burden.
	{
		"cmd/sbx-actiond", "action backends backends/native cache cache/pack cmd/commandline cmd/wiring history integration/baserock integration/component integration/images integration/ownerstate " +
			"integration/reapi integration/reapi/access integration/reapi/asset integration/reapi/httpcache integration/reapi/capabilities integration/reapi/execution " +
			"integration/reapi/metrics integration/reapi/storage integration/reapi/tracing integration/reapi/webpage integration/reapi/wire " +
			"integration/reapi/remote integration/reapi/share integration/reapi/share/agent " +
			"integration/reapi/worker integration/reapi/worker/bots integration/reapi/worker/buildbarn integration/reapi/worker/proto/botspb integration/reapi/worker/proto/remoteworkerpb integration/reapi/worker/proto/runnerpb integration/reapi/worker/runner " +
			"internal/durable progress schedule staging github.com/bazelbuild/remote-apis github.com/in-toto/attestation github.com/secure-systems-lab/go-securesystemslib golang.org/x/crypto golang.org/x/sys google.golang.org/grpc google.golang.org/protobuf",
		"integration/reapi/remote/remotetest integration/reapi/worker/workertest google.golang.org/genproto",
	},

	// The light command. It starts in a millisecond: see heavy.
	{
		"cmd/sbx-action", "action backends backends/backendtest/probe backends/backendtest/promise backends/native cache cache/pack carry cmd/commandline cmd/wiring compare history integration/actionfile integration/bwrap integration/cc integration/reapi/share internal/await internal/durable internal/front internal/warm leftover progress reproduce schedule staging why golang.org/x/sys",
		"progress/screen github.com/rogpeppe/go-internal",
	},
	{"bench/remote", "github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf", ""},
	{"bench", "action backends backends/native cache cmd/wiring staging golang.org/x/sys", ""},
}

// reapi is the generated code of the Remote Execution API and what it speaks
// through.
const reapi = "cloud.google.com/go/longrunning github.com/bazelbuild/remote-apis google.golang.org/genproto google.golang.org/grpc google.golang.org/protobuf"

// heavy is what the light command must not be linked with, directly or not: it
// would start too late, or know too much.
var heavy = []string{
	"net", "net/http", "crypto/tls", "text/template", "html/template", "go/parser",
	"google.golang.org/protobuf", "google.golang.org/grpc", "google.golang.org/genproto",
	"github.com/bazelbuild/remote-apis",
	"github.com/klauspost/cpuid", // dozens of trips to the hypervisor before main
}

// slow is what only the light command itself may import, of the packages that
// it is made of: for --json.
var slow = []string{"encoding/json", "encoding/gob", "encoding/xml", "regexp"}

// names are not names of packages: they say nothing of what is inside.
var names = []string{"util", "utils", "common", "helpers", "types", "models", "config", "misc"}

// A file is a Go file, for whatever platform.
type file struct {
	name    string // below the root of the module, with slashes
	imports []string
}

func (f file) dir() string { return path.Dir(f.name) }

func (f file) test() bool { return strings.HasSuffix(f.name, "_test.go") }

func files(t *testing.T, root string) (list []file) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); name != root && d.IsDir() && (base == "testdata" || base == "vendor" || strings.ContainsAny(base[:1], "._")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := file{name: filepath.ToSlash(rel)}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		list = append(list, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// violations are the imports of files that the table does not have.
func violations(files []file, table []row) (list []string) {
	for _, f := range files {
		i := slices.IndexFunc(table, func(r row) bool { return r.dir == f.dir() })
		if i < 0 {
			list = append(list, fmt.Sprintf("%s: package %s is not in the table of internal/archtest", f.name, f.dir()))
			continue
		}
		allowed := strings.Fields(table[i].imports)
		if f.test() {
			allowed = append(allowed, strings.Fields(table[i].tests)...)
			allowed = append(allowed, f.dir()) // as package x_test
		}
		for _, imported := range f.imports {
			if !may(allowed, imported) {
				list = append(list, fmt.Sprintf("%s imports %s, which the table of internal/archtest does not allow", f.name, imported))
			}
		}
	}
	return list
}

func may(allowed []string, imported string) bool {
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		return slices.Contains(allowed, ours)
	}
	if domain, _, _ := strings.Cut(imported, "/"); !strings.Contains(domain, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return within(imported, a) })
}

// within says whether the package is the tree's root or below it.
func within(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

func TestImports(t *testing.T) {
	all := files(t, "../..")
	for _, v := range violations(all, table) {
		t.Error(v)
	}
	if !slices.ContainsFunc(all, func(f file) bool { return f.name == "action/wire.go" }) {
		t.Error("action/wire.go was not looked at: is this the root of the module?")
	}
	for _, f := range all {
		if slices.Contains(names, path.Base(f.dir())) {
			t.Errorf("%s: a package %s says nothing of what is inside", f.name, path.Base(f.dir()))
		}
	}
}

// TestTablePointsOneWay finds cycles, and rows that are there twice.
func TestTablePointsOneWay(t *testing.T) {
	rows := map[string]row{}
	for _, r := range table {
		if _, ok := rows[r.dir]; ok {
			t.Errorf("%s has two rows", r.dir)
		}
		rows[r.dir] = r
	}
	var visit func(dir string, from []string)
	visit = func(dir string, from []string) {
		if slices.Contains(from, dir) {
			t.Fatalf("a cycle: %v", append(from, dir))
		}
		for next := range strings.FieldsSeq(rows[dir].imports) {
			if _, ours := rows[next]; ours {
				visit(next, append(slices.Clone(from), dir))
			} else if domain, _, _ := strings.Cut(next, "/"); !strings.Contains(domain, ".") {
				t.Errorf("%s may import %s, which has no row", dir, next)
			}
		}
	}
	for dir := range rows {
		visit(dir, nil)
	}
}

func TestViolationsAreFound(t *testing.T) {
	table := []row{{"a", "b golang.org/x/sys", "c"}, {"b", "", ""}}
	for _, c := range []struct {
		name, imports string
		want          int
	}{
		{"a/a.go", "fmt net/http " + module + "/b golang.org/x/sys/unix", 0},
		{"a/a_test.go", module + "/a " + module + "/b " + module + "/c", 0},
		{"a/a.go", module + "/c", 1},
		{"a/a.go", module + "/a", 1},
		{"a/a.go", module + "/b/deeper", 1},
		{"a/a.go", "golang.org/x/system", 1},
		{"b/b.go", "golang.org/x/sys/unix " + module + "/a", 2},
		{"b/b_windows.go", module, 1},
		{"d/d.go", "fmt", 1},
	} {
		got := violations([]file{{c.name, strings.Fields(c.imports)}}, table)
		if len(got) != c.want {
			t.Errorf("%s with %s: %q, want %d", c.name, c.imports, got, c.want)
		}
	}
}

// dependencies are the packages that a command is linked with, on a platform.
func dependencies(t *testing.T, platform string, args ...string) []string {
	t.Helper()
	goos, goarch, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", append([]string{"list", "-e", "-deps"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return strings.Fields(string(out))
}

func heavies(deps []string) (found []string) {
	for _, d := range deps {
		// Packages of the standard library are meant alone: net/netip is light.
		if slices.ContainsFunc(heavy, func(h string) bool { return d == h || strings.Contains(h, ".") && within(d, h) }) {
			found = append(found, d)
		}
	}
	return found
}

func TestLightCommand(t *testing.T) {
	if found := heavies(dependencies(t, "linux/amd64", "-test", "./action")); len(found) == 0 {
		t.Error("control: the tests of action are linked with nothing heavy")
	}
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64", "freebsd/amd64"} {
		deps := dependencies(t, platform, "./cmd/sbx-action")
		if found := heavies(deps); len(found) > 0 {
			t.Errorf("%s: sbx-action is linked with %v", platform, found)
		}
		if !slices.Contains(deps, module+"/action") {
			t.Errorf("%s: sbx-action is not linked with action", platform)
		}
	}
}

func TestOnlyTheCommandWritesJSON(t *testing.T) {
	deps := dependencies(t, "linux/amd64", "./cmd/sbx-action")
	users := 0
	for _, f := range files(t, "../..") {
		light := slices.Contains(deps, module+"/"+f.dir()) && !f.test()
		for _, imported := range f.imports {
			if !slices.Contains(slow, imported) {
				continue
			}
			users++
			// The backend of OCI runtimes writes JSON when it makes a sandbox.
			if light && f.dir() != "cmd/sbx-action" && f.dir() != "backends/oci" {
				t.Errorf("%s imports %s: sbx-action would start slower", f.name, imported)
			}
		}
	}
	if users == 0 {
		t.Error("control: no file at all imports what is looked for")
	}
}
