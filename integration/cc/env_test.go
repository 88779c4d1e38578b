package cc

import "testing"

// TestVariables wants compilers to get the variables that they, or their C library, read,
// and others only where something may read them that is no part of a compiler.
func TestVariables(t *testing.T) {
	env := []string{"ADA_INCLUDE_PATH=i", "ADA_OBJECTS_PATH=o", "GCONV_PATH=g", "FOO=1", "LS_COLORS=l", "SHLVL=1"}
	for _, script := range []bool{false, true} {
		c := Parse(Unknown, "/", []string{"gcc", "-c", "a.c"})
		c.Script = script
		want := 3
		if script {
			want = 5
		}
		if got := c.Environment(env, nil, nil); len(got) != want {
			t.Errorf("a script: %v: %v", script, got)
		}
	}
	for value, native := range map[string]bool{"+-march=native": true, "+-O1": false} {
		c := Parse(Unknown, "/", []string{"clang", "-c", "a.c"})
		if c.Environment([]string{"CCC_OVERRIDE_OPTIONS=" + value}, nil, nil); c.Native != native {
			t.Errorf("with %s: the processor is in the key: %v", value, c.Native)
		}
	}
}

// TestExtended wants calls to have their whole environment in the key if they name what is
// no part of a compiler, and others not.
func TestExtended(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  map[string]string
		want bool
	}{
		{args: []string{"gcc", "-O2", "-c", "a.c"}},
		{args: []string{"gcc", "-B/usr/lib/x", "-c", "a.c"}},
		{args: []string{"gcc", "-Bhere", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "-B", "/home/x", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "-B", "/usr/bin", "-c", "a.c"}},
		{args: []string{"gcc", "--prefix=/home/x", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "-B/usr/../home/x", "-c", "a.c"}, want: true},
		{args: []string{"ld", "-Bstatic", "a.o"}},
		{args: []string{"x86_64-linux-gnu-ld", "-Bsymbolic", "a.o"}},
		{args: []string{"gcc", "-specs=nosys.specs", "-c", "a.c"}},
		{args: []string{"gcc", "--specs=/usr/lib/x.specs", "-c", "a.c"}},
		{args: []string{"gcc", "--specs=/usr/src/x.specs", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "--specs=./x.specs", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "-specs", "/home/x.specs", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "-fplugin=x", "-c", "a.c"}, want: true},
		{args: []string{"clang", "-Xclang", "-load", "-Xclang", "x.so", "-c", "a.c"}, want: true},
		{args: []string{"gcc", "a.o", "-Wl,-plugin,x.so"}, want: true},
		{args: []string{"ar", "--plugin", "x.so", "rcs", "a.a", "a.o"}, want: true},
		{args: []string{"gcc", "-c", "a.c"}, env: map[string]string{"COMPILER_PATH": "/usr/bin:/home/x"}, want: true},
		{args: []string{"gcc", "-c", "a.c"}, env: map[string]string{"COMPILER_PATH": "/usr/bin"}},
		{args: []string{"gcc", "-c", "a.c"}, env: map[string]string{"GCC_EXEC_PREFIX": "/home/x/"}, want: true},
		{args: []string{"clang", "-c", "a.c"}, env: map[string]string{"CCC_OVERRIDE_OPTIONS": "+-fplugin=x.so"}, want: true},
	} {
		call := Parse(Unknown, "/home/me", c.args)
		if got := call.Extended(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%q, %v: %v, want %v", c.args, c.env, got, c.want)
		}
	}
}

// TestMentions wants a macro that mentions /proc to be taken for text, and what may name a
// descriptor not.
func TestMentions(t *testing.T) {
	for arg, want := range map[string]Reason{
		`-DPROCFS_EXECUTABLE_PATH="/proc/self/exe"`: "",
		`-DX="/proc/self/fd/0"`:                     ReasonArguments,
		`-DX="/dev/stdin"`:                          ReasonArguments,
		`-I/proc/self/cwd`:                          ReasonArguments,
	} {
		if got := Parse(Unknown, "/", []string{"gcc", "-c", arg, "a.c"}).Plain; got != want {
			t.Errorf("%s: %q, want %q", arg, got, want)
		}
	}
	if got := Parse(Any, "/", []string{"x", "-D/proc/self/exe"}).Plain; got != ReasonArguments {
		t.Errorf("an unknown program: %q", got)
	}
}

// TestLinkerSays wants -v of a linker, by whichever name, to be a link like another, and
// of a driver a question.
func TestLinkerSays(t *testing.T) {
	for _, c := range []struct {
		name string
		want Reason
	}{
		{"ld", ""},
		{"ld.gold", ""},
		{"x86_64-linux-gnu-ld.bfd", ""},
		{"/usr/bin/aarch64-linux-gnu-ld", ""},
		{"gcc", ReasonQuery},
		{"x86_64-linux-gnu-gcc-12", ReasonQuery},
	} {
		if call := Parse(Unknown, "/", []string{c.name, "-v", "a.o"}); call.Plain != c.want || c.want == "" && call.Kind != Link {
			t.Errorf("%s -v a.o: kind %v, %q; want %q", c.name, call.Kind, call.Plain, c.want)
		}
	}
}
