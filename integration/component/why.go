package component

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// Why says whether a component would be built, and what is not as it was when it
// was last built: a line for each thing. Nothing is built.
func (r *Run) Why(ctx context.Context, c *Component) ([]string, error) {
	list := needed([]*Component{c})
	sources, bad, err := r.Sources(ctx, list)
	if err = cmp.Or(err, inOrder(list, bad)); err != nil {
		return nil, err
	}
	built := map[*Component]*Built{}
	for _, x := range list {
		b, err := r.Builder.Build(ctx, &Request{Component: x, Needs: built, Source: sources[x], Log: io.Discard, DryRun: true})
		if errors.Is(err, action.ErrMiss) {
			lines := r.changed(x, b)
			if x != c {
				lines = append([]string{fmt.Sprintf("%s needs %s, which would be built first; whether it then is built itself, depends on what comes out", c.Name, x.Name)}, lines...)
			}
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.Name, err)
		}
		built[x] = b
	}
	when := ""
	if rec := r.State.Record(c.Name); rec != nil {
		when = ", and was so on " + rec.When.Format(time.DateTime)
	}
	return []string{fmt.Sprintf("%s is in the cache: everything that it depends on is as it was%s", c.Name, when)}, nil
}

// changed compares what a component is made of with what it was last made of.
func (r *Run) changed(c *Component, b *Built) []string {
	lines := []string{c.Name + " would be built:"}
	rec := r.State.Record(c.Name)
	if rec == nil {
		return append(lines, "  it was never built here")
	}
	was, is := rec.Inputs, b.Inputs
	if was.Base != is.Base {
		lines = append(lines, fmt.Sprintf("  its base was %s and is %s", was.Base, is.Base))
	}
	if was.Source != is.Source {
		lines = append(lines, fmt.Sprintf("  its source was %s and is %s", inLine(was.Source), inLine(is.Source)))
	}
	for _, name := range slices.Sorted(maps.Keys(is.Needs)) {
		switch old, ok := was.Needs[name]; {
		case !ok:
			lines = append(lines, fmt.Sprintf("  it needs %s, which it did not", name))
		case old != is.Needs[name]:
			lines = append(lines, fmt.Sprintf("  what %s installs was %s and is %s", name, old, is.Needs[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(was.Needs)) {
		if _, ok := is.Needs[name]; !ok {
			lines = append(lines, fmt.Sprintf("  it no longer needs %s", name))
		}
	}
	lines = append(lines, scriptChanges(was.Script, is.Script)...)
	if len(lines) == 1 {
		why := "its result is no longer in the cache"
		if was.Root != is.Root {
			why = "the order of what it needs is another, or its patches"
		}
		lines = append(lines, "  "+why)
	}
	return lines
}

func inLine(s string) string {
	if s == "" {
		return "nothing"
	}
	return strings.ReplaceAll(s, "\n", ", ")
}

// scriptChanges are the lines that only one of two scripts has.
func scriptChanges(was, is string) (list []string) {
	old, now := strings.Split(was, "\n"), strings.Split(is, "\n")
	for _, l := range old {
		if !slices.Contains(now, l) {
			list = append(list, "  - "+strings.TrimSpace(l))
		}
	}
	for _, l := range now {
		if !slices.Contains(old, l) {
			list = append(list, "  + "+strings.TrimSpace(l))
		}
	}
	if len(list) > 0 {
		list = append([]string{"  its commands or its environment changed:"}, list...)
	}
	if len(list) > 20 {
		list = append(list[:20], fmt.Sprintf("  and %d lines more", len(list)-20))
	}
	return list
}

// Shell runs a shell where the build of a component would run, with its
// environment, and returns the exit code. What it needs must be built.
func (r *Run) Shell(ctx context.Context, c *Component, needs map[*Component]*Built) (int, error) {
	sources, bad, err := r.Sources(ctx, []*Component{c})
	if err = cmp.Or(err, bad[c]); err != nil {
		return 0, err
	}
	shown := *c
	shown.Steps = []Step{}
	req := &Request{Component: &shown, Needs: needs, Source: sources[c]}
	script := shown.shellScript(r.environment(req))
	p, err := r.planScript(ctx, req, script)
	if err != nil {
		return 0, err
	}
	if err := p.save(ctx); err != nil {
		return 0, err
	}
	defer p.stager.clean()
	root, err := p.stager.Stage(ctx, p.action, p.command)
	if err != nil {
		return 0, err
	}
	spec := &backends.Spec{
		Root: root, Args: p.command.Arguments, Dir: workRoot, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Owners: r.Owners && c.Owners && !c.HostTools, Machine: r.machine(p),
	}
	for _, v := range p.command.Environment {
		spec.Env = append(spec.Env, v.Name+"="+v.Value)
	}
	spec.Limits = backends.Limits{Memory: c.Limits.Memory, Scratch: c.Limits.Scratch, Pids: c.Limits.Pids}
	backend := &bounded{Backend: r.Runner.Backend, bounds: r.Bounds, disk: &r.disk, name: c.Name}
	status, err := backend.Run(ctx, spec)
	if err != nil {
		return 0, err
	}
	if status.Root != nil {
		status.Root.Close()
	}
	if status.Start != nil {
		return 0, fmt.Errorf("/bin/sh could not be started: %w", status.Start)
	}
	return status.Code, nil
}
