package baserock

import (
	"fmt"
	"regexp"
)

// A Kind is what a definition is of.
type Kind string

// The kinds of definitions.
const (
	Chunk   Kind = "chunk"
	Stratum Kind = "stratum"
	System  Kind = "system"
	Cluster Kind = "cluster"
)

// A Tree is a directory of definitions.
type Tree struct {
	Dir      string
	Version  int
	Defaults Defaults

	// Elements are all definitions, by path. A path is that of the file, below
	// the top and without ".morph"; that of a chunk without a file of its own
	// is the path of its stratum, a slash, and its name.
	Elements map[string]*Element

	// Warnings are about what is allowed, and probably not meant.
	Warnings Problems
}

// Defaults are what the file DEFAULTS says.
type Defaults struct {
	BuildSystems map[string]*BuildSystem
	Rules        map[Kind][]Rule // how to split chunks and strata
}

// A BuildSystem is commands for steps of a build.
type BuildSystem struct {
	Steps map[string][]string // by name of the step, such as "configure-commands"
	raw   any
}

// A Rule of a split says what belongs to an artifact.
type Rule struct {
	Artifact string // where it begins with a dash, the name of the element goes before it
	Include  []string
	match    *regexp.Regexp
}

// Match says whether a path, or the name of an artifact, is of the rule.
func (r *Rule) Match(p string) bool { return r.match.MatchString(p) }

// An Element is one thing that can be built, or be made of others.
type Element struct {
	Place // where it is defined
	Path  string
	Name  string
	Kind  Kind

	// Depends are what is needed to build it, in this order: of a chunk, those
	// of its stratum come first.
	Depends []*Element

	// Contents are the chunks of a stratum, the strata of a system, and the
	// systems of a cluster.
	Contents []Content

	Products []Rule

	// Doubts are problems of a system that keep it from being built, but not the
	// tree from being read: artifacts that a stratum does not have. The tree of
	// Baserock has one.
	Doubts Problems

	ChunkFields
	SystemFields

	// factors are what of the definition is in the key that YBD computes, as
	// it is written.
	factors map[string]any

	file  *value // the definition's file; nil if it has none
	entry *value // what its stratum says of a chunk
	used  bool   // by a stratum, a system or a cluster
}

// Content is an element of another one, and which of its artifacts are meant.
type Content struct {
	*Element
	Artifacts []string // none: all
}

// ChunkFields are what only chunks have.
type ChunkFields struct {
	Repo, Ref    string
	Stratum      *Element
	BuildSystem  string // "manual" where none is given
	BuildMode    string // "staging", "bootstrap" or "test"
	Prefix       string // "/usr" where none is given
	PrefixStated bool   // it is given
	MaxJobs      int    // 0: as many as there are

	// Steps are the commands that the definition itself has, by name of the
	// step. A step with an empty list is not the same as none.
	Steps map[string][]string

	Devices     []Device
	Integration []Integration
	Submodules  map[string]string // path to URL
	Artifacts   map[string]string // artifact of the chunk to that of the stratum
}

// SystemFields are what only systems have.
type SystemFields struct{ Arch string }

// A Device is a device node that a chunk has besides what it installs.
type Device struct {
	Type         byte   // 'c' or 'b'
	Filename     string // absolute
	Major, Minor uint32
	UID, GID     uint32
	Mode         uint32
}

// An Integration is commands that run in the finished system.
type Integration struct {
	Label    string // of the form 00-what; they run in the order of their labels
	Artifact string // which must be in the system
	Commands []string
}

// stepNames are the steps of a build, in the order in which they run.
func stepNames() []string {
	var names []string
	for _, step := range []string{"bootstrap", "configure", "build", "test", "install", "strip"} {
		names = append(names, "pre-"+step+"-commands", step+"-commands", "post-"+step+"-commands")
	}
	return names
}

func (e *Element) doubt(at Place, format string, args ...any) {
	e.Doubts = append(e.Doubts, Problem{at, fmt.Sprintf(format, args...)})
}

// Bootstrap says whether the element is built with the tools of the host, and
// is left out of what its stratum is.
func (e *Element) Bootstrap() bool { return e.BuildMode == "bootstrap" }

// Commands returns the commands of a step: the element's own, or those of its
// build-system.
func (t *Tree) Commands(e *Element, step string) []string {
	if own, ok := e.Steps[step]; ok {
		return own
	}
	if b := t.Defaults.BuildSystems[e.BuildSystem]; b != nil {
		return b.Steps[step]
	}
	return nil
}
