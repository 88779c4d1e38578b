// Package front answers calls that are hits before Go starts.
//
// To start a Go program of our size takes half a millisecond and more, which is
// most of what a hit takes. So the program's entry is not Go's but a piece of C
// ([src/front.c]) in the same file. It looks for a [Memo] of the call: what the
// call gave when Go last answered it from the cache, and every fact that this
// depended on. If all of them hold, it does what Go would have done, and ends the
// process; in all other cases it has done nothing, and Go starts.
//
// A memo promises nothing that Go has not found out before: it is a hit, written
// down. Whoever writes one lists everything that the answer was made of: a fact
// that is forgotten is a wrong hit. What cannot be checked by looking at a file's
// stat data has no memo.
//
// The entry is chosen by the linker: go build -ldflags "-E sbx_front", without
// cgo, for linux/amd64. A program that was built otherwise works as well, and its
// hits take as long as Go does.
package front

import "os"

// A Reason says why the front did not answer.
type Reason uint32

// The reasons, as in front.h. Those from Stale on are of calls that have a memo.
const (
	Absent  Reason = 0 // the program has no front
	NotOurs Reason = 1 // the call is of a kind that has no memos
	NoMemo  Reason = 2
	Bad     Reason = 3 // there is one, but it is damaged or somebody else's
	Stale   Reason = 4 // something that it says does not hold any more
	Unable  Reason = 5 // it holds, but there is something that Go does better
)

// Both are set by the entry before Go starts.
var reason, lone uint32

// Why says why we are here, and not in the front.
func Why() Reason { return Reason(reason) }

// Stand makes this process one for which the front gave that reason: a warm worker
// answers calls of others, whose front asked it to.
func Stand(r Reason) { reason = uint32(r) }

// Wanted says whether a memo of this call is of use.
func Wanted() bool { r := Why(); return r == NoMemo || r == Bad || r == Stale }

// One says whether the entry had Go start with one processor, and lets nobody see
// how: the variable that said so is taken away. It is called before anything looks at
// the environment.
func One() bool {
	if lone == 0 {
		return false
	}
	os.Unsetenv("GOMAXPROCS")
	learnSlack()
	return true
}
