package baserock

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes a tree of definitions. A name that is not given is as in base.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if text == "" {
			continue
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// base is a tree without problems.
func base() map[string]string {
	return map[string]string{
		"VERSION": "version: 8\n",
		"strata/a.morph": `name: a
kind: stratum
chunks:
- name: one
  morph: strata/a/one.morph
  repo: upstream:one
  ref: 1111111111111111111111111111111111111111
- name: two
  build-system: autotools
  repo: upstream:two
  ref: master
  build-depends:
  - one
`,
		"strata/a/one.morph": `name: one
kind: chunk
build-commands:
- make
- true
install-commands:
- make install
products:
- artifact: one-extra
  include:
  - usr/share/extra/.*
`,
		"systems/s.morph": `name: s
kind: system
arch: x86_64
strata:
- name: a
  morph: strata/a.morph
  artifacts:
  - a-runtime
`,
	}
}

func TestLoad(t *testing.T) {
	tree, err := Load(write(t, base()))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Warnings) > 0 {
		t.Error(tree.Warnings)
	}
	one, two := tree.Elements["strata/a/one"], tree.Elements["strata/a/two"]
	if got := tree.Commands(one, "build-commands"); !slices.Equal(got, []string{"make", "true"}) {
		t.Errorf("build of one: %q", got)
	}
	if got := tree.Commands(two, "build-commands"); !slices.Equal(got, []string{"make"}) {
		t.Errorf("build of two, by its build-system: %q", got)
	}
	if got := paths(two.Staged(nil)); !slices.Equal(got, []string{"strata/a/one"}) {
		t.Errorf("staged for two: %q", got)
	}
	if got := paths(Order(tree.Elements["systems/s"])); !slices.Equal(got, []string{"strata/a/one", "strata/a/two", "strata/a", "systems/s"}) {
		t.Errorf("order: %q", got)
	}
}

// TestProblems changes one thing of base, and wants exactly these problems.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ name, file, from, to, want string }{
		{"version", "VERSION", "8", "5", "VERSION:1:1: definitions of version 5 are not supported: only 6 to 8"},
		{"version text", "VERSION", "8", "eight", `VERSION:1:10: want a number from 0 to 65536, not "eight"`},
		{"no version", "VERSION", "version: 8\n", "", "VERSION: not there: is this the top of a tree of definitions, of version 6 or newer?"},
		{"unknown field", "strata/a/one.morph", "build-commands", "build-comands", `strata/a/one.morph:3:1: unknown field "build-comands" of a chunk: is "build-commands" meant?`},
		{"twice", "strata/a/one.morph", "install-commands", "build-commands", `strata/a/one.morph:6:1: "build-commands" is there twice; first in line 3`},
		{"unknown kind", "systems/s.morph", "kind: system", "kind: sistem", `systems/s.morph:1:1: unknown kind "sistem": there are chunk, stratum, system and cluster`},
		{"unknown arch", "systems/s.morph", "x86_64", "z80", `systems/s.morph:3:7: unknown arch "z80"`},
		{"missing file", "strata/a.morph", "strata/a/one.morph", "strata/a/eins.morph", "strata/a.morph:5:10: strata/a/eins.morph is not there"},
		{"missing stratum", "systems/s.morph", "strata/a.morph", "strata/b.morph", "systems/s.morph:6:10: strata/b.morph is not there"},
		{"not a stratum", "systems/s.morph", "strata/a.morph", "strata/a/one.morph", "systems/s.morph:6:10: strata/a/one.morph is a chunk, not a stratum"},
		{"later", "strata/a.morph", "  ref: 1111111111111111111111111111111111111111\n", "  ref: x\n  build-depends: [two]\n", `strata/a.morph:8:19: chunk "one" needs "two", which comes later, at line 9`},
		{"unknown need", "strata/a.morph", "  - one\n", "  - three\n", `strata/a.morph:13:5: chunk "two" needs "three", which is no chunk of this stratum`},
		{"itself", "strata/a.morph", "  - one\n", "  - two\n", `strata/a.morph:13:5: chunk "two" needs itself`},
		{"both", "strata/a.morph", "  build-system: autotools\n", "  build-system: autotools\n  morph: strata/a/one.morph\n", `strata/a.morph:8:3: chunk "two" must have one of the fields "morph" and "build-system"`},
		{"build-system", "strata/a.morph", "autotools", "scons", `strata/a.morph:9:17: unknown build-system "scons"`},
		{"build-mode", "strata/a.morph", "  ref: master\n", "  ref: master\n  build-mode: fast\n", `strata/a.morph:12:15: unknown build-mode "fast": there are staging, bootstrap and test`},
		{"prefix", "strata/a.morph", "  ref: master\n", "  ref: master\n  prefix: /usr/../etc\n", `strata/a.morph:12:11: a prefix must be an absolute path, without "..": "/usr/../etc" is not`},
		{"name", "strata/a.morph", "- name: two", "- name: ../two", `strata/a.morph:8:9: "../two" cannot be a name: it becomes the name of a directory`},
		{"no ref", "strata/a.morph", "  ref: master\n", "", `strata/a.morph:8:3: a chunk of a stratum has no field "ref"`},
		{"look-ahead", "strata/a/one.morph", "usr/share/extra/.*", "(?!usr)x", "strata/a/one.morph:11:5: error parsing regexp: invalid or unsupported Perl syntax: `(?!`: the regular expressions of RE2 have no look-ahead"},
		{"regexp", "strata/a/one.morph", "usr/share/extra/.*", "usr/(", "strata/a/one.morph:11:5: error parsing regexp: missing closing ): `(?:usr/()`"},
		{"command", "strata/a/one.morph", "- make\n", "- echo a: b\n", "strata/a/one.morph:4:3: a command must be text, not a mapping: one with a colon and a space in it needs quotes, or a | before it"},
		{"commands", "strata/a/one.morph", "\n- make\n- true", " make", "strata/a/one.morph:3:17: want a list of commands, not text"},
		{"not UTF-8", "strata/a/one.morph", "usr/share", "\xff", "strata/a/one.morph:11:5: the byte 0xff is not UTF-8 text"},
		{"no mapping", "strata/a/one.morph", "name: one\nkind: chunk\n", "- x\n", "strata/a/one.morph:"},
		{"device", "strata/a/one.morph", "products:", "devices: [{type: c, filename: /dev/x, permissions: '0999', major: 1, minor: 3, uid: 0, gid: 0}]\nproducts:", `strata/a/one.morph:8:11: the permissions of a device are an octal number such as "0600", not "0999"`},
		{"device name", "strata/a/one.morph", "products:", "devices: [{type: c, filename: /dev/../x, permissions: '0644', major: 1, minor: 3, uid: 0, gid: 0}]\nproducts:", `strata/a/one.morph:8:11: the filename of a device must be absolute`},
		{"defaults", "DEFAULTS", "", "build-systems:\n  manual:\n    pre-build-commands: []\n", `DEFAULTS:3:5: unknown field "pre-build-commands" of build-system manual`},
		{"split rules", "DEFAULTS", "", "split-rules:\n  chunk:\n  - artifact: -x\n    include: ['(']\n", "DEFAULTS:4:15: error parsing regexp: missing closing ): `(?:()`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := base()
			if !strings.Contains(files[c.file], c.from) {
				t.Fatalf("%s has no %q", c.file, c.from)
			}
			files[c.file] = strings.Replace(files[c.file], c.from, c.to, 1)
			_, err := Load(write(t, files))
			if err == nil {
				t.Fatalf("no error; want %s", c.want)
			}
			if first, _, _ := strings.Cut(err.Error(), "\n"); !strings.HasPrefix(first, c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestAllProblems wants each of several mistakes in several files, at once.
func TestAllProblems(t *testing.T) {
	files := base()
	files["strata/a.morph"] = strings.Replace(files["strata/a.morph"], "- one\n", "- nine\n", 1)
	files["strata/a/one.morph"] += "max-jobs: many\nnonsense: 1\n"
	files["systems/s.morph"] = strings.Replace(files["systems/s.morph"], "x86_64", "vax", 1)
	files["clusters/c.morph"] = "name: c\nkind: cluster\nsystems:\n- morph: systems/none.morph\n"
	files["broken.morph"] = "name: [\n"
	_, err := Load(write(t, files))
	problems, ok := err.(Problems)
	if !ok || len(problems) != 6 {
		t.Fatalf("want 6 problems, got\n%v", err)
	}
	var at []string
	for _, p := range problems {
		at = append(at, p.File)
	}
	want := []string{"broken.morph", "clusters/c.morph", "strata/a.morph", "strata/a/one.morph", "strata/a/one.morph", "systems/s.morph"}
	if !slices.Equal(at, want) {
		t.Errorf("problems in %q, want %q\n%v", at, want, err)
	}
}

// TestDoubts loads a tree in which a system wants an artifact that there is not:
// it has a graph, and cannot be built.
func TestDoubts(t *testing.T) {
	files := base()
	files["systems/s.morph"] += "  - nope\n  - never\n"
	tree, err := Load(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	s := tree.Elements["systems/s"]
	if got := Order(s); len(got) != 4 {
		t.Errorf("order %q", paths(got))
	}
	_, err = tree.Project(s, Options{Aliases: []Alias{{"upstream:", "git://host/"}}})
	want := `systems/s.morph:9:5: stratum strata/a has no artifact "nope": it has a-devel, a-runtime
systems/s.morph:10:5: stratum strata/a has no artifact "never": it has a-devel, a-runtime`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCycle(t *testing.T) {
	files := base()
	files["strata/a.morph"] += "build-depends:\n- morph: strata/b.morph\n"
	files["strata/b.morph"] = "name: b\nkind: stratum\nbuild-depends:\n- morph: strata/a.morph\nchunks: []\n"
	_, err := Load(write(t, files))
	if err == nil || !strings.Contains(err.Error(), "needs itself: strata/a -> strata/b -> strata/a") {
		t.Errorf("got %v", err)
	}
}

// TestBomb wants a file of aliases of aliases to be refused before it fills the
// memory, and one of ten megabytes before it is read.
func TestBomb(t *testing.T) {
	files := base()
	var bomb strings.Builder
	bomb.WriteString("name: one\nkind: chunk\na: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c < 'z'; c++ {
		bomb.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "x]\n")
	}
	files["strata/a/one.morph"] = bomb.String()
	_, err := Load(write(t, files))
	if err == nil || !strings.Contains(err.Error(), "strata/a/one.morph:") || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("a bomb of aliases: %v", err)
	}
	files["strata/a/one.morph"] = "name: " + strings.Repeat("x", 10<<20) + "\nkind: chunk\n"
	_, err = Load(write(t, files))
	if err == nil || !strings.Contains(err.Error(), "strata/a/one.morph: longer than") {
		t.Errorf("ten megabytes: %v", err)
	}
}

// TestOutside wants a link out of the tree not to be followed.
func TestOutside(t *testing.T) {
	dir := write(t, base())
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("name: x\nkind: chunk\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "strata/x.morph")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "strata/x.morph") {
		t.Errorf("got %v", err)
	}
}
