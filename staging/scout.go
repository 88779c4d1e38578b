package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A scout examines the host through a root file system that shows parts of it.
// It is used by one goroutine, for one list.
type scout struct {
	by    *HostWitness
	began Moment
	nodes map[string]*node // by path in the root, clean
	room  []node           // for more of them
	rooms [][]node         // all of that, of which so many are in use
	inUse int
	ways  map[string]way // by the directory part of a look-up, as it was named
	vain  bool           // the last look-up ended where there is nothing
	anew  bool           // what is known of names is not asked
	large string         // see HostWitness.Large
	name  []byte         // see stat

	found []seen
	of    []*node // what each of found is of
}

// A node is a path of the root that was looked at, and is looked at once.
type node struct {
	path  string // clean
	dir   *node  // that it is in; nil of the root directory
	kids  *node  // the last one in it that was looked at, and so on by next
	next  *node
	host  string // where it is on the host
	state nodeState
	facts [len(words)]int32 // 1 and where in found, by the index in words
	id    StatID            // while there

	nothing  bool        // nothing is there, for certain
	recalled bool        // it was not looked at, but is known
	target   string      // of a link, where that is known
	stable   bool        // of a link that is recalled
	asked    bool        // names is known
	names    *knownNames // of a directory
}

// A nodeState says what is at the path of a node.
type nodeState byte

const (
	foreign nodeState = iota // not of the host: the root has it of its own
	there
	gone
	shut // nobody knows: it is closed to us
)

// dirOf is path.Dir of an absolute path that is clean.
func dirOf(p string) string { return p[:max(strings.LastIndexByte(p, '/'), 1)] }

// node returns the node of a clean path that was not looked at before.
func (c *scout) node(p string, dir *node) *node {
	if len(c.room) == cap(c.room) {
		c.more()
	}
	c.room = c.room[:len(c.room)+1]
	n := &c.room[len(c.room)-1]
	n.path, n.dir = p, dir
	if dir != nil {
		n.next, dir.kids = dir.kids, n
	}
	c.nodes[p] = n
	host, ok := c.by.Host(p)
	if !ok {
		return n
	}
	n.host = host
	if c.recall(n) {
		return n
	}
	switch err := c.stat(host, &n.id); err {
	case nil:
		n.state = there
	case unix.EACCES, unix.EPERM:
		n.state = shut
	default:
		n.state, n.nothing = gone, err == unix.ENOENT
	}
	return n
}

// stat is StatPath, links kept, that makes no garbage.
func (c *scout) stat(host string, id *StatID) error {
	if strings.IndexByte(host, 0) >= 0 {
		return unix.EINVAL
	}
	var st unix.Stat_t
	c.name = append(append(c.name[:0], host...), 0)
	err := durable.StatZ(unix.AT_FDCWD, c.name, &st)
	*id = makeStatID(&st)
	return err
}

// top is the root directory.
func (c *scout) top() *node { return c.at("/") }

// at returns the node of a clean path.
func (c *scout) at(p string) *node {
	if n := c.nodes[p]; n != nil {
		return n
	}
	if p == "/" {
		return c.node(p, nil)
	}
	return c.node(p, c.at(dirOf(p)))
}

// in returns the node of the name in the directory dir. Its path may be the beginning
// of named.
func (c *scout) in(dir *node, name, named string) *node {
	at := len(dir.path) // where the name begins
	if dir.dir != nil { // else "/"
		at++
	}
	p := named[:min(at+len(name), len(named))]
	if len(p) < at+len(name) || p[at:] != name || p[at-1] != '/' || p[:len(dir.path)] != dir.path {
		if p = dir.path + "/" + name; dir.dir == nil {
			p = p[1:]
		}
	}
	if n := c.nodes[p]; n != nil {
		return n
	}
	return c.node(p, dir)
}

// note notes what op tells of n, which is no link.
func (c *scout) note(n *node, op backends.Op) error {
	if n.state == foreign {
		c.listMade(n, op)
		return nil
	}
	if n.state != there {
		return nil
	}
	switch mode := n.id.Mode & modeType; {
	case mode == modeDir && op == backends.Open:
		return c.list(n)
	case mode == modeDir:
		c.dir(n)
	case mode == modeRegular && op != backends.Stat:
		return c.file(n)
	case mode == modeSocket, mode != modeRegular && op != backends.Stat:
		return fmt.Errorf("%s is a socket, a FIFO or a device of the host: what a command hears from it is not known", n.path)
	default:
		c.meta(n)
	}
	return nil
}

func (id *StatID) isDir() bool  { return id.Mode&modeType == modeDir }
func (id *StatID) isLink() bool { return id.Mode&modeType == modeLink }

func (id *StatID) perm() uint32 { return id.Mode & 0o7777 }

// fact is where it is noted what of that kind was seen of the node.
func (n *node) fact(k seenKind) *int32 {
	for i, w := range words {
		if w == k {
			return &n.facts[i]
		}
	}
	panic("staging: no kind")
}

func (n *node) has(k seenKind) bool { return *n.fact(k) != 0 }

// add notes s of n, in the place of an earlier one of its kind.
func (c *scout) add(n *node, s seen) {
	s.path = n.path
	f := n.fact(s.kind)
	if *f != 0 {
		c.found[*f-1] = s
		return
	}
	c.found, c.of = append(c.found, s), append(c.of, n)
	*f = int32(len(c.found))
}

func (c *scout) dir(n *node) {
	if !n.has(seenDir) { // or it was listed in vain
		c.add(n, seen{kind: seenDir, perm: n.id.perm(), text: c.by.runs(n.id.Mode, 0o111)})
	}
}

func (c *scout) meta(n *node) {
	if !n.has(seenMeta) {
		c.add(n, seen{kind: seenMeta, text: c.by.meta(n.host, &n.id), id: n.id})
	}
}

// meta is what a command may see of a file without reading it, and what we
// mean to tell apart: kind, permissions, size, and rights where they differ.
func (w *HostWitness) meta(host string, id *StatID) string {
	size := id.Size
	if id.Mode&modeType != modeRegular {
		size = 0 // a device or a socket has no size to speak of
	}
	var room [64]byte
	text := strconv.AppendUint(room[:0], uint64(id.Mode), 8)
	text = strconv.AppendInt(append(text, ' '), size, 10)
	if rights := w.rights(host, id.Mode); rights != "" && id.Mode&modeType == modeRegular {
		text = append(append(text, ' '), rights...)
	}
	return string(text)
}

func (c *scout) file(n *node) error {
	if n.has(seenFile) || n.has(seenLarge) {
		return nil
	}
	var err error
	kind := seenLarge
	d, ok := c.by.Hash.large(n.host, c.large, &n.id, c.began)
	if !ok {
		kind = seenFile
		d, err = c.by.Hash.DigestAs(n.host, &n.id, c.began, c.by.Mark)
	}
	if errors.Is(err, fs.ErrPermission) { // then the command could not read it either
		c.meta(n)
		return nil
	}
	if err != nil {
		return err
	}
	if c.by.Vet != nil {
		if err := c.by.Vet(n.host, d); err != nil {
			return err
		}
	}
	c.add(n, seen{kind: kind, perm: n.id.perm(), text: c.by.runs(n.id.Mode, 0o444), digest: d.Digest, id: d.ID, stable: d.Stable})
	return nil
}

func (c *scout) list(n *node) error {
	if n.has(seenList) {
		return nil
	}
	id, stable, err := c.state(n.host)
	if err != nil {
		return err
	}
	d, err := listing(n.host, c.by.Hash.fn)
	if errors.Is(err, fs.ErrPermission) {
		c.add(n, seen{kind: seenDir, perm: id.perm(), text: notListed})
		return nil
	}
	if err != nil {
		return err
	}
	c.add(n, seen{kind: seenList, perm: id.perm(), text: c.by.runs(id.Mode, 0o444), digest: d, id: id, stable: stable})
	return nil
}

// listMade notes what is shown in a directory that staging makes. To look at it
// counts as listing it, because whether it is there at all depends on that; but
// for those in the root directory, and itself: they always are.
func (c *scout) listMade(n *node, op backends.Op) {
	if c.by.Made == nil || n.has(seenMade) || op == backends.Stat && dirOf(n.path) == "/" {
		return
	}
	if names, ok := c.by.Made(n.path); ok {
		c.add(n, seen{kind: seenMade, digest: action.Sum(c.by.Hash.fn, names)})
	}
}

// listing is the digest of the names in a directory of the host and of their kinds.
func listing(host string, f action.Function) (action.Digest, error) {
	entries, err := os.ReadDir(host)
	if err != nil {
		return action.Digest{}, err
	}
	var text []byte
	for _, e := range entries {
		text = strconv.AppendQuote(text, e.Name())
		text = append(text, ' ')
		text = append(text, e.Type().String()...)
		text = append(text, '\n')
	}
	return action.Sum(f, text), nil
}

// link notes where the link n leads.
func (c *scout) link(n *node) (string, error) {
	if i := *n.fact(seenLink); i != 0 {
		return c.found[i-1].text, nil
	}
	target, err := c.target(n)
	if err != nil {
		return "", err
	}
	stable := n.stable || !n.recalled && c.by.Hash.Stable(n.host, n.id, c.began)
	c.add(n, seen{kind: seenLink, text: target, id: n.id, stable: stable})
	return target, nil
}

// target is where the link n leads.
func (c *scout) target(n *node) (string, error) {
	var err error
	if n.target == "" {
		n.target, err = os.Readlink(n.host)
	}
	return n.target, err
}

// absent notes that n, whose parent exists, does not. What proves it is added by
// settle.
func (c *scout) absent(n *node) {
	if n.has(seenAbsent) {
		return
	}
	text := ""
	if n.state == shut {
		text = closed
	}
	c.add(n, seen{kind: seenAbsent, text: text})
}

// settle adds to what was absent the state of the directories that lack it. It is
// called after the last look: what has come or gone since the first one has changed
// them.
func (c *scout) settle() error {
	known := map[*node]*seen{} // what was absent in a directory, and settled first
	for i := range c.found {
		s, dir := &c.found[i], c.of[i].dir
		if s.kind != seenAbsent || dir.state == foreign {
			continue
		}
		if other := known[dir]; other != nil {
			s.id, s.stable = other.id, other.stable
			continue
		}
		var err error
		if s.id, s.stable, err = c.state(dir.host); err != nil {
			return err
		}
		known[dir] = s
	}
	return nil
}

// state returns the stat data of a directory or link of the host, and whether
// an equal one will prove that it has not changed.
func (c *scout) state(host string) (id StatID, stable bool, err error) {
	if err := c.stat(host, &id); err != nil {
		return StatID{}, false, &fs.PathError{Op: "stat", Path: host, Err: err}
	}
	return id, c.by.Hash.Stable(host, id, c.began), nil
}
