package commandline

import (
	"context"
	"flag"
	"strings"
	"testing"
	"time"
)

func TestOverview(t *testing.T) {
	p := &Program{
		Name: "x", Intro: "does things.", Outro: "That is all.",
		Commands: []Command{{Name: "a", Short: "first"}, {Name: "long-name", Short: "second"}, {Name: "new", Short: "in no group"}},
		Groups:   []Group{{"Second", []string{"long-name"}}, {"First", []string{"gone", "a"}}},
	}
	var b strings.Builder
	p.Overview(&b)
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
	(&Program{Name: "x"}).Help(&help, c, c.Flags())
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

func TestUnknownCommand(t *testing.T) {
	p := &Program{Name: "x", Unknown: "unknown command %[1]q%[3]s: '%[2]s help'", Commands: []Command{{Name: "history"}, {Name: "why"}}}
	for name, want := range map[string]string{
		"histroy": `unknown command "histroy" (is history meant?): 'x help'`,
		"other":   `unknown command "other": 'x help'`,
		"":        "the command's name is empty: 'x help' lists the commands",
		"--nope":  "--nope stands before the name of a command: its flags come behind it; 'x help' lists the commands",
	} {
		if err := p.Dispatch(t.Context(), []string{name}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestFlagError(t *testing.T) {
	for arg, want := range map[string]string{
		"--timout=1s":    "unknown flag --timout (is --timeout meant?)",
		"--zzz":          "unknown flag --zzz",
		"-z":             "unknown flag -z",
		"--timeout":      "flag needs an argument: --timeout",
		"--timeout=a: b": `invalid value "a: b" for flag --timeout: want a duration, such as 90s`,
		"--on=maybe":     `invalid boolean value "maybe" for --on: want true or false`,
		"-n=x":           `invalid value "x" for flag -n: want a whole number`,
		"--number=3":     "unknown flag --number (is -n meant?)",
		"-t":             "unknown flag -t (is --timeout meant?)",
	} {
		flags := flag.NewFlagSet("c", flag.ContinueOnError)
		flags.SetOutput(new(strings.Builder))
		flags.Duration("timeout", time.Second, "")
		flags.Bool("on", false, "")
		flags.Int("n", 0, "")
		if err := flags.Parse([]string{arg}); err == nil || flagError(err, flags).Error() != want {
			t.Errorf("%s: %v, want %s", arg, flagError(err, flags), want)
		}
	}
}
