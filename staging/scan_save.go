package staging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"golang.org/x/sys/unix"
)

// ErrChanged is wrapped by the error of [Snapshot.Save] when a file is not what
// it was during the scan. A new scan may help.
var ErrChanged = errors.New("it changed while it was read")

// A Kind is what a name in a tree stands for.
type Kind uint8

// The kinds of entries. A KindTree is a directory that was given by digest.
const (
	KindFile Kind = iota + 1
	KindDirectory
	KindLink
	KindTree
)

// An Entry is a name in the tree of a [Snapshot].
type Entry struct {
	Kind       Kind
	Digest     action.Digest // not of links
	Executable bool
	Target     string // of a link
}

func (snap *Snapshot) entry(d *scanDir, i int) Entry {
	e := d.rec.entry(i)
	switch e.kind() {
	case kindLink:
		return Entry{Kind: KindLink, Target: string(e.target(d.rec.names()))}
	case kindDir:
		k := KindDirectory
		if e.flag(entPlaced) {
			k = KindTree
		}
		return Entry{Kind: k, Digest: e.digest(snap.fn)}
	}
	return Entry{Kind: KindFile, Digest: e.digest(snap.fn), Executable: e.kind() == kindExec}
}

// Find returns the entry at a path from the workspace on, clean and without a
// slash in front. It does not look into trees that were given by digest, nor
// follow links. The root is not found.
func (snap *Snapshot) Find(name string) (Entry, bool) {
	d := snap.top
	for d != nil {
		first, rest, more := strings.Cut(name, "/")
		i, ok := d.rec.find(first)
		if !ok || !d.picked(i) {
			break
		}
		if !more {
			return snap.entry(d, i), true
		}
		d, name = d.sub(first), rest
	}
	return Entry{}, false
}

// sub returns the subdirectory called name, or nil.
func (d *scanDir) sub(name string) *scanDir {
	lo, hi := 0, len(d.subs)
	for lo < hi {
		if mid := (lo + hi) / 2; d.subs[mid].name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(d.subs) && d.subs[lo].name == name {
		return d.subs[lo]
	}
	return nil
}

// Walk calls f with every entry, directories before what is in them and names
// in order, until f returns an error.
func (snap *Snapshot) Walk(f func(path string, e Entry) error) error {
	if snap.top == nil {
		return nil
	}
	return snap.walk(snap.top, f)
}

func (snap *Snapshot) walk(d *scanDir, f func(string, Entry) error) error {
	names, sub := d.rec.names(), 0
	for i := range d.rec.count() {
		if !d.picked(i) {
			continue
		}
		e := snap.entry(d, i)
		if err := f(path.Join(d.path, string(d.rec.entry(i).name(names))), e); err != nil {
			return err
		}
		if e.Kind != KindDirectory {
			continue
		}
		if err := snap.walk(d.subs[sub], f); err != nil {
			return err
		}
		sub++
	}
	return nil
}

// saveWorkers is how many files are stored at a time.
const saveWorkers = 4

// Save stores every directory and file of the tree that blobs lacks. A file
// that is not what it was during the scan gives an error wrapping [ErrChanged].
//
// known, where not nil, says of a directory, by its path and digest, that the
// store has it and all that is below it, so that Save need not look: see
// [Stager.Saved].
func (snap *Snapshot) Save(ctx context.Context, blobs action.Blobs, known func(string, action.Digest) bool) error {
	if snap.top == nil {
		return saveTree(ctx, blobs, "the input root", snap.Root)
	}
	root, err := openDir(unix.AT_FDCWD, snap.workspace, 0)
	if err != nil {
		return fmt.Errorf("store inputs: open the workspace %s: %w", snap.workspace, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &saver{snap: snap, ctx: ctx, cancel: cancel, blobs: blobs, known: known, slots: make(chan struct{}, saveWorkers)}
	s.directory(snap.top, root)
	s.wait.Wait()
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("store inputs: %w", err)
	}
	return nil
}

func saveTree(ctx context.Context, blobs action.Blobs, where string, d action.Digest) error {
	if !blobs.Has(ctx, d) {
		return fmt.Errorf("%s: the store lacks the tree %v: import it first: %w", where, d, action.ErrMiss)
	}
	return nil
}

type saver struct {
	snap   *Snapshot
	ctx    context.Context
	cancel context.CancelCauseFunc
	blobs  action.Blobs
	known  func(string, action.Digest) bool
	slots  chan struct{}
	wait   sync.WaitGroup
}

// directory stores d, whose descriptor fd it closes; -1 if it has none.
func (s *saver) directory(d *scanDir, fd int) {
	defer closeFD(fd)
	if s.ctx.Err() != nil || s.known != nil && s.known(d.path, d.digest) {
		return
	}
	names, sub := d.rec.names(), 0
	for i := range d.rec.count() {
		e := d.rec.entry(i)
		if !d.picked(i) {
			continue
		}
		name := string(e.name(names))
		switch {
		case e.flag(entPlaced):
			if err := saveTree(s.ctx, s.blobs, fmt.Sprintf("%q", path.Join(d.path, name)), e.digest(s.snap.fn)); err != nil {
				s.cancel(err)
			}
		case e.kind() == kindDir:
			s.subdirectory(d.subs[sub], fd)
			sub++
		case e.isFile():
			s.file(d, name, e.digest(s.snap.fn), fd)
		}
		if s.ctx.Err() != nil {
			return
		}
	}
	if !s.blobs.Has(s.ctx, d.digest) {
		if got, err := s.blobs.PutBytes(s.ctx, s.snap.fn, d.message(s.snap.fn).Marshal()); err != nil {
			s.cancel(err)
		} else if got != d.digest {
			s.cancel(fmt.Errorf("directory %q was stored as %v, not as %v", d.path, got, d.digest))
		}
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

func (s *saver) subdirectory(d *scanDir, parent int) {
	if d.virtual {
		s.directory(d, -1)
		return
	}
	fd, err := openDir(parent, d.name, unix.O_NOFOLLOW)
	if err != nil {
		s.cancel(changed(d.path, err))
		return
	}
	s.directory(d, fd)
}

// file stores a file if the store lacks it: on another goroutine if one is
// free, with a descriptor of its own.
func (s *saver) file(d *scanDir, name string, want action.Digest, fd int) {
	if s.blobs.Has(s.ctx, want) {
		return
	}
	src, err := openFile(fd, name, unix.O_NOFOLLOW)
	if err != nil {
		s.cancel(changed(path.Join(d.path, name), err))
		return
	}
	file := os.NewFile(uintptr(src), path.Join(d.path, name))
	select {
	case s.slots <- struct{}{}:
		s.wait.Go(func() {
			defer func() { <-s.slots }()
			s.put(file, want)
		})
	default:
		s.put(file, want)
	}
}

func (s *saver) put(file *os.File, want action.Digest) {
	defer file.Close()
	got, err := s.blobs.PutFile(s.ctx, s.snap.fn, file)
	switch {
	case err != nil:
		s.cancel(fmt.Errorf("%q: %w", file.Name(), err))
	case got != want:
		s.cancel(fmt.Errorf("%q: %w", file.Name(), ErrChanged))
	}
}

// changed is the error about something that cannot be opened any more.
func changed(name string, err error) error {
	if vanished(err) == errReplaced {
		return fmt.Errorf("%q: %w", name, ErrChanged)
	}
	return fmt.Errorf("%q: %w", name, err)
}

// warnLinks reports the links that lead to what is not in the tree.
func (s *scanner) warnLinks(root int, snap *Snapshot) {
	for _, l := range s.links {
		if !l.dir.picked(l.entry) {
			continue
		}
		e, names := l.dir.rec.entry(l.entry), l.dir.rec.names()
		name, target := path.Join(l.dir.path, string(e.name(names))), string(e.target(names))
		if reason := snap.leaves(root, l.dir.path, target); reason != "" {
			snap.warn(Warning{Path: name, Target: target, Reason: reason})
		}
	}
}

// leaves says why a link in dir leads out of the tree, or "".
func (snap *Snapshot) leaves(root int, dir, target string) string {
	if path.IsAbs(target) {
		return "the link is absolute, and leads into the root file system of the action"
	}
	var at []string
	if dir != "" {
		at = strings.Split(dir, "/")
	}
	for c := range strings.SplitSeq(target, "/") {
		switch c {
		case "", ".":
		case "..":
			if len(at) == 0 {
				return "the link leads out of the workspace"
			}
			at = at[:len(at)-1]
		default:
			at = append(at, c)
		}
		if e, ok := snap.Find(strings.Join(at, "/")); ok && e.Kind == KindLink || ok && e.Kind == KindTree {
			return "" // that link has its own warning, and trees are not looked into
		}
	}
	to := strings.Join(at, "/")
	if _, ok := snap.Find(to); ok || to == "" {
		return ""
	}
	if _, err := statAt(root, to); err != nil {
		return "" // it dangles in the workspace as well
	}
	return fmt.Sprintf("the link leads to something that is not declared: add -i %s", to)
}

// saveCaches writes what is new in the stat caches.
func (s *scanner) saveCaches(root int) error {
	var errs []error
	for _, t := range s.caches {
		errs = append(errs, t.save(func(p string) bool {
			_, err := statAt(root, dotIfEmpty(path.Join(t.root, p)))
			return err != nil
		}))
	}
	return errors.Join(errs...)
}
