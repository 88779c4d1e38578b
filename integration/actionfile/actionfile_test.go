package actionfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// workspace makes a directory with files, empty ones.
func workspace(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parse(dir, text string) (*Graph, error) {
	root, err := strictyaml.Parse("build.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	return load(root, "build.yaml", dir)
}

// show writes a graph, one action on a line.
func show(g *Graph) string {
	var b strings.Builder
	for _, a := range g.Actions {
		var needs []string
		for _, n := range a.Needs {
			needs = append(needs, g.Actions[n].Name)
		}
		fmt.Fprintf(&b, "%s: %q -> %q by %q needs %q\n", a.Name, a.Inputs, a.Outputs, a.Args, needs)
	}
	return b.String()
}

const project = `
version: 1
vars:
  cc: gcc
  cflags: [-O2, -Wall]
defaults:
  timeout: 5m
  env: {LANG: C, MODE: debug}
templates:
  compile:
    inputs: ['%{path}', include]
    outputs: ['obj/%{sub}.o']
    command: ['%{cc}', '%{cflags}', -c, -o, '%{out}', '%{path}']
    env: {MODE: '%{stem}'}
actions:
  version:
    outputs: [include/version.h]
    shell: echo '#define V 1' > %{out}
  objects:
    foreach: ['src/**/*.c', '!src/old']
    template: compile
  app:
    inputs: ['%{out:objects}']
    outputs: [app]
    command: [gcc, -o, app, '%{out:objects}']
  test:
    inputs: [app]
    command: [./app]
    optional: true
    after: [version]
default: [app]
`

func TestLoad(t *testing.T) {
	dir := workspace(t, "src/a.c", "src/sub/b.x.c", "src/old/z.c", "include/x.h", "build.yaml")
	g, err := parse(dir, project)
	if err != nil {
		t.Fatal(err)
	}
	want := `version: [] -> ["include/version.h"] by ["/bin/sh" "-e" "-c" "echo '#define V 1' > include/version.h"] needs []
objects[src/a.c]: ["src/a.c" "include"] -> ["obj/a.o"] by ["gcc" "-O2" "-Wall" "-c" "-o" "obj/a.o" "src/a.c"] needs ["version"]
objects[src/sub/b.x.c]: ["src/sub/b.x.c" "include"] -> ["obj/sub/b.x.o"] by ["gcc" "-O2" "-Wall" "-c" "-o" "obj/sub/b.x.o" "src/sub/b.x.c"] needs ["version"]
app: ["obj/a.o" "obj/sub/b.x.o"] -> ["app"] by ["gcc" "-o" "app" "obj/a.o" "obj/sub/b.x.o"] needs ["objects[src/a.c]" "objects[src/sub/b.x.c]"]
test: ["app"] -> [] by ["./app"] needs ["version" "app"]
`
	if got := show(g); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if env := g.Actions[2].Env; !slices.Equal(env, []string{"LANG=C", "MODE=b.x"}) {
		t.Errorf("env %q", env)
	}
	if s := g.Actions[3].Settings; len(s) != 1 || s[0].Name != "timeout" || s[0].Value != "5m" || s[0].Pos.Line != 7 {
		t.Errorf("settings %v", s)
	}
	for _, c := range []struct{ targets, want string }{
		{"", "0 1 2 3"},
		{"test", "0 1 2 3 4"},
		{"objects", "0 1 2"},
		{"obj/a.o", "0 1"},
		{"./obj//sub/b.x.o", "0 2"},
		{"objects[src/a.c] version", "0 1"},
	} {
		got, err := g.Select(strings.Fields(c.targets))
		if err != nil || strings.Trim(fmt.Sprint(got), "[]") != c.want {
			t.Errorf("select %s: %v, %v", c.targets, got, err)
		}
	}
	if _, err := g.Select([]string{"ap"}); err == nil || !strings.Contains(err.Error(), `no action is called "ap", and none makes it: did you mean "app"?`) {
		t.Errorf("select ap: %v", err)
	}
}

// TestNeeds is about who consumes whose outputs.
func TestNeeds(t *testing.T) {
	for _, c := range []struct{ name, inputs, output, want string }{
		{"the path", "[gen.h]", "gen.h", "[0]"},
		{"another path", "[x.h]", "gen.h", "[]"},
		{"a directory around it", "[gen]", "gen/a/b.h", "[0]"},
		{"a file in it", "[gen/a/b.h]", "gen", "[0]"},
		{"the workspace", "[.]", "gen/a", "[0]"},
		{"a pattern", "['gen/*.h']", "gen/a.h", "[0]"},
		{"a pattern that does not match", "['gen/*.c']", "gen/a.h", "[]"},
		{"a pattern into it", "['gen/**/*.h']", "gen", "[0]"},
		{"a deep pattern", "['**/*.h']", "gen/x/a.h", "[0]"},
		{"two patterns", "['*.h']", "g*.h", "[0]"},
		{"two patterns that differ", "['*.h']", "g*.c", "[]"},
		{"an exception", "[gen, '!gen/a.h']", "gen/a.h", "[]"},
		{"an exception, taken back", "[gen, '!gen/a.h', gen/a.h]", "gen/a.h", "[0]"},
		{"an exception before", "['!gen/a.h', gen]", "gen/a.h", "[0]"},
		{"an exception for something else", "[gen, '!gen/b.h']", "gen/a.h", "[0]"},
		{"the same exception of a pattern", "[gen, '!gen/*.h']", "gen/*.h", "[]"},
		{"a name that is a prefix", "[gen]", "gen2/a", "[]"},
		{"a tree of the store", "['gen=blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0']", "gen", "[]"},
		{"odd ways to write it", "[./gen//a.h]", "gen/./a.h", "[0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := parse(workspace(t), fmt.Sprintf("version: 1\nactions:\n  make:\n    outputs: ['%s']\n    command: [x]\n  use:\n    inputs: %s\n    outputs: [used]\n    command: [y]\n", c.output, c.inputs))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(g.Actions[1].Needs); got != c.want {
				t.Errorf("needs %s, want %s", got, c.want)
			}
		})
	}
}

// TestForeachDoesNotSeeItsOwn: what earlier runs left makes no difference.
func TestForeachDoesNotSeeItsOwn(t *testing.T) {
	const text = `
version: 1
actions:
  gen: {outputs: [made.c], command: [gen]}
  tree: {outputs: [out], command: [tree]}
  all:
    foreach: '**/*.c'
    inputs: ['%{path}']
    outputs: ['%{dir}/%{stem}.x.c']
    command: [x, '%{path}']
  below: {outputs: [late.c], command: [late]}
`
	fresh, err := parse(workspace(t, "a.c", "d/b.c"), text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(workspace(t, "a.c", "d/b.c", "a.x.c", "d/b.x.c", "made.c", "made.x.c", "out/z.c", "late.c", "a.x.x.c"), text)
	if err != nil {
		t.Fatal(err)
	}
	if show(fresh) != show(again) {
		t.Errorf("first\n%s\nthen\n%s", show(fresh), show(again))
	}
	if len(fresh.Actions) != 6 || fresh.Actions[4].Name != "all[made.c]" || fmt.Sprint(fresh.Actions[4].Needs) != "[0]" {
		t.Errorf("%s", show(fresh))
	}
}

func TestOwnOutputsAreNoInputs(t *testing.T) {
	dir := workspace(t, "src/a.c", "src/a.o", "src/x1.tmp")
	g, err := parse(dir, "version: 1\nactions:\n  a: {inputs: [src], outputs: [src/a.o, src/b.o, 'src/x*.tmp', 'src/y*.tmp'], command: [x]}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := g.ScanInputs(g.Actions[0]); fmt.Sprint(got) != "[src !src/a.o !src/x*.tmp]" {
		t.Errorf("inputs %q", got)
	}
}

func TestShellQuotes(t *testing.T) {
	g, err := parse(workspace(t, "it's a.c"), "version: 1\nvars: {f: [-a, 'b c'], one: $x}\nactions:\n  a: {foreach: '*.c', shell: 'cc %{f} %{path} %{one} %%{x} 100%', outputs: ['%{stem}.o']}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Actions[0].Args[3]; got != `cc -a 'b c' 'it'\''s a.c' '$x' %{x} 100%` {
		t.Errorf("%s", got)
	}
}

// TestMistakes: every one has file, line and column.
func TestMistakes(t *testing.T) {
	dir := workspace(t, "a.c", "src/b.c")
	head := "version: 1\nactions:\n"
	for _, c := range []struct{ text, want string }{
		{"", `1:1: the file is empty: it needs "version: 1" and "actions:"`},
		{"- a\n", "1:1: an action file must be a mapping"},
		{"actions:\n  a: {command: [x]}\n", `1:1: an action file has no "version"`},
		{"version: 2\nactions:\n  a: {command: [x]}\n", `1:10: "version" must be 1`},
		{"version: 1\n", `1:1: an action file has no "actions"`},
		{head + "  {}\n", `3:3: "actions" has none`},
		{head + "  a: {comand: [x]}\n", `3:7: an action (a) has no key "comand": did you mean "command"?`},
		{head + "  a: {zzz: 1, command: [x]}\n", `3:7: an action (a) has no key "zzz"; its keys are after, cache-failures, `},
		{head + "  a: {command: [x], command: [y]}\n", `3:21: "command" is there twice`},
		{head + "  a: {command: x y}\n", `3:16: "command" must be a list`},
		{head + "  a: {command: []}\n", `3:16: "command" is empty`},
		{head + "  a: {command: [x, true]}\n", `3:20: each of "command" must be text, and true is a boolean`},
		{head + "  a: {command: [x], shell: y}\n", "3:21: an action (a) has both command and shell"},
		{head + "  a: {inputs: [a.c]}\n", `3:3: the action "a" has neither command nor shell`},
		{head + "  a: {command: [x], inputs: {b: c}}\n", `3:29: "inputs" must be a list of text`},
		{head + "  a: {command: [x], inputs: [[b]]}\n", `3:30: each of "inputs" must be text, not a list`},
		{head + "  a: {command: [x], inputs: ['']}\n", `3:30: each of "inputs" must be text that is not empty`},
		{head + "  a: {command: [x], inputs: ['@l']}\n", `3:30: input "@l": lists are for the command line`},
		{head + "  a: {command: [x], inputs: [/etc]}\n", `3:30: input "/etc": it is absolute`},
		{head + "  a: {command: [x], inputs: [../x]}\n", `3:30: input "../x": it is outside of the workspace`},
		{head + "  a: {command: [x], outputs: [.]}\n", `3:31: output ".": the whole workspace`},
		{head + "  a: {command: [x], outputs: ['!b']}\n", `3:31: output "!b": an output cannot be an exception`},
		{head + "  a: {command: [x], network: yes}\n", `3:30: "network" must be true or false, not the text "yes"`},
		{head + "  a: {command: [x], env: {'A=B': c}}\n", `3:27: "A=B" cannot be the name of a variable`},
		{head + "  a: {command: [x], env: {A: [c]}}\n", `3:30: the value of A must be text, not a list`},
		{head + "  a: {command: [x], passenv: [A=b]}\n", `3:31: "A=b" cannot be the name of a variable`},
		{head + "  a: {command: [x], cwd: ../b}\n", `3:26: "cwd" must be a path in the workspace`},
		{head + "  a: {command: [x], template: t}\n", `3:31: no template is called "t"`},
		{head + "  a: {command: ['%{x}']}\n", `3:17: no variable is called "x"`},
		{head + "  a: {command: ['%{pth}']}\n", `3:17: no variable is called "pth": did you mean "path"?`},
		{head + "  a: {command: ['%{path}']}\n", `3:17: %{path} is there in an action with foreach only`},
		{head + "  a: {command: ['%{x']}\n", `3:17: "%{" without "}"`},
		{head + "  a: {command: ['%{out:b}']}\n", `3:17: no action is called "b"`},
		{head + "  a: {command: [x], outputs: ['%{out}']}\n", `3:31: %{out} cannot be used here`},
		{head + "  a: {command: [x], foreach: '*.zz'}\n", `3:21: "foreach" finds no file`},
		{head + "  a: {command: [x], foreach: [b.c]}\n", `3:31: "b.c" is not in the workspace, and no action above makes it`},
		{head + "  a: {command: [x], foreach: ['%{out:b}']}\n  b: {command: [x], outputs: [o]}\n", `3:31: the action "b" is below`},
		{head + "  a: {command: [x], outputs: [o]}\n  b: {command: [x], outputs: [./o]}\n", `4:3: the actions "b" and "a" (line 3) both make "o"`},
		{head + "  a: {command: [x], outputs: [d]}\n  b: {command: [x], outputs: [d/o]}\n", `4:3: the actions "b" and "a" (line 3) both make "d/o"`},
		{head + "  a: {command: [x], outputs: ['*.o']}\n  b: {command: [x], outputs: [b.o]}\n", `4:3: the actions "b" and "a" (line 3) both make "b.o"`},
		{head + "  a: {command: [x], foreach: [a.c, src/b.c], outputs: [same.o]}\n", `3:3: the actions "a[src/b.c]" and "a[a.c]" (line 3) both make "same.o"`},
		{head + "  a: {command: [x], inputs: [o], outputs: [o]}\n", `3:30: "o" is an output of the action itself`},
		{head + "  a: {command: [x], inputs: [p], outputs: [o]}\n  b: {command: [x], inputs: [o], outputs: [p]}\n", `3:3: actions need each other: "a" (line 3) needs "b" (line 4) needs "a"`},
		{head + "  a: {command: [x], after: [a]}\n", `3:29: the action "a" cannot be after itself`},
		{head + "  a: {command: [x], after: [b]}\n", `3:29: no action is called "b"`},
		{head + "  a: {command: [x, '%{out:b}']}\n  b: {command: [x], outputs: [o]}\n", `3:20: %{out:b} is used, but is no input: add '%{out:b}' to inputs`},
		{head + "  'a b': {command: [x]}\n", `3:3: "a b" cannot be the name of an action`},
		{"version: 1\nvars: {path: x}\nactions:\n  a: {command: [x]}\n", `2:8: "path" cannot be the name of a variable`},
		{"version: 1\nvars: {x: '%{x}'}\nactions:\n  a: {command: ['%{x}']}\n", "2:11: %{x} stands for itself"},
		{"version: 1\nvars: {x: [a, b]}\nactions:\n  a: {command: ['-%{x}']}\n", "4:17: %{x} is a list"},
		{head + "  a: {command: [x]}\ndefault: [b]\n", `4:11: no action is called "b"`},
		{head + "  a: {command: [x]}\ndefault: b\n", `4:10: no action is called "b"`},
		{"version: 1\ntemplates:\n  t: {foreach: x}\nactions:\n  a: {command: [x]}\n", `3:7: a template (t) has no key "foreach"`},
		{"version: 1\ndefaults: {optional: true}\nactions:\n  a: {command: [x]}\n", `2:12: defaults has no key "optional"`},
		{head + "  a: {command: [x], optional: 1}\n", `3:31: "optional" must be true or false, not 1`},
		{head + "  a: [x]\n", "3:6: an action (a) must be a mapping"},
		{head + "  a:\n", "3:5: an action (a) must be a mapping (KEY: VALUE), not nothing"},
	} {
		g, err := parse(dir, c.text)
		if err == nil {
			t.Errorf("%q: %s", c.text, show(g))
		} else if !strings.HasPrefix(err.Error(), "build.yaml:"+c.want) {
			t.Errorf("%q\n got %v\nwant build.yaml:%s", c.text, err, c.want)
		}
	}
}

func TestCheckInputs(t *testing.T) {
	g, err := parse(workspace(t, "main.c"), "version: 1\nactions:\n  a: {inputs: [mian.c, 'x*.c', '!no', o], command: [x]}\n  b: {outputs: [o], command: [x]}\n")
	if err != nil {
		t.Fatal(err)
	}
	err = g.CheckInputs([]int{0})
	want := `build.yaml:3:16: the input "mian.c" is not in the workspace, and no action makes it: did you mean "main.c"?`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// TestManyMistakes: one run names them all.
func TestManyMistakes(t *testing.T) {
	_, err := parse(workspace(t), "version: 2\nvars: 3\nactions:\n  a: {comand: [x], network: 1}\n")
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("%v", err)
	}
}

// TestLarge has 10,000 actions in two groups.
func TestLarge(t *testing.T) {
	var files []string
	for i := range 5000 {
		files = append(files, fmt.Sprintf("src/%d.c", i))
	}
	g, err := parse(workspace(t, files...), `
version: 1
actions:
  one: {foreach: 'src/*.c', inputs: ['%{path}'], outputs: ['obj/%{stem}.o'], command: [x]}
  two: {foreach: ['%{out:one}'], inputs: ['%{path}'], outputs: ['bin/%{stem}'], command: [x]}
  all: {inputs: ['bin/*'], outputs: [all], command: [x]}
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Actions) != 10001 || len(g.Actions[10000].Needs) != 5000 || fmt.Sprint(g.Actions[9999].Needs) != "[4999]" {
		t.Errorf("%d actions", len(g.Actions))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(project)
	dir := workspace(f, "src/a.c", "include/x.h")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := parse(dir, text)
		if err != nil {
			return
		}
		for i, a := range g.Actions { // what needs what is no circle
			if len(a.Args) == 0 || slices.Contains(a.Needs, i) {
				t.Errorf("%q: action %q", text, a.Name)
			}
		}
	})
}
