package commandline

import (
	"context"
	"flag"
	"strings"
	"testing"
)

func TestOverview(t *testing.T) {
	p := &Program{
		Name: "x", Intro: "does things.", Outro: "That is all.",
		Commands: []Command{{Name: "a", Short: "first"}, {Name: "long-name", Short: "second"}, {Name: "new", Short: "in no group"}},
		Groups:   []Group{{"Second", []string{"long-name"}}, {"First", []string{"gone", "a"}}},
	}
	var b strings.Builder
	p.overview(&b)
	const want = `does things.

Usage: x COMMAND [FLAGS] [ARGUMENTS]

Second:
  long-name  second

First:
  a          first

  new        in no group

That is all.
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

// TestHelpOfFlags shows flags of all kinds, in the help and in a manual page.
func TestHelpOfFlags(t *testing.T) {
	c := Command{Name: "c", Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
		flags.Bool("on", false, "switch it on")
		flags.Int("user", -1, "`NUMBER` of the user")
		flags.String("name", "joe", "`NAME` of the user")
		flags.Var(&placeholder{off: true}, "keep", "keep it in =`DIR`")
		return nil
	}}
	var help, man strings.Builder
	(&Program{Name: "x"}).help(&help, c, c.Flags())
	options(&man, ".SH OPTIONS\n", c.Flags())
	for text, in := range map[string]string{
		"\n  --on              switch it on\n":                   help.String(),
		"\n  --user NUMBER     NUMBER of the user\n":             help.String(),
		"\n  --name NAME       NAME of the user (default joe)\n": help.String(),
		"\n  --keep[=DIR]      keep it in =DIR\n":                help.String(),
		"\\fB\\-\\-on\\fR\nswitch":                               man.String(),
		"\\fB\\-\\-user\\fR \\fINUMBER\\fR\nNUMBER":              man.String(),
		"\\fB\\-\\-keep\\fR[=\\fIDIR\\fR]\nkeep":                 man.String(),
	} {
		if !strings.Contains(in, text) {
			t.Errorf("no %q in\n%s", text, in)
		}
	}
}
