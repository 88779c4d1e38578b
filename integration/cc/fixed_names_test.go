package cc

import (
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestMoved replaces the name of a directory where it is one, and nowhere else.
func TestMoved(t *testing.T) {
	for text, want := range map[string]string{
		"/build":                            "/w/one",
		"/build/src/a.c":                    "/w/one/src/a.c",
		"/build/build/a.c /build/build":     "/w/one/build/a.c /w/one/build",
		"a.o: /build/a.c \\\n /build/a.h\n": "a.o: /w/one/a.c \\\n /w/one/a.h\n",
		"-I/build/inc -isystem/build/inc":   "-I/w/one/inc -isystem/w/one/inc",
		"-Wp,-MD,/build/x,-I/build":         "-Wp,-MD,/w/one/x,-I/w/one",
		"@/build/rsp":                       "@/w/one/rsp",
		"In ‘/build/a.c’, “/build”":         "In ‘/w/one/a.c’, “/w/one”",
		"\x1b[01m\x1b[K/build/a.c:3\x1b[m":  "\x1b[01m\x1b[K/w/one/a.c:3\x1b[m",
		`{"file":"/build/a.c","at":"file:///build/a.c","m":"x\n/build/b"}`: `{"file":"/w/one/a.c","at":"file:///w/one/a.c","m":"x\n/w/one/b"}`,
		"see /build. Or (/build), /build:":                                 "see /w/one. Or (/w/one), /w/one:",
		"//build/a.c":                                                      "//w/one/a.c",

		"src/build/a.c ../build/a.c ./build x//build":      "src/build/a.c ../build/a.c ./build x//build",
		"/builder /build-x /build.d /build_ /build2":       "/builder /build-x /build.d /build_ /build2",
		"$(TOP)/build ${X}/build é/build /buildé x-/build": "$(TOP)/build ${X}/build é/build /buildé x-/build",
		"caf\xe9/build": "caf\xe9/build",
	} {
		if got := moved(text, fixedRoot, "/w/one"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if got := hasName([]byte(text), fixedRoot); got != (text != want) {
			t.Errorf("%q: has the name: %v", text, got)
		}
	}
}

// TestBound wants a reason for calls that cannot see their project elsewhere.
func TestBound(t *testing.T) {
	for _, c := range []struct {
		root  string
		bound bool
		args  []string
	}{
		{"/w/one", false, []string{"gcc", "-g", "-I/w/one/inc", "-c", "/w/one/a.c"}},
		{"/w/one", false, []string{"gcc", "-ffile-prefix-map=/w/one=/build", "-c", "a.c"}},
		{"/w/one", true, []string{"gcc", "-I/build/inc", "-c", "a.c"}},
		{"/w/one", true, []string{"gcc", "-DX=\"/w/one\"", "-c", "a.c"}},
		{"/w/one", true, []string{"gcc", "-D", "X=/w/one", "-c", "a.c"}},
		{"/w/one", false, []string{"gcc", "-DX=/w/two", "-c", "a.c"}},
		{"/w/one", true, []string{"gcc", "a.o", "-Wl,-rpath,/w/one/lib"}},
		{"/w/one", true, []string{"gcc", "a.o", "-Wl,-O1,-rpath=/w/one/lib"}},
		{"/w/one", true, []string{"gcc", "a.o", "-Xlinker", "-rpath", "-Xlinker", "/w/one/lib"}},
		{"/w/one", false, []string{"gcc", "a.o", "-L/w/one/lib", "-Wl,-Map=/w/one/x.map"}},
		{"/w/one", true, []string{"ld", "a.o", "-rpath", "/w/one/lib"}},
		{"/w/one", true, []string{"ld", "a.o", "-soname=/w/one/lib"}},
		{"/w/one", true, []string{"gcc", "--coverage", "-c", "a.c"}},
		{"/w/o ne", true, []string{"gcc", "-c", "a.c"}},
		{"/build", false, []string{"gcc", "--coverage", "-DX=/build", "-c", "a.c"}},
		{"/build/one", false, []string{"gcc", "-I/build/one/inc", "-c", "a.c"}},
		{"/build/one", true, []string{"gcc", "-I/build/one/inc", "-I/build/two/inc", "-c", "a.c"}},
	} {
		call := Parse(Unknown, c.root, c.args)
		if why := call.Bound(c.root, nil); (why != "") != c.bound {
			t.Errorf("%q in %s: bound by %q, want %v", c.args, c.root, why, c.bound)
		}
	}
	call := Parse(Unknown, "/w/one", []string{"gcc", "a.o"})
	for name, bound := range map[string]bool{"CPATH": false, "LD_RUN_PATH": true, "PWD": false} {
		if why := call.Bound("/w/one", []action.EnvironmentVariable{{Name: name, Value: "/w/one/x"}}); (why == name) != bound {
			t.Errorf("%s: bound by %q, want %v", name, why, bound)
		}
	}
}
