package staging

import (
	"path"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

// A way is where the directory part of a look-up led, all of which is noted: so
// that what a compiler looks for in one directory, hundreds of names, does not walk
// there again for each.
type way struct {
	at    *node
	links int
	open  bool // it led to a directory
	vain  bool // there was nothing
}

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// A walk is a look-up on its way.
type walk struct {
	at    *node
	rest  string // of the path, from at on
	links int    // that were followed
	dir   string // the directory part of the look-up; "" once its way is known
}

// walkTo begins a look-up of p, where an earlier one has led already. It is false
// where that did not lead to a directory.
func (c *scout) walkTo(p string) (walk, bool) {
	dir := p[:strings.LastIndexByte(p, '/')+1]
	w, ok := c.ways[dir]
	switch {
	case !ok:
		return walk{at: c.top(), rest: p, dir: dir}, true
	case !w.open:
		c.vain = w.vain
		return walk{}, false
	}
	return walk{at: w.at, rest: p[len(dir):], links: w.links}, true
}

// name is the first name of the rest, and what is behind it, if there is a slash.
func (w *walk) name() (name, tail string, more bool) {
	for w.rest != "" && w.rest[0] == '/' {
		w.rest = w.rest[1:]
	}
	return strings.Cut(w.rest, "/")
}

// lead remembers where the directory part led.
func (c *scout) lead(w *walk, to way) {
	if w.dir != "" {
		c.ways[w.dir] = to
	}
	w.dir = ""
}

// follow goes on at the target of a link, behind which is rest. It is false where
// there were too many: ELOOP, which the links say.
func (c *scout) follow(w *walk, link *node, rest string) (bool, error) {
	target, err := c.link(link)
	if err != nil {
		return false, err
	}
	if !c.turn(w, target, rest) {
		c.lead(w, way{})
		return false, nil
	}
	return true, nil
}

// turn goes on at the target of a link, behind which is rest. It is false where there
// were too many.
func (c *scout) turn(w *walk, target, rest string) bool {
	if w.links++; w.links > maxLinks {
		return false
	}
	if path.IsAbs(target) {
		w.at = c.top()
	}
	w.rest = target + rest
	return true
}

// dots goes on behind a name that is "." or "..", and says whether it was.
func (w *walk) dots(name, tail string) bool {
	switch name {
	case ".":
		w.rest = tail
		return true
	case "..":
		if w.rest = tail; w.at.dir != nil {
			w.at = w.at.dir
		}
		return true
	}
	return false
}

// look notes everything that a look-up of l.Path tells: the links and the
// directories on the way, which let it pass or not, and what is at the end. Of
// what the root has of its own, and not from the host, only directories say
// something, if they hold what is of the host.
func (c *scout) look(l backends.Lookup) error {
	c.vain = false
	w, ok := c.walkTo(l.Path)
	if !ok {
		return nil
	}
	for {
		name, tail, more := w.name()
		if !more {
			c.lead(&w, way{at: w.at, links: w.links, open: true})
		}
		if name == "" { // the end, or a trailing slash, or of the root's own
			return c.note(w.at, l.Op)
		}
		if w.dots(name, tail) {
			continue
		}
		next := c.in(w.at, name, l.Path)
		if next.state == foreign { // made by staging: a directory on the way to a bind, /proc, /build, …
			w.at, w.rest = next, tail
			continue
		}
		if next.state != there {
			c.vain = true
			c.lead(&w, way{vain: true})
			c.absent(next)
			return nil
		}
		last := !more || strings.Trim(tail, "/") == ""
		if next.id.isLink() {
			rest := "/" + tail
			if last {
				rest = ""
			}
			if ok, err := c.follow(&w, next, rest); !ok {
				return err
			}
			continue
		}
		if last {
			if err := c.barred(next, l); err != nil {
				return err
			}
			return c.note(next, l.Op)
		}
		if !next.id.isDir() {
			c.lead(&w, way{})
			return c.note(next, backends.Stat) // ENOTDIR
		}
		c.dir(next)
		w.at, w.rest = next, tail
	}
}
