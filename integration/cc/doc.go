// Package cc puts a cache and a sandbox in front of a compiler, for build
// systems that know nothing of either: CC="sbx-action cc gcc".
//
// It promises that a user cannot tell a call that went through it from one
// that did not, but by the time it took: outputs, standard output, standard
// error and exit code are the compiler's. Whatever it does not understand, and
// whatever goes wrong in it, ends with the compiler being executed in its place.
//
// # How
//
// A [Call] is a command line and what can be said of it without running it. On
// a miss it runs in a sandbox in which the host's files are at their own
// places, read-only; where outputs are expected, a fresh layer takes what is
// written ([view]). Every path that is looked up there is observed. What was
// found in the layer afterwards are the outputs, whether we have heard of their
// kind or not; what was looked up on the host is the input, found or not.
//
// So the key has two parts. The first is what the call says of itself, and
// needs no file: arguments, environment, working directory, standard input, and
// where it matters the processor. Under its digest the [staging.HostWitness]
// keeps up to eight sets of facts about files that earlier runs saw. A hit is a
// set whose facts all hold. Nothing is preprocessed, no directory is listed
// unless the compiler listed it, and no compiler is started.
//
// What observation does not see is not cached, or in the first part of the key:
// the clock ([clockUsers]), the processor, links to us on PATH, inherited
// descriptors.
package cc
