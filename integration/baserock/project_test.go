package baserock

import (
	"os"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/component"
)

// TestSubmodules turns submodules into sources: by a source, by an alias; and says
// all that are nowhere, together with chunks that are nowhere.
func TestSubmodules(t *testing.T) {
	repos := t.TempDir() + "/"
	for _, name := range []string{"one", "two.git", "inner"} {
		if err := os.Mkdir(repos+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"6", "7", "8"} {
		files := base()
		files["VERSION"] = "version: " + version + "\n"
		files["strata/a.morph"] = strings.Replace(files["strata/a.morph"], "  ref: master\n", "  ref: master\n  submodules:\n    a/x: {url: 'upstream:inner'}\n    b: {url: 'git://far/b'}\n    c: {url: 'other:c'}\n", 1)
		tree, err := Load(write(t, files))
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Sources: map[string]*component.Source{}, Aliases: []Alias{{"upstream:", repos}}}
		_, err = tree.Project(tree.Elements["systems/s"], o)
		if err == nil || !strings.Contains(err.Error(), "strata/a.morph:8:3: submodule c of strata/a/two needs other:c") || !strings.HasPrefix(err.Error(), "1 source is nowhere:") {
			t.Fatalf("version %s: %v", version, err)
		}
		own := &component.Source{Kind: component.DirSource, At: "/somewhere"}
		o.Sources["other:c"] = own
		o.Sources["git://only.in/gitmodules"] = own
		p, err := tree.Project(tree.Elements["systems/s"], o)
		if err != nil {
			t.Fatal(err)
		}
		s := p.Components[1].Source
		if s.At != repos+"two.git" || len(s.Submodules) != 3 || s.Submodules["a/x"].At != repos+"inner" || s.Submodules["b"].At != "git://far/b" || s.Submodules["c"] != own {
			t.Errorf("%+v", s)
		}
		if at := s.Locate("upstream:one"); at == nil || at.At != repos+"one" {
			t.Errorf("an alias in .gitmodules: %v", at)
		}
		if s.Locate("git://only.in/gitmodules") != own || s.Locate("git://else") != nil {
			t.Error("a source for .gitmodules")
		}
	}
}
