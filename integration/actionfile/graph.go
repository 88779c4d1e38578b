package actionfile

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
	"github.com/sbx-action/sbx-action/staging"
)

// An index finds the actions whose outputs meet a path or a pattern.
type index struct {
	actions  []*Action
	paths    []string       // all outputs that are paths, sorted
	maker    map[string]int // and who makes them
	parsed   map[string]*staging.Pattern
	patterns []maker // the other outputs
}

type maker struct {
	action  int
	pattern *staging.Pattern
}

// connect finds out which actions need which.
func (p *reader) connect(g *Graph) {
	x := p.index(g)
	for i, a := range g.Actions {
		needs := map[int]bool{}
		for k, q := range a.inputs {
			if !q.Exclude {
				p.connectInput(x, i, k, needs)
			}
		}
		if a.Stdin != "" {
			for _, n := range x.makers(literal(a.Stdin)) {
				needs[n] = n != i
			}
		}
		for _, t := range a.after {
			p.connectAfter(g, i, t, needs)
		}
		for n, yes := range needs {
			if yes {
				a.Needs = append(a.Needs, n)
			}
		}
		slices.Sort(a.Needs)
		p.checkUses(g, i)
	}
	if p.errs.Len() == 0 {
		p.checkLoops(g)
	}
}

func literal(name string) *staging.Pattern {
	q, err := staging.ParsePattern(escape(name))
	if err != nil { // cannot be: it is a clean path
		return &staging.Pattern{}
	}
	return q
}

// escape makes a pattern that matches name alone.
func escape(name string) string {
	var b strings.Builder
	for i, r := range name {
		if strings.ContainsRune(`*?[]{}\`, r) || i == 0 && (r == '!' || r == '@') { // an exception, a list
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// index notes all outputs, and complains of those that two actions make.
func (p *reader) index(g *Graph) *index {
	x := &index{actions: g.Actions, maker: map[string]int{}, parsed: map[string]*staging.Pattern{}}
	for i, a := range g.Actions {
		for k, q := range a.outputs {
			if !q.Literal {
				x.patterns = append(x.patterns, maker{i, q})
				continue
			}
			if other, ok := x.maker[a.Outputs[k]]; ok {
				p.clash(g, i, other, a.Outputs[k])
				continue
			}
			x.maker[a.Outputs[k]], x.parsed[a.Outputs[k]] = i, q
			x.paths = append(x.paths, a.Outputs[k])
		}
	}
	slices.Sort(x.paths)
	for _, name := range x.paths {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if other, ok := x.maker[dir]; ok && other != x.maker[name] {
				p.clash(g, x.maker[name], other, name)
			}
		}
	}
	for k, m := range x.patterns {
		for _, n := range x.under(m.pattern) {
			if x.maker[n] != m.action {
				p.clash(g, x.maker[n], m.action, n)
			}
		}
		for _, other := range x.patterns[:k] {
			if other.action != m.action && other.pattern.Meets(m.pattern) {
				p.clash(g, m.action, other.action, m.pattern.Text)
			}
		}
	}
	return x
}

func (p *reader) clash(g *Graph, i, other int, output string) {
	a, b := g.Actions[i], g.Actions[other]
	if i == other {
		p.errs.Addf(a.Pos, "the action %q names the output %q twice", a.Name, output)
		return
	}
	p.errs.Addf(a.Pos, "the actions %q and %q (line %d) both make %q: each output has one maker", a.Name, b.Name, b.Pos.Line, output)
}

// under are the outputs that are paths and meet a pattern.
func (x *index) under(q *staging.Pattern) (list []string) {
	base := q.Base
	if base == "" {
		for _, name := range x.paths {
			if q.Meets(x.parsed[name]) {
				list = append(list, name)
			}
		}
		return list
	}
	for dir := base; dir != "."; dir = path.Dir(dir) { // in or as an output
		if _, ok := x.maker[dir]; ok && q.Meets(x.parsed[dir]) {
			list = append(list, dir)
		}
	}
	for at := sort.SearchStrings(x.paths, base+"/"); at < len(x.paths) && strings.HasPrefix(x.paths[at], base+"/"); at++ {
		if name := x.paths[at]; q.Literal || q.Meets(x.parsed[name]) {
			list = append(list, name)
		}
	}
	return list
}

// makers are the actions whose outputs meet a pattern.
func (x *index) makers(q *staging.Pattern) (list []int) {
	for _, name := range x.under(q) {
		list = append(list, x.maker[name])
	}
	for _, m := range x.patterns {
		if m.pattern.Meets(q) {
			list = append(list, m.action)
		}
	}
	return list
}

// connectInput adds the makers of one input. Later exceptions may take an output
// out again.
func (p *reader) connectInput(x *index, i, k int, needs map[int]bool) {
	a := x.actions[i]
	q, later := a.inputs[k], a.inputs[k+1:]
	taken := func(name string) bool { // as a whole
		for _, l := range slices.Backward(later) {
			if l.Covers(name) {
				return l.Exclude
			}
		}
		return false
	}
	for _, name := range x.under(q) {
		n := x.maker[name]
		if n == i {
			if q.Literal && q.Base == name {
				p.errs.Addf(a.inputPos[k], "%q is an output of the action itself: it cannot be an input", name)
			}
			continue
		}
		if !taken(name) {
			needs[n] = true
		}
	}
	for _, m := range x.patterns {
		if m.action != i && m.pattern.Meets(q) && !slices.ContainsFunc(later, func(l *staging.Pattern) bool {
			return l.Exclude && (l.Text == "!"+m.pattern.Text || l.Literal && l.Covers(m.pattern.Base))
		}) {
			needs[m.action] = true
		}
	}
}

func (p *reader) connectAfter(g *Graph, i int, t text, needs map[int]bool) {
	found := false
	for n, other := range g.Actions {
		if other.Group == t.s || other.Name == t.s {
			found = true
			if n == i {
				p.errs.Addf(t.pos, "the action %q cannot be after itself", t.s)
				continue
			}
			needs[n] = true
		}
	}
	if !found {
		p.errs.Addf(t.pos, "no action is called %q%s", t.s, didYouMean(t.s, p.names()))
	}
}

// checkUses complains of outputs in the command that are not inputs: the command
// would not find them.
func (p *reader) checkUses(g *Graph, i int) {
	a := g.Actions[i]
	for _, u := range a.uses {
		for _, n := range p.groups[u.s] {
			if n != a && !slices.ContainsFunc(a.Needs, func(k int) bool { return g.Actions[k] == n }) {
				p.errs.Addf(u.pos, "%%{out:%s} is used, but is no input: add '%%{out:%s}' to inputs", u.s, u.s)
				break
			}
		}
	}
}

// checkLoops complains of actions that need each other.
func (p *reader) checkLoops(g *Graph) {
	const open, closed = 1, 2
	state := make([]uint8, len(g.Actions))
	var path []int
	var visit func(i int) bool
	visit = func(i int) bool {
		state[i], path = open, append(path, i)
		for _, n := range g.Actions[i].Needs {
			if state[n] == open {
				path = path[slices.Index(path, n):]
				return false
			}
			if state[n] == 0 && !visit(n) {
				return false
			}
		}
		state[i], path = closed, path[:len(path)-1]
		return true
	}
	for i := range g.Actions {
		if state[i] == 0 && !visit(i) {
			break
		}
	}
	if len(path) == 0 {
		return
	}
	var names []string
	for _, i := range path {
		names = append(names, fmt.Sprintf("%q (line %d)", g.Actions[i].Name, g.Actions[i].Pos.Line))
	}
	names = append(names, fmt.Sprintf("%q", g.Actions[path[0]].Name))
	if len(names) > 8 {
		names = slices.Concat(names[:4], []string{fmt.Sprintf("%d more", len(names)-7)}, names[len(names)-3:])
	}
	p.errs.Addf(g.Actions[path[0]].Pos, "actions need each other: %s; make an input narrower, or leave the others' outputs out of it with \"!PATTERN\"", strings.Join(names, " needs "))
}

// Select returns the actions that the targets name, and all that they need, in
// the order of the file. A target is the name of an action, of one action of a
// foreach, or an output. Without any, it is what the file has as default, or all
// actions that are not optional.
func (g *Graph) Select(targets []string) ([]int, error) {
	named, err := g.Named(targets)
	if err != nil {
		return nil, err
	}
	return g.closure(named), nil
}

// Named returns the actions that targets name, without those that they need.
func (g *Graph) Named(targets []string) ([]int, error) {
	if len(targets) == 0 {
		targets = g.Default
	}
	var wanted []int
	if len(targets) == 0 {
		for i, a := range g.Actions {
			if !a.Optional {
				wanted = append(wanted, i)
			}
		}
		if len(wanted) == 0 {
			return nil, fmt.Errorf("%s: every action is optional: name a target", g.File)
		}
	}
	var errs []error
	for _, t := range targets {
		found := g.find(t)
		if len(found) == 0 {
			errs = append(errs, fmt.Errorf("%s: no action is called %q, and none makes it%s; 'sbx-action graph' lists them", g.File, t, didYouMean(t, g.targets())))
		}
		wanted = append(wanted, found...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.Sort(wanted)
	return slices.Compact(wanted), nil
}

func (g *Graph) find(target string) (list []int) {
	for i, a := range g.Actions {
		if a.Group == target || a.Name == target {
			list = append(list, i)
		}
	}
	if len(list) > 0 {
		return list
	}
	clean := path.Clean(target)
	for i, a := range g.Actions {
		if slices.ContainsFunc(a.outputs, func(q *staging.Pattern) bool { return q.Covers(clean) }) {
			list = append(list, i)
		}
	}
	return list
}

// targets are all names that Select knows.
func (g *Graph) targets() []string {
	var names []string
	for _, a := range g.Actions {
		names = append(names, a.Group, a.Name)
		names = append(names, a.Outputs...)
	}
	return names
}

// Targets are the names of actions and the outputs that are paths, for
// completion.
func (g *Graph) Targets() []string {
	names := g.targets()
	slices.Sort(names)
	return slices.Compact(names)
}

func (g *Graph) closure(wanted []int) []int {
	in := make([]bool, len(g.Actions))
	for len(wanted) > 0 {
		i := wanted[len(wanted)-1]
		wanted = wanted[:len(wanted)-1]
		if !in[i] {
			in[i] = true
			wanted = append(wanted, g.Actions[i].Needs...)
		}
	}
	var list []int
	for i, yes := range in {
		if yes {
			list = append(list, i)
		}
	}
	return list
}

// CheckInputs complains of the inputs of the selected actions that are paths,
// are not there, and are made by none of the actions.
func (g *Graph) CheckInputs(selected []int) error {
	var errs strictyaml.Errors
	for _, i := range selected {
		a := g.Actions[i]
		for k, q := range a.inputs {
			if q.Exclude || !q.Literal || g.made(a, q.Base) {
				continue
			}
			if _, err := os.Lstat(filepath.Join(g.Workspace, q.Base)); err != nil {
				errs.Addf(a.inputPos[k], "the input %q is not in the workspace, and no action makes it%s", a.Inputs[k], didYouMean(q.Base, g.like(q.Base)))
			}
		}
	}
	return errs.Err()
}

// made says whether an action that a needs makes name, or a directory that it is
// in or that is in it.
func (g *Graph) made(a *Action, name string) bool {
	for _, n := range a.Needs {
		if slices.ContainsFunc(g.Actions[n].outputs, func(q *staging.Pattern) bool { return q.Meets(literal(name)) }) {
			return true
		}
	}
	return false
}

// like are the names that one may have been meant for: what is beside it, and all
// outputs.
func (g *Graph) like(name string) (names []string) {
	for _, a := range g.Actions {
		names = append(names, a.Outputs...)
	}
	list, err := os.ReadDir(filepath.Join(g.Workspace, path.Dir(name)))
	if err != nil {
		return names
	}
	for _, e := range list {
		names = append(names, path.Join(path.Dir(name), e.Name()))
	}
	return names
}

// RunOutputs are the outputs of an action as run takes them: a text with wildcards
// is a pattern there, and any other is a path as it is.
func (g *Graph) RunOutputs(a *Action) []string {
	list := slices.Clone(a.Outputs)
	for i, q := range a.outputs {
		if q.Literal && strings.ContainsAny(q.Base, "*?[{") {
			list[i] = escape(q.Base)
		}
	}
	return list
}

// ScanInputs are the inputs of an action as run takes them: without its own
// outputs, where a directory or a pattern takes them in.
func (g *Graph) ScanInputs(a *Action) []string {
	inputs := slices.Clone(a.Inputs)
	for k, out := range a.outputs {
		if !slices.ContainsFunc(a.inputs, func(q *staging.Pattern) bool { return !q.Exclude && q.Meets(out) }) {
			continue
		}
		if out.Literal {
			if _, err := os.Lstat(filepath.Join(g.Workspace, out.Base)); err != nil {
				continue // or we would be told that the exception is for nothing
			}
			inputs = append(inputs, "!"+escape(out.Base))
			continue
		}
		if there, err := staging.Expand(g.Workspace, []*staging.Pattern{out}); err == nil && len(there) > 0 {
			inputs = append(inputs, "!"+a.Outputs[k])
		}
	}
	return inputs
}
