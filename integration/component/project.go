package component

import (
	"strings"
	"time"
)

// A Project is components and systems that can be built.
type Project struct {
	Components []*Component // each after what it needs
	Targets    []*Component // those that were asked for
	Systems    []*System
	Arch       string // of the systems, where definitions say it
}

// Names are the names of all components and systems.
func (p *Project) Names() []string {
	var names []string
	for _, c := range p.Components {
		names = append(names, c.Name)
	}
	for _, s := range p.Systems {
		names = append(names, s.Name)
	}
	return names
}

// Strips says whether a component has a command that reads with "read -n", as
// the strip commands of Baserock's definitions do: some shells do not have it.
func (p *Project) Strips() bool {
	for _, c := range p.Components {
		for _, s := range c.Steps {
			for _, command := range s.Commands {
				if strings.Contains(command, "read -n") {
					return true
				}
			}
		}
	}
	return false
}

// A Component is built from one source.
type Component struct {
	Name  string // unique in the project
	Short string // NAME in NAME.build and NAME.inst: a file name
	Where string // where it is defined: file, line and column

	Source *Source // nil: none, the directory is empty
	Base   Base

	// Needs are the components whose results are staged, in this order.
	Needs []*Component

	// Env is the environment of every command, sorted by name, without
	// MAKEFLAGS and SOURCE_DATE_EPOCH, which depends on the source unless it is
	// there.
	Env   []Variable
	Steps []Step

	// MaxJobs is what -j is in MAKEFLAGS; 0 is the number of processors, which
	// is not part of the key.
	MaxJobs int

	// Split says to which artifacts a path of the result belongs.
	Split func(path string) (artifact string)
	// Rules are what Split goes by, where it goes by regular expressions.
	Rules []SplitRule
	// Artifacts are the names that Split can return.
	Artifacts []string

	Devices []Device
	Limits  Limits
	Caches  []Cache

	// Tests are components that need this one, and are built when it was asked
	// for: they fail if it does not do what it should.
	Tests []*Component
	Test  bool // it is one

	// Owners says that its commands are root, as far as they can tell, and may
	// change owners and make devices: see doc.go.
	Owners bool

	// Tree, where it is not empty, is the result, in the place of a build: a
	// root file system.
	Tree Base

	// HostTools says that the component is built with the tools of the host, in
	// a directory in which what it needs is. See doc.go.
	HostTools bool
}

// Is says whether name means the component: its name, or its short name.
func (c *Component) Is(name string) bool { return c.Name == name || c.Short == name }

// A Base names a root file system: its digest, a directory, a tar, or a name
// that an import gave it; after a '#', the digest that it must have (SplitDigest).
// Empty is an empty root.
type Base string

// SplitDigest returns where a root file system is, and the digest that it must
// have, "" if any will do: of an archive that of the file, of an OCI layout that of
// its manifest or of its index.json, of anything else that of the tree.
func (b Base) SplitDigest() (place, digest string) {
	i := strings.LastIndexByte(string(b), '#')
	if i < 0 || !baseDigest.MatchString(string(b)[i+1:]) {
		return string(b), ""
	}
	return string(b)[:i], string(b)[i+1:]
}

// A Variable of the environment.
type Variable struct{ Name, Value string }

// A Step is commands with a name, such as "configure-commands".
type Step struct {
	Name     string
	Commands []string
	Parallel bool // MAKEFLAGS is set
}

// Limits bound a build. Zero is no limit. Only Timeout is in the key.
type Limits struct {
	Timeout               time.Duration
	Memory, Scratch, Pids int64
}

// A SplitRule says which paths are of an artifact: those that match one of the
// expressions as a whole.
type SplitRule struct {
	Artifact    string
	Expressions []string
}

// A Device is a device node that a system has besides what is installed.
type Device struct {
	Path         string // without a slash in front
	Type         byte   // 'c' or 'b'
	Major, Minor uint32
	UID, GID     uint32
	Mode         uint32
}

// A System is what components have installed, put together.
type System struct {
	Name  string
	Where string
	Base  Base // below the components; empty: nothing
	Meta  bool // it gets /baserock/NAME.meta of each component, as YBD writes them
	Raw   bool // nothing runs in it: not ldconfig either

	Contents []Content

	// Integration are commands that run in the system when all is there, with
	// the whole system writable.
	Integration []Integration
	Env         []Variable

	Outputs []Output // that are written whenever it is built, if no others are asked for
}

// Content is a component of a system, and which of its artifacts.
type Content struct {
	*Component
	All       bool
	Artifacts []string // where All is false
}

// Integration is commands of one component.
type Integration struct {
	Label     string // they run in the order of their labels
	Component string
	Commands  []string
}
