package reapi_test

//lint:file-ignore SA1019 old clients are a part of the rules

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/cpu"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/staging"
)

func TestRule11Command(t *testing.T) {
	s := start(t, nil)
	script := "#!/bin/sh\necho ran $0 in $PWD\n"
	tool := &repb.FileNode{Name: "tool", Digest: s.put(action.SHA256, []byte(script)), IsExecutable: true}
	dir := s.putMessage(action.SHA256, &repb.Directory{Files: []*repb.FileNode{tool}})
	root := &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "sub", Digest: dir}}, Files: []*repb.FileNode{tool}}
	for _, c := range []struct {
		name, work string
		args       []string
		env        map[string]string
		want       string
	}{
		{"relative to the working directory", "sub", []string{"./tool"}, nil, "ran ./tool in /build/sub"},
		{"below it", "", []string{"sub/tool"}, nil, "ran sub/tool in /build"},
		{"absolute", "", []string{"/build/sub/tool"}, nil, "ran /build/sub/tool in /build"},
		{"on PATH", "", []string{"tool"}, map[string]string{"PATH": "/build/sub:/usr/bin:/bin"}, "ran /build/sub/tool in /build"},
		{"on PATH that is not given", "", []string{"echo", "found"}, nil, "found"},
		{"a working directory that is not there", "made/for/it", []string{"pwd"}, nil, "/build/made/for/it"},
		{"the working directory .", ".", []string{"pwd"}, nil, "/build"},
		{"variables in no order", "", []string{"sh", "-c", "echo $Z$A"}, map[string]string{"Z": "1", "A": "2"}, "12"},
	} {
		d := s.action(call{args: c.args, root: root, command: func(m *repb.Command) {
			m.WorkingDirectory = c.work
			for _, name := range slices.Backward(sortedKeys(c.env)) {
				m.EnvironmentVariables = append(m.EnvironmentVariables, &repb.Command_EnvironmentVariable{Name: name, Value: c.env[name]})
			}
		}})
		if res := s.succeed(d); strings.TrimSpace(string(res.Result.StdoutRaw)) != c.want {
			t.Errorf("%s: %q %q, want %q; %s", c.name, res.Result.StdoutRaw, res.Result.StderrRaw, c.want, res.Message)
		}
	}
	// Parents of outputs are there, outputs themselves are not.
	res := s.succeed(s.action(call{script: "echo made > a/b/out; ls -d a/b e 2>/dev/null; ls -d c/d || :", command: outputs("a/b/out", "c/d", "e/x")})).Result
	if output(res, "a/b/out") == nil || string(res.StdoutRaw) != "a/b\ne\n" {
		t.Errorf("parents of outputs: %v", res)
	}
	// Old lists, and output_paths wins.
	old := func(c *repb.Command) { c.OutputFiles, c.OutputDirectories = []string{"f"}, []string{"d"} }
	make := "mkdir d; echo f > f; echo g > g; echo x > d/x"
	res = s.succeed(s.action(call{script: make, command: old})).Result
	if len(res.OutputFiles) != 1 || len(res.OutputDirectories) != 1 || output(res, "f") == nil || res.OutputDirectories[0].Path != "d" {
		t.Errorf("output_files and output_directories: %v", res)
	}
	res = s.succeed(s.action(call{script: make, command: func(c *repb.Command) { old(c); c.OutputPaths = []string{"g"} }})).Result
	if len(res.OutputFiles) != 1 || len(res.OutputDirectories) != 0 || output(res, "g") == nil {
		t.Errorf("output_paths beside the old lists: %v", res)
	}
	r := s.execute(s.action(call{script: "mkdir f", command: old}))
	if codes.Code(r.response.GetStatus().GetCode()) != codes.FailedPrecondition {
		t.Errorf("a directory where output_files wants a file: %v, %v", r.response, r.err)
	}
	// "" is the whole working directory.
	res = s.succeed(s.action(call{script: "mkdir d; echo x > d/x", files: map[string]string{"in": "in"}, command: outputs("")})).Result
	if len(res.OutputDirectories) != 1 || res.OutputDirectories[0].Path != "" {
		t.Errorf("the whole working directory: %v", res)
	}
	for name, bad := range map[string]func(*repb.Command){
		"no arguments":          func(c *repb.Command) { c.Arguments = nil },
		"an absolute output":    outputs("/etc/passwd"),
		"an output outside":     outputs("../x"),
		"an absolute directory": func(c *repb.Command) { c.WorkingDirectory = "/etc" },
		"a directory outside":   func(c *repb.Command) { c.WorkingDirectory = "../.." },
		"a variable twice": func(c *repb.Command) {
			c.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "A"}, {Name: "A"}}
		},
		"a variable without name":  func(c *repb.Command) { c.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Value: "A"}} },
		"an output that ends in /": outputs("a/"),
	} {
		r := s.execute(s.action(call{script: "true", command: bad}))
		wantCode(t, name, r.err, codes.InvalidArgument)
	}
}

func TestRule12Outputs(t *testing.T) {
	s := start(t, nil)
	res := s.succeed(s.action(call{
		script:  "mkdir dir; echo x > dir/f; chmod 755 dir/f; ln -s f dir/l; cp -r dir dir/again; ln -s dir tolink; ln -s nowhere dangling; ln -s /abs/olute absolute; echo x > plain; chmod 644 plain",
		command: outputs("absolute", "dangling", "dir", "missing", "plain", "tolink"),
	})).Result
	targets := map[string]string{}
	for _, l := range res.OutputSymlinks {
		targets[l.Path] = l.Target
	}
	if want := map[string]string{"absolute": "/abs/olute", "dangling": "nowhere", "tolink": "dir"}; !maps.Equal(targets, want) {
		t.Errorf("output_symlinks: %v, want %v", targets, want)
	}
	var files, dirs []string
	for _, l := range oldFileLinks(res) {
		files = append(files, l.Path)
	}
	for _, l := range oldDirLinks(res) {
		dirs = append(dirs, l.Path)
	}
	if !slices.Equal(files, []string{"absolute", "dangling"}) || !slices.Equal(dirs, []string{"tolink"}) {
		t.Errorf("for REAPI 2.0: output_file_symlinks %q, output_directory_symlinks %q", files, dirs)
	}
	if f := output(res, "plain"); f == nil || f.IsExecutable {
		t.Errorf("plain: %v", f)
	}
	if len(res.OutputDirectories) != 1 || len(res.OutputFiles) != 1 {
		t.Fatalf("%v", res)
	}
	dir := res.OutputDirectories[0]
	data := s.read(action.SHA256, dir.TreeDigest)
	tree := new(repb.Tree)
	if err := proto.Unmarshal([]byte(data), tree); err != nil {
		t.Fatal(err)
	}
	if !dir.IsTopologicallySorted || data[0] != 0x0a || len(tree.Children) != 1 || tree.Root.Symlinks[0].Target != "f" || !tree.Root.Files[0].IsExecutable {
		t.Errorf("tree: %v, %v", dir, tree)
	}
	// A tree that says to be sorted is the root, then each directory once, none before
	// all that have it, and nothing else.
	res = s.succeed(s.action(call{
		script:  "mkdir -p d/a/same/deep d/b/c; echo x > d/a/same/deep/f; cp -r d/a/same d/b/c/same; echo y > d/b/c/own; cp -r d/a/same/deep d/z",
		command: outputs("d"),
	})).Result
	data = s.read(action.SHA256, res.OutputDirectories[0].TreeDigest)
	order, names := map[string]int{}, []protowire.Number{}
	var all []*repb.Directory
	for rest := []byte(data); len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 || kind != protowire.BytesType {
			t.Fatalf("a tree with %v of field %d", kind, number)
		}
		b, m := protowire.ConsumeBytes(rest[n:])
		d := new(repb.Directory)
		if err := proto.Unmarshal(b, d); m < 0 || err != nil {
			t.Fatal(m, err)
		}
		order[action.Sum(action.SHA256, b).Hash()] = len(all)
		all, names, rest = append(all, d), append(names, number), rest[n+m:]
	}
	if !res.OutputDirectories[0].IsTopologicallySorted || !slices.Equal(names, []protowire.Number{1, 2, 2, 2, 2, 2}) || len(order) != 6 {
		t.Errorf("the tree of d, a, b, c, same and deep: fields %v, %d different", names, len(order))
	}
	for i, d := range all {
		for _, below := range d.Directories {
			if at, ok := order[below.Digest.Hash]; !ok || at <= i {
				t.Errorf("directory %d has %s, which is number %d", i, below.Name, at)
			}
		}
	}
	// The three formats; one that is not known counts as TREE_ONLY.
	for format, want := range map[int32][2]bool{0: {true, false}, 1: {false, true}, 2: {true, true}, 9: {true, false}} {
		res := s.succeed(s.action(call{script: "mkdir d; echo x > d/x", command: func(c *repb.Command) {
			c.OutputPaths, c.OutputDirectoryFormat = []string{"d"}, repb.Command_OutputDirectoryFormat(format)
		}})).Result
		if got := [2]bool{res.OutputDirectories[0].TreeDigest != nil, res.OutputDirectories[0].RootDirectoryDigest != nil}; got != want {
			t.Errorf("output_directory_format %d: tree and root %v, want %v", format, got, want)
		}
	}
	r := s.execute(s.action(call{script: "true", command: func(c *repb.Command) { c.OutputNodeProperties = []string{"colour"} }}))
	wantCode(t, "a node property that is not known", r.err, codes.InvalidArgument)
	r = s.execute(s.action(call{script: "mkfifo out", command: outputs("out")}))
	if codes.Code(r.response.GetStatus().GetCode()) != codes.FailedPrecondition || !strings.Contains(r.response.Status.Message, "named pipe") {
		t.Errorf("a named pipe as output: %v, %v", r.response, r.err)
	}
}

func TestRule13AbsoluteSymlinks(t *testing.T) {
	s := start(t, nil)
	caps, err := s.caps.GetCapabilities(t.Context(), &repb.GetCapabilitiesRequest{})
	if err != nil || caps.CacheCapabilities.SymlinkAbsolutePathStrategy != repb.SymlinkAbsolutePathStrategy_ALLOWED {
		t.Fatalf("%v, %v", caps, err)
	}
	res := s.succeed(s.action(call{script: "readlink in; ln -s /etc/x out", command: outputs("out"), root: &repb.Directory{
		Symlinks: []*repb.SymlinkNode{{Name: "in", Target: "/etc/absolute"}},
	}})).Result
	if string(res.StdoutRaw) != "/etc/absolute\n" || len(res.OutputSymlinks) != 1 || res.OutputSymlinks[0].Target != "/etc/x" {
		t.Errorf("%v", res)
	}
}

// TestEveryFunctionRuns runs an action with each digest function that
// GetCapabilities says actions can have.
func TestEveryFunctionRuns(t *testing.T) {
	s := start(t, nil)
	everyFunction(t, func(t *testing.T, f action.Function) {
		s := s.with(t)
		d := s.action(call{f: f, script: "cat in; mkdir d; cp in d/out", files: map[string]string{"in": "through " + f.String()}, command: outputs("d")})
		with := func(r *repb.ExecuteRequest) { r.DigestFunction = reapi.ToFunction(f) }
		if !execution.CanRun(f) {
			wantCode(t, "Execute", s.execute(d, with).err, codes.InvalidArgument)
			return
		}
		for _, cached := range []bool{false, true} {
			res := s.succeed(d, with)
			tree := new(repb.Tree)
			if err := proto.Unmarshal([]byte(s.read(f, res.Result.OutputDirectories[0].TreeDigest)), tree); err != nil {
				t.Fatal(err)
			}
			if got := s.read(f, tree.Root.Files[0].Digest); res.CachedResult != cached || got != "through "+f.String() || string(res.Result.StdoutRaw) != got {
				t.Errorf("cached %v: %v, output %q", cached, res, got)
			}
		}
	})
}

func TestRule19Platform(t *testing.T) {
	s := start(t, func(o *execution.Options) { o.IgnoreProperties = []string{"Pool"} })
	run := func(props ...string) error {
		t.Helper()
		p := &repb.Platform{}
		for _, prop := range props {
			name, value, _ := strings.Cut(prop, "=")
			p.Properties = append(p.Properties, &repb.Platform_Property{Name: name, Value: value})
		}
		r := s.execute(s.action(call{script: "true", action: func(a *repb.Action) { a.Platform = p }}))
		return r.err
	}
	isa := map[string]string{"amd64": "ISA=x86-64", "arm64": "ISA=arm-a64"}[runtime.GOARCH]
	for _, props := range [][]string{{"OSFamily=linux"}, {"OSFamily=Linux"}, {"Pool=default"}, {"rootfs=host"}, {"container-image=host", "OSFamily=linux"}, {isa, "OSFamily=linux"}} {
		if err := run(props...); err != nil {
			t.Errorf("%q: %v", props, err)
		}
	}
	for want, list := range map[codes.Code][]string{
		codes.FailedPrecondition: {"OSFamily=windows", "ISA=sparc", "rootfs=nobody-gave-this-name"},
		codes.InvalidArgument:    {"gpu=yes"},
	} {
		for _, prop := range list {
			err := run(prop)
			wantCode(t, prop, err, want)
			if name, _, _ := strings.Cut(prop, "="); err != nil && !strings.Contains(err.Error(), name) && name != "rootfs" {
				t.Errorf("%s: the error does not name it: %v", prop, err)
			}
		}
	}
	// Several instruction sets: all of them. Of an extension, the processor decides.
	wantCode(t, "one of two instruction sets", run(isa, "ISA=rv64g"), codes.FailedPrecondition)
	if runtime.GOARCH == "amd64" {
		want := codes.FailedPrecondition
		if cpu.X86.HasAVX2 {
			want = codes.OK
		}
		wantCode(t, "an extension of the instruction set", run(isa, "ISA=x86-avx2"), want)
	}
	// Clients before 2.2 say it in the command; where both do, the action's counts.
	for inCommand, want := range map[bool]codes.Code{true: codes.FailedPrecondition, false: codes.OK} {
		r := s.execute(s.action(call{
			script:  "true",
			command: func(c *repb.Command) { setOldPlatform(c, "OSFamily", "windows") },
			action: func(a *repb.Action) {
				if !inCommand {
					a.Platform = &repb.Platform{Properties: []*repb.Platform_Property{{Name: "OSFamily", Value: "linux"}}}
				}
			},
		}))
		wantCode(t, fmt.Sprintf("platform in the command, in the action too: %v", !inCommand), r.err, want)
	}
}

// TestNodeProperties gives files, links and directories times and modes of
// their own, in a small tree, which is copied, and in a large one, which is not,
// and wants those of outputs.
func TestNodeProperties(t *testing.T) {
	s := start(t, nil)
	own := func(seconds int64, mode uint32) *repb.NodeProperties {
		return &repb.NodeProperties{Mtime: &timestamppb.Timestamp{Seconds: seconds}, UnixMode: wrapperspb.UInt32(mode)}
	}
	data := s.put(action.SHA256, []byte("content"))
	for _, others := range []int{0, 1000} {
		sub := &repb.Directory{
			Files:          []*repb.FileNode{{Name: "f", Digest: data, NodeProperties: own(1_500_000_001, 0o640)}},
			Symlinks:       []*repb.SymlinkNode{{Name: "l", Target: "f", NodeProperties: own(1_500_000_002, 0o777)}},
			NodeProperties: own(1_500_000_003, 0o750),
		}
		many := &repb.Directory{}
		for i := range others {
			many.Files = append(many.Files, &repb.FileNode{Name: fmt.Sprintf("%04d", i), Digest: data})
		}
		root := &repb.Directory{
			Directories: []*repb.DirectoryNode{{Name: "many", Digest: s.putMessage(action.SHA256, many)}, {Name: "sub", Digest: s.putMessage(action.SHA256, sub)}},
			Files: []*repb.FileNode{
				{Name: "plain", Digest: data},
				{Name: "suid", Digest: data, IsExecutable: true, NodeProperties: own(1_500_000_004, 0o4755)},
			},
		}
		res := s.succeed(s.action(call{script: "stat -c '%n %Y %a' sub/f sub/l sub plain suid; cat sub/f; ls many | wc -l", root: root})).Result
		want := fmt.Sprintf("sub/f 1500000001 640\nsub/l 1500000002 777\nsub 1500000003 750\nplain %d 644\nsuid 1500000004 755\ncontent%d\n", staging.MTime, others)
		if string(res.StdoutRaw) != want {
			t.Errorf("with %d other files: %s, want %s; %s", others, res.StdoutRaw, want, res.StderrRaw)
		}
	}
	res := s.succeed(s.action(call{
		script: "echo x > f; chmod 640 f; touch -d @1400000001 f; mkdir d; echo y > d/f; chmod 751 d/f; touch -d @1400000002 d/f; ln -s f l",
		command: func(c *repb.Command) {
			c.OutputPaths, c.OutputNodeProperties = []string{"d", "f", "l"}, []string{"mtime", "unix_mode"}
		},
	})).Result
	f := output(res, "f").NodeProperties
	tree := new(repb.Tree)
	if err := proto.Unmarshal([]byte(s.read(action.SHA256, res.OutputDirectories[0].TreeDigest)), tree); err != nil {
		t.Fatal(err)
	}
	below := tree.Root.Files[0].NodeProperties
	if f.GetMtime().GetSeconds() != 1_400_000_001 || f.GetUnixMode().GetValue() != 0o640 || below.GetMtime().GetSeconds() != 1_400_000_002 ||
		below.GetUnixMode().GetValue() != 0o751 || tree.Root.NodeProperties.GetMtime() == nil || res.OutputSymlinks[0].NodeProperties.GetMtime() == nil {
		t.Errorf("%v, %v", res, tree)
	}
	if res := s.succeed(s.action(call{script: "echo x > f", command: outputs("f")})).Result; output(res, "f").NodeProperties != nil {
		t.Errorf("properties that nobody wants: %v", res)
	}
}
