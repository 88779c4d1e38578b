package staging

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A pruneTest is a workspace and a Pruner's notes.
type pruneTest struct {
	*testing.T
	dir   string
	notes notes
}

func newPruneTest(t *testing.T) *pruneTest {
	p := &pruneTest{t, t.TempDir(), notes{}}
	for name, text := range map[string]string{"a": "1", "b": "1", "d/x": "1", "d/e/y": "1"} {
		p.write(name, text)
	}
	return p
}

func (p *pruneTest) write(name, text string) {
	p.Helper()
	full := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		p.Fatal(err)
	}
}

func (p *pruneTest) pruner(inputs ...string) *Pruner {
	p.Helper()
	snap, err := Scan(p.Context(), ScanConfig{Workspace: p.dir, Inputs: inputs, Function: action.BLAKE3})
	if err != nil {
		p.Fatal(err)
	}
	a := &action.Action{Command: action.Sum(action.BLAKE3, []byte("c")), InputRoot: snap.Root}
	return &Pruner{Notes: p.notes, Snapshot: snap, Action: a}
}

// run is the key of the action for a run that named paths of the input root.
func (p *pruneTest) run(lookups ...backends.Lookup) action.Digest {
	p.Helper()
	a, err := p.pruner(".").Seen(p.Context(), &backends.Status{Complete: true, Lookups: lookups})
	if err != nil {
		p.Fatal(err)
	}
	return a.Digest(action.BLAKE3)
}

func (p *pruneTest) known() (keys []action.Digest) {
	p.Helper()
	for _, a := range p.pruner(".").Known(p.Context()) {
		keys = append(keys, a.Digest(action.BLAKE3))
	}
	return keys
}

func open(name string) backends.Lookup {
	return backends.Lookup{Path: "/build/" + name, Op: backends.Open}
}

func TestPruner(t *testing.T) {
	p := newPruneTest(t)
	if len(p.known()) != 0 {
		t.Fatal("something is known before the first run")
	}
	key := p.run(open("a"), open("d"), backends.Lookup{Path: "/build/d/x"}, backends.Lookup{Path: "/build/none"}, backends.Lookup{Path: "/etc/passwd", Op: backends.Open})
	if got := p.known(); len(got) != 1 || got[0] != key {
		t.Fatalf("known is %v, want %v", got, key)
	}
	if plain := p.pruner(".").Action.Digest(action.BLAKE3); plain == key {
		t.Error("the key is that of the action itself")
	}
	for name, same := range map[string]bool{"b": true, "d/e/y": true, "a": false, "d/x": false} {
		p.write(name, "2")
		if got := p.known(); (got[0] == key) != same {
			t.Errorf("%s changed: the same is %v", name, !same)
		}
		p.write(name, "1")
		if got := p.known(); got[0] != key {
			t.Errorf("%s is as it was, and the key is not", name)
		}
	}
	p.write("new", "")
	if got := p.known(); len(got) != 0 {
		t.Errorf("with a new name, %v is known", got)
	}
}

// TestPrunerListsMatter: two runs that named other files have other keys, also
// if the stripped trees are equal.
func TestPrunerListsMatter(t *testing.T) {
	p := newPruneTest(t)
	p.write("a", "")
	p.write("b", "")
	first, second := p.run(open("a")), p.run(open("b"))
	if first == second {
		t.Error("a run that read a and one that read b have one key")
	}
	if got := p.known(); !reflect.DeepEqual(got, []action.Digest{second, first}) {
		t.Errorf("known are %v", got)
	}
	for range 2 * maxVariants {
		p.run(open("a"), open("b"))
	}
	if got := p.known(); len(got) != 3 {
		t.Errorf("%d are known after three kinds of runs", len(got))
	}
}

func TestPrunerRefuses(t *testing.T) {
	p := newPruneTest(t)
	if _, err := p.pruner(".").Seen(t.Context(), &backends.Status{}); err == nil {
		t.Error("a run that was not observed was pruned")
	}
	whole := p.pruner(p.pruner(".").Snapshot.Root.String())
	if _, err := whole.Seen(t.Context(), &backends.Status{Complete: true}); err == nil || len(whole.Known(t.Context())) > 0 {
		t.Error("a tree that is given by its digest was pruned")
	}
	h := newHostTest(t)
	h.check(os.Symlink("../../build/b", filepath.Join(h.dir, "usr/share/leads-in")))
	pruner := p.pruner(".")
	pruner.Witness = h.witness
	status := &backends.Status{Complete: true, Lookups: []backends.Lookup{{Path: "/usr/share/list", Op: backends.Open}}}
	if _, err := pruner.Seen(t.Context(), status); err != nil {
		t.Errorf("control: %v", err)
	}
	status.Lookups[0].Path = "/usr/share/leads-in"
	if _, err := pruner.Seen(t.Context(), status); err == nil {
		t.Error("what is behind a link of the host that leads into the input root was not missed")
	}
}

func TestUses(t *testing.T) {
	p := newPruneTest(t)
	snap := p.pruner(".").Snapshot
	for _, c := range []struct {
		name    string
		lookups []backends.Lookup
		want    map[string]Use
	}{
		{"nothing", nil, map[string]Use{}},
		{"not ours", []backends.Lookup{{Path: "/buildings/a"}, {Path: "/usr/a"}, {Path: "/build/none"}, {Path: "/build/a/below"}}, map[string]Use{}},
		{"ways to use", []backends.Lookup{
			{Path: "/build/a"}, {Path: "/build//./b", Op: backends.Exec}, {Path: "/build/d/../d/x", Op: backends.Open}, {Path: "/build/d", Op: backends.Open}, {Path: "/build"},
		}, map[string]Use{"a": Named, "b": Named | Read, "d/x": Named | Read, "d": Named | Read, ".": Named}},
		{"a file renamed", []backends.Lookup{{Path: "/build/a", Op: backends.Move}}, map[string]Use{"a": Named | Renamed | Included}},
		{"a directory renamed", []backends.Lookup{{Path: "/build/d", Op: backends.Move}}, map[string]Use{
			"d": Named | Renamed | Included, "d/x": Included, "d/e": Included, "d/e/y": Included,
		}},
	} {
		if got := snap.Uses(c.lookups); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzNamed(f *testing.F) {
	f.Add(encodeNamed([][]string{{"a", "ab", "b/c"}, {}, {"x"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := decodeNamed(data)
		if err != nil {
			return
		}
		again, err := decodeNamed(encodeNamed(lists))
		if err != nil || !reflect.DeepEqual(lists, again) {
			t.Errorf("%q became %q, %v", lists, again, err)
		}
	})
}
