package staging

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sbx-action/sbx-action/action"
)

// A scanDir is a directory of the tree.
type scanDir struct {
	parent  *scanDir
	name    string
	path    string // from the workspace on, "" for the workspace itself
	sel     scanSel
	virtual bool // exists in the tree only, above a tree given by digest
	fd      int

	cache *treeCache // of this directory and those below; nil: none
	kept  bool       // rec belongs into cache
	rec   dirRecord
	pick  []bool     // which entries are in the tree; nil: all
	subs  []*scanDir // directories of the tree, in the order of their entries

	left    atomic.Int32 // jobs and subdirectories that are not finished
	dirty   atomic.Bool  // rec is not what the cache has
	touched atomic.Bool  // the Directory message is not the recorded one

	digest   action.Digest
	files    int
	bytes    int64
	ownBytes int64
}

// recPath is the path of d in its cache.
func (d *scanDir) recPath() string { return string(d.rec.path()) }

// below is the path of d from the root of its cache on.
func (d *scanDir) below() string {
	if d.cache == nil || d.path == d.cache.root {
		return ""
	}
	if d.cache.root == "" {
		return d.path
	}
	return d.path[len(d.cache.root)+1:]
}

// leaveOut takes entry i out of the tree.
func (d *scanDir) leaveOut(i int) {
	if d.pick == nil {
		d.pick = make([]bool, d.rec.count())
		for j := range d.pick {
			d.pick[j] = true
		}
	}
	d.pick[i] = false
}

func (d *scanDir) picked(i int) bool { return d.pick == nil || d.pick[i] }

// refuse is the error about an entry that cannot be in a tree, or nil.
func (d *scanDir) refuse(e recEnt) error {
	name := path.Join(d.path, string(e.name(d.rec.names())))
	switch {
	case e.kind() == kindOther:
		return fmt.Errorf("%q is %s: an input is a file, a directory or a symbolic link; leave it out with the input %q", name, typeName(uint32(e.size())), "!"+name)
	case e.flag(entBad) && e.kind() == kindLink:
		return fmt.Errorf("link %q to %q: names and targets must be UTF-8, because trees cannot hold other ones: make it anew, or leave it out with a pattern such as %q", name, e.target(d.rec.names()), "!"+path.Join(d.path, "*"))
	case e.flag(entBad):
		return fmt.Errorf("%q is not UTF-8, and trees cannot hold such names: rename it, or leave it out with a pattern such as %q", name, "!"+validPattern(name))
	}
	return nil
}

// validPattern is a pattern in UTF-8 that matches name, which is none: with a star for
// each run of bytes that are no text.
func validPattern(name string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(name, "\x00") {
		switch {
		case r == 0: // it cannot be in a name
			b.WriteByte('*')
		case strings.ContainsRune(`*?[]{}!\`, r):
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// seal makes the digest of d, of whose entries everything is known now.
func (d *scanDir) seal(fn action.Function) {
	sub := 0
	for i := range d.rec.count() {
		e := d.rec.entry(i)
		switch {
		case !d.picked(i):
		case e.isFile():
			d.files++
			d.ownBytes += e.size()
		case e.kind() == kindDir && !e.flag(entPlaced):
			below := d.subs[sub]
			if below.empty() {
				d.leaveOut(i)
				d.subs = slices.Delete(d.subs, sub, sub+1)
				continue
			}
			sub++
			d.files += below.files
			d.bytes += below.bytes
			if e.setDigest(below.digest) {
				d.touched.Store(true)
			}
		}
	}
	d.bytes += d.ownBytes
	if d.pick == nil && !d.touched.Load() && d.rec.has(recDigest) {
		d.digest = d.rec.digest(fn)
		return
	}
	if d.touched.Load() {
		d.rec.set(recDigest, false)
		d.dirty.Store(true)
	}
	m := d.message(fn)
	d.digest = m.Digest(fn)
	if d.pick == nil {
		d.rec.setDigest(d.digest)
		d.dirty.Store(true)
	}
}

// empty says that d was only looked through, and nothing was found.
func (d *scanDir) empty() bool {
	if d.sel.covered() || d.parent == nil {
		return false
	}
	for i := range d.rec.count() {
		if d.picked(i) {
			return false
		}
	}
	return true
}

// message is the Directory of d.
func (d *scanDir) message(fn action.Function) *action.Directory {
	m, names := new(action.Directory), d.rec.names()
	for i := range d.rec.count() {
		e := d.rec.entry(i)
		if !d.picked(i) {
			continue
		}
		name := viewString(e.name(names)) // never changes once it is there
		switch e.kind() {
		case kindFile, kindExec:
			m.Files = append(m.Files, action.FileNode{Name: name, Digest: e.digest(fn), Executable: e.kind() == kindExec})
		case kindDir:
			m.Directories = append(m.Directories, action.DirectoryNode{Name: name, Digest: e.digest(fn)})
		case kindLink:
			m.Symlinks = append(m.Symlinks, action.SymlinkNode{Name: name, Target: viewString(e.target(names))})
		}
	}
	return m
}
