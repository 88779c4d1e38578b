package staging

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

// real returns the node that p leads to, by way of the host's own directories only. Unlike
// look it notes nothing, and so takes no way that an earlier look-up has noted.
func (c *scout) real(p string) (*node, bool) {
	w := walk{at: c.top(), rest: p}
	for {
		name, tail, more := w.name()
		if name == "" {
			return w.at, w.at.state != foreign
		}
		if w.dots(name, tail) {
			continue
		}
		n := c.in(w.at, name, p)
		switch {
		case n.state == foreign, n.state == gone && !n.nothing && !n.recalled:
			return nil, false
		case n.state != there:
			return n, true
		case n.id.isLink():
			rest := ""
			if more {
				rest = "/" + tail
			}
			target, err := c.target(n)
			if err != nil || !c.turn(&w, target, rest) {
				return nil, false
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
