package cache

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

const resultMagic = "sbR1"

// Result returns the result of the action key and marks it and everything that
// it names as used. It returns an error wrapping [action.ErrMiss] where there
// is none, where it is damaged, or where any blob that it names, directly or
// through a tree, is missing or damaged.
func (s *Store) Result(ctx context.Context, key action.Digest) (*action.Result, error) {
	path := s.shard("result", key)
	res, fi, err := s.readResult(path, key)
	if err != nil {
		return nil, err
	}
	if err := s.complete(ctx, key, res, use); err != nil {
		return nil, err
	}
	// Last, so that a result is never younger than what it names.
	if s.touch(path, &fi) != nil {
		return nil, miss(key, "result", "it was just removed")
	}
	return res, nil
}

func (s *Store) readResult(path string, key action.Digest) (*action.Result, durable.FileInfo, error) {
	data, fi, err := readRecord(path, resultMagic, recordName(key))
	if err != nil {
		return nil, fi, s.missing(key, "result", err)
	}
	res, err := action.ParseResult(data, key.Function())
	if err != nil {
		return nil, fi, miss(key, "result", "damaged: "+err.Error())
	}
	return res, fi, nil
}

// missing turns the error of a record into a miss, unless it is the directory
// that is at fault.
func (s *Store) missing(d action.Digest, kind string, err error) error {
	switch {
	case absent(err):
		return miss(d, kind, "not present")
	case errors.Is(err, errRecord):
		return miss(d, kind, err.Error())
	}
	return fmt.Errorf("%s %v: %w", kind, d, s.explain(err))
}

// PutResult stores res as the result of the action key, in place of an earlier
// one. Every blob that it names must be present.
func (s *Store) PutResult(ctx context.Context, key action.Digest, res *action.Result) error {
	if err := s.checkResult(ctx, key, res, use); err != nil {
		return err
	}
	if err := s.writeRecord(KindResult, key, resultMagic, res.Marshal()); err != nil {
		return fmt.Errorf("put result %v: %w", key, err)
	}
	return nil
}

// checkResult says why res cannot be stored.
func (s *Store) checkResult(ctx context.Context, key action.Digest, res *action.Result, why intent) error {
	if err := s.writable("put result " + key.String()); err != nil {
		return err
	}
	if key.IsZero() {
		return errors.New("put result: it has no digest")
	}
	if err := res.Check(); err != nil {
		return fmt.Errorf("put result %v: %w", key, err)
	}
	if err := s.complete(ctx, key, res, why); err != nil {
		return fmt.Errorf("put result %v: %w", key, err)
	}
	return nil
}

// complete returns a miss unless every blob that res names is present.
func (s *Store) complete(ctx context.Context, key action.Digest, res *action.Result, why intent) error {
	var lack error
	held := func(action.Digest) bool { return false }
	if why == hold {
		why = use
		if s.packed != nil {
			held = s.packed.Has
		}
	}
	for d := range s.names(ctx, res, why, &lack) {
		if d.Function() != key.Function() && lack == nil {
			lack = fmt.Errorf("it names %v, which is of another digest function", d)
		} else if lack != nil || held(d) {
			continue
		} else if err := s.has(ctx, d, why); err != nil {
			lack = err
		}
		if lack != nil {
			break
		}
	}
	if lack == nil {
		return nil
	}
	if errors.Is(lack, action.ErrMiss) {
		return miss(key, "result", "incomplete: "+lack.Error())
	}
	return fmt.Errorf("result %v: %w", key, lack)
}

// names gives the digest of every blob that res names: also those that the
// trees and directories among them name, after these. It sets err and ends
// where one of them cannot be read.
func (s *Store) names(ctx context.Context, res *action.Result, why intent, err *error) iter.Seq[action.Digest] {
	return func(yield func(action.Digest) bool) {
		one := func(d action.Digest) bool { return d.IsZero() || yield(d) }
		for i := range res.Files {
			if !one(res.Files[i].Digest) {
				return
			}
		}
		if !one(res.Stdout) || !one(res.Stderr) {
			return
		}
		for i := range res.Directories {
			dir := &res.Directories[i]
			for _, w := range []struct {
				d    action.Digest
				kind treeKind
			}{{dir.Tree, wholeTree}, {dir.Root, oneDirectory}} {
				if w.d.IsZero() {
					continue
				}
				below, rerr := s.below(ctx, w.d, w.kind, why)
				if rerr != nil {
					*err = rerr
					return
				}
				for _, d := range below {
					if !yield(d) {
						return
					}
				}
			}
		}
	}
}

type treeKind int

const (
	wholeTree    treeKind = iota // a blob that is a Tree
	oneDirectory                 // a blob that is a Directory, and so are those below
)

// A treeMemo remembers what the trees of recent results name, so that a
// process that lives long does not parse them again and again.
type treeMemo struct {
	mu    sync.Mutex
	trees map[treeKey][]action.Digest
	total int
}

type treeKey struct {
	d    action.Digest
	kind treeKind
}

// treeMemoMax bounds the memo, in digests of 48 bytes.
const treeMemoMax = 1 << 18

// below returns the digests of the tree d itself and of every blob it names,
// each once. Whether the files among them are present is another question.
func (s *Store) below(ctx context.Context, d action.Digest, kind treeKind, why intent) ([]action.Digest, error) {
	m, key := &s.trees, treeKey{d, kind}
	m.mu.Lock()
	known, ok := m.trees[key]
	m.mu.Unlock()
	if ok {
		return known, nil
	}
	dirs, files := []action.Digest{d}, []action.Digest(nil)
	seen := map[action.Digest]bool{d: true}
	add := func(list *[]action.Digest, d action.Digest) {
		if !seen[d] {
			seen[d] = true
			*list = append(*list, d)
		}
	}
	for next := 0; next < len(dirs); next++ {
		found, err := s.readTree(ctx, dirs[next], kind, why)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if kind == oneDirectory {
				for j := range found[i].Directories {
					add(&dirs, found[i].Directories[j].Digest)
				}
			}
			for j := range found[i].Files {
				add(&files, found[i].Files[j].Digest)
			}
		}
	}
	list := append(dirs, files...)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.total+len(list) > treeMemoMax || m.trees == nil {
		m.trees, m.total = map[treeKey][]action.Digest{}, 0
	}
	m.trees[key] = list
	m.total += len(list)
	return list, nil
}

// readTree reads a blob that is a Tree or a Directory, verifies its digest,
// and returns the directories in it.
func (s *Store) readTree(ctx context.Context, d action.Digest, kind treeKind, why intent) ([]action.Directory, error) {
	if d.Size() > recordMax {
		return nil, miss(d, "tree", "too large")
	}
	fd, err := s.open(ctx, d, why)
	if err != nil {
		return nil, err
	}
	defer durable.Close(fd)
	data := make([]byte, d.Size())
	n, err := durable.Read(fd, data)
	if err != nil {
		return nil, fmt.Errorf("tree %v: %w", d, s.explain(err))
	}
	if got := action.Sum(d.Function(), data[:n]); got != d {
		return nil, miss(d, "tree", "damaged: its contents are "+got.String())
	}
	if kind == oneDirectory {
		dir, err := action.ParseDirectory(data, d.Function())
		if err != nil {
			return nil, miss(d, "directory", err.Error())
		}
		return []action.Directory{*dir}, nil
	}
	tree, err := action.ParseTree(data, d.Function())
	if err != nil {
		return nil, miss(d, "tree", err.Error())
	}
	return append([]action.Directory{tree.Root}, tree.Children...), nil
}
