package staging

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/fields"
)

// A Pruner finds results of earlier runs that saw the same of other inputs. It
// implements [action.Pruner], for one action.
//
// A run names some of its inputs in system calls, and of the others it knows no
// more than what listing directories tells: their names, and whether they are
// files, directories or links. So the run depends on
//
//   - the names and kinds of all declared inputs, the executable bits of files
//     and the targets of links: the shape of the input root;
//   - the contents of the files that it named, whether it opened them or only
//     looked at them, whose size it then knows; under whatever name, for a
//     file or a directory that it renamed or linked counts as named, with all
//     that is in it;
//   - trees that were given by digest, as a whole.
//
// An action whose input root has an empty file in the place of each file that
// was not named says just that. It is never run: its digest is the key of the
// result, with the list of what was named as salt. A note under the digest of
// the action with the bare shape keeps the lists of up to maxVariants runs; for
// each, the next run makes the action of what is in these files now.
type Pruner struct {
	Notes    action.Notes
	Snapshot *Snapshot
	Action   *action.Action

	// Witness, for a root file system that is the host's, says whether a link
	// of it led into the input root; nil for others, whose links are seen.
	Witness *HostWitness

	made map[action.Digest]*action.Action // by the digest of the list
}

var _ action.Pruner = (*Pruner)(nil)

const (
	// pruneSalt begins the salt of the actions of a Pruner, so that no other
	// action has their digests.
	pruneSalt = "sbx-action prune 1\n"
	// pruneMax is how many inputs a list may name. A command that names more
	// reads nearly everything.
	pruneMax = 100_000
)

// Known implements [action.Pruner].
func (p *Pruner) Known(ctx context.Context) []*action.Action {
	if p.Snapshot.top == nil {
		return nil
	}
	data, err := p.Notes.Note(ctx, p.shape())
	if err != nil {
		return nil
	}
	lists, err := decodeNamed(data)
	if err != nil {
		return nil
	}
	var all []*action.Action
	for _, l := range lists {
		all = append(all, p.pruned(l))
	}
	return all
}

// Seen implements [action.Pruner].
func (p *Pruner) Seen(ctx context.Context, status *backends.Status) (*action.Action, error) {
	switch {
	case p.Snapshot.top == nil:
		return nil, errors.New("the input root was given by its digest, and is not pruned")
	case !status.Complete:
		return nil, errors.New("what the command looked up could not be observed")
	}
	if err := p.staysOut(status.Lookups); err != nil {
		return nil, err
	}
	var named []string
	for name, use := range p.Snapshot.Uses(status.Lookups) {
		if e, ok := p.Snapshot.Find(name); ok && e.Kind == KindFile && use != 0 {
			named = append(named, name)
		}
	}
	if len(named) > pruneMax {
		return nil, fmt.Errorf("the command named %d inputs, more than are told apart", len(named))
	}
	slices.Sort(named)
	key := p.shape()
	var lists [][]string
	if data, err := p.Notes.Note(ctx, key); err == nil {
		lists, _ = decodeNamed(data)
	}
	lists = slices.DeleteFunc(lists, func(l []string) bool { return slices.Equal(l, named) })
	lists = slices.Insert(lists, 0, named)
	lists = lists[:min(len(lists), maxVariants)]
	if err := p.Notes.PutNote(ctx, key, encodeNamed(lists)); err != nil {
		return nil, err
	}
	return p.pruned(named), nil
}

// staysOut returns an error if a link of the host led into the input root:
// what is behind such a link is not among the look-ups.
func (p *Pruner) staysOut(lookups []backends.Lookup) error {
	if p.Witness == nil {
		return nil
	}
	scout := p.Witness.scout()
	for _, l := range lookups {
		if err := scout.look(l); err != nil {
			return err
		}
	}
	for _, s := range scout.found {
		if s.kind != seenLink {
			continue
		}
		to := s.text
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(s.path), to)
		}
		if to = path.Clean(to); to == action.WorkRoot || strings.HasPrefix(to, action.WorkRoot+"/") {
			return fmt.Errorf("the link %s of the host leads into the input root", s.path)
		}
	}
	return nil
}

// shape is the key of the note.
func (p *Pruner) shape() action.Digest {
	return p.with(p.Snapshot.stripped(func(string) bool { return false }), []byte(pruneSalt)).Digest(p.Snapshot.fn)
}

// pruned is the action whose input root has what the named files hold now.
func (p *Pruner) pruned(named []string) *action.Action {
	list := action.Sum(p.Snapshot.fn, encodeNamed([][]string{named}))
	if a := p.made[list]; a != nil {
		return a
	}
	set := make(map[string]bool, len(named))
	for _, n := range named {
		set[n] = true
	}
	root := p.Snapshot.stripped(func(name string) bool { return set[name] })
	a := p.with(root, []byte(pruneSalt+list.String()))
	if p.made == nil {
		p.made = map[action.Digest]*action.Action{}
	}
	p.made[list] = a
	return a
}

func (p *Pruner) with(root action.Digest, salt []byte) *action.Action {
	a := *p.Action
	a.InputRoot, a.Salt = root, salt
	return &a
}

// stripped is the digest of the tree with an empty file in the place of each
// that keep does not want.
func (snap *Snapshot) stripped(keep func(name string) bool) action.Digest {
	empty := action.Sum(snap.fn, nil)
	var strip func(d *scanDir) action.Digest
	strip = func(d *scanDir) action.Digest {
		m := d.message(snap.fn)
		for i := range m.Files {
			if !keep(path.Join(d.path, m.Files[i].Name)) {
				m.Files[i].Digest = empty
			}
		}
		for i := range m.Directories {
			if sub := d.sub(m.Directories[i].Name); sub != nil { // else a tree given by digest
				m.Directories[i].Digest = strip(sub)
			}
		}
		return action.Sum(snap.fn, m.Marshal())
	}
	return strip(snap.top)
}

// # Notes of what was named
//
// A note is lists of paths, the last used first, each sorted: u version, u how
// many lists; for each, u how many paths; for each, u how many bytes it shares
// with the last one and a string, as in variants.go.
const namedVersion = 1

func encodeNamed(lists [][]string) []byte {
	b := binary.AppendUvarint(nil, namedVersion)
	b = binary.AppendUvarint(b, uint64(len(lists)))
	for _, l := range lists {
		b = binary.AppendUvarint(b, uint64(len(l)))
		last := ""
		for _, name := range l {
			n := 0
			for n < len(last) && n < len(name) && last[n] == name[n] {
				n++
			}
			b = fields.AppendText(binary.AppendUvarint(b, uint64(n)), name[n:])
			last = name
		}
	}
	return b
}

func decodeNamed(data []byte) ([][]string, error) {
	r := &noteReader{Reader: fields.Reader{Rest: data}}
	if v := r.Uvarint(); v != namedVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errBadNote, v, namedVersion)
	}
	n := r.Uvarint()
	if r.Bad || n > maxVariants {
		return nil, errBadNote
	}
	lists := make([][]string, n)
	for i := range lists {
		count := r.Uvarint()
		if r.Bad || count > uint64(len(r.Rest)) || count > pruneMax {
			return nil, errBadNote
		}
		last := ""
		for range count {
			shared := r.Uvarint()
			rest := r.Take(r.Uvarint())
			if r.Bad || shared > uint64(len(last)) {
				return nil, errBadNote
			}
			last = last[:shared] + string(rest)
			lists[i] = append(lists[i], last)
		}
	}
	if r.Bad || len(r.Rest) > 0 {
		return nil, errBadNote
	}
	return lists, nil
}
