package main

import (
	"flag"
	"fmt"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// ownerFlags say who a command is: root, as far as it can tell, who may give files
// away and make devices; and of which machine its programs are.
type ownerFlags struct {
	record bool
	arch   string
}

func (f *ownerFlags) declare(flags *flag.FlagSet) {
	flags.BoolVar(&f.record, "owners", false, "let the command be root as far as it can tell: it may change owners, make devices\nand set-id programs, and that is recorded, whoever you are")
	flags.StringVar(&f.arch, "arch", "", "`MACHINE` whose programs are run, by qemu, if it is not this one: "+strings.Join(backends.MachineNames(), ", "))
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
	spec.Owners = f.record
	spec.Machine, err = f.machine()
	return err
}
