package promise

import (
	"slices"

	"github.com/sbx-action/sbx-action/backends"
)

// All is the table of promises, in the order in which they are best read.
func All() []Promise {
	return slices.Concat(
		startPromises(),
		streamPromises(),
		endPromises(),
		killPromises(),
		networkPromises(),
		processPromises(),
		privilegePromises(),
		filePromises(),
		outputPromises(),
		layerPromises(),
		mountPromises(),
		overPromises(),
		limitPromises(),
		observePromises(),
		lifetimePromises(),
	)
}

func hasNetworkNone(c backends.Capabilities) bool  { return c.NetworkNone }
func hasPidNamespace(c backends.Capabilities) bool { return c.PidNamespace }
func hasIPCNamespace(c backends.Capabilities) bool { return c.IPCNamespace }
func hasUTSNamespace(c backends.Capabilities) bool { return c.UTSNamespace }
func hasNoNewPrivs(c backends.Capabilities) bool   { return c.NoNewPrivs }
func hasSeccomp(c backends.Capabilities) bool      { return c.Seccomp }
func hasExactStatus(c backends.Capabilities) bool  { return c.ExactStatus }
