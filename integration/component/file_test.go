package component

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func readText(t *testing.T, text string) (*Project, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return ReadFile(name)
}

func TestReadFile(t *testing.T) {
	p, err := readText(t, `sbx: 1
base: bookworm
env: {CFLAGS: -O1, A: 1.10}
components:
  tool: {build: make tool}
  lib: {source: {dir: src, patches: [p/a.patch]}, build-system: make, prefix: /opt/x, build-needs: tool}
  app:
    source: git:/srv/app@v1
    needs: [lib]
    env: {CFLAGS: -O2}
    configure: []
    build: [one, two]
    limits: {timeout: 90s, memory: 2GiB, cpus: 3}
    outputs: {bin: ["usr/bin/**"]}
systems:
  s: {contents: ["app:bin"], base: true, integrate: ldconfig}
  both: {contents: [lib, lib:doc, app:bin, app]}
`)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Names(); !slices.Equal(got, []string{"tool", "lib", "app", "s", "both"}) {
		t.Errorf("names %q", got)
	}
	lib, app := p.Components[1], p.Components[2]
	if len(app.Needs) != 1 || app.Needs[0] != lib || lib.Needs[0].Name != "tool" {
		t.Errorf("app needs %v, lib %v", app.Needs, lib.Needs)
	}
	if lib.Steps[0].Name != "patch" || !strings.Contains(lib.Steps[0].Commands[0], "/lib.patches/1-a.patch") || !filepath.IsAbs(lib.Source.Patches[0]) {
		t.Errorf("patches: %+v", lib)
	}
	env := map[string]string{}
	for _, v := range app.Env {
		env[v.Name] = v.Value
	}
	if env["CFLAGS"] != "-O2" || env["A"] != "1.10" || env["PREFIX"] != "/usr" || env["DESTDIR"] != "/app.inst" {
		t.Errorf("the environment of app: %v", env)
	}
	if app.MaxJobs != 3 || app.Limits.Memory != 2<<30 || app.Limits.Timeout.Seconds() != 90 {
		t.Errorf("limits of app: %+v", app.Limits)
	}
	if app.Split("usr/bin/x") != "bin" || app.Split("usr/bin") != "bin" || app.Split("usr/lib") != "rest" || lib.Split("usr/include/x.h") != "devel" {
		t.Error("the split")
	}
	s := p.Systems[0]
	if len(s.Contents) != 2 || !s.Contents[0].All || s.Contents[1].All || s.Contents[1].Artifacts[0] != "bin" || s.Base != "bookworm" {
		t.Errorf("the system: %+v", s)
	}
	if s := p.Systems[1]; len(s.Contents) != 2 || !s.Contents[0].All || !s.Contents[1].All {
		t.Errorf("a component and an output of it: %+v", s)
	}
}

// TestAllProblems wants more than a screen of problems in one go, in their order.
func TestAllProblems(t *testing.T) {
	var text strings.Builder
	text.WriteString("sbx: 1\ncomponents:\n  a: {build: x}\n  a: {build: y}\n")
	for i := range 40 {
		text.WriteString(fmt.Sprintf("  c%d: {nonsense: 1, needs: [none]}\n", i))
	}
	_, err := readText(t, text.String())
	if err == nil {
		t.Fatal("no problem")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 81 || !strings.Contains(lines[0], ":4:3: ") || !strings.Contains(lines[80], `sbx.yaml:44:30: `) {
		t.Errorf("%d lines:\n%v", len(lines), err)
	}
}

// TestSketch reads every key of the sketch by which the format was begun.
func TestSketch(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	p, err := readText(t, `sbx: 1
base: {image: "oci:./base", digest: "sha256:`+digest+`"}
env:  {LC_ALL: C.UTF-8}
components:
  zlib:
    source: {tar: zlib-1.2.13.tar.xz, sha256: `+digest+`, strip: 1, patches: [a.patch]}
    build-system: autotools
    configure: ./configure --prefix="$PREFIX"
  ncurses: {build: make}
  readline: {source: {dir: readline}, build-system: autotools, needs: [ncurses]}
  bash:
    needs: [readline]
    outputs: {runtime: ["usr/bin/**", "bin/**"], doc: ["usr/share/{man,info,doc}/**"]}
    limits: {timeout: 20m, memory: 2GiB, cpus: 2}
systems:
  mini: {contents: [bash, zlib:runtime], integrate: ["ldconfig"], output: oci}
  more: {contents: [bash], output: [dir, "tar:/x/y.tar"]}
`)
	if err != nil {
		t.Fatal(err)
	}
	zlib := p.Components[0]
	place, want := zlib.Base.SplitDigest()
	if !strings.HasPrefix(place, "oci:") || !strings.HasSuffix(place, "/base") || want != "sha256:"+digest {
		t.Errorf("base %s, %s", place, want)
	}
	if zlib.Source.Strip == nil || *zlib.Source.Strip != 1 {
		t.Errorf("strip %v", zlib.Source.Strip)
	}
	mini, more := p.Systems[0].Outputs, p.Systems[1].Outputs
	if len(mini) != 1 || mini[0].Kind != OCIOutput || filepath.Base(mini[0].Path) != "mini.oci" || !filepath.IsAbs(mini[0].Path) {
		t.Errorf("output %+v", mini)
	}
	if len(more) != 2 || filepath.Base(more[0].Path) != "more" || more[1] != (Output{TarOutput, "/x/y.tar"}) {
		t.Errorf("outputs %+v", more)
	}
	var text strings.Builder
	if err := p.Show(&text, "zlib"); err != nil || !strings.Contains(text.String(), "configure 1:\n    ./configure --prefix=\"$PREFIX\"\nbuild 1:\n    make\n") {
		t.Errorf("%v\n%s", err, text.String())
	}
	text.Reset()
	if err := p.Graph(&text, "mini", "text"); err != nil || text.String() != "component ncurses\ncomponent readline needs ncurses\ncomponent bash needs ncurses readline\ncomponent zlib\nsystem mini contains ncurses readline bash zlib\n" {
		t.Errorf("%v\n%s", err, text.String())
	}
	for text, want := range map[string]string{
		"base: {image: x, digest: 12}":                                          ":2:18: digest must be sha256: or blake3: and 64 digits",
		"components: {a: {source: {dir: x, strip: 1}}}":                         ":2:35: strip is for an archive",
		"components: {a: {}}\nsystems: {s: {contents: [a], output: zip}}":       `:3:38: output "zip": want KIND:PATH`,
		"components: {a: {source: {tar: x, sha256: " + digest + ", strip: x}}}": `"strip" must be a whole number from 0 to 100`,
	} {
		if _, err := readText(t, "sbx: 1\n"+text+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// TestWriteYAML reads what WriteYAML has written, and wants the same scripts and
// the same splits.
func TestWriteYAML(t *testing.T) {
	strange := "printf '%s\\n' \"a: b\" # not\ta comment\n\n  indented\n"
	rules := []SplitRule{{"lib-bins", []string{"(usr/)?bin/.*"}}, {"lib-misc", []string{".*"}}}
	base := &Component{Name: "strata/base", Short: "base", Tree: "bookworm"}
	lib := &Component{
		Name: "strata/lib", Short: "lib", Needs: []*Component{base}, Rules: rules, MaxJobs: 2,
		Env:     []Variable{{"DESTDIR", "/lib.inst"}, {"PATH", "/usr/bin:/bin"}, {"PREFIX", "/opt"}, {"Q", "a'b\"c"}},
		Source:  &Source{Kind: GitSource, At: "/srv/lib", Ref: "v1", Submodules: map[string]*Source{"a b": {Kind: GitSource, At: "/srv/sub"}}},
		Steps:   []Step{{"build-commands", []string{strange, "make", "true", "- x", "a\nb\n"}, true}, {"install-commands", []string{"x: y"}, false}},
		Devices: []Device{{Path: "dev/null", Type: 'c', Major: 1, Minor: 3, Mode: 0o666}},
	}
	var b strings.Builder
	if err := WriteYAML(&b, &Project{Components: []*Component{base, lib}}); err != nil {
		t.Fatal(err)
	}
	p, err := readText(t, b.String())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	got := p.Components[0]
	for i, s := range lib.Steps {
		if !slices.Equal(got.Steps[i].Commands, s.Commands) || got.Steps[i].Parallel != s.Parallel {
			t.Errorf("%s: %q, want %q\n%s", s.Name, got.Steps[i].Commands, s.Commands, b.String())
		}
	}
	if got.Base != "bookworm" || got.MaxJobs != 2 || got.Source.String() != "git:/srv/lib@v1" || got.Devices[0] != lib.Devices[0] {
		t.Errorf("%+v", got)
	}
	if sub := got.Source.Submodules["a b"]; sub == nil || sub.At != "/srv/sub" || sub.Ref != "" {
		t.Errorf("the submodule: %+v", sub)
	}
	for _, v := range lib.Env {
		if !slices.Contains(got.Env, v) {
			t.Errorf("no %v in %v", v, got.Env)
		}
	}
	if got.Split("usr/bin/x") != "lib-bins" || got.Split("etc") != "lib-misc" {
		t.Error("the split")
	}
}

func TestWriteYAMLRefuses(t *testing.T) {
	var b strings.Builder
	if err := WriteYAML(&b, &Project{Components: []*Component{{Name: "stage1", Short: "stage1", HostTools: true}}}); err == nil || b.Len() > 0 {
		t.Errorf("%v: %q", err, b.String())
	}
}

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		glob, yes, no string
	}{
		{"usr/bin/*", "usr/bin/x", "usr/bin/x/y"},
		{"usr/**", "usr/bin/x/y", "usr"},
		{"{usr/,}lib/lib?.[ao]", "lib/libx.a", "lib/libxy.a"},
		{"a.b", "a.b", "axb"},
		{"x[!a-c]", "xd", "xb"},
		{"re:(a|b)+", "abab", "abc"},
	} {
		e, err := globRegexp([]string{c.glob})
		if err != nil || !e.MatchString(c.yes) || e.MatchString(c.no) {
			t.Errorf("%s: %v, %v", c.glob, e, err)
		}
	}
	for _, bad := range []string{"a[", "{a", "re:(", "[]"} {
		if e, err := globRegexp([]string{bad}); err == nil {
			t.Errorf("%s: %v", bad, e)
		}
	}
}

// TestSchema wants the schema to have the fields that the reader reads: a file
// with one that is not of the format gets an error that lists those that are.
func TestSchema(t *testing.T) {
	var schema struct {
		Properties map[string]any
		Defs       map[string]struct {
			Properties map[string]any
			AnyOf      []struct{ Properties map[string]any }
			Enum       []string
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	limits := schema.Defs["limits"].Properties
	test := schema.Defs["component"].Properties["tests"].(map[string]any)["additionalProperties"].(map[string]any)["anyOf"].([]any)[1].(map[string]any)["properties"].(map[string]any)
	device := schema.Defs["component"].Properties["devices"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any)
	for _, c := range []struct {
		text string
		have map[string]any
	}{
		{"sbx: 1\nzzzzzzzz: 1\n", schema.Properties},
		{"sbx: 1\ncomponents: {a: {zzzzzzzz: 1}}\n", schema.Defs["component"].Properties},
		{"sbx: 1\ncomponents: {a: {source: {dir: x, zzzzzzzz: 1}}}\n", schema.Defs["source"].AnyOf[1].Properties},
		{"sbx: 1\ncomponents: {a: {limits: {zzzzzzzz: 1}}}\n", limits},
		{"sbx: 1\ncomponents: {a: {tests: {t: {commands: x, zzzzzzzz: 1}}}}\n", test},
		{"sbx: 1\ncomponents: {a: {devices: [{path: x, type: c, zzzzzzzz: 1}]}}\n", device},
		{"sbx: 1\nbase: {image: x, zzzzzzzz: 1}\n", schema.Defs["base"].AnyOf[1].Properties},
		{"sbx: 1\nsystems: {s: {contents: [], zzzzzzzz: 1}}\n", schema.Defs["system"].Properties},
	} {
		_, err := readText(t, c.text)
		if err == nil || !strings.Contains(err.Error(), "; its keys are ") {
			t.Fatalf("%s: %v", c.text, err)
		}
		_, list, _ := strings.Cut(err.Error(), "; its keys are ")
		list, _, _ = strings.Cut(list, "\n")
		read := strings.Split(list, ", ")
		for _, name := range read {
			if _, ok := c.have[name]; !ok {
				t.Errorf("%s: the schema has no %q", strings.TrimSpace(c.text), name)
			}
		}
		for name := range c.have {
			if !slices.Contains(read, name) {
				t.Errorf("%s: only the schema has %q", strings.TrimSpace(c.text), name)
			}
		}
	}
	systems := schema.Defs["component"].Properties["build-system"].(map[string]any)["enum"].([]any)
	if len(systems) != len(buildSystems()) {
		t.Errorf("%d build-systems in the schema, %d here", len(systems), len(buildSystems()))
	}
	for _, s := range systems {
		if buildSystems()[s.(string)] == nil {
			t.Errorf("only the schema has the build-system %s", s)
		}
	}
}

func TestParseSource(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	for _, s := range []string{"dir:/x", "tar:/x.tar#" + sum, "tar:https://example.org/a#b#" + sum, "git:/x@y@v1", "dsc:a/b.dsc"} {
		src, err := ParseSource(s)
		if err != nil || src.String() != s {
			t.Errorf("%s: %v, %v", s, src, err)
		}
	}
	for _, s := range []string{"", "x", "dir:", "zip:a", "tar:/x.tar", "tar:/x#0a", "tar:x#" + strings.ToUpper(sum), "git:/x", "git:@v1", "git:x@"} {
		if src, err := ParseSource(s); err == nil {
			t.Errorf("%s: %v", s, src)
		}
	}
}
