package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// seenKind says what a command learned of a path of the host.
type seenKind byte

const (
	seenFile   seenKind = 'f' // read: its contents and permissions
	seenMeta   seenKind = 'm' // looked at: kind, permissions and size
	seenDir    seenKind = 'd' // there or passed through, and a directory: its permissions
	seenList   seenKind = 'l' // listed: the names and kinds in it, and its permissions
	seenLink   seenKind = 's' // followed: its target
	seenAbsent seenKind = 'a' // not there
	seenMade   seenKind = 'r' // made by staging, and listed: the names and kinds in it
)

// A seen is one thing that a command learned of the host. Two runs that
// learned the same things of the host had, as far as the host goes, the same
// input.
//
// Times, owners and inode numbers are not in it: a package that is installed
// again with the same contents is the same input.
type seen struct {
	path   string // absolute, in the root
	kind   seenKind
	perm   uint32        // seenFile, seenDir, seenList: the permissions, and set-id and sticky bits
	digest action.Digest // seenFile, seenList, seenMade
	text   string        // seenLink: the target; seenMeta: kind, permissions, size; of others see rights.go

	// id is the state of the path when it was examined, or for seenAbsent of
	// the directory that would hold it. An equal one proves, if stable, that
	// the fact still holds. Not part of the key.
	id     StatID
	stable bool
}

// word is the kind in the canonical list.
func (k seenKind) word() string {
	switch k {
	case seenFile:
		return "file"
	case seenMeta:
		return "meta"
	case seenDir:
		return "dir"
	case seenList:
		return "list"
	case seenMade:
		return "made"
	case seenLink:
		return "link"
	}
	return "absent"
}

// line is the entry's line in the canonical list that is hashed into the key.
func (s seen) line() string { return string(s.appendLine(nil)) }

func (s *seen) appendLine(b []byte) []byte {
	b = appendQuoted(append(append(b, s.kind.word()...), ' '), s.path)
	switch s.kind {
	case seenFile, seenDir, seenList:
		b = append(b, ' ')
		digits := strconv.AppendUint(nil, uint64(s.perm), 8)
		b = append(append(b, "0000"[min(len(digits), 4):]...), digits...)
	}
	switch s.kind {
	case seenFile, seenList, seenMade:
		b = append(append(b, ' '), s.digest.String()...)
	case seenLink:
		return append(appendQuoted(append(b, ' '), s.text), '\n')
	}
	if s.text != "" {
		b = append(append(b, ' '), s.text...)
	}
	return append(b, '\n')
}

// appendQuoted is strconv.AppendQuote, faster for what paths are made of.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.AppendQuote(b, s)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// canonical is the list as it is hashed: one line each, sorted.
func canonical(list []seen) []byte {
	text := make([]byte, 0, 96*len(list))
	ends := make([]int, 0, len(list))
	for i := range list {
		text = list[i].appendLine(text)
		ends = append(ends, len(text))
	}
	lines, all, from := make([]string, 0, len(list)), string(text), 0
	for _, end := range ends {
		lines = append(lines, all[from:end])
		from = end
	}
	sort.Strings(lines)
	text = text[:0]
	for _, line := range lines {
		text = append(text, line...)
	}
	return text
}

// A scout examines the host through a root file system that shows parts of it.
// It is used by one goroutine, for one list.
type scout struct {
	by    *HostWitness
	host  func(rooted string) (string, bool)
	made  func(dir string) ([]byte, bool)
	hash  *FileHasher
	vet   func(host string, d FileDigest) error
	began Moment
	found []seen
	index map[fact]int32     // of what was found
	nodes map[string]*StatID // by path in the root; nil: absent, or closed to us
	shut  map[string]bool    // those that are closed to us
	dirs  map[string]seen    // stat data of directories that lack something
	ways  map[string]way     // by the directory part of a look-up, as it was named
	vain  bool               // the last look-up ended where there is nothing
}

// A fact is what there is one seen of.
type fact struct {
	kind seenKind
	path string
}

// A way is where the directory part of a look-up led, all of which is noted: so
// that what a compiler looks for in one directory, hundreds of names, does not walk
// there again for each.
type way struct {
	at    string
	links int
	open  bool // it led to a directory
	vain  bool // there was nothing
}

func (w *HostWitness) scout() *scout { return w.scoutFor(0) }

// scoutFor returns a scout for about n look-ups.
func (w *HostWitness) scoutFor(n int) *scout {
	return &scout{
		by: w, host: w.Host, made: w.Made, hash: w.Hash, vet: w.Vet, began: Now(),
		found: make([]seen, 0, n), index: make(map[fact]int32, n), nodes: make(map[string]*StatID, n), shut: map[string]bool{}, dirs: map[string]seen{}, ways: map[string]way{},
	}
}

// maxLinks is how many links the kernel follows in one path.
const maxLinks = 40

// look notes everything that a look-up of l.Path tells: the links and the
// directories on the way, which let it pass or not, and what is at the end. Of
// what the root has of its own, and not from the host, only directories say
// something, if they hold what is of the host.
func (c *scout) look(l backends.Lookup) error {
	c.vain = false
	rest, at, links := l.Path, "/", 0
	dir := l.Path[:strings.LastIndexByte(l.Path, '/')+1] // "" once its way is known
	if w, ok := c.ways[dir]; ok {
		if !w.open {
			c.vain = w.vain
			return nil
		}
		rest, at, links, dir = l.Path[len(dir):], w.at, w.links, ""
	}
	lead := func(w way) {
		if dir != "" {
			c.ways[dir] = w
		}
		dir = ""
	}
	for {
		name, tail, more := strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if !more {
			lead(way{at: at, links: links, open: true})
		}
		if name == "" { // the end, or a trailing slash, or of the root's own
			return c.note(at, l.Op)
		}
		if name == "." {
			rest = tail
			continue
		}
		if name == ".." {
			at, rest = path.Dir(at), tail
			continue
		}
		next := at + "/" + name
		if at == "/" {
			next = at + name
		}
		info, ours := c.lstat(next)
		if !ours { // made by staging: a directory on the way to a bind, /proc, /build, …
			at, rest = next, tail
			continue
		}
		if info == nil {
			c.vain = true
			lead(way{vain: true})
			return c.absent(next)
		}
		last := !more || strings.Trim(tail, "/") == ""
		if info.isLink() {
			target, err := c.link(next, info)
			if err != nil {
				return err
			}
			if links++; links > maxLinks {
				lead(way{})
				return nil // ELOOP: the links say it
			}
			if path.IsAbs(target) {
				at = "/"
			}
			rest = target + "/" + tail
			if last {
				rest = target
			}
			continue
		}
		if last {
			return c.note(next, l.Op)
		}
		if !info.isDir() {
			lead(way{})
			return c.note(next, backends.Stat) // ENOTDIR
		}
		c.dir(next, info)
		at, rest = next, tail
	}
}

// lstat examines a path of the root on the host. ours is false where the root
// does not have it from the host.
func (c *scout) lstat(p string) (id *StatID, ours bool) {
	host, ok := c.host(p)
	if !ok {
		return nil, false
	}
	if id, ok := c.nodes[p]; ok {
		return id, true
	}
	if now, err := StatPath(host, KeepLinks); err == nil {
		id = &now
	} else if errors.Is(err, fs.ErrPermission) {
		c.shut[p] = true
	}
	c.nodes[p] = id
	return id, true
}

// note notes what op tells of p, which exists and is no link.
func (c *scout) note(p string, op backends.Op) error {
	info, ours := c.lstat(p)
	if !ours {
		c.listMade(p, op)
		return nil
	}
	if info == nil {
		return nil
	}
	switch {
	case info.isDir() && op == backends.Open:
		return c.list(p)
	case info.isDir():
		c.dir(p, info)
	case info.Mode&modeType == modeRegular && op != backends.Stat:
		return c.file(p, info)
	case info.Mode&modeType == modeSocket, info.Mode&modeType != modeRegular && op != backends.Stat:
		return fmt.Errorf("%s is a socket, a FIFO or a device of the host: what a command hears from it is not known", p)
	default:
		c.meta(p, info)
	}
	return nil
}

func (id *StatID) isDir() bool  { return id.Mode&modeType == modeDir }
func (id *StatID) isLink() bool { return id.Mode&modeType == modeLink }

func (id *StatID) perm() uint32 { return id.Mode & 0o7777 }

func (c *scout) dir(p string, info *StatID) {
	if !c.has(seenDir, p) { // or it was listed in vain
		c.add(seen{path: p, kind: seenDir, perm: info.perm(), text: c.by.runs(info.Mode, 0o111)})
	}
}

func (c *scout) meta(p string, info *StatID) {
	host, _ := c.host(p)
	c.add(seen{path: p, kind: seenMeta, text: c.by.meta(host, info), id: *info})
}

func (c *scout) add(s seen) {
	f := fact{s.kind, s.path}
	if i, ok := c.index[f]; ok {
		c.found[i] = s
		return
	}
	c.index[f] = int32(len(c.found))
	c.found = append(c.found, s)
}

func (c *scout) has(kind seenKind, p string) bool {
	_, ok := c.index[fact{kind, p}]
	return ok
}

// meta is what a command may see of a file without reading it, and what we
// mean to tell apart: kind, permissions, size, and rights where they differ.
func (w *HostWitness) meta(host string, id *StatID) string {
	size := id.Size
	if id.Mode&modeType != modeRegular {
		size = 0 // a device or a socket has no size to speak of
	}
	text := strconv.FormatUint(uint64(id.Mode), 8) + " " + strconv.FormatInt(size, 10)
	if rights := w.rights(host, id.Mode); rights != "" && id.Mode&modeType == modeRegular {
		text += " " + rights
	}
	return text
}

func (c *scout) file(p string, info *StatID) error {
	if c.has(seenFile, p) {
		return nil
	}
	host, _ := c.host(p)
	d, err := c.hash.digestAs(host, info, c.began)
	if errors.Is(err, fs.ErrPermission) { // then the command could not read it either
		c.meta(p, info)
		return nil
	}
	if err != nil {
		return err
	}
	if c.vet != nil {
		if err := c.vet(host, d); err != nil {
			return err
		}
	}
	c.add(seen{path: p, kind: seenFile, perm: info.perm(), text: c.by.runs(info.Mode, 0o444), digest: d.Digest, id: d.ID, stable: d.Stable})
	return nil
}

func (c *scout) list(p string) error {
	if c.has(seenList, p) {
		return nil
	}
	host, _ := c.host(p)
	id, stable, err := c.state(host)
	if err != nil {
		return err
	}
	d, err := listing(host, c.hash.fn)
	if errors.Is(err, fs.ErrPermission) {
		c.add(seen{path: p, kind: seenDir, perm: id.perm(), text: notListed})
		return nil
	}
	if err != nil {
		return err
	}
	c.add(seen{path: p, kind: seenList, perm: id.perm(), text: c.by.runs(id.Mode, 0o444), digest: d, id: id, stable: stable})
	return nil
}

// listMade notes what is shown in a directory that staging makes. To look at it
// counts as listing it, because whether it is there at all depends on that; but
// for those in the root directory, and itself: they always are.
func (c *scout) listMade(p string, op backends.Op) {
	if c.made == nil || c.has(seenMade, p) || op == backends.Stat && path.Dir(p) == "/" {
		return
	}
	if names, ok := c.made(p); ok {
		c.add(seen{path: p, kind: seenMade, digest: action.Sum(c.hash.fn, names)})
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

// link notes where the link p leads, which id is the state of.
func (c *scout) link(p string, id *StatID) (string, error) {
	if i, ok := c.index[fact{seenLink, p}]; ok {
		return c.found[i].text, nil
	}
	host, _ := c.host(p)
	target, err := os.Readlink(host)
	if err != nil {
		return "", err
	}
	c.add(seen{path: p, kind: seenLink, text: target, id: *id, stable: c.hash.Stable(host, *id, c.began)})
	return target, nil
}

// absent notes that p, whose parent exists, does not.
func (c *scout) absent(p string) error {
	if c.has(seenAbsent, p) {
		return nil
	}
	dir := path.Dir(p)
	in, known := c.dirs[dir]
	if host, ok := c.host(dir); ok && !known {
		var err error
		if in.id, in.stable, err = c.state(host); err != nil {
			return err
		}
		c.dirs[dir] = in
	}
	text := ""
	if c.shut[p] {
		text = closed
	}
	c.add(seen{path: p, kind: seenAbsent, text: text, id: in.id, stable: in.stable})
	return nil
}

// state returns the stat data of a directory or link of the host, and whether
// an equal one will prove that it has not changed.
func (c *scout) state(host string) (StatID, bool, error) {
	id, err := StatPath(host, KeepLinks)
	if err != nil {
		return StatID{}, false, err
	}
	return id, c.hash.Stable(host, id, c.began), nil
}

// sorted returns what was found, by path. What says less than another fact of
// the same path is left out.
func (c *scout) sorted() []seen {
	// They are large: what is sorted are their numbers.
	order := make([]int32, 0, len(c.found))
	for i := range c.found {
		s := &c.found[i]
		if s.kind == seenMeta && c.has(seenFile, s.path) || s.kind == seenDir && c.has(seenList, s.path) {
			continue
		}
		order = append(order, int32(i))
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &c.found[i], &c.found[j]
		if n := strings.Compare(a.path, b.path); n != 0 {
			return n
		}
		return int(a.kind) - int(b.kind)
	})
	sorted := make([]seen, len(order))
	for i, from := range order {
		sorted[i] = c.found[from]
	}
	return sorted
}
