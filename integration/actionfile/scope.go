package actionfile

import (
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

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
