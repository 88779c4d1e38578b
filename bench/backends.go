package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// backendRows run the same program in the same root under every backend that
// works here, in one process, each in turn with native.
func (b *bench) backendRows() ([]row, error) {
	program, err := b.staticTrue()
	if err != nil {
		return nil, err
	}
	spec := &backends.Spec{
		Root: backends.Root{Binds: []backends.Bind{{Source: filepath.Dir(program), Target: "/bin"}, {Source: "/usr", Target: "/usr"}}},
		Args: []string{"/bin/true"}, Dir: "/",
	}
	var ours side
	var rows []row
	for _, name := range wiring.BackendNames() {
		backend, err := wiring.OpenBackend(name, native.Options{})
		if err != nil {
			return nil, err
		}
		if !backend.Capabilities().Works {
			continue
		}
		spec, can, rounds := *spec, backend.Capabilities(), 30
		spec.Root.InPlace = !can.OwnRoot
		if !can.NetworkNone {
			spec.Network = backends.NetworkHost
		}
		if can.Boots {
			rounds = 3 // each boots a machine
		}
		s := side{name: name, run: func() (time.Duration, error) {
			start := time.Now()
			status, err := backend.Run(context.Background(), &spec)
			if err == nil && status.Code != 0 {
				err = fmt.Errorf("exit %d: %w", status.Code, status.Start)
			}
			return time.Since(start), err
		}}
		if name == "native" {
			ours = s
			continue
		}
		rows = append(rows, row{name: "backend: static true in one root, in one process", rounds: rounds, ours: ours, peer: s})
	}
	return rows, nil
}
