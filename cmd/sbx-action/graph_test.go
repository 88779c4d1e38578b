package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// graphFile makes actions whose names are hard to quote.
const graphFile = `
version: 1
actions:
  o:
    foreach: 'src/*.c'
    inputs: ['%{path}']
    outputs: ['%{sub}.o']
    command: [gcc, -c, '%{path}', '-DX="<a&b>"']
    env: {LANG: C}
    timeout: 3s
  app:
    description: 'all of it, "quoted"'
    inputs: ['%{out:o}']
    outputs: [app]
    command: [gcc, '%{out:o}']
  test: {inputs: [app], shell: ./app, network: true}
  other: {command: ['true'], after: [test], optional: true}
`

// graphOf prints the graph of graphFile.
func graphOf(t *testing.T, format string, targets ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", `"b"`, "c -> d", "é;{", "<i>", "#,]"} {
		if err := os.MkdirAll(filepath.Join(dir, "src"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "src", name+".c"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "build.yaml")
	if err := os.WriteFile(file, []byte(graphFile), 0o666); err != nil {
		t.Fatal(err)
	}
	graph, selected, err := loadGraph(file, "", targets)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeGraph(&out, format, graph, selected); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var (
	graphNames = []string{`o[src/"b".c]`, "o[src/#,].c]", "o[src/<i>.c]", "o[src/a.c]", "o[src/c -> d.c]", "o[src/é;{.c]", "app", "test", "other"}
	graphEdges = []string{
		`o[src/"b".c] -> app`, "o[src/#,].c] -> app", "o[src/<i>.c] -> app", "o[src/a.c] -> app", "o[src/c -> d.c] -> app", "o[src/é;{.c] -> app",
		"app -> test", "test -> other",
	}
)

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestGraphDot lets Graphviz read the graph, and compares nodes and arrows.
func TestGraphDot(t *testing.T) {
	for _, c := range []struct{ targets, nodes, edges []string }{
		{[]string{"other"}, graphNames, graphEdges},
		{nil, graphNames[:8], graphEdges[:7]},
		{[]string{"o"}, graphNames[:6], nil},
	} {
		text := graphOf(t, "dot", c.targets...)
		dot := exec.Command("dot", "-Tdot_json")
		dot.Stdin = strings.NewReader(text)
		out, err := dot.Output()
		if err != nil {
			t.Fatalf("dot: %v (it is Debian's graphviz) for\n%s", err, text)
		}
		var read struct {
			Directed bool
			Objects  []struct{ Name string }
			Edges    []struct{ Tail, Head int }
		}
		if err := json.Unmarshal(out, &read); err != nil {
			t.Fatal(err)
		}
		var nodes, edges []string
		for _, o := range read.Objects {
			nodes = append(nodes, o.Name)
		}
		for _, e := range read.Edges {
			edges = append(edges, nodes[e.Tail]+" -> "+nodes[e.Head])
		}
		if !read.Directed {
			t.Error("it has no directions")
		}
		same(t, "nodes", nodes, c.nodes)
		same(t, "arrows", edges, c.edges)
	}
}

// TestGraphJSON reads the graph, and takes no key that is not documented.
func TestGraphJSON(t *testing.T) {
	text := graphOf(t, "json", "other")
	var read struct {
		File      string       `json:"file"`
		Workspace string       `json:"workspace"`
		Actions   []jsonAction `json:"actions"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&read); err != nil {
		t.Fatal(err)
	}
	var nodes, edges []string
	for _, a := range read.Actions {
		for _, n := range a.Needs {
			if !slices.Contains(nodes, n) {
				t.Errorf("%s stands before %s, which it needs", a.Name, n)
			}
			edges = append(edges, n+" -> "+a.Name)
		}
		nodes = append(nodes, a.Name)
		if a.Inputs == nil || a.Outputs == nil || a.Env == nil || a.Needs == nil {
			t.Errorf("%s: a list is null", a.Name)
		}
	}
	same(t, "actions", nodes, graphNames)
	same(t, "needs", edges, graphEdges)
	if !strings.HasSuffix(read.File, "build.yaml") || !filepath.IsAbs(read.Workspace) {
		t.Errorf("file %q, workspace %q", read.File, read.Workspace)
	}
	i := slices.Index(nodes, `o[src/"b".c]`)
	got := fmt.Sprintf("%+v", read.Actions[i])
	want := fmt.Sprintf("%+v", jsonAction{
		Name: `o[src/"b".c]`, Group: "o", Line: 4, Inputs: []string{`src/"b".c`}, Outputs: []string{`"b".o`},
		Command: []string{"gcc", "-c", `src/"b".c`, `-DX="<a&b>"`}, Env: []string{"LANG=C"},
		Settings: map[string]string{"timeout": "3s"}, Needs: []string{},
	})
	if got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	if a := read.Actions[slices.Index(nodes, "test")]; !slices.Equal(a.Command, []string{"/bin/sh", "-e", "-c", "./app"}) || a.Settings["network"] != "true" {
		t.Errorf("test is %+v", a)
	}
	if a := read.Actions[slices.Index(nodes, "app")]; a.Description != `all of it, "quoted"` {
		t.Errorf("app is %+v", a)
	}
}
