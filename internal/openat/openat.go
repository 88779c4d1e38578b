// Package openat opens files below a directory whose content is somebody
// else's, by Linux's openat2: it decides in the kernel, in one step, where a
// path with links in it may lead. It works on Linux since 5.6 only.
package openat

// A Scope says where a path may lead.
type Scope int

const (
	// InRoot takes the directory as the root: "/" and ".." do not leave it,
	// and links lead where they would for a command that has it as its root.
	InRoot Scope = iota
	// Beneath refuses, with EXDEV, whatever leads out of the directory:
	// absolute links always do.
	Beneath
)
