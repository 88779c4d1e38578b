package staging

import "path"

// A Real is what a path of a root leads to.
type Real struct {
	Host  string // without links
	ID    StatID
	There bool   // else nothing is there, or nobody may look
	At    Moment // not before which it was looked at
}

// Real says where a clean path of the root leads on the host, and false if only another
// look can tell. It notes nothing; what it looks at, the next Seal does not look at again.
func (w *HostWitness) Real(p string) (Real, bool) {
	if w.early == nil {
		w.early = w.scoutFor(256)
	}
	n, ok := w.early.real(p)
	if !ok {
		return Real{}, false
	}
	return Real{n.host, n.id, n.state == there, w.early.began}, true
}

// Again is w for another run.
func (w *HostWitness) Again() *HostWitness {
	again := *w
	again.early, again.held = nil, nil
	return &again
}

// real returns the node that p leads to, by way of the host's own directories only.
func (c *scout) real(p string) (*node, bool) {
	w := walk{at: c.top(), rest: p}
	for {
		name, tail, more := w.name()
		switch name {
		case "":
			return w.at, w.at.state != foreign
		case ".":
			w.rest = tail
			continue
		case "..":
			if w.rest = tail; w.at.dir != nil {
				w.at = w.at.dir
			}
			continue
		}
		n := c.in(w.at, name, p)
		switch {
		case n.state == foreign, n.state == gone && !n.nothing && !n.recalled:
			return nil, false
		case n.state != there:
			return n, true
		case n.id.isLink():
			target, err := c.target(n)
			if w.links++; err != nil || w.links > maxLinks {
				return nil, false
			}
			if path.IsAbs(target) {
				w.at = c.top()
			}
			if w.rest = target; more {
				w.rest += "/" + tail
			}
		case !more:
			return n, true
		case !n.id.isDir():
			return nil, false
		default:
			w.at, w.rest = n, tail
		}
	}
}
