package commandline

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// Flags returns the flags of a command as help has them; none of a raw one.
func (c Command) Flags() *flag.FlagSet {
	flags := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if c.Setup != nil {
		c.Setup(flags)
	}
	return flags
}

// Lookup returns the command of that name.
func (p *Program) Lookup(name string) (Command, bool) {
	for _, c := range p.Commands {
		if c.Name == name {
			return c, true
		}
	}
	return Command{}, false
}

// ManPage writes the manual page of a command, or of the program if c is nil, in
// the language of man(7), from the table that --help is made of.
func (p *Program) ManPage(w io.Writer, c *Command) error {
	title := p.Name
	if c != nil {
		title += "-" + c.Name
	}
	fmt.Fprintf(w, ".TH %s 1 \"\" \"%s %s\" \"User Commands\"\n", strings.ToUpper(roff(title)), roff(p.Name), roff(Version()))
	if c == nil {
		return p.manProgram(w)
	}
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", roff(title), roff(c.Short))
	if c.Setup == nil {
		fmt.Fprintf(w, ".SH DESCRIPTION\n")
		paragraphs(w, "'"+p.Name+" "+c.Name+" --help' says what it does.")
		return p.manEnd(w)
	}
	fmt.Fprint(w, ".SH SYNOPSIS\n")
	synopsis(w, p.Name+" "+c.Name, c.Args)
	fmt.Fprint(w, ".SH DESCRIPTION\n")
	paragraphs(w, c.Long)
	options(w, ".SH OPTIONS\n", c.Flags())
	for i, word := range c.Words {
		if i == 0 {
			fmt.Fprint(w, ".SH COMMANDS\n")
		}
		name := c.Name + " " + word.Name
		fmt.Fprintf(w, ".SS %s\n%s\n", roff(name), roffLine(word.Short))
		if word.Args != "" {
			fmt.Fprint(w, ".PP\n")
			synopsis(w, p.Name+" "+name, word.Args)
		}
		if word.Long != "" {
			fmt.Fprint(w, ".PP\n")
			paragraphs(w, word.Long)
		}
		options(w, ".PP\nOptions:\n", word.Flags())
	}
	return p.manEnd(w)
}

func synopsis(w io.Writer, name, args string) {
	fmt.Fprint(w, ".nf\n")
	for i, line := range strings.Split(args, "\n") {
		if i == 0 {
			line = name + " " + line
		}
		fmt.Fprintln(w, roff(strings.TrimSpace(line)))
	}
	fmt.Fprint(w, ".fi\n")
}

// options writes what the flags say of themselves below a heading.
func options(w io.Writer, heading string, flags *flag.FlagSet) {
	flags.VisitAll(func(f *flag.Flag) {
		fmt.Fprint(w, heading)
		heading = ""
		before, value, after, usage := flagUsage(f)
		fmt.Fprintf(w, ".TP\n\\fB%s\\fR%s", roff(dashes(f.Name)), before)
		if value != "" {
			fmt.Fprintf(w, "\\fI%s\\fR%s", roff(value), after)
		}
		fmt.Fprintf(w, "\n%s", roffLine(strings.ReplaceAll(usage, "\n", " ")))
		if shown := shownDefault(f); shown != "" {
			fmt.Fprintf(w, " (default %s)", roff(shown))
		}
		fmt.Fprintln(w)
	})
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// flagUsage is what a flag says of itself: the name of its value, if it has one,
// what stands before and after that name, and the text. A switch that may have a
// value takes it after "=" only.
func flagUsage(f *flag.Flag) (before, value, after, usage string) {
	value, usage = flag.UnquoteUsage(f)
	before = " "
	if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
		before, after = "[=", "]"
	}
	if value == "" {
		before, after = "", ""
	}
	return before, value, after, usage
}

// shownDefault is the default of a flag, if it is worth showing.
func shownDefault(f *flag.Flag) string {
	switch f.DefValue {
	case "false", "0", "-1": // -1 is none, where 0 is a value
		return ""
	}
	return f.DefValue
}

func (p *Program) manProgram(w io.Writer) error {
	fmt.Fprintf(w, ".SH NAME\n%s \\- make any command a hermetic, cached build action\n", roff(p.Name))
	fmt.Fprintf(w, ".SH SYNOPSIS\n\\fB%s\\fR \\fICOMMAND\\fR [FLAGS] [ARGUMENTS]\n.SH DESCRIPTION\n", roff(p.Name))
	paragraphs(w, p.Intro)
	fmt.Fprint(w, ".SH COMMANDS\n")
	for _, c := range p.Commands {
		fmt.Fprintf(w, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(p.Name+"-"+c.Name), roffLine(c.Short))
	}
	fmt.Fprint(w, ".SH SETTINGS\n")
	paragraphs(w, "A flag that is not given has the value of the environment's variable SBX_NAME, of the project's file .sbx-action, or of the user's file sbx-action/settings below $XDG_CONFIG_HOME or ~/.config. 'sbx-action config show' prints each value and where it came from.")
	paragraphs(w, p.Outro)
	return p.manEnd(w)
}

func (p *Program) manEnd(w io.Writer) error {
	_, err := fmt.Fprintf(w, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(p.Name))
	return err
}

// paragraphs writes text: what is indented is shown as it is.
func paragraphs(w io.Writer, text string) {
	verbatim := false
	set := func(on bool) {
		switch {
		case on && !verbatim:
			fmt.Fprint(w, ".PP\n.nf\n")
		case !on && verbatim:
			fmt.Fprint(w, ".fi\n.PP\n")
		}
		verbatim = on
	}
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" && !verbatim:
			fmt.Fprint(w, ".PP\n")
			continue
		case line == "":
			fmt.Fprintln(w)
			continue
		}
		set(strings.HasPrefix(line, " "))
		fmt.Fprintln(w, roffLine(line))
	}
	set(false)
}

// roff escapes text for man.
func roff(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(s)
}

// roffLine is roff for text that begins a line.
func roffLine(s string) string {
	s = roff(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
