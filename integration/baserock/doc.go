// Package baserock reads trees of Baserock definitions, versions 6 to 8, and
// says what is to be built.
//
// # The format
//
// At the top of a tree, VERSION says which version of the format it is in
// (YAML, "version: 8"), and DEFAULTS, from version 7 on, what build-systems do
// and how what they install is split. Every file called *.morph, in any
// directory whose name does not begin with a dot, is one definition: a YAML
// mapping with a name and a kind.
//
//   - A chunk says how one source is built: a build-system, and commands that
//     replace those of the build-system or come before or after them.
//   - A stratum is a list of chunks with their sources, what each needs of those
//     before it, and the strata that all of them need.
//   - A system is a list of strata, for one architecture.
//   - A cluster is a list of systems. How they are deployed is not our business:
//     what it says of that is not looked at.
//
// Paths in a field "morph" are relative to the top of the tree.
//
// # What is refused
//
// [Load] is strict: a field that is not of the format, a file that is not there,
// a name that is used before it is defined, a cycle, a regular expression that
// cannot be compiled. It reports all of it in one go, each with file, line and
// column.
//
// Regular expressions are those of RE2, which has no look-around and no
// back-references. No tree that we know of uses them.
package baserock
