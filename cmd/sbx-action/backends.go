package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

func backendsCommand() command {
	return command{
		Name: "backends", Args: "[FLAGS] [NAME…]",
		Short: "probe what each sandbox keeps of its promises, here and now",
		Long: `
Runs the promises of all backends, or of those that are named, as probes on this
machine, as this user, and prints a table. Each probe has a control: it is first
shown to succeed where nothing forbids it. The verdicts:

  kept          it was probed, and holds
  BROKEN        it does not hold
  refused       the backend cannot do it, and says so when asked
  not offered   the backend does not have it, and nobody can ask for it
  unproven      it seems to hold, but the control did not work here
  not probed    it takes longer than a moment: give --all

Exits with 1 if a promise is broken or no backend works.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var m matrixFlags
			flags.BoolVar(&m.json, "json", false, "print JSON")
			flags.BoolVar(&m.markdown, "markdown", false, "print a Markdown table")
			flags.BoolVar(&m.all, "all", false, "also what takes longer than a moment")
			flags.BoolVar(&m.list, "list", false, "only say which backends there are, and whether they work here")
			return m.run
		},
	}
}

type matrixFlags struct{ json, markdown, all, list bool }

// A column is what one backend keeps.
type column struct {
	Name     string            `json:"name"`
	Works    bool              `json:"works"`
	Reason   string            `json:"reason,omitempty"`
	Promises map[string]string `json:"promises"`
	Why      map[string]string `json:"why,omitempty"` // of what is not kept
}

func (m *matrixFlags) run(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = wiring.BackendNames()
	}
	if m.list {
		return m.printList(names)
	}
	if m.json && m.markdown {
		return errors.New("--json and --markdown exclude each other: give one")
	}
	var columns []*column
	failed := true
	for _, name := range names {
		if err := wiring.CheckBackend(name); err != nil || name == "" {
			return err
		}
		c, err := m.probe(ctx, name)
		if err != nil {
			return err
		}
		columns = append(columns, c)
		failed = failed && !c.Works
	}
	for _, c := range columns {
		for _, v := range c.Promises {
			failed = failed || v == promise.Broken.String()
		}
	}
	if err := m.print(columns); err != nil {
		return err
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

// printList says of each backend whether it works here.
func (m *matrixFlags) printList(names []string) error {
	if m.json || m.markdown || m.all {
		return errors.New("--list goes with no other flag")
	}
	for _, name := range names {
		b, err := wiring.OpenBackend(name, native.Options{})
		if err != nil {
			return err
		}
		c := wiring.Basics(b)
		b.Close()
		if c.Works {
			c.Reason = "works here"
		}
		fmt.Printf("%-17s  %s\n", name, c.Reason)
	}
	return nil
}

// probe runs the promises in one backend.
func (m *matrixFlags) probe(ctx context.Context, name string) (*column, error) {
	c := &column{Name: name, Promises: map[string]string{}, Why: map[string]string{}}
	b, err := wiring.OpenBackend(name, native.Options{})
	if err != nil {
		c.Reason = err.Error()
		return c, nil
	}
	defer b.Close()
	if caps := b.Capabilities(); !caps.Works {
		c.Reason = caps.Reason
		return c, nil
	}
	c.Works = true
	dir, err := os.MkdirTemp("", "sbx-backends-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	self, err := copyOfSelf(dir)
	if err != nil {
		return nil, err
	}
	env := &promise.Env{Backend: b, Probe: self, Dir: dir, Lifetime: 20 * time.Second, Logf: func(string, ...any) {}}
	n := 0
	found := func(f promise.Finding) {
		n++
		if isTerminal(os.Stderr) {
			fmt.Fprintf(os.Stderr, "\r%s: %d of %d\033[K", name, n, len(promise.All()))
		}
		c.Promises[f.Promise.Name] = f.Verdict.String()
		if f.Err != nil {
			c.Why[f.Promise.Name] = f.Err.Error()
		}
	}
	if m.all {
		for _, p := range promise.All() {
			found(promise.Check(ctx, env, p))
		}
	} else if err := promise.Matrix(ctx, env, found); err != nil {
		return nil, err
	}
	if isTerminal(os.Stderr) {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	return c, context.Cause(ctx)
}

// copyOfSelf copies this program to where every user can execute it: it is the
// probe, when it is called by that name.
func copyOfSelf(dir string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	program, err := os.ReadFile(exe)
	if err != nil {
		return "", err
	}
	if bytes.Contains(program[:min(len(program), 4096)], []byte("/ld-")) { // its dynamic loader
		return "", errors.New("this program needs shared libraries, and so cannot be the probe: build it with CGO_ENABLED=0, as 'make build' does")
	}
	path := filepath.Join(dir, promise.ProbeName)
	return path, os.WriteFile(path, program, 0o755)
}

func (m *matrixFlags) print(columns []*column) error {
	if m.json {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(columns)
	}
	separator, edge := "  ", ""
	if m.markdown {
		separator, edge = " | ", "|"
	}
	row := func(first string, rest []string) {
		var line strings.Builder
		line.WriteString(fmt.Sprintf("%-34s", first))
		for _, r := range rest {
			line.WriteString(separator + fmt.Sprintf("%-12s", r))
		}
		fmt.Println(strings.TrimRight(strings.TrimSpace(edge+" "+line.String()+" "+edge), " "))
	}
	var head, rule []string
	for _, c := range columns {
		head = append(head, c.Name)
		rule = append(rule, "---")
	}
	row("promise", head)
	if m.markdown {
		row("---", rule)
	}
	for _, p := range promise.All() {
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.Promises[p.Name])
		}
		row(p.Name, cells)
	}
	for _, c := range columns {
		if !c.Works {
			say("%s does not work here: %s", c.Name, c.Reason)
		}
		for name, why := range c.Why {
			if c.Promises[name] == promise.Broken.String() {
				say("%s, %s: %.300s", c.Name, name, why)
			}
		}
	}
	return nil
}
