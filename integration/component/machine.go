package component

import (
	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// emulator is the platform property that names what executes the programs of
// another machine.
func (b *Builder) emulator() action.Property {
	return action.Property{Name: "emulator", Value: b.Emulator.String()}
}

// machine is the one whose programs the action runs; nil is this one.
func (b *Builder) machine(p *plan) *backends.Machine {
	if !p.stager.machine {
		return nil
	}
	return b.Machine
}
