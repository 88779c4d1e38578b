// Package reproduce finds out whether an action gives the same outputs under
// other conditions, and if not, which outputs differ, where, and why.
//
// The action runs again with everything different that should not matter: host
// name, time, time zone, the order in which directories list their entries, the
// number of processors, the path of the build, umask, locale, what runs at the
// same time, and addresses. If something comes out different, more runs find
// the reason: first two under the same conditions, with a clock that stands
// still, as what differs between those depends on chance; then the conditions
// are varied by halves, until each output has the smallest set of them that
// makes it differ.
//
// What it says is as good as what can be varied: see [backends.Vary]. Outputs
// that never differ may still depend on something else.
package reproduce
