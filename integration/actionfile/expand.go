package actionfile

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// maxActions bounds what a foreach can make of a workspace.
const maxActions = 100_000

// expand makes actions of rules. Outputs come first, for all of them: they are
// what inputs may refer to.
func (p *reader) expand(g *Graph) error {
	rules := make([]*rule, len(p.rules))
	for i, r := range p.rules {
		rules[i] = p.inherit(r)
		p.groups[r.name] = p.outline(rules[i])
		if err := p.errs.Err(); err != nil {
			return err
		}
	}
	p.prune()
	for i, r := range p.rules {
		group := p.groups[r.name]
		if len(group) == 0 {
			p.errs.Addf(r.foreachAt, `"foreach" finds no file; files that actions below make, or in directories that actions make, do not count`)
		}
		for _, a := range group {
			p.finish(a, rules[i])
			g.Actions = append(g.Actions, a)
		}
		if len(g.Actions) > maxActions {
			return r.pos.Errorf("more than %d actions", maxActions)
		}
	}
	return p.errs.Err()
}

// outline makes the actions of a rule, as far as names and outputs.
func (p *reader) outline(r *rule) []*Action {
	var group []*Action
	add := func(name, pick string, builtins map[string]string) {
		a := &Action{Name: name, Group: r.name, Pos: r.pos, Pick: pick, builtins: builtins, Optional: r.optional != nil && *r.optional}
		s := &scope{p: p, rule: r, pick: builtins, patterns: true}
		for _, t := range s.texts(r.outputs) {
			a.addOutput(p, t)
		}
		group = append(group, a)
	}
	if r.foreach == nil {
		add(r.name, "", nil)
		return group
	}
	set, files := p.picks(r)
	for _, file := range files {
		first, _ := set.find(file)
		add(r.name+"["+file+"]", file, builtins(file, set.list[first]))
	}
	return group
}

// A patternSet is the patterns of a foreach, of which there may be thousands
// that are paths.
type patternSet struct {
	list   []*staging.Pattern
	paths  map[string][2]int // the first and the last pattern that is this path
	others []int             // the patterns that are none, or exceptions
}

func (s *patternSet) add(q *staging.Pattern) {
	i := len(s.list)
	s.list = append(s.list, q)
	if !q.Literal || q.Exclude {
		s.others = append(s.others, i)
		return
	}
	if s.paths == nil {
		s.paths = map[string][2]int{}
	}
	at, ok := s.paths[q.Base]
	if !ok {
		at[0] = i
	}
	at[1] = i
	s.paths[q.Base] = at
}

// find returns the first pattern that takes name in, and whether the last one
// that matches does; -1 if none does.
func (s *patternSet) find(name string) (first int, selected bool) {
	first, last := -1, -1
	note := func(i, l int) {
		if !s.list[i].Exclude && (first < 0 || i < first) {
			first = i
		}
		if l > last {
			last, selected = l, !s.list[l].Exclude
		}
	}
	for dir := name; ; dir = path.Dir(dir) {
		if at, ok := s.paths[dir]; ok {
			note(at[0], at[1])
		}
		if dir == "." {
			break
		}
	}
	for _, i := range s.others {
		if s.list[i].Covers(name) {
			note(i, i)
		}
	}
	return first, selected
}

func (a *Action) addOutput(p *reader, t text) {
	q, err := staging.ParsePattern(t.s)
	switch {
	case err != nil:
		p.errs.Addf(t.pos, "output %q: %v", t.s, err)
	case q.Exclude:
		p.errs.Addf(t.pos, "output %q: an output cannot be an exception", t.s)
	case q.Covers("."):
		p.errs.Addf(t.pos, "output %q: the whole workspace cannot be an output; name what the command makes", t.s)
	default:
		if q.Literal {
			t.s = q.Base
		} else if err := staging.CheckOutputGlob(t.s); err != nil {
			p.errs.Addf(t.pos, "output %q: %v", t.s, err)
		}
		a.Outputs, a.outputs = append(a.Outputs, t.s), append(a.outputs, q)
	}
}

// builtins are the variables of one file of a foreach.
func builtins(file string, found *staging.Pattern) map[string]string {
	base := found.Base
	if found.Literal && base == file {
		base = path.Dir(file)
	}
	name := path.Base(file)
	ext := path.Ext(name)
	if ext == name { // .profile has none
		ext = ""
	}
	sub := strings.TrimSuffix(file, ext)
	if base != "." && base != "" {
		sub = strings.TrimPrefix(sub, base+"/")
	}
	return map[string]string{
		"path": file, "dir": path.Dir(file), "name": name, "stem": strings.TrimSuffix(name, ext), "ext": ext, "sub": sub,
	}
}

// picks are the files of a foreach, sorted.
func (p *reader) picks(r *rule) (set *patternSet, files []string) {
	s := &scope{p: p, rule: r, patterns: true}
	set = &patternSet{}
	var look []*staging.Pattern
	above := p.madeAbove(r)
	for _, t := range s.texts(r.foreach) {
		q, err := staging.ParsePattern(t.s)
		if err != nil {
			p.errs.Addf(t.pos, "%q: %v", t.s, err)
			continue
		}
		set.add(q)
		if !q.Literal || q.Exclude {
			look = append(look, q)
		} else if !above[q.Base] { // else it need not be there yet
			look = append(look, q)
			if _, err := staging.Expand(p.workspace, []*staging.Pattern{q}); errors.Is(err, fs.ErrNotExist) {
				p.errs.Addf(t.pos, "%q is not in the workspace, and no action above makes it", t.s)
				return set, nil
			}
		}
	}
	files, err := staging.Expand(p.workspace, look)
	if err != nil {
		p.errs.Addf(r.foreachAt, "foreach: %v", err)
		return set, nil
	}
	for made := range above {
		files = append(files, made)
	}
	files = slices.DeleteFunc(files, func(name string) bool { _, yes := set.find(name); return !yes })
	slices.Sort(files)
	return set, slices.Compact(files)
}

// madeAbove are the paths that actions above r make.
func (p *reader) madeAbove(r *rule) map[string]bool {
	made := map[string]bool{}
	for _, above := range p.rules {
		if above.name == r.name {
			break
		}
		for _, a := range p.groups[above.name] {
			for i, q := range a.outputs {
				if q.Literal {
					made[a.Outputs[i]] = true
				}
			}
		}
	}
	return made
}

// prune takes out the actions of a foreach whose files are outputs of the same
// foreach, or of actions below, or were found in an output directory: they are
// there because of an earlier run.
func (p *reader) prune() {
	made := map[string]int{} // which rule makes it; the last one
	var patterns []*staging.Pattern
	for i, r := range p.rules {
		for _, a := range p.groups[r.name] {
			for k, q := range a.outputs {
				if q.Literal {
					made[a.Outputs[k]] = i
				} else {
					patterns = append(patterns, q)
				}
			}
		}
	}
	for i, r := range p.rules {
		p.groups[r.name] = slices.DeleteFunc(p.groups[r.name], func(a *Action) bool {
			if a.Pick == "" {
				return false
			}
			if by, ok := made[a.Pick]; ok {
				return by >= i
			}
			for dir := path.Dir(a.Pick); dir != "."; dir = path.Dir(dir) {
				if _, ok := made[dir]; ok {
					return true
				}
			}
			return slices.ContainsFunc(patterns, func(q *staging.Pattern) bool { return q.Covers(a.Pick) })
		})
	}
}

// finish fills in all but the outputs.
func (p *reader) finish(a *Action, r *rule) {
	s := &scope{p: p, rule: r, self: a, pick: a.builtins, patterns: true}
	for _, t := range s.texts(r.inputs) {
		a.addInput(p, t)
	}
	s.patterns = false
	a.after = append(a.after, s.texts(r.after)...)
	s.used = nil // from here on what is used must be an input
	for _, t := range s.texts(r.command) {
		a.Args = append(a.Args, t.s)
	}
	switch {
	case r.shell != nil:
		a.Args = []string{"/bin/sh", "-e", "-c", s.script(*r.shell)}
	case !r.hasCommand:
		p.errs.Addf(r.pos, "the action %q has neither command nor shell", a.Group)
	}
	a.Env = s.environment()
	a.Description = s.optional(r.description)
	a.Cwd = s.place("cwd", r.cwd)
	a.Stdin = s.place("stdin", r.stdin)
	for _, key := range slices.Concat(settingKeys, switchKeys) {
		if set, ok := r.settings[key]; ok {
			a.Settings = append(a.Settings, set)
		}
	}
	a.uses = s.used
}

func (a *Action) addInput(p *reader, t text) {
	if strings.HasPrefix(t.s, "@") {
		p.errs.Addf(t.pos, "input %q: lists are for the command line; name the files here, or write ./@ if it is a file's name", t.s)
		return
	}
	q := &staging.Pattern{Text: t.s} // a tree of the store is nobody's output
	if _, err := action.ParseDigest(t.s[strings.LastIndexByte(t.s, '=')+1:]); err != nil {
		if q, err = staging.ParsePattern(t.s); err != nil {
			p.errs.Addf(t.pos, "input %q: %v", t.s, err)
			return
		}
	}
	a.Inputs, a.inputs, a.inputPos = append(a.Inputs, t.s), append(a.inputs, q), append(a.inputPos, t.pos)
}

// maxDeep bounds variables in the values of variables.
const maxDeep = 20
