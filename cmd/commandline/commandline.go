// Package commandline is what sbx-action and sbx-actiond have in common as
// programs: a table of commands, its help, and what errors and signals mean
// for the exit code.
package commandline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/internal/spelling"
)

// ExitOurs is the exit code for everything that is our failure or the
// caller's, not the command's, so that make can tell them apart.
const ExitOurs = 125

// An ExitCode ends the program with this code and says nothing more: what had
// to be said has been said.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// A Command is one word after the program's name. Its flags are declared by
// Setup, which returns what runs once they are parsed; --help prints what they
// say of themselves, so that every flag is described in one place.
type Command struct {
	Name  string
	Args  string // the synopsis after the flags
	Short string // one line
	Long  string // what --help says between the synopsis and the flags
	Setup func(*flag.FlagSet) func(ctx context.Context, args []string) error
	Quick bool // calls Interruptible itself, before what takes long

	// Settings says that flags that are not given are taken from the settings.
	Settings bool

	// SettingFlags has settings whose flag has another name here, or, with "",
	// none: one of that name means something else.
	SettingFlags map[string]string

	// Alone says that it belongs to no project, such as a server: a project's
	// settings do not count.
	Alone bool

	// Words are what the first argument can be, for those who look at the table.
	// One without Setup has the flags of the command itself.
	Words []Command

	// Raw, in the place of Setup, is given all arguments as they are, --help
	// too.
	Raw func(ctx context.Context, args []string) error
}

// A Program is its table of commands, which dispatch, the help and the
// completion read.
type Program struct {
	Name     string
	Intro    string // what --help says first
	Outro    string // what it says after the list of commands
	Commands []Command
	Groups   []Group // in which --help lists them; what is in none comes last

	// One says that Go was started with one processor, and not because the user
	// wants it.
	One bool

	// Failed, where not nil, is told of each error that is printed, with the exit code
	// that follows.
	Failed func(err error, code int)

	// Unknown is what to do when the first word is no command; %[1]q is the
	// word, %[2]s the program, %[3]s which command may be meant, or nothing.
	Unknown string
}

// A Group is commands that the help lists below a heading, in the order of the
// table.
type Group struct {
	Title string
	Names []string
}

// Main runs the program with the arguments that the system gave it, and ends
// it.
func (p *Program) Main() {
	ctx := withSignals(context.Background(), p.One)
	err := p.Dispatch(ctx, os.Args[1:])
	os.Exit(p.report(ctx, err))
}

// Dispatch runs the command that args begin with.
func (p *Program) Dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.Overview(os.Stderr)
		return ExitCode(ExitOurs)
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "--help", "-h", "-help":
		if len(rest) > 0 {
			return p.Dispatch(ctx, []string{rest[0], "--help"})
		}
		return printText(p.Overview)
	case "--version", "-V":
		name = "version"
	}
	for _, c := range p.Commands {
		if c.Name == name {
			return p.run(ctx, c, rest)
		}
	}
	switch {
	case name == "":
		return fmt.Errorf("the command's name is empty: '%s help' lists the commands", p.Name)
	case strings.HasPrefix(name, "-"):
		return fmt.Errorf("%s stands before the name of a command: its flags come behind it; '%s help' lists the commands", name, p.Name)
	}
	var names []string
	for _, c := range p.Commands {
		names = append(names, c.Name)
	}
	return fmt.Errorf(p.Unknown, name, p.Name, meant(name, names, strings.Clone))
}

// meant is the part of a sentence that says which of names is most like name, as
// written writes it; or nothing.
func meant(name string, names []string, written func(string) string) string {
	near := spelling.Nearest(name, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf(" (is %s meant?)", written(near))
}

// ParseFlags parses flags, also those that stand behind a word of their command.
// Its error is [flag.ErrHelp], or says where they are listed.
func ParseFlags(flags *flag.FlagSet, args []string) error {
	err := flags.Parse(args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w; '%s --help' lists the flags", flagError(err, flags), flags.Name())
}

// flagError is what the flag package says, as we write flags, with the flag that
// may be meant.
func flagError(err error, flags *flag.FlagSet) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		var names []string
		flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		if text = ""; len(name) > 1 {
			text = meant(name, names, dashes)
		}
		if short := abbreviated(name, names); text == "" && short != "" {
			text = fmt.Sprintf(" (is %s meant?)", dashes(short))
		}
		return fmt.Errorf("unknown flag %s%s", dashes(name), text)
	}
	for _, before := range []string{" for flag -", " for -", "flag needs an argument: -"} {
		if head, tail, ok := strings.Cut(text, before); ok {
			name, rest, _ := strings.Cut(tail, ":")
			if rest == " parse error" {
				rest = " " + wanted(flags.Lookup(name))
			}
			if rest != "" {
				rest = ":" + rest
			}
			return errors.New(head + strings.TrimSuffix(before, "-") + dashes(name) + rest)
		}
	}
	return err
}

// abbreviated returns the one of names that a letter stands for, or the letter among
// them that stands for name; or "".
func abbreviated(name string, names []string) string {
	for _, n := range names {
		if len(name) == 1 && strings.HasPrefix(n, name) || len(n) == 1 && strings.HasPrefix(name, n) {
			return n
		}
	}
	return ""
}

// wanted says what values of a flag look like that is not one of ours.
func wanted(f *flag.Flag) string {
	if g, ok := f.Value.(flag.Getter); ok {
		switch g.Get().(type) {
		case bool:
			return "want true or false"
		case time.Duration:
			return "want a duration, such as 90s"
		}
	}
	return "want a whole number"
}

func (p *Program) run(ctx context.Context, c Command, args []string) error {
	if c.Raw != nil {
		if err := shareStore(); err != nil {
			return err
		}
		return c.named(c.Raw(ctx, args))
	}
	flags := flag.NewFlagSet(p.Name+" "+c.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it all; usage on demand only
	action := c.Setup(flags)
	err := ParseFlags(flags, args)
	help := func(w io.Writer) { p.Help(w, c, flags) }
	if errors.Is(err, flag.ErrHelp) {
		return c.named(printText(help))
	}
	if err != nil {
		return c.named(err)
	}
	if c.Settings {
		err = c.applySettings(flags)
	} else if c.Name != "config" { // which says itself what is wrong
		err = shareStore()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	if !c.Quick {
		Interruptible(ctx)
	}
	err = action(ctx, flags.Args())
	if errors.Is(err, flag.ErrHelp) { // behind a word
		err = printText(help)
	}
	return c.named(err)
}

// printText writes a text to standard output. A help that nobody gets is an error.
func printText(text func(io.Writer)) error {
	var b bytes.Buffer
	text(&b)
	_, err := b.WriteTo(os.Stdout)
	return err
}

// named says which command err is of.
func (c Command) named(err error) error {
	if err == nil {
		return nil
	}
	if _, said := errors.AsType[ExitCode](err); said {
		return err
	}
	return fmt.Errorf("%s: %w", c.Name, err)
}

// Overview prints what the program is for, and its commands.
func (p *Program) Overview(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage: %s COMMAND [FLAGS] [ARGUMENTS]\n\n", strings.TrimSpace(p.Intro), p.Name)
	width := 0
	for _, c := range p.Commands {
		width = max(width, len(c.Name))
	}
	left := slices.Clone(p.Commands)
	list := func(title string, in func(Command) bool) {
		for _, c := range left {
			if in(c) {
				fmt.Fprintf(w, "%s  %-*s  %s\n", title, width, c.Name, hang(c.Short, width+4))
				title = ""
			}
		}
		left = slices.DeleteFunc(left, in)
		fmt.Fprintln(w)
	}
	for _, g := range p.Groups {
		list(g.Title+":\n", func(c Command) bool { return slices.Contains(g.Names, c.Name) })
	}
	if len(left) > 0 {
		list("", func(Command) bool { return true })
	}
	fmt.Fprintf(w, "%s\n", strings.TrimSpace(p.Outro))
}

// Help prints the synopsis, the long text, and every flag with its usage: what
// --help prints. A flag's usage starts with the name of its value in backquotes.
func (p *Program) Help(w io.Writer, c Command, flags *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: %s %s\n\n%s\n", p.Name, strings.TrimSpace(c.Name+" "+c.Args), fit(strings.TrimSpace(cmp.Or(c.Long, c.Short))))
	first := true
	flags.VisitAll(func(f *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nFlags:\n")
			first = false
		}
		before, value, after, usage := flagUsage(f)
		head := dashes(f.Name) + before + value + after
		if shown := shownDefault(f); shown != "" {
			usage += " (default " + shown + ")"
		}
		const column = 20
		if len(head) > column-4 {
			head += "\n" + strings.Repeat(" ", column-2)
		}
		fmt.Fprintf(w, "  %-*s  %s\n", column-4, head, hang(usage, column))
	})
}
