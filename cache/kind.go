package cache

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A Kind is a kind of thing that the store keeps.
type Kind uint8

// The kinds of things. Their values are on the disk, in the index.
const (
	KindResult Kind = 1
	KindNote   Kind = 2
	KindLayer  Kind = 3
	KindBlob   Kind = 4
)

// String is the kind in the singular: "blob". It is also its directory.
func (k Kind) String() string {
	switch k {
	case KindResult:
		return "result"
	case KindNote:
		return "note"
	case KindLayer:
		return "layer"
	case KindBlob:
		return "blob"
	}
	return "thing"
}

// A Count is how many things there are and what they take on the disk.
type Count struct{ N, Bytes int64 }

func (c *Count) add(n, bytes int64) {
	c.N += n
	c.Bytes += bytes
}

// Usage is what a store holds.
type Usage struct{ Blobs, Results, Notes, Layers Count }

// Total is the sum of all kinds.
func (u *Usage) Total() Count {
	var t Count
	for _, c := range []Count{u.Blobs, u.Results, u.Notes, u.Layers} {
		t.add(c.N, c.Bytes)
	}
	return t
}

func (u *Usage) of(k Kind) *Count {
	switch k {
	case KindResult:
		return &u.Results
	case KindNote:
		return &u.Notes
	case KindLayer:
		return &u.Layers
	}
	return &u.Blobs
}

// An entry is what trim has to know of one thing.
type entry struct {
	kind  Kind
	f     action.Function
	hash  [32]byte
	name  string // of a layer; the others have f and hash
	bytes int64  // on the disk
	used  int64  // seconds
	via   int64  // of a blob: when the layers, or recent results, that need it were used
	exact bool   // of a result: that is in via of what it names
}

func (e *entry) path(s *Store) string {
	if e.kind == KindLayer {
		return s.layerDir(e.name)
	}
	d, err := action.Shortened(e.f, e.hash, 0)
	if err != nil {
		panic(err) // an entry's function is known
	}
	return s.shard(e.kind.String(), d)
}

// times returns the path of the file whose access time says when e was used.
func (e *entry) times(path string) string {
	if e.kind == KindLayer {
		return filepath.Join(path, "refs")
	}
	return path
}

// lastUse is the access time in fi; one in the future counts as now.
func (s *Store) lastUse(fi *durable.FileInfo) int64 {
	return min(fi.ATime.Unix(), s.now().Unix())
}

// draftMax is the age from which a draft's writer is dead.
const draftMax = time.Hour

// shards calls each with every directory of blobs, results or notes.
func (s *Store) shards(kind Kind, each func(f action.Function, dir string) error) error {
	for _, f := range action.Functions() {
		top := filepath.Join(s.dir, kind.String(), f.String())
		dirs, err := os.ReadDir(top)
		if err != nil && !absent(err) {
			return s.explain(err)
		}
		for _, d := range dirs {
			if err := each(f, filepath.Join(top, d.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// walkShard calls each with every file of a directory of [Store.shards]. Files
// that vanish meanwhile are left out. Old drafts are removed on the way.
func (s *Store) walkShard(ctx context.Context, kind Kind, f action.Function, dir string, each func(e *entry, fi *durable.FileInfo) error) error {
	d, err := durable.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if absent(err) {
		return nil
	}
	if err != nil {
		return s.explain(err)
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // it was only read
	if err != nil {
		return s.explain(err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := dir + "/" + name
		fi, err := durable.Stat(path)
		if err != nil {
			continue
		}
		e := entry{kind: kind, f: f, bytes: fi.Blocks, used: s.lastUse(&fi)}
		if n, err := hex.Decode(e.hash[:], []byte(name)[:min(len(name), 64)]); err != nil || n != 32 || len(name) != 64 {
			age := s.now().Sub(fi.ChangedAt)
			if strings.Contains(name, durable.DraftInfix) && age > draftMax && !s.opts.ReadOnly {
				_ = s.disk.Remove(path)
			}
			continue
		}
		if err := each(&e, &fi); err != nil {
			return err
		}
	}
	return nil
}

// walk calls each with everything in the store but the layers.
func (s *Store) walk(ctx context.Context, each func(e *entry, fi *durable.FileInfo) error) error {
	for _, kind := range []Kind{KindResult, KindNote, KindBlob} {
		err := s.shards(kind, func(f action.Function, dir string) error {
			return s.walkShard(ctx, kind, f, dir, each)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// layers returns an entry for each layer.
func (s *Store) layers() ([]entry, error) {
	names, err := os.ReadDir(filepath.Join(s.dir, "layer"))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, s.explain(err)
	}
	var list []entry
	for _, n := range names {
		e := entry{kind: KindLayer, name: n.Name()}
		if fi, err := durable.Stat(e.times(e.path(s))); err == nil {
			e.used, e.bytes = s.lastUse(&fi), fi.Blocks
		}
		if l, err := readLayer(filepath.Join(e.path(s), "refs"), e.name); err == nil {
			e.bytes += l.size
		}
		list = append(list, e)
	}
	return list, nil
}
