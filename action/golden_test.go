package action

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.txt with what the generated code writes")

// A golden message and what the generated code makes of it.
type golden struct {
	name   string
	ours   any
	bytes  []byte
	theirs proto.Message
	parse  func([]byte) (any, error)
}

func newGolden[T any, P marshaler[T], M proto.Message](
	name string, m T, convert func(T) M, parse func([]byte, Function) (P, error),
) golden {
	return golden{name, m, P(&m).Marshal(), convert(m), func(b []byte) (any, error) {
		p, err := parse(b, SHA256)
		if err != nil {
			return nil, err
		}
		return *p, nil
	}}
}

// goldens has every field of every message alone, as far as it may be alone,
// and then what is special. TestGoldenCoversEveryField counts.
func goldens() []golden {
	d := Sum(SHA256, []byte("abc"))
	mode, no := uint32(0o755), uint32(0)
	virtual, back, never := 1500*time.Millisecond, -1500*time.Millisecond, time.Duration(0)
	past := &Timestamp{-62135596800, 0}
	full := &NodeProperties{[]Property{{"a", ""}, {"a", "b"}}, &Timestamp{1321009871, 5}, &mode}

	var list []golden
	directory := func(name string, m Directory) {
		list = append(list, newGolden("Directory "+name, m, directoryProto, ParseDirectory))
	}
	directory("empty", Directory{})
	directory("file", Directory{Files: []FileNode{{Name: "f", Digest: d}}})
	directory("executable", Directory{Files: []FileNode{{Name: "f", Digest: d, Executable: true}}})
	directory("file properties", Directory{Files: []FileNode{{Name: "f", Digest: d, Properties: full}}})
	directory("empty file", Directory{Files: []FileNode{{Name: "f", Digest: Sum(SHA256, nil)}}})
	directory("directory", Directory{Directories: []DirectoryNode{{"d", d}}})
	directory("symlink", Directory{Symlinks: []SymlinkNode{{Name: "l", Target: "../\n"}}})
	directory("symlink properties", Directory{Symlinks: []SymlinkNode{{"l", "t", &NodeProperties{}}}})
	directory("properties", Directory{Properties: &NodeProperties{MTime: &Timestamp{}, UnixMode: &no}})
	directory("long name", Directory{Files: []FileNode{{Name: strings.Repeat("n", 255), Digest: d}}})

	list = append(list,
		newGolden("Tree empty", Tree{}, treeProto, ParseTree),
		newGolden("Tree children", Tree{Children: []Directory{{}, {Directories: []DirectoryNode{{"d", d}}}}}, treeProto, ParseTree))

	command := func(name string, m Command) {
		m.Arguments = append([]string{"cc"}, m.Arguments...)
		list = append(list, newGolden("Command "+name, m, commandProto, ParseCommand))
	}
	command("arguments", Command{Arguments: []string{"", "-o", "ä"}})
	command("environment", Command{Environment: []EnvironmentVariable{{"A", ""}, {"B", "=b"}}})
	command("output_files", Command{OutputFiles: []string{"a", "b/c"}})
	command("output_directories", Command{OutputDirectories: []string{"", "b/c"}})
	command("platform", Command{Platform: []Property{{"OSFamily", "linux"}}})
	command("working_directory", Command{WorkingDirectory: "a/b"})
	command("output_paths", Command{WorkingDirectory: "a/b", OutputPaths: []string{"../../x", "b.o"}})
	command("output_node_properties", Command{OutputNodeProperties: []string{"mtime", "unix_mode"}})
	command("output_directory_format", Command{OutputDirectoryFormat: 2})
	command("unknown format", Command{OutputDirectoryFormat: -1})

	act := func(name string, m Action) {
		m.Command, m.InputRoot = d, Sum(SHA256, nil)
		list = append(list, newGolden("Action "+name, m, actionProto, ParseAction))
	}
	act("digests", Action{})
	act("timeout", Action{Timeout: 90*time.Second + time.Nanosecond})
	act("longest timeout", Action{Timeout: 1<<63 - 1})
	act("do_not_cache", Action{DoNotCache: true})
	act("salt", Action{Salt: []byte{0, 0xff}})
	act("platform", Action{Platform: []Property{{"ISA", "x86-64"}, {"ISA", "x86-avx2"}, {"rootfs", ""}}})

	result := func(name string, m Result) {
		list = append(list, newGolden("Result "+name, m, resultProto, ParseResult))
	}
	metadata := func(name string, m Metadata) { result("metadata "+name, Result{Metadata: &m}) }
	result("empty", Result{})
	result("output_files", Result{Files: []OutputFile{{Path: "a", Digest: d}, {Path: "b", Digest: d, Executable: true}}})
	result("contents", Result{Files: []OutputFile{{Path: "a", Digest: d, Contents: []byte("abc"), Properties: full}}})
	result("tree", Result{Directories: []OutputDirectory{{Path: "", Tree: d, Sorted: true}}})
	result("root directory", Result{Directories: []OutputDirectory{{Path: "../a", Root: d}}})
	result("output_file_symlinks", Result{FileSymlinks: []OutputSymlink{{Path: "a", Target: "/b"}}})
	result("output_directory_symlinks", Result{DirSymlinks: []OutputSymlink{{Path: "a", Target: "b"}}})
	result("output_symlinks", Result{Symlinks: []OutputSymlink{{Path: "a", Target: "..", Properties: full}}})
	result("exit_code", Result{ExitCode: 137})
	result("negative exit_code", Result{ExitCode: -1 << 31})
	result("stdout_raw", Result{StdoutRaw: []byte{0xff, '\n'}})
	result("stdout_digest", Result{Stdout: d})
	result("stderr_raw", Result{StderrRaw: []byte(strings.Repeat("e", 300))})
	result("stderr_digest", Result{Stderr: d})
	metadata("empty", Metadata{})
	metadata("worker", Metadata{Worker: "w"})
	for i := range 9 {
		var m Metadata
		*m.times()[i] = &Timestamp{int64(i), 999999999}
		metadata(fmt.Sprintf("timestamp %d", i+2), m)
	}
	metadata("oldest time", Metadata{Queued: past})
	metadata("virtual", Metadata{VirtualExecutionDuration: &virtual})
	metadata("virtual negative", Metadata{VirtualExecutionDuration: &back})
	metadata("virtual zero", Metadata{VirtualExecutionDuration: &never})
	metadata("auxiliary", Metadata{Auxiliary: []Any{{}, {"type.googleapis.com/x", []byte{8, 1}}}})
	return list
}

// TestGolden holds our bytes against testdata/golden.txt, and that against the
// generated code, so that neither can move without notice.
func TestGolden(t *testing.T) {
	const file = "testdata/golden.txt"
	if *update {
		var b bytes.Buffer
		for _, g := range goldens() {
			fmt.Fprintf(&b, "%s: %x\n", g.name, deterministic(t, g.theirs))
		}
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != len(goldens()) {
		t.Fatalf("%s has %d messages, want %d: run go test -update", file, len(lines), len(goldens()))
	}
	for i, g := range goldens() {
		name, text, _ := strings.Cut(lines[i], ": ")
		want, err := hex.DecodeString(text)
		if err != nil || name != g.name {
			t.Fatalf("%s:%d: %q, %v; want %q", file, i+1, name, err, g.name)
		}
		if !bytes.Equal(g.bytes, want) {
			t.Errorf("%s:\n ours %x\nwant %x", name, g.bytes, want)
		}
		if b := deterministic(t, g.theirs); !bytes.Equal(b, want) {
			t.Errorf("%s: the generated code now writes\n     %x\nwant %x", name, b, want)
		}
		if m, err := g.parse(want); err != nil || !reflect.DeepEqual(m, g.ours) {
			t.Errorf("%s: parse: %+v, %v\nwant %+v", name, m, err, g.ours)
		}
	}
}

// TestGoldenCoversEveryField fails when remote-apis gets a field that we do
// not have.
func TestGoldenCoversEveryField(t *testing.T) {
	exists, set := map[protoreflect.FullName]bool{}, map[protoreflect.FullName]bool{}
	var describe func(protoreflect.MessageDescriptor)
	describe = func(d protoreflect.MessageDescriptor) {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if exists[f.FullName()] {
				continue
			}
			exists[f.FullName()] = true
			if f.Message() != nil {
				describe(f.Message())
			}
		}
	}
	var populated func(protoreflect.Message)
	populated = func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			set[f.FullName()] = true
			if f.Message() == nil {
				return true
			}
			if !f.IsList() {
				populated(v.Message())
				return true
			}
			for i := range v.List().Len() {
				populated(v.List().Get(i).Message())
			}
			return true
		})
	}
	for _, g := range goldens() {
		describe(g.theirs.ProtoReflect().Descriptor())
		populated(g.theirs.ProtoReflect())
	}
	for name := range exists {
		if !set[name] {
			t.Errorf("no golden message has %s", name)
		}
	}
	if len(exists) < 70 {
		t.Errorf("found only %d fields", len(exists))
	}
}
