package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestIncluded: the directories in the names that a source includes in quotes.
func TestIncluded(t *testing.T) {
	for text, want := range map[string][]string{
		"#include \"sub/a.h\"\n":                                     {"sub"},
		" \t# \tinclude\t \"sub/a.h\"":                               {"sub"},
		"int a;\n#include\"../x/y/a.h\" // \"z/b.h\"\n":              {"../x/y"},
		"#include \"a/1.h\"\n#include \"b/2.h\"\n#include \"a/3.h\"": {"a", "b"},
		"#include \"a.h\"\n#include <sub/a.h>\n#include SUB\n":       nil,
		"#include \"/abs/a.h\"\n#include \"sub/a.h\n\"\n":            nil,
		"#include_next \"sub/a.h\"\n#import \"sub/a.h\"\n":           nil,
		"// #include \"sub/a.h\"\nx #include \"sub/b.h\"\n":          nil,
		"#include \"include/a.h\"\n#\ninclude \"sub/a.h\"\n":         {"include"},
		"#include \"sub/\x00.h\"\n#include":                          nil,
		"include \"sub/a.h\"\n##include \"sub/a.h\"\n":               nil,
		"#include \"\"\n#include \"s/\"\n":                           {"s"},
		"":                                                           nil,
	} {
		if got := included([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q includes from %q, want %q", text, got, want)
		}
	}
	var many strings.Builder
	for c := 'a'; c <= 'z'; c++ {
		many.WriteString("#include \"" + string(c) + "/a.h\"\n")
	}
	if got := included([]byte(many.String())); len(got) != besideMax {
		t.Errorf("of many, %d are taken, want %d", len(got), besideMax)
	}
}

// TestBegin: only regular files are looked at, and no more than their beginning.
func TestBegin(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.c")
	if err := os.WriteFile(name, []byte(strings.Repeat("x", besideRead+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &Session{}
	if n := len(s.begin(name)); n != besideRead {
		t.Errorf("%d bytes, want %d", n, besideRead)
	}
	for _, name := range []string{filepath.Dir(name), name + "x", "/dev/zero"} {
		if text := s.begin(name); len(text) != 0 {
			t.Errorf("%s begins with %d bytes, want none", name, len(text))
		}
	}
}
