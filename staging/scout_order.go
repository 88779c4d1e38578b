package staging

import (
	"slices"
	"strings"
)

// sorted returns what was found, by path. What says less than another fact of
// the same path is left out. It ends the scout's work.
func (c *scout) sorted() []seen {
	// They are large: what is sorted are their numbers.
	o := orders{kept: make([]int32, 0, len(c.found)), names: make([]ordered, 0, 64)}
	o.node(c.top())
	o.below(c.top())
	kept := len(o.kept)
	permute(c.found, append(o.kept, o.rest...))
	return c.found[:kept]
}

// orders are the numbers of what was found, in the order of their paths. To compare
// whole paths, which begin with the same directories, would take four times as long.
type orders struct {
	kept, rest []int32
	names      []ordered // room
}

// An ordered is a node among those of its directory, or all that is below it.
type ordered struct {
	*node
	name  string
	below bool
}

// byKind are the indices in words of the kinds, in their order.
var byKind = [len(words)]int{0, 1, 2, 3, 5, 7, 6, 4}

// node adds what is of the node itself.
func (o *orders) node(n *node) {
	for _, i := range byKind {
		switch f := n.facts[i] - 1; {
		case f < 0:
		case words[i] == seenMeta && (n.has(seenFile) || n.has(seenLarge)), words[i] == seenDir && n.has(seenList):
			o.rest = append(o.rest, f)
		default:
			o.kept = append(o.kept, f)
		}
	}
}

// below adds what is below n.
func (o *orders) below(n *node) {
	from := len(o.names)
	for kid := n.kids; kid != nil; kid = kid.next {
		name := kid.path[strings.LastIndexByte(kid.path, '/')+1:]
		o.names = append(o.names, ordered{kid, name, false})
		if kid.kids != nil {
			o.names = append(o.names, ordered{kid, name, true})
		}
	}
	to := len(o.names)
	slices.SortFunc(o.names[from:], func(a, b ordered) int { return a.compare(&b) })
	for i := from; i < to; i++ {
		if e := o.names[i]; e.below {
			o.below(e.node)
		} else {
			o.node(e.node)
		}
	}
	o.names = o.names[:from]
}

// compare compares the names, with a slash behind that of what is below.
func (a *ordered) compare(b *ordered) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return a.after(n) - b.after(n)
}

// after is what follows n bytes of the name.
func (a *ordered) after(n int) int {
	switch {
	case n < len(a.name):
		return int(a.name[n])
	case a.below:
		return '/'
	}
	return -1
}

// permute puts list[order[i]] to list[i], for all i. It spoils the order.
func permute[T any](list []T, order []int32) {
	for i := range order {
		first, at := list[i], i
		for {
			from := int(order[at])
			order[at] = int32(at)
			if from == i {
				break
			}
			list[at] = list[from]
			at = from
		}
		list[at] = first
	}
}
