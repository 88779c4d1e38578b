package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// RootfsProperty is the platform property that names an action's root file
// system: [Rootfs.ID], and for an action that ran on the host's, a colon and the
// digest of the list of what it saw.
const RootfsProperty = "rootfs"

// BaseRoot is what a project is called in the facts of an action that sees it at its
// own place but does not depend on which place that is.
const BaseRoot = "/.sbx-base"

// A HostWitness completes the key of actions that run on the host's root file
// system. The host has no digest that could be had in a millisecond: what an
// action saw of it has. A run's look-ups (every path that a process of it
// named, found or not) are evaluated on the host, and the digest of the
// resulting list of facts becomes part of the action. A note under the digest
// of the action without it keeps the lists of earlier runs with the stat data
// of every path, so that the next run finds the key with one lstat for each
// fact and reads nothing that did not change.
//
// Why that is sound: a command whose every look-up gives what it gave before
// is, as far as the host goes, the same command. What cannot be known (look-ups
// that were not observed, a host file that changed while the command ran) is
// not cached. What is not seen: times, inode numbers, owners, free space,
// load, and what the kernel tells of itself in /proc.
type HostWitness struct {
	Notes action.Notes
	Host  func(rooted string) (string, bool) // Rootfs.HostPath
	Made  func(dir string) ([]byte, bool)    // Rootfs.Made; nil: nothing is made
	Hash  *FileHasher
	Log   *slog.Logger

	// Vet, where not nil, looks at each file of the host that a command read, when
	// what it saw is sealed. An error keeps it from being sealed.
	Vet func(host string, d FileDigest) error

	// Mark, where not nil, says what is to be noted of the content of a file that is read:
	// see [FileHasher.Mark].
	Mark func(content []byte) byte

	// Known says that a path was absent when the run began; nil: nothing is
	// known. Without it, an absence in a directory that changed meanwhile,
	// as directories do in which others build, is not believed.
	Known func(rooted string) bool

	// As says who the command is where we are root: what it may read is not what we
	// may. nil: always the same user.
	As func() string

	// Bars, where not nil, says whether the command, as who it is, is kept from what l
	// asks for by a file or directory of the host that has not all of these bits of its
	// permissions. Then nothing is sealed: it is for who promises what we could do.
	Bars func(host string, bits uint32, l backends.Lookup) bool

	// Large, where not empty, is a directory of the host: large files below it, of the
	// system, need not be read, and then the key has names in the place of their
	// digests. It is for who shares no results with other machines, where such a name
	// says nothing.
	Large string

	// Hold keeps what the last Recall or Seal found, for Held. Then these are for
	// one goroutine.
	Hold bool
	held *variant

	early *scout // what the next Seal goes on with: see Real
}

var _ action.Witness = (*HostWitness)(nil)

// maxVariants is how many lists one action keeps, the last used first.
const maxVariants = 8

// A variant is what one run saw.
type variant struct {
	seal action.Digest // of the canonical list
	seen []seen
}

func rootfsOf(a *action.Action) (value string, index int) {
	for i, p := range a.Platform {
		if p.Name == RootfsProperty {
			return p.Value, i
		}
	}
	return "", -1
}

// sealed is a with the digest of what was seen in the place of the host.
func sealed(a *action.Action, seal action.Digest) *action.Action {
	value, i := rootfsOf(a)
	s := *a
	s.Platform = slices.Clone(a.Platform)
	s.Platform[i].Value = value + ":" + seal.String()
	return &s
}

// Unsealed is a without the digest of what was seen of the host: as it was
// before [HostWitness.Seal].
func Unsealed(a *action.Action) *action.Action {
	value, i := rootfsOf(a)
	view, _, found := strings.Cut(value, ":")
	if !strings.HasPrefix(value, "host") || !found {
		return a
	}
	u := *a
	u.Platform = slices.Clone(a.Platform)
	u.Platform[i].Value = view
	return &u
}

// isHost says whether the root file system of a is a view of the host that
// nobody has sealed: see [Rootfs.ID].
func isHost(a *action.Action) bool {
	value, _ := rootfsOf(a)
	return strings.HasPrefix(value, "host") && !strings.Contains(value, ":")
}

// Recall implements [action.Witness].
func (w *HostWitness) Recall(ctx context.Context, a *action.Action) (*action.Action, error) {
	if !isHost(a) {
		return a, nil
	}
	key := a.Digest(a.InputRoot.Function())
	variants, err := w.variants(ctx, key, 1)
	if err != nil {
		return nil, err
	}
	// The first one usually holds, and then the others need not be looked at.
	if refreshed, err := w.holds(&variants[0]); err == nil && !refreshed {
		w.hold(&variants[0])
		return sealed(a, variants[0].seal), nil
	}
	if variants, err = w.variants(ctx, key, maxShared); err != nil {
		return nil, err
	}
	var first error
	for i := range variants {
		refreshed, err := w.holds(&variants[i])
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		if refreshed || i > 0 {
			w.keep(ctx, key, variants, i, nil)
		}
		w.hold(&variants[i])
		return sealed(a, variants[i].seal), nil
	}
	return nil, fmt.Errorf("%w: %w", first, action.ErrMiss)
}

func (w *HostWitness) hold(v *variant) {
	if w.Hold {
		w.held = v
	}
}

// Seal implements [action.Witness].
func (w *HostWitness) Seal(ctx context.Context, a *action.Action, status *backends.Status, start time.Time) (*action.Action, error) {
	if !isHost(a) {
		return a, nil
	}
	if !status.Complete {
		return nil, fmt.Errorf("what the command read of the host could not be observed; with a --rootfs that is a tree it can be cached: %w", action.ErrUnsealed)
	}
	key := a.Digest(a.InputRoot.Function())
	scout := w.early
	switch {
	case scout != nil: // not for runs beside each other, see Real
		w.early = nil
	default:
		scout = w.scoutFor(len(status.Lookups))
	}
	scout.large = w.Large
	var gone []string // what the command found, and is not there any more
	var first error
	for _, l := range status.Lookups { // all of them: Host is to be asked for each
		if err := scout.look(l); err != nil && first == nil {
			first = err
		}
		if scout.vain && l.Found {
			gone = append(gone, l.Path)
		}
	}
	if first != nil {
		return nil, fmt.Errorf("%w: %w", first, action.ErrUnsealed)
	}
	if p := notMade(gone, status.Lookups); p != "" {
		return nil, fmt.Errorf("%s of the host changed while the command ran: it was there, and is not any more: %w", p, action.ErrUnsealed)
	}
	if err := scout.settle(); err != nil {
		return nil, fmt.Errorf("%w: %w", err, action.ErrUnsealed)
	}
	scout.keepNames()
	p := scout.renamed(start)
	list := scout.sorted()
	if p = cmp.Or(p, w.moved(list, start)); p != "" {
		return nil, fmt.Errorf("%s of the host changed while the command ran: %w", p, action.ErrUnsealed)
	}
	text := canonical(nil, list)
	seal := action.Sum(w.Hash.fn, text) // all digests of a note are of one function
	variants, _ := w.variants(ctx, key, maxShared)
	variants = slices.DeleteFunc(variants, func(v variant) bool { return v.seal == seal })
	variants = append(variants, variant{seal, list})
	w.hold(&variants[len(variants)-1])
	w.keep(ctx, key, variants, len(variants)-1, text)
	return sealed(a, seal), nil
}

// notMade returns one of paths that neither the command itself has made, nor is
// below what it has made, or "".
func notMade(paths []string, lookups []backends.Lookup) string {
	if len(paths) == 0 {
		return ""
	}
	made := map[string]bool{}
	for _, l := range lookups {
		if l.Made {
			made[path.Clean(l.Path)] = true
		}
	}
next:
	for _, p := range paths {
		for up := path.Clean(p); up != "/"; up = path.Dir(up) {
			if made[up] {
				continue next
			}
		}
		return p
	}
	return ""
}

// Seen returns the list of what a run of the unsealed action a saw of the host,
// a line each, if sealed is a with that list's digest; and nil otherwise.
func (w *HostWitness) Seen(ctx context.Context, a, sealedAs *action.Action) ([]byte, error) {
	if !isHost(a) || isHost(sealedAs) {
		return nil, nil
	}
	variants, err := w.variants(ctx, a.Digest(a.InputRoot.Function()), maxShared)
	if err != nil {
		return nil, err
	}
	value, _ := rootfsOf(sealedAs)
	for _, v := range variants {
		if strings.HasSuffix(value, ":"+v.seal.String()) {
			return canonical(nil, v.seen), nil
		}
	}
	return nil, nil
}

func (w *HostWitness) variants(ctx context.Context, key action.Digest, most int) ([]variant, error) {
	data, err := w.Notes.Note(ctx, key)
	if err != nil {
		return nil, err
	}
	variants, err := decodeVariants(data, most)
	if err != nil {
		return nil, fmt.Errorf("note of %v: %w: %w", key, err, action.ErrMiss)
	}
	return variants, nil
}

// keep notes the variants, number i first. It may use room.
func (w *HostWitness) keep(ctx context.Context, key action.Digest, variants []variant, i int, room []byte) {
	used := variants[i]
	variants = slices.Insert(slices.Delete(slices.Clone(variants), i, i+1), 0, used)
	variants = variants[:min(len(variants), maxVariants)]
	if err := w.Notes.PutNote(ctx, key, encodeVariants(room[:0], variants)); err != nil {
		w.Log.DebugContext(ctx, "what was seen of the host is not noted", "action", key, "err", err)
	}
}

// holds says whether the host still shows everything of v; refreshed says that
// v has newer stat data for it. The error says what changed.
func (w *HostWitness) holds(v *variant) (refreshed bool, err error) {
	same := map[string]bool{} // directories of absent paths: whether they are as they were
	var last struct {         // the directory that was looked at last
		path string
		id   StatID
	}
	for i := range v.seen {
		s := &v.seen[i]
		if s.stable && s.kind == seenAbsent && s.text == "" {
			dir := path.Dir(s.path)
			ok, known := same[dir]
			if !known {
				if last.path == dir {
					ok = last.id == s.id
				} else {
					ok = w.unchanged(dir, s.id)
				}
				same[dir] = ok
			}
			if ok {
				continue
			}
		} else if now, ok := w.asItWas(s); ok {
			if s.kind == seenDir || s.kind == seenList {
				last.path, last.id = s.path, now
			}
			continue
		}
		if s.kind == seenAbsent && w.stillAbsent(s) {
			continue
		}
		now, err := w.again(*s)
		if err != nil {
			return false, err
		}
		if now.stable && (!s.stable || now.id != s.id) {
			s.id, s.stable, refreshed = now.id, true, true
		}
	}
	return refreshed, nil
}

// asItWas says whether one stat shows that s still holds, and what it showed.
func (w *HostWitness) asItWas(s *seen) (now StatID, ok bool) {
	if !s.stable && s.kind != seenMeta && s.kind != seenDir {
		return now, false
	}
	host, ok := w.Host(s.path)
	if !ok {
		return now, false
	}
	now, err := StatPath(host, KeepLinks)
	switch {
	case err != nil:
		return now, false
	case s.kind == seenDir && s.text == notListed:
		return now, now.isDir() && now.perm() == s.perm && !may(host, unix.R_OK)
	case s.kind == seenDir:
		return now, now.isDir() && now.perm() == s.perm && w.runs(now.Mode, 0o111) == s.text
	case s.kind == seenMeta:
		return now, !now.isDir() && !now.isLink() && w.meta(host, &now) == s.text
	case s.kind == seenLink:
		return now, now == s.id
	}
	return now, now == s.id && readable(host, &now) && w.runs(now.Mode, 0o444) == s.text
}

// stillAbsent says whether nothing is at the path of s, in a directory that has
// changed, or it still cannot be looked at. That is not noted: in the directories of
// a workspace it is so every time.
func (w *HostWitness) stillAbsent(s *seen) bool {
	host, ok := w.Host(s.path)
	if !ok {
		return false
	}
	_, err := StatPath(host, KeepLinks)
	if s.text != "" {
		return errors.Is(err, fs.ErrPermission)
	}
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

func (w *HostWitness) unchanged(p string, id StatID) bool {
	host, ok := w.Host(p)
	if !ok {
		return false
	}
	now, err := StatPath(host, KeepLinks)
	return err == nil && now == id
}

// again examines the path of s anew: the error says how it differs from s.
func (w *HostWitness) again(s seen) (seen, error) {
	scout := w.scout()
	scout.anew = true
	n := scout.at(s.path)
	var err error
	switch {
	case s.kind == seenMade:
		err = scout.note(n, backends.Open)
	case n.state == foreign:
		return s, fmt.Errorf("%s is not shown any more", s.path)
	case n.state != there && s.kind != seenAbsent:
		return s, fmt.Errorf("%s is gone", s.path)
	case n.state != there:
		scout.absent(n)
		err = scout.settle()
	case s.kind == seenAbsent:
		return s, fmt.Errorf("%s has appeared", s.path)
	case n.id.isLink():
		_, err = scout.link(n)
	case s.kind == seenLarge && n.id.Mode&modeType == modeRegular:
		return w.largeAgain(s, n)
	case s.kind == seenMeta, s.kind == seenDir && s.text != notListed:
		err = scout.note(n, backends.Stat)
	default:
		err = scout.note(n, backends.Open)
	}
	if err != nil {
		return s, err
	}
	if n.state == there && s.kind == seenFile && !readable(n.host, &n.id) {
		return s, fmt.Errorf("%s may not be read any more", s.path)
	}
	for _, now := range scout.found {
		if now.line() == s.line() {
			scout.keepNames()
			return now, nil
		}
	}
	return s, fmt.Errorf("%s has changed", s.path)
}

// largeAgain says whether a large file is what it was, of which not all stat data are.
// From now on its content is known, so that whoever asks next can tell.
func (w *HostWitness) largeAgain(s seen, n *node) (seen, error) {
	if n.id.Size != s.digest.Size() || n.id.perm() != s.perm {
		return s, fmt.Errorf("%s has changed", s.path)
	}
	w.Hash.unnamed.Store(n.host, true)
	now, err := w.Hash.Digest(n.host)
	if err != nil {
		return s, err
	}
	content, known := w.Hash.meant(s.digest)
	switch {
	case known && content == now.Digest:
		s.id, s.stable = now.ID, now.Stable
		return s, nil
	case known:
		return s, fmt.Errorf("%s has changed", s.path)
	}
	return s, fmt.Errorf("%s has changed, or only its times: it is large, and was not read when it was first seen", s.path)
}

// renamed returns a directory that was given another name, or other permissions, after
// start, or "": then the command may have found another one at its path. What comes into
// a directory and goes changes both of its times.
func (c *scout) renamed(start time.Time) string {
	for i, s := range c.found {
		id := &c.of[i].id
		if (s.kind == seenDir || s.kind == seenList) && id.CTime != id.MTime && c.by.Hash.trust.latest(id.Dev, id.CTime) >= start.UnixNano() {
			return s.path
		}
	}
	return ""
}

// moved returns a path that may have changed after start, or "".
func (w *HostWitness) moved(list []seen, start time.Time) string {
	for _, s := range list {
		if s.id == (StatID{}) || w.Hash.trust.latest(s.id.Dev, s.id.CTime) < start.UnixNano() {
			continue
		}
		if s.kind != seenAbsent || w.Known == nil || !w.Known(s.path) {
			return s.path
		}
	}
	return ""
}

// Clock implements [action.Witness]: it is the clock that files are stamped with.
func (w *HostWitness) Clock() time.Time { return time.Unix(0, int64(Now())) }
