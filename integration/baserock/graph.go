package baserock

import (
	"fmt"
	"io"
	"strings"
)

// Order returns target and everything that it needs or contains, each after what
// it needs and contains.
func Order(target *Element) []*Element {
	var list []*Element
	seen := map[*Element]bool{}
	var visit func(e *Element)
	visit = func(e *Element) {
		if seen[e] {
			return
		}
		seen[e] = true
		for _, d := range e.Depends {
			visit(d)
		}
		for _, c := range e.Contents {
			visit(c.Element)
		}
		list = append(list, e)
	}
	visit(target)
	return list
}

// WriteText writes the graph of target, one element a line, in an order in which
// they can be built: kind, path, and what it needs and contains.
func WriteText(w io.Writer, target *Element) error {
	for _, e := range Order(target) {
		line := fmt.Sprintf("%s %s", e.Kind, e.Path)
		if len(e.Depends) > 0 {
			line += " needs " + strings.Join(paths(e.Depends), " ")
		}
		if len(e.Contents) > 0 {
			line += " contains " + strings.Join(paths(contents(e)), " ")
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// WriteDot writes the graph in the language of Graphviz: what an element needs
// with full lines, what it contains with dashed ones.
func WriteDot(w io.Writer, target *Element) error {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n  rankdir=LR;\n", target.Path)
	shapes := map[Kind]string{Chunk: "box", Stratum: "folder", System: "component", Cluster: "tab"}
	for _, e := range Order(target) {
		fmt.Fprintf(&b, "  %q [label=%q, shape=%s];\n", e.Path, e.Name, shapes[e.Kind])
		for _, d := range e.Depends {
			fmt.Fprintf(&b, "  %q -> %q;\n", e.Path, d.Path)
		}
		for _, c := range e.Contents {
			fmt.Fprintf(&b, "  %q -> %q [style=dashed];\n", e.Path, c.Path)
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// A Node of the graph, for programs.
type Node struct {
	Path        string   `json:"path"`
	Name        string   `json:"name"`
	Kind        Kind     `json:"kind"`
	Arch        string   `json:"arch,omitempty"`
	Repo        string   `json:"repo,omitempty"`
	Ref         string   `json:"ref,omitempty"`
	BuildMode   string   `json:"build-mode,omitempty"`
	BuildSystem string   `json:"build-system,omitempty"`
	Needs       []string `json:"needs"`
	Contains    []string `json:"contains"`
}

// Nodes are the graph of target, each element after what it needs and contains.
func Nodes(target *Element) []Node {
	var list []Node
	for _, e := range Order(target) {
		list = append(list, Node{
			e.Path, e.Name, e.Kind, e.Arch, e.Repo, e.Ref, e.BuildMode, e.BuildSystem,
			paths(e.Depends), paths(contents(e)),
		})
	}
	return list
}

func contents(e *Element) []*Element {
	list := make([]*Element, len(e.Contents))
	for i, c := range e.Contents {
		list[i] = c.Element
	}
	return list
}

func paths(elements []*Element) []string {
	list := make([]string, len(elements))
	for i, e := range elements {
		list[i] = e.Path
	}
	return list
}
