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
// # Owners
//
// Commands of a component that asks for it (Component.Owners: all chunks of
// definitions do), and of integration, are root, as far as they can tell, whoever
// builds: owners that they change and devices that they make are recorded (backends.Owned), are in the
// result's tree as node properties (staging.OwnerProperties), and in the images of
// systems. A component that is built on top of the result sees them; that they are
// what they are is then in its key. Owners of files of the base are not told.
// Modes are kept, those of setuid programs too. A command that changes the owner of
// something outside of its DESTDIR makes the build fail, as if it had changed the
// file.
//
// Others run as a user without privileges, as many configure scripts and test suites
// want it; so do those that are built with the host's tools (bootstrap), and all where
// Builder.Owners is not set. There a command that must change an owner fails.
package component
