package main

import (
	"flag"

	"github.com/sbx-action/sbx-action/backends"
)

// ownerFlags say whether a command may give files away and make devices.
type ownerFlags struct {
	record bool
}

func (f *ownerFlags) declare(flags *flag.FlagSet) {
	flags.BoolVar(&f.record, "owners", false, "let the command be root as far as it can tell: chown, mknod and setuid programs\nwork, and are recorded, whoever you are")
}

func (f *ownerFlags) apply(spec *backends.Spec) error {
	spec.Owners = f.record
	return nil
}
