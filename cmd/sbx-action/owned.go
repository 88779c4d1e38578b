package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/staging"
)

// ownerFlags say who a command is: root, as far as it can tell, who may give files
// away and make devices; and of which machine its programs are.
type ownerFlags struct {
	record     bool
	load, save string
	arch       string
}

func (f *ownerFlags) declare(flags *flag.FlagSet) {
	flags.BoolVar(&f.record, "owners", false, "let the command be root as far as it can tell: it may change owners, make devices\nand set-id programs, and that is recorded, whoever you are")
	flags.StringVar(&f.arch, "arch", "", "`MACHINE` whose programs are run, by qemu, if it is not this one:\n"+strings.Join(backends.MachineNames(), ", "))
}

// declareFiles declares where owners come from and go to, of a root that is not an
// action's.
func (f *ownerFlags) declareFiles(flags *flag.FlagSet) {
	flags.StringVar(&f.load, "owners-load", "", "`FILE` with the owners that the files of the root have, for --owners: mtree, as\n--owners-save and 'sbx-action owners import' write it")
	flags.StringVar(&f.save, "owners-save", "", "`FILE` for the owners, modes and devices of the root when the command has ended")
}

// machine is what --arch means; nil is this machine.
func (f *ownerFlags) machine() (*backends.Machine, error) {
	m, err := wiring.Arch(f.arch)
	if err != nil {
		return nil, fmt.Errorf("--arch %s: %w", f.arch, err)
	}
	return m, nil
}

func (f *ownerFlags) apply(spec *backends.Spec) (err error) {
	if !f.record && f.load+f.save != "" {
		return errors.New("--owners-load and --owners-save are of use with --owners only")
	}
	spec.Owners = f.record
	if f.load != "" {
		data, err := os.ReadFile(f.load)
		if err != nil {
			return fmt.Errorf("--owners-load: %w", err)
		}
		owners, err := staging.ParseOwners(data)
		if err != nil {
			return fmt.Errorf("--owners-load %s: %w", f.load, err)
		}
		spec.Root.Owned = staging.Known(owners)
	}
	spec.Machine, err = f.machine()
	return err
}

// write writes what the command has left of owners.
func (f *ownerFlags) write(st *backends.Status) error {
	if f.save == "" {
		return nil
	}
	owners, err := staging.LeftOwners(st.Root, st.Owned)
	if err == nil {
		err = commandline.WriteWhole(f.save, func(w io.Writer) error {
			_, err := w.Write(owners.Marshal())
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("--owners-save: %w", err)
	}
	return nil
}
