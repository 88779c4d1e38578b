package foreign

import (
	"os"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A Machine runs one command. Its methods are called in this order, but for Kill.
type Machine interface {
	// Files are descriptors for the tool, from LastFD+1 on.
	Files() []*os.File

	// Exchange does what a socket to our init does else. What begin is given runs
	// on a thread that lives as long as the backend.
	Exchange(begin func(func()) error, req *helper.Request, spec *backends.Spec) (*helper.Reply, error)

	// Kill may be called by anybody, at any time.
	Kill()

	// Close frees what the machine needed. It is dead when Close returns.
	Close()
}
