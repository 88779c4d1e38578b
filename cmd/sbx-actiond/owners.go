package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/ownerstate"
	"github.com/sbx-action/sbx-action/staging"
)

func ownersCommand() commandline.Command {
	return commandline.Command{
		Name: "owners", Args: "import|export --format FORMAT --root DIR FROM TO",
		Short: "read and write what fakeroot and pseudo know of owners",
		Long: `
import reads the state of another tool, FROM, which is about files below the
directory DIR, and writes the owners, modes and devices as a list, TO. export reads
such a list and writes a state. FORMAT is fakeroot (the file of its -s and -i),
pseudo (files.db in its PSEUDO_LOCALSTATEDIR, when its server has stopped), or
mtree, the list itself. A FILE of - is standard input or output.

  sbx-action sandbox ./root --owners --owners-save list --commit -- make install
  sbx-action owners export --format fakeroot --root ./root list state
  fakeroot -i state tar -C root -cf root.tar .
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			f := &ownersFlags{flags: flags}
			flags.StringVar(&f.format, "format", "", "`FORMAT` of the state: fakeroot, pseudo or mtree")
			flags.StringVar(&f.root, "root", "", "`DIR` that has the files")
			return f.run
		},
	}
}

type ownersFlags struct {
	flags        *flag.FlagSet
	format, root string
}

func (f *ownersFlags) run(_ context.Context, args []string) error {
	if len(args) == 0 || args[0] != "import" && args[0] != "export" {
		return errors.New("say import or export, as in 'sbx-action owners import --format fakeroot --root DIR STATE LIST'")
	}
	word := args[0]
	if err := commandline.ParseFlags(f.flags, args[1:]); err != nil {
		return err
	}
	args = f.flags.Args()
	switch {
	case f.format != "fakeroot" && f.format != "pseudo" && f.format != "mtree":
		return fmt.Errorf("--format %q: want fakeroot, pseudo or mtree", f.format)
	case len(args) != 2:
		return fmt.Errorf("%s wants two files, FROM and TO, and got %d", word, len(args))
	case f.root == "":
		return errors.New("--root is missing: it names the directory that has the files")
	}
	if info, err := os.Stat(f.root); err != nil || !info.IsDir() {
		return fmt.Errorf("--root %s is not a directory", f.root)
	}
	from, err := read(args[0])
	if err != nil {
		return err
	}
	var out []byte
	if word == "import" {
		out, err = f.importState(from)
	} else {
		out, err = f.exportState(from)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return commandline.WriteWhole(args[1], func(w io.Writer) error {
		_, err := w.Write(out)
		return err
	})
}

// mostState bounds what is read into memory.
const mostState = 1 << 30

func read(name string) ([]byte, error) {
	in := os.Stdin
	if name != "-" {
		for _, suffix := range []string{"-journal", "-wal"} {
			if info, err := os.Stat(name + suffix); err == nil && info.Size() > 0 {
				return nil, fmt.Errorf("%s is there: the database is in use; stop pseudo's server (pseudo -S)", name+suffix)
			}
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, mostState+1))
	if err == nil && len(data) > mostState {
		err = fmt.Errorf("%s is larger than %d bytes", name, mostState)
	}
	return data, err
}

// importState makes a list of a state.
func (f *ownersFlags) importState(data []byte) ([]byte, error) {
	var list []ownerstate.Entry
	var err error
	switch f.format {
	case "fakeroot":
		list, err = ownerstate.ReadFakeroot(bytes.NewReader(data))
	case "pseudo":
		list, err = ownerstate.ReadPseudo(data)
	default:
		owners, err := staging.ParseOwners(data)
		return owners.Marshal(), err
	}
	if err != nil {
		return nil, err
	}
	owners, lost, err := ownerstate.Owners(f.root, list)
	if err == nil && lost > 0 {
		fmt.Fprintf(os.Stderr, "sbx-action: %d of %d entries are of no file below %s\n", lost, len(list), f.root)
	}
	return owners.Marshal(), err
}

// exportState makes a state of a list.
func (f *ownersFlags) exportState(data []byte) ([]byte, error) {
	owners, err := staging.ParseOwners(data)
	if err != nil || f.format == "mtree" {
		return owners.Marshal(), err
	}
	list, missing, err := ownerstate.Entries(f.root, owners)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "sbx-action: not below %s: %s\n", f.root, commandline.Visible(strings.Join(missing[:min(len(missing), 10)], ", ")))
	}
	if f.format == "pseudo" {
		return ownerstate.WritePseudo(list)
	}
	var out bytes.Buffer
	err = ownerstate.WriteFakeroot(&out, list)
	return out.Bytes(), err
}
