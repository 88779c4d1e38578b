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

// inOwnRoot is for promises of absolute paths, which need a root that is "/".
func inOwnRoot(list ...Promise) []Promise {
	for i := range list {
		needs, asks := list[i].needs, list[i].asks
		list[i].needs = func(c backends.Capabilities) bool { return c.OwnRoot && (needs == nil || needs(c)) }
		if needs != nil && asks == nil {
			continue // of what else it needs, nobody can ask for it
		}
		list[i].asks = func(s *backends.Spec) {
			s.Root.InPlace = false
			if asks != nil {
				asks(s)
			}
		}
	}
	return list
}

// own is inOwnRoot for one.
func own(p Promise) Promise { return inOwnRoot(p)[0] }

func hasFixedID(c backends.Capabilities) bool      { return c.FixedID }
func hasLoopback(c backends.Capabilities) bool     { return c.NetworkNone && c.Loopback }
func killsAll(c backends.Capabilities) bool        { return c.KillsAll }
func hasNetworkNone(c backends.Capabilities) bool  { return c.NetworkNone }
func hasPidNamespace(c backends.Capabilities) bool { return c.PidNamespace }

// underHost is for promises of what is the kernel's business.
func underHost(needs func(backends.Capabilities) bool) func(backends.Capabilities) bool {
	return func(c backends.Capabilities) bool { return !c.OwnKernel && (needs == nil || needs(c)) }
}

func hasUnexposedInit(c backends.Capabilities) bool {
	return c.PidNamespace && !c.Exposed
}
func hasIPCNamespace(c backends.Capabilities) bool { return c.IPCNamespace }
func hasUTSNamespace(c backends.Capabilities) bool { return c.UTSNamespace }
func hasNoNewPrivs(c backends.Capabilities) bool   { return c.NoNewPrivs }
func hasSeccomp(c backends.Capabilities) bool      { return c.Seccomp }
func hasExactStatus(c backends.Capabilities) bool  { return c.ExactStatus }
