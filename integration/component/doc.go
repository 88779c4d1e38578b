// Package component builds components: each from its source, on a root file
// system that is made of what it needs, by an action of its own. A system is
// what some of them have installed, put together.
//
// # What a component's build is
//
// The root is the base, over it what the components that it needs have
// installed, in the order in which they are needed, and /NAME.build, the source.
// Where two have the same file, the later one wins. Each command of each step
// runs as "sh -c -e COMMAND" in /NAME.build, with exactly the environment that
// is declared, and installs into DESTDIR, which is /NAME.inst. The first one that
// fails ends the build. MAKEFLAGS is there for commands of the build steps only.
// Every file of the root has the same time, 2011-11-11 11:11:11 UTC.
//
// What is in DESTDIR when all have run is the result. A command that changes
// anything else but /NAME.build, /tmp and /dev/shm makes the build fail: what it
// did would be lost.
//
// # What a build depends on
//
// The key of the action has the digest of the root, so of everything that is
// staged, and the text of the commands with their environment. It does not have
// the names of other components, the definition's other fields, or where they
// are written. So a component that was built again and became the same does not
// make those that need it be built again.
//
// # What is not in a result
//
// Commands run as a user without privileges. Owners and device nodes cannot be
// made: in a system everything belongs to root, but for the devices that its
// components declare. Modes are kept, those of setuid programs too. A command
// that must change an owner fails.
package component
