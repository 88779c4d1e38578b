package action

import (
	"bytes"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// text is one field with a length.
func text(field protowire.Number, parts ...string) string {
	b := protowire.AppendTag(nil, field, protowire.BytesType)
	return string(protowire.AppendString(b, strings.Join(parts, "")))
}

// number is one varint field.
func number(field protowire.Number, v uint64) string {
	b := protowire.AppendTag(nil, field, protowire.VarintType)
	return string(protowire.AppendVarint(b, v))
}

// TestParseRefusesEncodings holds the parsers against bytes that mean
// something good, but are not the way to write it.
func TestParseRefusesEncodings(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	digest := func(field protowire.Number) string { return text(field, text(1, hash), number(2, 5)) }
	digests := digest(1) + digest(2)
	file := func(rest ...string) string { return text(1, text(1, "a"), digest(2), strings.Join(rest, "")) }
	parsers := map[string]func(string) error{
		"Action": func(s string) error { _, err := ParseAction([]byte(s), SHA256); return err },
		"Directory": func(s string) error {
			_, err := ParseDirectory([]byte(s), SHA256)
			return err
		},
		"Command": func(s string) error { _, err := ParseCommand([]byte(s), SHA256); return err },
		"Tree":    func(s string) error { _, err := ParseTree([]byte(s), SHA256); return err },
		"Result":  func(s string) error { _, err := ParseResult([]byte(s), SHA256); return err },
	}
	for _, c := range []struct{ kind, bad, good, want string }{
		{"Action", digest(2) + digest(1), digests, "field 1 after field 2"},
		{"Action", digest(1) + digests, digests, "command_digest: a second value at byte"},
		{"Action", digests + number(7, 0), digests, "do_not_cache: a default value is written out"},
		{"Action", digests + number(7, 2), digests + number(7, 1), "do_not_cache: 2 is neither"},
		{"Action", digests + text(9), digests, "salt: a default value is written out"},
		{"Action", digests + text(6), digests, "timeout: 0: leave it out"},
		{"Action", digests + text(6, number(2, 1), number(1, 1)), digests + text(6, number(1, 1), number(2, 1)), "timeout: field 1 after field 2"},
		{"Action", digests + text(6, number(1, 1<<62)), digests + text(6, number(1, 1<<33)), "are not a duration"},
		{"Action", digests + text(6, number(1, 1), number(2, 1e9)), digests + text(6, number(1, 2)), "are not a duration"},
		{"Action", digests + text(6, number(2, 1<<32)), digests + text(6, number(2, 1)), "timeout: nanos: 4294967296 is not a number of 32 bits"},
		{"Action", digests + text(6, number(2, 0xffffffff)), digests, "timeout: nanos: 4294967295 is not a number of 32 bits"},
		{"Action", digests + text(10), digests, "platform: no property"},
		{"Action", digests + text(10, text(2, "x")), digests, "platform: unknown field 2"},
		{"Action", digests + text(8, "x"), digests, "unknown field 8"},
		{"Action", digests + number(1<<29-1, 1), digests, "unknown field 536870911"},
		{"Action", digests + "\x00\x01", digests, "impossible field number"},
		{"Action", digests + "\x80\x80\x80\x80\x10\x01", digests, "impossible field number"},
		{"Action", digests + "\xb8\x00\x01", digests + "\x38\x01", "longer than necessary"},
		{"Action", digests + "\x38\x81\x00", digests + "\x38\x01", "do_not_cache: a number that is longer than necessary"},
		{"Action", digests + "\x38\x81\x80\x80\x80\x80\x80\x80\x80\x80\x02", digests + "\x38\x01", "more than 64 bits"},
		{"Action", digests + "\x39\x01\x00\x00\x00\x00\x00\x00\x00", digests, "do_not_cache: wire type 1, want 0"},
		{"Action", number(1, 7), digests, "command_digest: wire type 0, want 2"},
		{"Action", digests + number(10, 7), digests, "platform: wire type 0, want 2"},
		{"Action", digests + "\x38", digests, "truncated"},
		{"Action", digests[:len(digests)-1], digests, "input_root_digest: truncated at byte 72"},
		{"Action", "\x0a", digests, "truncated"},
		{"Action", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", digests, "truncated"},
		{"Action", "\x0a\x80", digests, "truncated"},
		{"Action", text(1, text(1, hash[1:])) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1, text(1, hash, "0")) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1, text(1, strings.ToUpper(hash))) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1, text(1, "g", hash[1:])) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1, number(2, 5)) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1) + digest(2), digests, "command_digest: malformed hash"},
		{"Action", text(1, text(1, hash), number(2, 1<<63)) + digest(2), digests, "command_digest: negative size"},
		{"Action", text(1, text(1, hash), number(2, 0)) + digest(2), text(1, text(1, hash)) + digest(2), "command_digest: size_bytes: a default"},
		{"Action", text(1, text(1, hash), text(3, "x")) + digest(2), digests, "command_digest: unknown field 3"},

		{"Directory", text(2, text(1, "d"), digest(2)) + file(), file() + text(2, text(1, "d"), digest(2)), "field 1 after field 2"},
		{"Directory", file(text(3, "x")), file(), "files[0]: unknown field 3"},
		{"Directory", file() + number(1, 3), file(), "files[1]: wire type 0, want 2"},
		{"Directory", text(1, text(1), digest(2)), file(), "files[0]: name: a default value"},
		{"Directory", text(1, text(1, "a"), text(1, "b"), digest(2)), file(), "files[0]: name: a second value"},
		{"Directory", text(1, text(1, "\xff"), digest(2)), file(), `files[0]: name: "\xff" is not UTF-8 at byte 5`},
		{"Directory", file(text(6, text(3, number(1, 0)))), file(text(6, text(3))), "files[0]: node_properties: unix_mode: value: a default"},
		{"Directory", file(text(6, text(3, number(1, 1<<32)))), file(text(6, text(3, number(1, 1<<32-1)))), "not a number of 32 bits"},
		{"Directory", file(text(6, text(3, number(2, 1)))), file(text(6, text(3))), "unix_mode: unknown field 2"},
		{"Directory", file(text(6, text(2, number(3, 1)))), file(text(6, text(2))), "mtime: unknown field 3"},
		{"Directory", file(text(6, text(4))), file(text(6)), "node_properties: unknown field 4"},
		{"Directory", file(text(6), text(6)), file(text(6)), "node_properties: a second value"},
		{"Directory", text(5) + text(5), text(5), "node_properties: a second value"},
		{"Directory", text(2, text(1, "d"), digest(2), text(3)), text(2, text(1, "d"), digest(2)), "directories[0]: unknown field 3"},
		{"Directory", text(3, text(1, "l"), text(2)), text(3, text(1, "l"), text(2, "t")), "symlinks[0]: target: a default"},
		{"Directory", text(3, text(1, "l"), text(2, "t"), text(3)), text(3, text(1, "l"), text(2, "t")), "symlinks[0]: unknown field 3"},
		{"Directory", text(4), "", "unknown field 4"},

		{"Tree", "", text(1), "no root"},
		{"Tree", text(2), text(1) + text(2), "no root"},
		{"Tree", text(1) + text(1), text(1), "root: a second value"},
		{"Tree", text(1) + text(3), text(1), "unknown field 3"},
		{"Tree", text(1) + text(2) + text(2, text(4)), text(1) + text(2) + text(2), "children[1]: unknown field 4"},

		{"Command", text(1, "a") + text(1, "\xed\xa0\x80"), text(1, "a") + text(1), "arguments[1]: "},
		{"Command", text(1, "a") + number(1, 1), text(1, "a"), "arguments[1]: wire type 0"},
		{"Command", text(1, "a") + text(2, text(1, "A"), text(2)), text(1, "a") + text(2, text(1, "A")), "environment_variables[0]: value: a default"},
		{"Command", text(1, "a") + text(2, text(1, "A"), text(3)), text(1, "a") + text(2, text(1, "A")), "environment_variables[0]: unknown field 3"},
		{"Command", text(1, "a") + text(6, "w") + text(6, "w"), text(1, "a") + text(6, "w"), "working_directory: a second value"},
		{"Command", text(1, "a") + number(9, 1<<31), text(1, "a") + number(9, 1), "output_directory_format: 2147483648 is not a number of 32 bits"},
		{"Command", text(1, "a") + text(10), text(1, "a"), "unknown field 10"},

		{"Result", text(1), "", "unknown field 1"},
		{"Result", number(4, 0xffffffff), number(4, 1<<64-1), "exit_code: 4294967295 is not a number of 32 bits"},
		{"Result", number(4, 1) + number(4, 1), number(4, 1), "exit_code: a second value"},
		{"Result", text(2, text(1, "p"), digest(2), text(3)), text(2, text(1, "p"), digest(2)), "output_files[0]: unknown field 3"},
		{"Result", text(3, text(1, "p"), text(2), digest(3)), text(3, text(1, "p"), digest(3)), "output_directories[0]: unknown field 2"},
		{"Result", text(12, text(1, "p"), text(2, "t"), text(3)), text(12, text(1, "p"), text(2, "t")), "output_symlinks[0]: unknown field 3"},
		{"Result", text(12, text(1, "p"), text(2, "t")) + text(10, text(1, "p"), text(2, "t")), text(10, text(1, "p"), text(2, "t")), "field 10 after field 12"},
		{"Result", text(9, text(13)), text(9), "execution_metadata: unknown field 13"},
		{"Result", text(9, text(3), text(2)), text(9, text(2), text(3)), "execution_metadata: field 2 after field 3"},
		{"Result", text(9, text(2), text(2)), text(9, text(2)), "execution_metadata: queued_timestamp: a second value"},
		{"Result", text(9, text(11, text(3))), text(9, text(11)), "execution_metadata: auxiliary_metadata[0]: unknown field 3"},
		{"Result", text(9, text(11, text(2))), text(9, text(11)), "auxiliary_metadata[0]: value: a default"},
	} {
		if err := parsers[c.kind](c.good); err != nil {
			t.Errorf("%s control %x: %v", c.kind, c.good, err)
		}
		if err := parsers[c.kind](c.bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %x: %v; want %q", c.kind, c.bad, err, c.want)
		}
	}
}

// TestParseRefusesMeanings holds the parsers against good encodings of
// messages that are not canonical or make no sense.
func TestParseRefusesMeanings(t *testing.T) {
	d := digestProto(Sum(SHA256, []byte("abc")))
	file := func(names ...string) *repb.Directory {
		return &repb.Directory{Files: each(names, func(s string) *repb.FileNode { return &repb.FileNode{Name: s, Digest: d} })}
	}
	dirs := func(names ...string) *repb.Directory {
		return &repb.Directory{Directories: each(names, func(s string) *repb.DirectoryNode {
			return &repb.DirectoryNode{Name: s, Digest: d}
		})}
	}
	links := func(names ...string) *repb.Directory {
		return &repb.Directory{Symlinks: each(names, func(s string) *repb.SymlinkNode { return &repb.SymlinkNode{Name: s, Target: "t"} })}
	}
	merge := func(list ...*repb.Directory) *repb.Directory {
		for _, m := range list[1:] {
			proto.Merge(list[0], m)
		}
		return list[0]
	}
	with := func(name string, p *NodeProperties) *repb.Directory {
		return directoryProto(Directory{Files: []FileNode{{Name: name, Digest: Sum(SHA256, nil), Properties: p}}})
	}
	parse := func(b []byte) error { _, err := ParseDirectory(b, SHA256); return err }
	for _, c := range []struct {
		bad  *repb.Directory
		want string // "" for controls
	}{
		{file("a", "a.c", "a0", "b", "€"), ""},
		{file("b", "a"), `files: "a" after "b": must be sorted`},
		{file("a", "a"), `files: "a" is there twice`},
		{dirs("b", "a"), `directories: "a" after "b"`},
		{links("b", "a"), `symlinks: "a" after "b"`},
		{dirs("a", "a"), `directories: "a" is there twice`},
		{links("a", "a"), `symlinks: "a" is there twice`},
		{merge(file("a", "c"), dirs("b", "d"), links("e")), ""},
		{merge(file("a", "c"), dirs("b", "c")), `"c" is there twice`},
		{merge(file("a", "c"), links("b", "c")), `"c" is there twice`},
		{merge(dirs("a", "c"), links("c", "d")), `"c" is there twice`},
		{file("."), "is not a name"},
		{file(".."), "is not a name"},
		{dirs(""), "is not a name"},
		{file("a/b"), "a slash in a name"},
		{links("/"), "a slash in a name"},
		{file("a\x00"), "a NUL byte"},
		{&repb.Directory{Files: []*repb.FileNode{{Name: "f"}}}, `file "f": no digest`},
		{&repb.Directory{Directories: []*repb.DirectoryNode{{Name: "f"}}}, `directory "f": no digest`},
		{&repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: "f"}}}, `symlink "f": no target`},
		{&repb.Directory{Symlinks: []*repb.SymlinkNode{{Name: "f", Target: "\x00"}}}, `symlink "f": a NUL byte`},
		{with("f", &NodeProperties{Properties: []Property{{"a", "b"}, {"b", "a"}}}), ""},
		{with("f", &NodeProperties{Properties: []Property{{"b", ""}, {"a", ""}}}), `file "f": node_properties: "a=" after "b="`},
		{with("f", &NodeProperties{Properties: []Property{{"a", "b"}, {"a", "a"}}}), `"a=a" after "a=b"`},
		{with("f", &NodeProperties{Properties: []Property{{"a", ""}, {"a", ""}}}), `"a=" is there twice`},
		{with("f", &NodeProperties{Properties: []Property{{"", "b"}}}), "a property without a name"},
		{with("f", &NodeProperties{MTime: &Timestamp{253402300799, 999999999}}), ""},
		{with("f", &NodeProperties{MTime: &Timestamp{253402300800, 0}}), "are not a time"},
		{with("f", &NodeProperties{MTime: &Timestamp{-62135596801, 0}}), "are not a time"},
		{with("f", &NodeProperties{MTime: &Timestamp{0, 1e9}}), "are not a time"},
		{with("f", &NodeProperties{MTime: &Timestamp{0, -1}}), "are not a time"},
		{&repb.Directory{NodeProperties: propertiesProto(&NodeProperties{MTime: &Timestamp{0, -1}})}, "are not a time"},
	} {
		wantError(t, parse(deterministic(t, c.bad)), c.want, c.bad)
	}
}

func wantError(t *testing.T, err error, want string, m proto.Message) {
	t.Helper()
	if want == "" && err != nil {
		t.Errorf("control {%v}: %v", m, err)
	}
	if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("{%v}: %v; want %q", m, err, want)
	}
}

func TestParseCommandRefusesMeanings(t *testing.T) {
	args := []string{"cc"}
	env := func(pairs ...string) *repb.Command {
		m := &repb.Command{Arguments: args}
		for i := 0; i < len(pairs); i += 2 {
			m.EnvironmentVariables = append(m.EnvironmentVariables, &repb.Command_EnvironmentVariable{Name: pairs[i], Value: pairs[i+1]})
		}
		return m
	}
	in := func(dir string, outputs ...string) *repb.Command {
		return &repb.Command{Arguments: args, WorkingDirectory: dir, OutputPaths: outputs}
	}
	for _, c := range []struct {
		bad  *repb.Command
		want string
	}{
		{&repb.Command{}, "arguments: no command"},
		{&repb.Command{Arguments: []string{""}}, "arguments: no command"},
		{&repb.Command{Arguments: []string{"a", "b\x00"}}, "arguments[1]: a NUL byte"},
		{env("A", "", "B", "=\n"), ""},
		{env("B", "", "A", ""), `environment_variables: "A" after "B"`},
		{env("A", "1", "A", "2"), `environment_variables: "A" is there twice`},
		{env("", "1"), "an environment variable without a name"},
		{env("A=", "1"), `environment variable "A=": '=' in a name`},
		{env("A\x00", "1"), "a NUL byte"},
		{env("A", "\x00"), `environment variable "A": a NUL byte`},
		{in("a/b", "", "...", "../..", "../../c", "a", "b/c"), ""},
		{in(""), ""},
		{in("/a"), `working_directory "/a": absolute`},
		{in("."), `a component "."`},
		{in("a/"), "an empty component"},
		{in("a//b"), "an empty component"},
		{in(".."), "leaves the input root"},
		{in("a/.."), `".." after a name`},
		{in("a\x00"), "a NUL byte"},
		{in("", "b", "a"), `output_paths: "a" after "b"`},
		{in("", "a", "a"), `output_paths: "a" is there twice`},
		{in("", "/a"), `output_paths: output path "/a": absolute`},
		{in("", "a/"), "an empty component"},
		{in("", "a/./b"), `a component "."`},
		{in("", ".."), "leaves the input root"},
		{in("", "../a"), "leaves the input root"},
		{in("a/b", "../../../c"), "leaves the input root"},
		{in("a/b", "c/../../../../d"), `".." after a name`},
		{commandProto(Command{Arguments: args, OutputFiles: []string{"b", "a"}}), `output_files: "a" after "b"`},
		{commandProto(Command{Arguments: args, OutputFiles: []string{"../a"}}), "leaves the input root"},
		{commandProto(Command{Arguments: args, OutputDirectories: []string{"b", "a"}}), `output_directories: "a" after "b"`},
		{commandProto(Command{Arguments: args, OutputDirectories: []string{"/"}}), "absolute"},
		{&repb.Command{Arguments: args, OutputNodeProperties: []string{"b", "a"}}, `output_node_properties: "a" after "b"`},
		{commandProto(Command{Arguments: args, Platform: []Property{{"b", ""}, {"a", ""}}}), `platform: "a=" after "b="`},
	} {
		_, err := ParseCommand(deterministic(t, c.bad), SHA256)
		wantError(t, err, c.want, c.bad)
	}
}

func TestParseActionAndResultRefuseMeanings(t *testing.T) {
	d, other := Sum(SHA256, []byte("abc")), Sum(BLAKE3, []byte("abc"))
	good := Action{Command: d, InputRoot: d}
	for _, c := range []struct {
		change func(*repb.Action)
		want   string
	}{
		{func(*repb.Action) {}, ""},
		{func(m *repb.Action) { m.CommandDigest = nil }, "command_digest: no digest"},
		{func(m *repb.Action) { m.InputRootDigest = nil }, "input_root_digest: no digest"},
		{func(m *repb.Action) { m.Timeout = durationpb.New(-time.Second) }, "timeout: negative: -1s"},
		{func(m *repb.Action) { m.Platform = platformProto([]Property{{"b", ""}, {"a", ""}}) }, `platform: "a=" after "b="`},
	} {
		m := actionProto(good)
		c.change(m)
		_, err := ParseAction(deterministic(t, m), SHA256)
		wantError(t, err, c.want, m)
	}
	if err := (&Action{Command: d, InputRoot: other}).Check(); err == nil {
		t.Error("an action of two digest functions")
	}

	file, link := OutputFile{Path: "a", Digest: d}, OutputSymlink{Path: "a", Target: "t"}
	links := []OutputSymlink{link}
	for _, c := range []struct {
		bad  Result
		want string
	}{
		{Result{Files: []OutputFile{{Path: "../b", Digest: d}, file}, FileSymlinks: links, DirSymlinks: links}, ""},
		{Result{Symlinks: links, FileSymlinks: links}, ""}, // as REAPI asks for
		{Result{Files: []OutputFile{file, file}}, `output file "a": there twice`},
		{Result{Files: []OutputFile{file}, Symlinks: links}, "there twice"},
		{Result{Files: []OutputFile{file}, Directories: []OutputDirectory{{Path: "a", Tree: d}}}, `output directory "a": there twice`},
		{Result{Files: []OutputFile{{Digest: d}}}, "no path"},
		{Result{Files: []OutputFile{{Path: "a"}}}, `output file "a": no digest`},
		{Result{Files: []OutputFile{{Path: "/a", Digest: d}}}, "absolute"},
		{Result{Files: []OutputFile{{Path: "a/../../b", Digest: d}}}, `".." after a name`},
		{Result{Files: []OutputFile{{Path: "a", Digest: d, Contents: []byte("ab")}}}, "contents of 2 bytes, but a digest of 3"},
		{Result{Directories: []OutputDirectory{{Path: "a"}}}, `output directory "a": no digest`},
		{Result{Directories: []OutputDirectory{{Path: "/", Tree: d}}}, "absolute"},
		{Result{Symlinks: []OutputSymlink{{Path: "a"}}}, `output symlink "a": no target`},
		{Result{Symlinks: []OutputSymlink{{Target: "a"}}}, "no path"},
		{Result{DirSymlinks: []OutputSymlink{{Path: "/a", Target: "a"}}}, "absolute"},
		{Result{Metadata: &Metadata{Queued: &Timestamp{Nanos: -1}}}, "are not a time"},
		{Result{Metadata: &Metadata{Worker: "\x00"}}, "worker: a NUL byte"},
	} {
		m := resultProto(c.bad)
		_, err := ParseResult(deterministic(t, m), SHA256)
		wantError(t, err, c.want, m)
	}
}

// TestCheckRefusesNotUTF8: the parsers never let such strings in, but file
// names of the host can be anything.
func TestCheckRefusesNotUTF8(t *testing.T) {
	const bad = "a\xffb"
	d := Sum(SHA256, nil)
	for i, m := range []interface{ Check() error }{
		&Directory{Files: []FileNode{{Name: bad, Digest: d}}},
		&Directory{Directories: []DirectoryNode{{Name: bad, Digest: d}}},
		&Directory{Symlinks: []SymlinkNode{{Name: bad, Target: "t"}}},
		&Directory{Symlinks: []SymlinkNode{{Name: "l", Target: bad}}},
		&Tree{Children: []Directory{{Symlinks: []SymlinkNode{{Name: "l", Target: bad}}}}},
		&Command{Arguments: []string{bad}},
		&Command{Arguments: []string{"a"}, Environment: []EnvironmentVariable{{bad, ""}}},
		&Command{Arguments: []string{"a"}, Environment: []EnvironmentVariable{{"A", bad}}},
		&Command{Arguments: []string{"a"}, WorkingDirectory: bad},
		&Command{Arguments: []string{"a"}, OutputPaths: []string{bad}},
		&Action{Command: d, InputRoot: d, Platform: []Property{{bad, ""}}},
		&Result{Files: []OutputFile{{Path: bad, Digest: d}}},
		&Result{Metadata: &Metadata{Auxiliary: []Any{{TypeURL: bad}}}},
	} {
		if err := m.Check(); err == nil || !strings.Contains(err.Error(), `\xff`) || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestParseKeepsNothingOfItsInput(t *testing.T) {
	m := &Result{StdoutRaw: []byte("out"), Files: []OutputFile{{Path: "p", Digest: Sum(SHA256, []byte("c")), Contents: []byte("c")}}}
	data := m.Marshal()
	got, err := ParseResult(data, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !bytes.Equal(got.Marshal(), m.Marshal()) {
		t.Error("the result changed with the bytes that it was parsed from")
	}
}

func TestParseNeedsFunction(t *testing.T) {
	data := (&Directory{}).Marshal()
	if _, err := ParseDirectory(data, SHA256); err != nil {
		t.Fatalf("control: %v", err)
	}
	if _, err := ParseDirectory(data, 0); err == nil {
		t.Error("a directory without a digest function")
	}
}
