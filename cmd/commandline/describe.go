package commandline

import (
	"context"
	"errors"
	"flag"
)

// TableFlag, as the only argument, makes sbx-actiond print the table.
const TableFlag = "--table"

// A Described is a command as another program knows it, which prints its manual
// page and completes its words: sbx-actiond describes its commands to sbx-action,
// as JSON.
type Described struct {
	Name  string          `json:"name"`
	Args  string          `json:"args,omitempty"`
	Short string          `json:"short"`
	Long  string          `json:"long,omitempty"`
	Flags []DescribedFlag `json:"flags,omitempty"`
	Words []Described     `json:"words,omitempty"`
}

// A DescribedFlag is a flag of one. Usage has the name of its value in backquotes.
type DescribedFlag struct {
	Name    string `json:"name"`
	Usage   string `json:"usage"`
	Default string `json:"default,omitempty"`
	Switch  bool   `json:"switch,omitempty"` // it takes no value
}

// Describe describes commands.
func Describe(commands []Command) (list []Described) {
	for _, c := range commands {
		d := Described{Name: c.Name, Args: c.Args, Short: c.Short, Long: c.Long, Words: Describe(c.Words)}
		c.Flags().VisitAll(func(f *flag.Flag) {
			b, ok := f.Value.(interface{ IsBoolFlag() bool })
			d.Flags = append(d.Flags, DescribedFlag{Name: f.Name, Usage: f.Usage, Default: f.DefValue, Switch: ok && b.IsBoolFlag()})
		})
		list = append(list, d)
	}
	return list
}

// Command returns a command that looks like d. It cannot be run.
func (d Described) Command() Command {
	c := Command{Name: d.Name, Args: d.Args, Short: d.Short, Long: d.Long}
	c.Setup = func(flags *flag.FlagSet) func(context.Context, []string) error {
		for _, f := range d.Flags {
			if flags.Lookup(f.Name) == nil {
				flags.Var(&placeholder{f.Default, f.Switch}, f.Name, f.Usage)
			}
		}
		return func(context.Context, []string) error { return errors.New("it is another program's") }
	}
	for _, w := range d.Words {
		c.Words = append(c.Words, w.Command())
	}
	return c
}

// A placeholder stands for the value of another program's flag.
type placeholder struct {
	text string
	off  bool
}

func (p *placeholder) String() string   { return p.text }
func (p *placeholder) Set(string) error { return nil }
func (p *placeholder) IsBoolFlag() bool { return p.off }
