package staging

import "strings"

// # Names that were looked for
//
// What a process has kept in [Recalled] spares looks at names of the host that were not
// there, and at symbolic links, as long as the directory that they are in has the StatID
// that it had: that of then was looked at before the names and after them, and is one that
// no change leaves as it is (see "What the stat caches trust"). The directory itself is
// looked at each time, and so is what can change without it: files and directories.
//
// A link may have got another owner or other times; it leads where it led. Whoever finds
// that in a fact looks at it, and keeps what it is now. Nothing can be
// mounted over a name that is not there, and over a link only by who means to; of mounts
// that are new [Recalled.Begin] is told.

// knownNames are the names of one directory.
type knownNames struct {
	id    StatID
	names map[string]knownName
}

// A knownName is a name that was not there, or a link.
type knownName struct {
	target string // of the link; "": nothing was there
	id     StatID // of the link
	stable bool   // see [FileHasher.Stable]
}

// namesMost is of how many names something is kept.
const namesMost = 1 << 14

// namesIn returns what is known of the directory of the host that is id now.
func (r *Recalled) namesIn(dir string, id *StatID) *knownNames {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.dirs[dir]; k != nil && k.id == *id {
		return k
	}
	return nil
}

// name returns what is known of a name.
func (r *Recalled) name(k *knownNames, name string) (knownName, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := k.names[name]
	return n, ok
}

// keepName keeps what was seen of a name of the directory, which has been id all the time.
func (r *Recalled) keepName(dir string, id *StatID, name string, n knownName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.dirs[dir]
	if r.dirs == nil || r.count >= namesMost {
		r.dirs, r.count, k = map[string]*knownNames{}, 0, nil
	}
	if k == nil || k.id != *id {
		if k != nil {
			r.count -= len(k.names)
		}
		k = &knownNames{*id, map[string]knownName{}}
		r.dirs[strings.Clone(dir)] = k
	}
	if _, ok := k.names[name]; !ok {
		r.count++
	}
	n.target = strings.Clone(n.target)
	k.names[strings.Clone(name)] = n // of a list of look-ups that would stay
}

// recall sets what n is, in a directory that was looked at, if it is known.
func (c *scout) recall(n *node) bool {
	r, dir := c.by.Hash.keep, n.dir
	if r == nil || c.anew || dir == nil || dir.state != there || !dir.id.isDir() {
		return false
	}
	if !dir.asked {
		dir.asked, dir.names = true, r.namesIn(dir.host, &dir.id)
	}
	name, ok := nameIn(dir.host, n.host)
	if dir.names == nil || !ok {
		return false
	}
	k, ok := r.name(dir.names, name)
	switch {
	case !ok:
		return false
	case k.target == "":
		n.state = gone
	default:
		n.state, n.id, n.target, n.stable = there, k.id, k.target, k.stable
	}
	n.recalled = true
	return true
}

// nameIn is what is called p in the directory dir.
func nameIn(dir, p string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(p, dir)
	if !ok || rest == "" || rest[0] != '/' || strings.IndexByte(rest[1:], '/') >= 0 {
		return "", false
	}
	return rest[1:], true
}

// keepNames keeps what was found, after settle, of names whose directory is what it was
// before they were looked at.
func (c *scout) keepNames() {
	r := c.by.Hash.keep
	if r == nil {
		return
	}
	same := map[*node]bool{} // directories
	for i := range c.found {
		s, n := &c.found[i], c.of[i]
		if n.recalled || n.dir == nil || n.dir.state != there {
			continue
		}
		k := knownName{}
		switch {
		case s.kind == seenAbsent && n.nothing:
			if !s.stable || s.id != n.dir.id {
				continue
			}
		case s.kind == seenLink && s.text != "":
			as, known := same[n.dir]
			if !known {
				now, stable, err := c.state(n.dir.host)
				as = err == nil && stable && now == n.dir.id
				same[n.dir] = as
			}
			if !as {
				continue
			}
			k = knownName{s.text, s.id, s.stable}
		default:
			continue
		}
		if name, ok := nameIn(n.dir.host, n.host); ok {
			r.keepName(n.dir.host, &n.dir.id, name, k)
		}
	}
}
