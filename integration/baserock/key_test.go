package baserock

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/component"
)

// TestKeys compares keys with those that other code has computed: for a tree
// of our own, and for that of Baserock, where CI has laid it beside us. The keys
// of the latter are YBD's.
func TestKeys(t *testing.T) {
	t.Run("own", func(t *testing.T) {
		tree, err := Load("testdata/tree")
		if err != nil {
			t.Fatal(err)
		}
		compareKeys(t, tree, sample(t, "testdata/keys.tsv"))
	})
	if data := shared(); data != "" {
		t.Run("baserock", func(t *testing.T) {
			compareKeys(t, corpus(t, data), sample(t, filepath.Join(data, "ybd-keys-sample.tsv")))
		})
	}
}

func compareKeys(t *testing.T, tree *Tree, want map[string]map[string]string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("control: no keys to compare with")
	}
	for target, elements := range want {
		e, err := tree.Find(target)
		if err != nil {
			t.Fatal(err)
		}
		arch := "x86_64"
		if e.Arch != "" {
			arch = e.Arch
		}
		keys, err := tree.YBDKeys(e, arch, SyntheticTreeID)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if want := elements[k.Element.Path]; k.Key != want {
				t.Errorf("%s: %s: %s, want %s", target, k.Element.Path, k.Key, want)
			}
		}
		if len(keys) != len(elements) {
			t.Errorf("%s: %d keys, want %d", target, len(keys), len(elements))
		}
	}
}

// TestCorpus wants each definition of Baserock to give a graph.
func TestCorpus(t *testing.T) {
	data := shared()
	if data == "" {
		t.Log("the definitions of Baserock are not here: CI lays them beside the checkout, as ../shared/data")
		return
	}
	tree := corpus(t, data)
	kinds := map[Kind]int{}
	for _, e := range tree.Elements {
		kinds[e.Kind]++
		if order := Order(e); order[len(order)-1] != e {
			t.Errorf("%s is not the last of what it is made of", e.Path)
		}
		if err := WriteDot(io.Discard, e); err != nil {
			t.Error(err)
		}
		for _, r := range tree.Rules(e) {
			r.Match("usr/bin/x")
		}
		if e.Kind == Chunk && !e.Bootstrap() {
			for _, s := range e.Staged(nil) {
				if s.Bootstrap() && !slices.Contains(e.Depends, s) {
					t.Errorf("%s is built with the bootstrap chunk %s, which it does not name", e.Path, s.Path)
				}
			}
		}
	}
	// 503 files of chunks, and 583 chunks that are nothing but a build-system.
	if kinds[Chunk] != 1086 || kinds[Stratum] != 146 || kinds[System] != 87 || kinds[Cluster] != 40 {
		t.Errorf("%v", kinds)
	}
}

// TestCorpusConverts writes systems of Baserock as an sbx.yaml, which is read again
// and has as many components and systems: every tenth, which takes a second, and
// those that have been a problem.
func TestCorpusConverts(t *testing.T) {
	data := shared()
	if data == "" {
		t.Log("the definitions of Baserock are not here: CI lays them beside the checkout, as ../shared/data")
		return
	}
	tree := corpus(t, data)
	o := Options{AnySource: true, Replace: map[string]component.Base{"strata/build-essential": "toolchain"}}
	number, converted := 0, 0
	for _, p := range sortedPaths(tree) {
		e := tree.Elements[p]
		if e.Kind != System {
			continue
		}
		if number++; number%10 != 0 && len(e.Doubts) == 0 && p != "systems/minimal-system-armv5l-openbmc-aspeed" {
			continue
		}
		project, err := tree.Project(e, o)
		if len(e.Doubts) > 0 {
			if err == nil {
				t.Errorf("%s: no error, in spite of %v", p, e.Doubts)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		var text bytes.Buffer
		name := filepath.Join(t.TempDir(), "sbx.yaml")
		if err := errors.Join(component.WriteYAML(&text, project), os.WriteFile(name, text.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
		again, err := component.ReadFile(name)
		if err != nil {
			t.Errorf("%s: %.500v", p, err)
			continue
		}
		if len(again.Components) != len(project.Components)-1 || len(again.Systems) != 1 { // the toolchain is a base
			t.Errorf("%s: %d components and %d systems, of %d", p, len(again.Components), len(again.Systems), len(project.Components))
		}
		converted++
	}
	if converted < 8 {
		t.Errorf("only %d systems", converted)
	}
}

// shared is the directory of what is too large, or not ours, to be in the
// project; "" if it is not there.
func shared() string {
	for _, dir := range []string{"../../../shared/data", "../../../../shared/data"} {
		if _, err := os.Stat(filepath.Join(dir, "baserock-definitions.tar.xz")); err == nil {
			return dir
		}
	}
	return ""
}

// corpus loads the definitions of Baserock.
func corpus(t *testing.T, data string) *Tree {
	t.Helper()
	dir := t.TempDir()
	tar := exec.Command("tar", "-xJf", filepath.Join(data, "baserock-definitions.tar.xz"), "-C", dir, "--strip-components=1")
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tree, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// sample is the key of each element, by target.
func sample(t *testing.T, name string) map[string]map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string]map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		target, rest, ok := strings.Cut(s.Text(), "\t")
		if !ok || strings.HasPrefix(target, "#") {
			continue
		}
		path, key, _ := strings.Cut(rest, "\t")
		if want[target] == nil {
			want[target] = map[string]string{}
		}
		want[target][path] = key
	}
	return want
}
