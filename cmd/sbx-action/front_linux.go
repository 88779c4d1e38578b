package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/front"
	"github.com/sbx-action/sbx-action/staging"
)

// errNoMemo says that a hit is one that the front cannot answer.
var errNoMemo = errors.New("not a call for a memo")

// leaveMemo writes down what the call gave, so that the front can answer the next
// equal one: see package front. All that the call looked at, in this program and in
// the compiler, is a fact of the memo; where something cannot be one, there is no
// memo.
func (j *ccJob) leaveMemo(ctx context.Context, s *cc.Session, done *cc.Done, dir string) {
	if !front.Wanted() {
		return
	}
	if m, err := j.memo(ctx, s, done, dir); err == nil {
		_ = putMemo(ctx, j.parts.store, m) // without it the next hit takes a millisecond more
	}
}

func (j *ccJob) memo(ctx context.Context, s *cc.Session, done *cc.Done, dir string) (*front.Memo, error) {
	switch {
	case done.Unkept != nil, done.Result.ExitCode != 0, j.recache, j.readOnly, j.disable, j.verify > 0, j.verbose, j.root != "", len(j.inputs) > 0,
		j.parts.remote != nil, j.any, j.stdin != nil, j.call.Jobserver,
		len(done.Stdout) > 0 && len(done.Stderr) > 0, // heard may refuse it
		j.urls && len(done.Stderr) > 0,               // what the front ignores says whether there are links
		len(done.Stderr) > 0 && cc.IsTerminal(2),     // see Shown
		slices.ContainsFunc(j.env, func(name string) bool { return front.Ignored(name + "=") }):
		return nil, errNoMemo
	}
	looks, ok := j.call.Looks(j.args, os.Getenv)
	facts, note, held := s.Held(done)
	if !ok || !held || !j.call.Answers(facts) {
		return nil, errNoMemo
	}
	m := front.NewMemo(calledAs, os.Environ(), dir)
	if err := j.looked.facts(m, j.parts.hasher); err != nil {
		return nil, err
	}
	for _, p := range looks.Ordinary {
		m.Ordinary(p)
	}
	for p, is := range j.self.Asked() {
		m.Self(p, is)
	}
	if looks.Away != "" {
		if slices.ContainsFunc(j.want.Env, func(v action.EnvironmentVariable) bool { return v.Name == "PWD" }) {
			return nil, errNoMemo // a link has led here
		}
		m.Elsewhere(looks.Away)
	}
	addFacts(m, j.parts.hasher, facts, !done.Cached)
	res, err := s.Here(ctx, done.Result)
	if err != nil {
		return nil, err
	}
	m.Root, m.Stdout, m.Stderr = "/", done.Stdout, done.Stderr
	if err := addResult(m, j.parts.store, res, done.Key, note); err != nil {
		return nil, err
	}
	name, most := cc.StatsFile()
	event := cc.HitOf(done.Result)
	event.Reason = cc.AtOnce
	m.Append(front.Append{File: filepath.Base(wiring.StatDir(j.parts.store.Dir())) + "/" + name, Most: most, Data: event.Line()})
	return m, nil
}

// facts notes what was looked for.
func (l *lookups) facts(m *front.Memo, hash *staging.FileHasher) error {
	for _, p := range l.there {
		m.Something(p)
	}
	for _, p := range l.absent {
		m.Nothing(p)
	}
	if l.odd || l.file != "" && !hash.Stable(l.file, l.id, l.began) {
		return errNoMemo
	}
	if l.file != "" {
		m.Unchanged(l.file, front.ID(l.id))
	}
	return nil
}

// addFacts notes what was seen of the host. What is not in a directory becomes one
// fact. fresh says that the facts are of a run that has just ended.
func addFacts(m *front.Memo, hash *staging.FileHasher, facts []staging.Fact, fresh bool) {
	dirs := make([]lacks, 0, 64)
	index, passed := make(map[string]int, 64), make(map[string]*uint32, 64) // by directory
	for i := range facts {
		switch f := &facts[i]; f.Kind {
		case staging.Unchanged:
			m.Unchanged(f.Path, front.ID(f.ID))
		case staging.Passed:
			passed[f.Path] = &f.Perm
		case staging.Looked:
			m.Meta(f.Path, f.ID.Mode, f.Size)
		case staging.Missing:
			dir, name := path.Split(f.Path)
			dir = dir[:max(len(dir)-1, 1)]
			at, ok := index[dir]
			if !ok {
				at = len(dirs)
				index[dir] = at
				dirs = append(dirs, lacks{dir: dir, id: f.ID, stable: f.Stable})
			}
			d := &dirs[at]
			d.stable = d.stable && f.Stable && d.id == f.ID
			d.names = append(d.names, name)
		}
	}
	slices.SortFunc(dirs, func(a, b lacks) int { return strings.Compare(a.dir, b.dir) })
	for i := range dirs {
		d := &dirs[i]
		m.Without(d.dir, d.proof(hash, fresh), passed[d.dir], d.names)
		delete(passed, d.dir)
	}
	for dir, perm := range passed {
		m.Directory(dir, *perm)
	}
}

// lacks is what a directory does not have.
type lacks struct {
	dir    string
	names  []string
	id     staging.StatID // when that was seen
	stable bool           // an equal one proves it
}

// proof returns stat data of the directory that proves that it has none of the
// names, or nil.
func (l *lacks) proof(hash *staging.FileHasher, fresh bool) *front.ID {
	if fresh && l.stable { // if it has changed since, the front will look for the names
		found := front.ID(l.id)
		return &found
	}
	before := staging.Now()
	id, err := staging.StatPath(l.dir, staging.KeepLinks)
	if err != nil {
		return nil
	}
	found := front.ID(id)
	if l.stable && l.id == id {
		return &found
	}
	if !hash.Stable(l.dir, id, before) {
		return nil
	}
	for _, n := range l.names { // after the look at the directory, and not before
		if _, err := os.Lstat(l.dir + "/" + n); !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return &found
}

// addResult notes the outputs, and which files of the store the hit stands on: the
// result of the action key, and the note under which it was found.
func addResult(m *front.Memo, store *cache.Store, res *action.Result, key, note action.Digest) error {
	if len(res.Directories)+len(res.Symlinks)+len(res.FileSymlinks)+len(res.DirSymlinks) > 0 {
		return errNoMemo
	}
	const most = 64 << 10
	if len(m.Stdout) > most || len(m.Stderr) > most || res.Stdout.Size() > int64(len(m.Stdout)) || res.Stderr.Size() > int64(len(m.Stderr)) {
		return errNoMemo
	}
	dir := store.Dir()
	m.Kept(dir, "VERSION")
	m.Result(dir, "result"+cache.BlobPath(key))
	if !note.IsZero() {
		m.Used("note" + cache.BlobPath(note))
	}
	for i := range res.Files {
		f := &res.Files[i]
		o := front.Output{Path: f.Path, Executable: f.Executable}
		switch {
		case f.Digest.IsEmpty():
		case f.Contents != nil:
			o.Data = f.Contents
		default:
			o.Blob, o.Size = "blob"+cache.BlobPath(f.Digest), f.Digest.Size()
		}
		m.Output(dir, o)
	}
	return nil
}

// putMemo keeps a memo where the front will look for it, and nowhere else: it knows
// of --cache, and of the environment.
func putMemo(ctx context.Context, store *cache.Store, m *front.Memo) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	key, err := action.NewDigest(action.BLAKE3, m.Name(), m.Size())
	if err != nil {
		return err
	}
	return store.PutNote(ctx, key, data)
}
