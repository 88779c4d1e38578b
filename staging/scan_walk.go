package staging

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
	"golang.org/x/sys/unix"
)

// A scanner walks the directories that rules select. Directories and runs of
// their files are jobs on a stack that all workers share; the last job of a
// directory finishes it, and so on up to the root.
type scanner struct {
	ctx   context.Context
	cfg   *ScanConfig
	fn    action.Function
	now   Moment // before anything was looked at
	files *FileHasher
	limit int  // of workers
	doubt bool // believe no recorded names: the last try did not find them

	mu      sync.Mutex
	cond    sync.Cond // waits for stack, or for the end
	stack   []scanJob
	workers int
	idle    int
	weight  int // how much there was to do so far, to know if help is worth its start
	err     error
	caches  []*treeCache
	links   []linkAt
	done    sync.WaitGroup
}

// A scanJob is a directory, or some of its entries.
type scanJob struct {
	dir    *scanDir
	lo, hi int // entries; hi is 0 for the directory itself
}

type linkAt struct {
	dir   *scanDir
	entry int
}

const (
	// scanRun is how many entries are one job.
	scanRun = 128
	// scanAlone is the size from which a file that must be read is a job.
	scanAlone = 1 << 20
	// scanHelp is the number of entries from which a second worker pays.
	scanHelp = 256
)

// run scans everything from top on, which is the directory root.
func (s *scanner) run(top *scanDir, root int) error {
	fd, err := openDir(root, ".", 0)
	if err != nil {
		return err
	}
	top.fd = fd
	top.left.Store(1)
	s.stack = append(s.stack, scanJob{dir: top})
	s.workers = 1
	s.work()
	s.done.Wait()
	return s.err
}

// push adds jobs, and workers if there is enough to do.
func (s *scanner) push(jobs []scanJob, weight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stack = append(s.stack, jobs...)
	s.weight += weight
	switch {
	case s.idle > 0:
		s.cond.Signal()
	case s.workers < s.limit && s.weight >= scanHelp && len(s.stack) > 1:
		s.workers++
		s.done.Go(s.work)
	}
}

// work does jobs until none is left.
func (s *scanner) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.stack) == 0 {
			s.idle++
			if s.idle == s.workers {
				s.cond.Broadcast()
				return
			}
			s.cond.Wait()
			if len(s.stack) == 0 && s.idle == s.workers {
				return
			}
			s.idle--
		}
		job := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		failed := s.err != nil
		s.mu.Unlock()
		s.do(job, failed)
		s.mu.Lock()
	}
}

func (s *scanner) do(job scanJob, failed bool) {
	if !failed {
		var err error
		if job.hi == 0 {
			err = s.directory(job.dir)
		} else {
			err = s.entries(job.dir, job.lo, job.hi)
		}
		if err != nil {
			s.fail(err)
		}
	}
	s.finish(job.dir)
}

func (s *scanner) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func pathError(name string, err error) error {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%q cannot be read: %w: change its mode, or leave it out with the input %q", name, err, "!"+name)
	}
	return fmt.Errorf("%q: %w", name, err)
}

// vanished makes of an error about something that was there a moment ago one
// that lets the scan begin again.
func vanished(err error) error {
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return errReplaced
	}
	return err
}

// directory finds the names in d, and makes jobs of what is selected.
func (s *scanner) directory(d *scanDir) error {
	if err := s.ctx.Err(); err != nil {
		return context.Cause(s.ctx)
	}
	if d.fd < 0 && !d.virtual {
		fd, err := openDir(d.parent.fd, d.name, unix.O_NOFOLLOW)
		if err != nil {
			return pathError(d.path, vanished(err))
		}
		d.fd = fd
	}
	step := newSelStepper(d.sel)
	if err := s.names(d, step); err != nil {
		return err
	}
	jobs, err := s.choose(d, step)
	if err != nil {
		return err
	}
	n := d.rec.count()
	d.left.Add(int32(len(jobs)))
	for lo := scanRun; lo < n; lo += scanRun {
		d.left.Add(1)
		jobs = append(jobs, scanJob{d, lo, min(lo+scanRun, n)})
	}
	if len(jobs) > 0 {
		s.push(jobs, n)
	} else {
		s.mu.Lock()
		s.weight += n
		s.mu.Unlock()
	}
	return s.entries(d, 0, min(n, scanRun))
}

// names sets d.rec to the names in d: the recorded ones if d is unchanged, or
// those that the rules name, or a new list.
func (s *scanner) names(d *scanDir, step *selStepper) error {
	listed := d.sel.listed()
	placed := slices.ContainsFunc(d.sel.states, func(st scanState) bool {
		return !st.rule.tree.IsZero() && st.segs[0].kind == globLiteral
	})
	if d.virtual || !listed {
		return s.nameThem(d, step, nil)
	}
	if placed {
		list, err := s.list(d)
		if err != nil {
			return err
		}
		return s.nameThem(d, step, list)
	}
	if d.cache == nil && d.sel.deep() {
		d.cache = s.openCache(d.path)
	}
	id, err := StatFD(d.fd)
	if err != nil {
		return pathError(d.path, err)
	}
	var old dirRecord
	trusted := s.files.trust.device(id.Dev, d.fd).believes(id.CTime)
	if d.cache != nil && trusted { // else nothing could be believed the next time
		d.kept = true
		if old = d.cache.lookup(d.below()); old != nil && old.sameDir(&id) && id.CTime < int64(s.now) && !s.doubt {
			d.rec = old
			return nil
		}
	}
	list, err := s.list(d)
	if err != nil {
		return err
	}
	d.rec = newDirRecord(d.below(), list, old)
	d.rec.setDir(&id, trusted && settled(id.CTime, s.now, trustMargin))
	d.dirty.Store(true)
	d.touched.Store(true)
	return nil
}

func (s *scanner) openCache(root string) *treeCache {
	t := openTreeCache(s.cfg.StatCache, s.cfg.Workspace, root, s.fn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caches = append(s.caches, t)
	return t
}

// list returns the names in d, in order.
func (s *scanner) list(d *scanDir) ([]listEntry, error) {
	var list []listEntry
	err := listFD(d.fd, func(name []byte, mode uint32) error {
		list = append(list, listEntry{name: string(name), kind: kindOf(mode), id: StatID{Mode: mode}})
		return nil
	})
	if err != nil {
		return nil, pathError(d.path, vanished(err))
	}
	slices.SortFunc(list, func(a, b listEntry) int { return strings.Compare(a.name, b.name) })
	for i := range list {
		e := &list[i]
		if e.id.Mode == 0 {
			if err := e.stat(d.fd); err != nil {
				return nil, pathError(path.Join(d.path, e.name), vanished(err))
			}
		}
		if err := e.readLink(d.fd); err != nil {
			return nil, pathError(path.Join(d.path, e.name), err)
		}
	}
	return list, nil
}

func (e *listEntry) stat(dirfd int) (err error) {
	e.id, err = statAt(dirfd, e.name)
	e.kind, e.fresh = kindOf(e.id.Mode), true
	return err
}

func (e *listEntry) readLink(dirfd int) (err error) {
	if e.kind != kindLink {
		return nil
	}
	e.target, err = readLinkAt(dirfd, e.name)
	if err == unix.EINVAL {
		return errReplaced
	}
	return vanished(err)
}

// nameThem makes the record of a directory of which the rules name what is
// selected, on top of list. Trees given by digest are put in.
func (s *scanner) nameThem(d *scanDir, step *selStepper, list []listEntry) error {
	have := len(list)
	for name, states := range step.lits {
		tree, above := treeOf(states)
		i, found := slices.BinarySearchFunc(list[:have], name, func(e listEntry, n string) int { return strings.Compare(e.name, n) })
		e := listEntry{name: name, kind: kindDir, placed: tree}
		switch {
		case tree.IsZero() && found:
		case tree.IsZero():
			ok, err := s.nameOne(d, &e, states, above)
			if err != nil {
				return err
			}
			if ok {
				list = append(list, e)
			}
		case (found || !d.sel.listed()) && d.alsoFiles(name):
			at := path.Join(d.path, name)
			return fmt.Errorf("%q is given by digest and as files as well: take the files away first, with the input %q before the digest", at, "!"+at)
		case found:
			list[i] = e
		default:
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b listEntry) int { return strings.Compare(a.name, b.name) })
	d.rec = newDirRecord("", list, nil)
	d.touched.Store(true)
	return nil
}

// alsoFiles says whether name, at which a tree is put, is in the tree without
// that as well.
func (d *scanDir) alsoFiles(name string) bool {
	without := scanSel{cover: d.sel.cover}
	for _, st := range d.sel.states {
		if st.rule.tree.IsZero() {
			without.states = append(without.states, st)
		}
	}
	sel := newSelStepper(without).step(name, true)
	return !sel.none()
}

// treeOf returns the tree that states put at this name, and whether one is put
// further down.
func treeOf(states []scanState) (d action.Digest, above bool) {
	for _, st := range states {
		if st.rule.tree.IsZero() {
			continue
		}
		if len(st.segs) == 1 {
			d = st.rule.tree
		} else {
			above = true
		}
	}
	return d, above
}

// nameOne looks at a name that rules name, and says whether it exists.
func (s *scanner) nameOne(d *scanDir, e *listEntry, states []scanState, above bool) (bool, error) {
	if !slices.ContainsFunc(states, func(st scanState) bool { return !st.rule.exclude }) {
		return false, nil
	}
	err := error(unix.ENOENT)
	if !d.virtual {
		err = e.stat(d.fd)
	}
	if err == unix.ENOENT || err == unix.ENAMETOOLONG {
		e.kind, e.fresh = kindDir, false
		e.id.Ino = 0
		return above, nil
	}
	if err != nil {
		return false, pathError(path.Join(d.path, e.name), err)
	}
	return true, e.readLink(d.fd)
}

// choose finds out which of the names are in the tree, and returns the jobs of
// the directories among them.
func (s *scanner) choose(d *scanDir, step *selStepper) ([]scanJob, error) {
	whole, names := d.sel.whole(), d.rec.names()
	var jobs []scanJob
	for i := range d.rec.count() {
		e := d.rec.entry(i)
		if whole && e.kind() != kindDir && e.kind() != kindOther && !e.flag(entBad) {
			continue
		}
		sel := d.sel
		if !whole {
			sel = step.step(viewString(e.name(names)), e.kind() == kindDir)
			if sel.none() || len(sel.states) > 0 && e.kind() != kindDir && !sel.covered() {
				d.leaveOut(i)
				continue
			}
		}
		if err := d.refuse(e); err != nil {
			return nil, err
		}
		if e.kind() != kindDir || e.flag(entPlaced) {
			continue
		}
		name := string(e.name(names))
		sub := &scanDir{parent: d, name: name, path: path.Join(d.path, name), sel: sel, fd: -1, cache: d.cache}
		sub.virtual = d.virtual || !d.sel.listed() && !s.isThere(d, e)
		sub.left.Store(1)
		d.subs = append(d.subs, sub)
		jobs = append(jobs, scanJob{dir: sub})
	}
	return jobs, nil
}

// isThere tells directories of the workspace from those that exist only above a
// tree given by digest.
func (s *scanner) isThere(d *scanDir, e recEnt) bool {
	var st unix.Stat_t
	return durable.StatZ(d.fd, e.nameZ(d.rec.names()), &st) == nil
}

// entries looks at the files among entries lo to hi of d.
func (s *scanner) entries(d *scanDir, lo, hi int) error {
	names := d.rec.names()
	var st unix.Stat_t
	var jobs []scanJob
	for i := lo; i < hi; i++ {
		e := d.rec.entry(i)
		if !d.picked(i) {
			continue
		}
		if e.kind() == kindLink {
			s.mu.Lock()
			s.links = append(s.links, linkAt{d, i})
			s.mu.Unlock()
		}
		if !e.isFile() {
			continue
		}
		var id StatID
		if e.flag(entFresh) {
			id = e.statID()
		} else {
			if err := durable.StatZ(d.fd, e.nameZ(names), &st); err != nil {
				return pathError(path.Join(d.path, string(e.name(names))), vanished(err))
			}
			id = makeStatID(&st)
			if e.sameFile(&id) && id.CTime < int64(s.now) && (!private(id.Mode) || mayAt(d.fd, string(e.name(names)), unix.R_OK)) {
				continue
			}
			if id.Mode&modeType != modeRegular {
				return pathError(path.Join(d.path, string(e.name(names))), errReplaced)
			}
		}
		if id.Size >= scanAlone && hi-lo > 1 {
			jobs = append(jobs, scanJob{d, i, i + 1})
			continue
		}
		if err := s.file(d, e, &id); err != nil {
			return pathError(path.Join(d.path, string(e.name(names))), vanished(err))
		}
	}
	if len(jobs) > 0 {
		d.left.Add(int32(len(jobs)))
		s.push(jobs, scanHelp)
	}
	return nil
}

// file hashes the file of e, which has just been found to be id.
func (s *scanner) file(d *scanDir, e recEnt, id *StatID) error {
	name := string(e.name(d.rec.names()))
	var f FileDigest
	var err error
	if d.kept {
		f, err = s.files.read(d.fd, name, d.cache.file != "")
	} else {
		f, err = s.files.at(d.fd, name, id, s.now)
	}
	if err != nil {
		return err
	}
	flags := byte(0)
	if f.Stable {
		flags = entStable
	}
	known := e.flag(entStable)
	content, kind := e.setDigest(f.Digest), e.setKind(kindOf(f.ID.Mode))
	e.setStat(&f.ID, flags)
	if content || kind {
		d.touched.Store(true)
	}
	if f.Stable || known {
		d.dirty.Store(true)
	}
	return nil
}

// finish ends one job of d, and with the last one d itself.
func (s *scanner) finish(d *scanDir) {
	for d != nil && d.left.Add(-1) == 0 {
		if d.fd >= 0 {
			unix.Close(d.fd)
			d.fd = -1
		}
		s.mu.Lock()
		failed := s.err != nil
		s.mu.Unlock()
		if !failed {
			d.seal(s.fn)
			if d.kept {
				d.cache.note(d, d.dirty.Load())
			}
		}
		d = d.parent
	}
}
