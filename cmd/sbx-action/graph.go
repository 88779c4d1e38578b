package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/integration/actionfile"
	"github.com/sbx-action/sbx-action/progress"
)

func graphCommand() command {
	return command{
		Name: "graph", Args: "[FLAGS] [TARGET…]",
		Short: "show the actions of a file, and which need which",
		Long: `
Prints the actions of an action file that the TARGETs need, or all that 'run -f'
would run, each after those that it needs. Nothing is run, and no store is looked
at. Without -f it is build.yaml, build.yml or build.json of this directory.

  sbx-action graph -f build.yaml --format dot | dot -Tsvg > graph.svg
  sbx-action graph --schema > action-file.schema.json
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var file, workspace string
			format := choice{"text", []string{"text", "dot", "json", "targets"}}
			flags.Var((*given)(&file), "f", "`FILE` with actions")
			flags.Var((*given)(&workspace), "workspace", "`DIR` that paths in the file are relative to (default: that of the file)")
			flags.Var(&format, "format", "`FORMAT`: text, dot (Graphviz), json, or targets (names that run -f takes)")
			schema := flags.Bool("schema", false, "print the JSON Schema of action files, for editors")
			return func(_ context.Context, args []string) (err error) {
				if *schema {
					_, err := os.Stdout.Write(actionfile.Schema)
					return err
				}
				if file == "" {
					if file, err = actionfile.Find("."); err != nil {
						return err
					}
				}
				graph, selected, err := loadGraph(file, workspace, args)
				if err != nil {
					return err
				}
				w := bufio.NewWriter(os.Stdout)
				err = writeGraph(w, format.word, graph, selected)
				return errors.Join(err, w.Flush())
			}
		},
	}
}

func writeGraph(w io.Writer, format string, g *actionfile.Graph, selected []int) error {
	switch format {
	case "targets":
		for _, name := range g.Targets() {
			fmt.Fprintln(w, name)
		}
		return nil
	case "dot":
		return writeDot(w, g, selected)
	case "json":
		return writeGraphJSON(w, g, selected)
	}
	for _, i := range ordered(g, selected) {
		a := g.Actions[i]
		fmt.Fprintln(w, progress.Clean(a.Name))
		if a.Description != "" {
			fmt.Fprintf(w, "    # %s\n", progress.Clean(a.Description))
		}
		fmt.Fprintf(w, "    command: %s\n", progress.Clean(shellLine(a.Args)))
		for _, l := range []struct {
			what string
			list []string
		}{{"inputs", a.Inputs}, {"outputs", a.Outputs}, {"needs", names(g, a.Needs)}} {
			if len(l.list) > 0 {
				fmt.Fprintf(w, "    %s: %s\n", l.what, progress.Clean(shellLine(l.list)))
			}
		}
	}
	return nil
}

func names(g *actionfile.Graph, list []int) (names []string) {
	for _, i := range list {
		names = append(names, g.Actions[i].Name)
	}
	return names
}

// ordered are the selected actions, each after those that it needs, and otherwise
// as in the file.
func ordered(g *actionfile.Graph, selected []int) (list []int) {
	done := make([]bool, len(g.Actions))
	var visit func(i int)
	visit = func(i int) {
		if done[i] {
			return
		}
		done[i] = true
		for _, n := range g.Actions[i].Needs {
			visit(n)
		}
		list = append(list, i)
	}
	for _, i := range selected {
		visit(i)
	}
	return list
}

// writeDot writes the graph for Graphviz: arrows lead from what is needed to what
// needs it.
func writeDot(w io.Writer, g *actionfile.Graph, selected []int) error {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
	}
	fmt.Fprint(w, "digraph actions {\n\trankdir=LR;\n\tnode [shape=box];\n")
	for _, i := range ordered(g, selected) {
		fmt.Fprintf(w, "\t%s;\n", quote(g.Actions[i].Name))
		for _, n := range g.Actions[i].Needs {
			fmt.Fprintf(w, "\t%s -> %s;\n", quote(g.Actions[n].Name), quote(g.Actions[i].Name))
		}
	}
	_, err := fmt.Fprintln(w, "}")
	return err
}

// A jsonAction is one action of 'graph --format json', which prints an object
// with the workspace and a list of them, each after those that it needs.
type jsonAction struct {
	Name        string            `json:"name"`
	Group       string            `json:"group"`
	Line        int               `json:"line"`
	Description string            `json:"description,omitempty"`
	Inputs      []string          `json:"inputs"`
	Outputs     []string          `json:"outputs"`
	Command     []string          `json:"command"`
	Env         []string          `json:"env"`
	Cwd         string            `json:"cwd,omitempty"`
	Stdin       string            `json:"stdin,omitempty"`
	Settings    map[string]string `json:"settings,omitempty"`
	Needs       []string          `json:"needs"`
}

func writeGraphJSON(w io.Writer, g *actionfile.Graph, selected []int) error {
	list := []jsonAction{}
	some := func(l []string) []string { return append([]string{}, l...) }
	for _, i := range ordered(g, selected) {
		a := g.Actions[i]
		j := jsonAction{
			Name: a.Name, Group: a.Group, Line: a.Pos.Line, Description: a.Description, Inputs: some(a.Inputs), Outputs: some(a.Outputs),
			Command: some(a.Args), Env: some(a.Env), Cwd: a.Cwd, Stdin: a.Stdin, Needs: some(names(g, a.Needs)),
		}
		for _, s := range a.Settings {
			if j.Settings == nil {
				j.Settings = map[string]string{}
			}
			j.Settings[s.Name] = s.Value
		}
		list = append(list, j)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{"file": g.File, "workspace": g.Workspace, "actions": list})
}
