// Package actionfile reads files that describe many actions, and makes a graph
// of them.
//
// # The format
//
// A file is YAML, or JSON if its name ends in ".json". It is strict: an unknown
// or repeated key, a wrong type or a reference to nothing is an error with file,
// line and column. schema.json beside this package says the same to editors.
//
//	version: 1
//	vars: {cflags: [-O2, -Wall]}      # names for texts and lists of texts
//	defaults: {timeout: 5m}           # what every action has that does not say otherwise
//	templates:
//	  compile:                        # what actions that name it have
//	    inputs: ['%{path}', include]
//	    command: [gcc, '%{cflags}', -Iinclude, -c, -o, '%{out}', '%{path}']
//	actions:
//	  objects:                        # one action for each file that matches
//	    foreach: 'src/*.c'
//	    template: compile
//	    outputs: ['obj/%{stem}.o']
//	  app:
//	    inputs: ['%{out:objects}']
//	    outputs: [app]
//	    command: [gcc, -o, app, '%{out:objects}']
//	default: [app]                    # what is run when no target is named
//
// Keys of an action, of a template and of defaults:
//
//	description    one line for people
//	inputs         as "run -i": paths, patterns, "!PATTERN", DIR=DIGEST
//	outputs        as "run -o": paths and patterns
//	command        the command and its arguments, one by one
//	shell          in the place of command: a script for /bin/sh -e
//	env            variables of the command: NAME: VALUE
//	passenv        names of the caller's variables that the command sees
//	vars           names for this action; they hide those of the file
//	cwd, stdin     as the flags of run; relative to the workspace
//	timeout, memory, scratch, pids, rootfs, network, no-cache, cache-failures
//	               as the flags of run
//	after          names of actions that must have succeeded before, although
//	               none of their outputs is an input
//
// Only an action has foreach (a pattern, or a list of paths and patterns, with
// "!PATTERN" for exceptions), template (a name), and optional: true, which says
// that it is run only if it is asked for or needed.
//
// An action has what its template has, and that what defaults have: of a key
// that both have the more special one counts; but inputs, passenv and after are
// put together, and so are env and vars, name by name.
//
// # Variables
//
// %{NAME} stands for a text, or a list of texts. "%%{" is a "%{". They may be in
// inputs, outputs, command, shell, cwd, stdin, foreach and after, in the values
// of env, and in vars. A list must be a whole element of a list: it becomes as
// many elements. In shell each text is quoted for the shell where it needs that,
// so that it is one word: no quotes belong around it.
//
//	%{path}        in an action with foreach: the path of the file, src/a/x.tar.gz
//	%{dir}         its directory, or ".": src/a
//	%{name}        its name: x.tar.gz
//	%{stem}, %{ext}  the name without its last extension, and that: x.tar and .gz
//	%{sub}         the path without the directories that the pattern begins with
//	               and without the last extension: a/x.tar for src/**/*.gz
//	%{out}         the outputs of the action itself
//	%{out:NAME}    the outputs of another action; of all of them, with foreach
//	%{…}           what vars say
//
// # Which actions need which
//
// An action needs another one if one of its inputs, or its stdin, is an output of
// the other, or in one, or holds one, or is a pattern that does. Nothing else has
// to be said; after is for order that no file shows. An action that takes in its
// own outputs, because an input is a directory or a pattern, does so without
// them.
//
// foreach finds the files of the workspace, and the outputs of actions above it
// in the file; outputs of itself and of actions below are not found, so that it
// makes no difference whether they are there from an earlier run.
package actionfile

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/spelling"
	"github.com/sbx-action/sbx-action/internal/strictyaml"
	"github.com/sbx-action/sbx-action/staging"
)

// An Action is one action, with nothing left to expand.
type Action struct {
	Name  string // of its own: that in the file, with "[PATH]" for one of a foreach
	Group string // the name in the file
	Pos   strictyaml.Pos
	Pick  string // the file of foreach

	Description string
	Inputs      []string // as declared; own outputs are taken out by the user of the Graph
	Outputs     []string // paths and patterns
	Args        []string
	Env         []string // NAME=VALUE, or NAME for one of the caller's
	Cwd, Stdin  string
	Settings    []Setting

	Optional bool
	Needs    []int // indexes of the actions that must have succeeded before

	builtins        map[string]string // the variables of Pick
	inputs, outputs []*staging.Pattern
	inputPos        []strictyaml.Pos
	after, uses     []text
}

// A Setting is a key that is a flag of run, with its value as text: "true" for
// the ones that are on or off.
type Setting struct {
	Name, Value string
	Pos         strictyaml.Pos
}

// SettingKeys are the keys of an action that are flags of run.
var settingKeys = []string{"timeout", "memory", "scratch", "pids", "rootfs"}

// switchKeys are those that are true or false.
var switchKeys = []string{"network", "no-cache", "cache-failures"}

// A Graph is the actions of a file. The ones of a foreach are beside each other,
// in the order of their files.
type Graph struct {
	File      string
	Workspace string
	Actions   []*Action
	Default   []string // targets
}

// Load reads a file. Paths in it are relative to workspace, which is absolute.
// The error names every mistake with its place, one on a line.
func Load(name, workspace string) (*Graph, error) {
	root, err := strictyaml.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return load(root, name, workspace)
}

func load(root *strictyaml.Node, name, workspace string) (*Graph, error) {
	p := &reader{workspace: workspace, groups: map[string][]*Action{}, templates: map[string]*rule{}}
	g := &Graph{File: name, Workspace: workspace}
	p.file(root, g)
	if err := p.errs.Err(); err != nil {
		return nil, err
	}
	if err := p.expand(g); err != nil {
		return nil, err
	}
	p.connect(g)
	return g, p.errs.Err()
}

// A text is a string of the file with its place.
type text struct {
	s   string
	pos strictyaml.Pos
}

// A rule is an action, a template or the defaults, as written.
type rule struct {
	name string
	pos  strictyaml.Pos

	foreach   []text
	foreachAt strictyaml.Pos
	template  text
	optional  *bool

	description                              *text
	inputs, outputs, command, passenv, after []text
	hasOutputs, hasCommand                   bool
	shell, cwd, stdin                        *text
	env                                      map[string]text
	vars                                     map[string]variable
	settings                                 map[string]Setting
}

// A variable is a text, or a list of them.
type variable struct {
	list  bool
	texts []text
}

type reader struct {
	workspace string
	errs      strictyaml.Errors
	vars      map[string]variable
	defaults  *rule
	templates map[string]*rule
	rules     []*rule
	groups    map[string][]*Action
}

// file reads the top of the file.
func (p *reader) file(root *strictyaml.Node, g *Graph) {
	if root.Kind == strictyaml.Null {
		p.errs.Addf(root.Pos, `the file is empty: it needs "version: 1" and "actions:"`)
		return
	}
	m := p.errs.Map(root, "an action file")
	if v := m.Need("version"); v != nil && (v.Kind != strictyaml.Int || v.Text != "1") {
		p.errs.Addf(v.Pos, `"version" must be 1: this program knows no other`)
	}
	p.vars = p.variables(m.Take("vars"))
	p.defaults = &rule{}
	if n := m.Take("defaults"); n != nil {
		p.defaults = p.rule("", n, n.Pos, "defaults")
	}
	if n := m.Take("templates"); n != nil {
		for _, f := range p.errs.Map(n, `"templates"`).Node.Fields {
			p.templates[f.Key] = p.rule(f.Key, f.Value, f.Pos, "a template")
		}
	}
	actions := m.Need("actions")
	if actions != nil {
		for _, f := range p.errs.Map(actions, `"actions"`).Node.Fields {
			if err := checkName(f.Key); err != nil {
				p.errs.Add(f.Pos, err)
			}
			p.rules = append(p.rules, p.rule(f.Key, f.Value, f.Pos, "an action"))
		}
		if actions.Kind == strictyaml.Mapping && len(actions.Fields) == 0 {
			p.errs.Addf(actions.Pos, `"actions" has none`)
		}
	}
	if n := m.Take("default"); n != nil {
		g.Default = p.errs.Strings(n, `"default"`)
		for i, name := range g.Default {
			pos := n.Pos
			if n.Kind == strictyaml.List {
				pos = n.Items[i].Pos
			}
			if p.ruleOf(name) == nil {
				p.errs.Addf(pos, "no action is called %q%s", name, didYouMean(name, p.names()))
			}
		}
	}
	m.Done()
}

func (p *reader) names() (names []string) {
	for _, r := range p.rules {
		names = append(names, r.name)
	}
	return names
}

func (p *reader) ruleOf(name string) *rule {
	for _, r := range p.rules {
		if r.name == name {
			return r
		}
	}
	return nil
}

func didYouMean(name string, names []string) string {
	if near := spelling.Nearest(name, names); near != "" {
		return fmt.Sprintf(": did you mean %q?", near)
	}
	return ""
}

// checkName keeps names apart from paths with variables, and what shells and
// terminals do not like.
func checkName(name string) error {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-/@", r) || r > 0x7f)
	}
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, odd) || name[0] == '-' || name[0] == '@' {
		return fmt.Errorf("%q cannot be the name of an action: use letters, digits and ._+-/@", name)
	}
	return nil
}

// rule reads an action, a template or the defaults.
func (p *reader) rule(name string, n *strictyaml.Node, pos strictyaml.Pos, what string) *rule {
	r := &rule{name: name, pos: pos, settings: map[string]Setting{}}
	if name != "" {
		what = fmt.Sprintf("%s (%s)", what, name)
	}
	m := p.errs.Map(n, what)
	r.description = p.text(m, "description")
	r.inputs, _ = p.texts(m, "inputs")
	r.outputs, r.hasOutputs = p.texts(m, "outputs")
	r.command, r.hasCommand = p.command(m)
	r.passenv, _ = p.texts(m, "passenv")
	r.after, _ = p.texts(m, "after")
	r.shell, r.cwd, r.stdin = p.text(m, "shell"), p.text(m, "cwd"), p.text(m, "stdin")
	if r.shell != nil && r.hasCommand {
		p.errs.Addf(m.KeyPos("shell"), "%s has both command and shell: give one", what)
	}
	if e := m.Take("env"); e != nil {
		r.env = map[string]text{}
		for _, f := range p.errs.Map(e, `"env"`).Node.Fields {
			r.env[f.Key] = text{p.errs.String(f.Value, "the value of "+f.Key), f.Value.Pos}
			if f.Key == "" || strings.ContainsAny(f.Key, "=\x00") {
				p.errs.Addf(f.Pos, "%q cannot be the name of a variable", f.Key)
			}
		}
	}
	r.vars = p.variables(m.Take("vars"))
	for _, key := range settingKeys {
		if t := p.text(m, key); t != nil {
			r.settings[key] = Setting{key, t.s, t.pos}
		}
	}
	for _, key := range switchKeys {
		if n := peek(m, key); n != nil {
			r.settings[key] = Setting{key, fmt.Sprint(m.Bool(key)), n.Pos}
		} else {
			m.Take(key)
		}
	}
	if strings.HasPrefix(what, "an action") {
		p.only(r, m)
	}
	m.Done()
	return r
}

// only reads what an action has, and templates and defaults have not.
func (p *reader) only(r *rule, m *strictyaml.Map) {
	r.foreach, _ = p.texts(m, "foreach")
	r.foreachAt = m.KeyPos("foreach")
	if n := peek(m, "foreach"); n != nil && len(r.foreach) == 0 {
		p.errs.Addf(n.Pos, `"foreach" is empty`)
	}
	if t := p.text(m, "template"); t != nil {
		if r.template = *t; p.templates[t.s] == nil {
			p.errs.Addf(t.pos, "no template is called %q%s", t.s, didYouMean(t.s, slices.Sorted(maps.Keys(p.templates))))
		}
	}
	if peek(m, "optional") != nil {
		optional := m.Bool("optional")
		r.optional = &optional
	} else {
		m.Take("optional")
	}
}

// peek is the value of a key, which is still to be read.
func peek(m *strictyaml.Map, key string) *strictyaml.Node {
	for _, f := range m.Node.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return nil
}

func (p *reader) text(m *strictyaml.Map, key string) *text {
	n := m.Take(key)
	if n == nil {
		return nil
	}
	return &text{p.errs.String(n, fmt.Sprintf("%q", key)), n.Pos}
}

// texts reads a list of texts, or one.
func (p *reader) texts(m *strictyaml.Map, key string) ([]text, bool) {
	n := m.Take(key)
	if n == nil {
		return nil, false
	}
	list := p.textsOf(n, fmt.Sprintf("%q", key))
	for _, t := range list {
		if t.s == "" {
			p.errs.Addf(t.pos, "each of %q must be text that is not empty", key)
		}
	}
	return list, true
}

func (p *reader) textsOf(n *strictyaml.Node, what string) (list []text) {
	for i, s := range p.errs.Strings(n, what) {
		pos := n.Pos
		if n.Kind == strictyaml.List {
			pos = n.Items[i].Pos
		}
		list = append(list, text{s, pos})
	}
	return list
}

// command reads the command, of which one text is not enough: it would be the
// name of a program with spaces in it.
func (p *reader) command(m *strictyaml.Map) ([]text, bool) {
	n := m.Take("command")
	if n == nil {
		return nil, false
	}
	if n.Kind != strictyaml.List {
		p.errs.Addf(n.Pos, `"command" must be a list, as in [gcc, -c, a.c]; "shell" takes a line for the shell`)
		return nil, true
	}
	if len(n.Items) == 0 {
		p.errs.Addf(n.Pos, `"command" is empty`)
	}
	return p.textsOf(n, `"command"`), true
}

func (p *reader) variables(n *strictyaml.Node) map[string]variable {
	if n == nil {
		return nil
	}
	vars := map[string]variable{}
	for _, f := range p.errs.Map(n, `"vars"`).Node.Fields {
		if slices.Contains(builtIn, f.Key) || strings.ContainsAny(f.Key, "{}:%") || f.Key == "" {
			p.errs.Addf(f.Pos, "%q cannot be the name of a variable: it has a meaning of its own", f.Key)
		}
		if f.Value.Kind == strictyaml.List {
			vars[f.Key] = variable{true, p.textsOf(f.Value, f.Key)} // which may be empty
			continue
		}
		vars[f.Key] = variable{false, []text{{p.errs.String(f.Value, "the value of "+f.Key), f.Value.Pos}}}
	}
	return vars
}

// builtIn are the variables that are not for vars to set.
var builtIn = []string{"path", "dir", "name", "stem", "ext", "sub", "out"}

// inherit returns r with all that its template and the defaults have.
func (p *reader) inherit(r *rule) *rule {
	if t := p.templates[r.template.s]; t != nil {
		r = r.over(t)
	}
	return r.over(p.defaults)
}

// over returns r with what base has and r does not.
func (r *rule) over(base *rule) *rule {
	c := *r
	c.inputs = slices.Concat(base.inputs, r.inputs)
	c.passenv = slices.Concat(base.passenv, r.passenv)
	c.after = slices.Concat(base.after, r.after)
	c.env, c.vars, c.settings = join(base.env, r.env), join(base.vars, r.vars), join(base.settings, r.settings)
	if !r.hasOutputs {
		c.outputs, c.hasOutputs = base.outputs, base.hasOutputs
	}
	if !r.hasCommand && r.shell == nil {
		c.command, c.hasCommand, c.shell = base.command, base.hasCommand, base.shell
	}
	for _, f := range []struct{ to, from **text }{{&c.description, &base.description}, {&c.cwd, &base.cwd}, {&c.stdin, &base.stdin}} {
		if *f.to == nil {
			*f.to = *f.from
		}
	}
	return &c
}

func join[V any](base, over map[string]V) map[string]V {
	out := make(map[string]V, len(base)+len(over))
	maps.Copy(out, base)
	maps.Copy(out, over)
	return out
}

// Names are the files that are looked for when none is given.
var Names = []string{"build.yaml", "build.yml", "build.json"}

// Find returns the first of Names that is in dir.
func Find(dir string) (string, error) {
	for _, name := range Names {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return path.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("no %s here: name the action file with -f", strings.Join(Names, ", "))
}
