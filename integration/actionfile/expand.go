package actionfile

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/strictyaml"
	"github.com/sbx-action/sbx-action/staging"
)

// maxActions bounds what a foreach can make of a workspace.
const maxActions = 100_000

// A scope is what variables mean in one place.
type scope struct {
	p    *reader
	rule *rule
	pick map[string]string // path, dir, …; nil without foreach
	self *Action           // nil: its outputs are not known yet
	used []text            // the groups whose outputs were used: name and place
	deep int               // how many variables we are inside of

	// patterns says that what is made are patterns: names of files in them stand
	// for these files, whatever characters they have.
	patterns bool
}

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

// environment is env and passenv. What both name has the value of env.
func (s *scope) environment() (env []string) {
	names := map[string]bool{}
	for name, t := range s.rule.env {
		names[name] = true
		env = append(env, name+"="+s.one(t))
	}
	for _, t := range s.rule.passenv {
		if strings.ContainsAny(t.s, "=\x00") {
			s.p.errs.Addf(t.pos, "%q cannot be the name of a variable; values belong into env", t.s)
		}
		if !names[t.s] {
			names[t.s] = true
			env = append(env, t.s)
		}
	}
	slices.Sort(env)
	return env
}

func (s *scope) optional(t *text) string {
	if t == nil {
		return ""
	}
	return s.one(*t)
}

// place is a path of the workspace.
func (s *scope) place(key string, t *text) string {
	if t == nil {
		return ""
	}
	name := path.Clean(s.one(*t))
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") || t.s == "" {
		s.p.errs.Addf(t.pos, "%q must be a path in the workspace, relative to it", key)
		return ""
	}
	if name == "." {
		return ""
	}
	return name
}

// texts expands a list. An element that is one variable, which is a list, becomes
// its elements.
func (s *scope) texts(list []text) (out []text) {
	for _, t := range list {
		if name, ok := alone(t.s); ok {
			for _, v := range s.value(name, t.pos).texts {
				out = append(out, text{v.s, t.pos})
			}
			continue
		}
		out = append(out, text{s.one(t), t.pos})
	}
	return out
}

// alone returns the name of the variable that is all of the text.
func alone(t string) (string, bool) {
	if !strings.HasPrefix(t, "%{") || strings.IndexByte(t, '}') != len(t)-1 {
		return "", false
	}
	return t[2 : len(t)-1], true
}

// one expands a text in which each variable is a text.
func (s *scope) one(t text) string {
	return s.replace(t, func(name string, v variable) string {
		if v.list {
			s.p.errs.Addf(t.pos, "%%{%s} is a list: it must be an element of a list, with nothing beside it", name)
			return ""
		}
		return v.texts[0].s
	})
}

// script expands a text for the shell: each text of a variable is a word.
func (s *scope) script(t text) string {
	return s.replace(t, func(_ string, v variable) string {
		var words []string
		for _, w := range v.texts {
			words = append(words, quote(w.s))
		}
		return strings.Join(words, " ")
	})
}

// replace replaces each variable in a text.
func (s *scope) replace(t text, by func(name string, v variable) string) string {
	var b strings.Builder
	rest := t.s
	for {
		i := strings.Index(rest, "%{")
		if i < 0 {
			return b.String() + rest
		}
		if i > 0 && rest[i-1] == '%' {
			b.WriteString(rest[:i-1] + "%{")
			rest = rest[i+2:]
			continue
		}
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			s.p.errs.Addf(t.pos, `"%%{" without "}": write "%%%%{" if it is no variable`)
			return ""
		}
		name := rest[i+2 : i+end]
		b.WriteString(rest[:i] + by(name, s.value(name, t.pos)))
		rest = rest[i+end+1:]
	}
}

// maxDeep bounds variables in the values of variables.
const maxDeep = 20

// value is what a variable stands for. If there is none, that is a mistake at
// pos, and the value is an empty text.
func (s *scope) value(name string, pos strictyaml.Pos) variable {
	none := variable{texts: []text{{"", pos}}}
	if v, ok := s.pick[name]; ok {
		if s.patterns {
			v = escape(v)
		}
		return variable{texts: []text{{v, pos}}}
	}
	if group, ok := strings.CutPrefix(name, "out:"); ok {
		return s.outputsOf(group, pos)
	}
	if name == "out" {
		if s.self == nil {
			s.p.errs.Addf(pos, "%%{out} cannot be used here: it is not known yet")
			return none
		}
		return s.outputs(s.self)
	}
	v, ok := s.rule.vars[name]
	if !ok {
		v, ok = s.p.vars[name]
	}
	switch {
	case !ok && slices.Contains(builtIn, name):
		s.p.errs.Addf(pos, "%%{%s} is there in an action with foreach only", name)
		return none
	case !ok:
		s.p.errs.Addf(pos, `no variable is called %q%s; write "%%%%{" if it is none`, name, didYouMean(name, s.names()))
		return none
	case s.deep == maxDeep:
		s.p.errs.Addf(pos, "%%{%s} stands for itself", name)
		return none
	}
	s.deep++
	defer func() { s.deep-- }()
	if v.list {
		return variable{true, s.texts(v.texts)}
	}
	return variable{false, []text{{s.one(v.texts[0]), pos}}}
}

func (s *scope) names() []string {
	names := slices.Clone(builtIn)
	for name := range join(s.p.vars, s.rule.vars) {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *scope) outputs(a *Action) variable {
	v := variable{list: true}
	for i, o := range a.Outputs {
		if s.patterns && a.outputs[i].Literal {
			o = escape(o)
		}
		v.texts = append(v.texts, text{s: o})
	}
	if len(v.texts) == 1 {
		v.list = false // so that it can be part of a text
	}
	return v
}

// outputsOf are the outputs of all actions of a group.
func (s *scope) outputsOf(name string, pos strictyaml.Pos) variable {
	s.used = append(s.used, text{name, pos})
	group, known := s.p.groups[name]
	if !known {
		if s.p.ruleOf(name) != nil {
			s.p.errs.Addf(pos, "the action %q is below: only outputs of actions above can be used here", name)
		} else {
			s.p.errs.Addf(pos, "no action is called %q%s", name, didYouMean(name, s.p.names()))
		}
		return variable{list: true}
	}
	all := variable{list: true}
	for _, a := range group {
		all.texts = append(all.texts, s.outputs(a).texts...)
	}
	if len(all.texts) == 0 {
		s.p.errs.Addf(pos, "the action %q has no outputs", name)
	}
	if len(all.texts) == 1 {
		all.list = false
	}
	return all
}

// quote quotes s for a shell, where it needs it.
func quote(s string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+,@%:=", r))
	}
	if s != "" && !strings.ContainsFunc(s, odd) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
