package backends

import "fmt"

// Degrade returns spec without what a backend with the capabilities c would
// refuse, and a sentence for each thing that it dropped: for people who would
// rather run a command with less isolation than not at all. What is dropped is
// gone: a command that is degraded is another action.
func Degrade(spec *Spec, c Capabilities) (*Spec, []string) {
	s := *spec
	var dropped []string
	drop := func(asked, has bool, what string, undo func()) {
		if asked && !has {
			undo()
			dropped = append(dropped, what)
		}
	}
	drop(!s.Root.InPlace, c.OwnRoot, "the command sees the paths of the host, and its root is a directory there", func() { s.Root.InPlace = true })
	drop(s.Network == NetworkNone, c.NetworkNone || !c.NetworkHost, "the command has the host's network", func() { s.Network = NetworkHost })
	drop(s.Network == NetworkHost, c.NetworkHost || !c.NetworkNone, "the command has no network", func() { s.Network = NetworkNone })
	drop(s.Root.ReadOnly, c.Mounts, "all of the root can be written", func() { s.Root.ReadOnly, s.Root.Writable = false, nil })
	drop(s.Root.Tmpfs != nil, c.Mounts, "there are no directories in memory", func() { s.Root.Tmpfs = nil })
	drop(s.Limits.Memory > 0, c.MemoryLimit != Absent, "memory is not limited", func() { s.Limits.Memory = 0 })
	drop(s.Limits.Pids > 0, c.PidsLimit != Absent, "the number of processes is not limited", func() { s.Limits.Pids = 0 })
	drop(s.Limits.FileSize > 0, c.FileLimit, "the size of files is not limited", func() { s.Limits.FileSize = 0 })
	drop(s.Limits.Scratch > 0, c.ScratchLimit, "what is written is not limited", func() { s.Limits.Scratch = 0 })
	drop(s.Owners, c.Owners, "owners cannot be changed, and devices not be made", func() { s.Owners = false })
	drop(s.Observe, c.Observe, "look-ups are not observed", func() { s.Observe = false })
	drop(s.Root.HasUser(), c.Users, fmt.Sprintf("the command runs as user %d", ID), func() { s.Root.As, s.Root.Group = nil, nil })
	drop(s.Umask != nil || s.Caller, c.Caller, "the umask is 022", func() { s.Umask, s.Caller = nil, false })
	drop(s.Filter != nil, c.Filters, "the filter of system calls is not in force", func() { s.Filter = nil })
	return &s, dropped
}
