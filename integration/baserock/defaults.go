package baserock

import (
	_ "embed"
	"errors"
	"io/fs"
)

// builtin is what counts where a tree has no DEFAULTS, as those of version 6 do
// not. It says what DEFAULTS of the definitions of Baserock says.
//
//go:embed defaults.yaml
var builtin []byte

// defaults reads the file DEFAULTS.
func (l *loader) defaults() {
	l.tree.Defaults = Defaults{BuildSystems: map[string]*BuildSystem{}, Rules: map[Kind][]Rule{}}
	own := Defaults{BuildSystems: map[string]*BuildSystem{}, Rules: map[Kind][]Rule{}}
	v, err := parseYAML("DEFAULTS (built in)", builtin)
	if err != nil {
		panic(err) // a test reads it
	}
	l.decodeDefaults(v, &l.tree.Defaults)
	if _, err := fs.Stat(l.fs, "DEFAULTS"); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if v = l.parse("DEFAULTS"); v == nil || v.isNull() {
		return
	}
	l.decodeDefaults(v, &own)
	if len(own.BuildSystems) > 0 {
		l.tree.Defaults.BuildSystems = own.BuildSystems
	}
	if len(own.Rules) > 0 {
		l.tree.Defaults.Rules = own.Rules
	}
}

func (l *loader) decodeDefaults(v *value, to *Defaults) {
	l.mapping(v, "DEFAULTS", fields{
		"build-systems": func(v *value) {
			l.named(v, "build-systems", func(name, b *value) {
				to.BuildSystems[name.text] = l.buildSystemDefaults(name.text, b)
			})
			if _, ok := to.BuildSystems["manual"]; !ok {
				l.problem(v.Place, "there is no build-system \"manual\", which chunks without a build-system have")
			}
		},
		"split-rules": func(v *value) {
			l.named(v, "kinds and their rules", func(kind, rules *value) {
				if k := Kind(kind.text); k != Chunk && k != Stratum {
					l.problem(kind.Place, "a %s is not split: only chunk and stratum are", k)
				}
				var list []Rule
				l.rules(&list)(rules)
				to.Rules[Kind(kind.text)] = list
			})
		},
	})
}

func (l *loader) buildSystemDefaults(name string, v *value) *BuildSystem {
	b := &BuildSystem{Steps: map[string][]string{}, raw: v.generic()}
	known := fields{}
	for _, step := range []string{"configure-commands", "build-commands", "test-commands", "install-commands", "strip-commands"} {
		known[step] = func(v *value) { b.Steps[step] = l.commands(v) }
	}
	l.mapping(v, "build-system "+name, known)
	return b
}
