// Package history remembers what ran: every run of an action, hit or miss,
// kept or not, with what it takes to say later why it ran.
//
// A [Run] is appended to the store's history by [Add], in one write that is
// small for a hit. A [Book] is all that the store still remembers, and finds
// runs by output, by digest and by what they have in common. The store bounds
// how much it remembers, and may lose the last records to a power cut or a full
// disk: nothing but what we can tell depends on them.
package history
