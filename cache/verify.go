package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// Damage is a thing that is not what was written.
type Damage struct {
	Kind    Kind
	Name    string // the digest or the layer's name
	Reason  string
	Removed bool // so that the next run makes it again
}

// A VerifyReport says what [Store.Verify] found.
type VerifyReport struct {
	Checked Usage
	Damaged []Damage
}

// Verify reads everything in the store and compares it with its digest or
// checksum. It removes what is damaged, and the results and layers that name
// what is missing; a read-only store it only reports on. It marks nothing as
// used. Builds may run meanwhile. What it finds is in the report; an error
// means that it could not look.
//
// After each file it calls progress, where that is not nil, with the number of
// files and bytes so far; the calls do not overlap.
func (s *Store) Verify(ctx context.Context, progress func(files, bytes int64)) (*VerifyReport, error) {
	v := &verifier{s: s, progress: progress, reason: map[string]string{}}
	if !s.opts.ReadOnly {
		s.warn(s.sweep())
	}
	defer func() {
		s.warn(s.tellRemoved(v.gone, Damaged, func(e *entry) string { return v.reason[e.path(s)] }))
	}()
	// In this order, so that a result or layer sees which blobs are gone.
	for _, step := range []func(context.Context) error{v.blobs, v.records, v.layers} {
		if err := step(ctx); err != nil {
			return &v.report, fmt.Errorf("verify the cache: %w", err)
		}
	}
	return &v.report, nil
}

type verifier struct {
	s        *Store
	progress func(files, bytes int64)

	mu     sync.Mutex // guards report
	report VerifyReport
	gone   []entry           // what was removed, for the history
	reason map[string]string // why, by path
}

// checked counts a thing that was read.
func (v *verifier) checked(kind Kind, bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Checked.of(kind).add(1, bytes)
	if v.progress != nil {
		t := v.report.Checked.Total()
		v.progress(t.N, t.Bytes)
	}
}

// damaged reports the file or directory path, and removes it if it is still
// the one with the inode ino: a builder may have healed it meanwhile.
func (v *verifier) damaged(e *entry, name, path, reason string, ino uint64) {
	d := Damage{Kind: e.kind, Name: name, Reason: reason}
	if !v.s.opts.ReadOnly {
		if now, err := durable.Stat(path); err == nil && now.Ino != ino {
			return
		}
		err := v.s.disk.RemoveAll(path)
		v.s.warn(err)
		d.Removed = err == nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Damaged = append(v.report.Damaged, d)
	if d.Removed {
		v.gone = append(v.gone, *e)
		v.reason[path] = reason
	}
}

// reasonOf is what err says, without the name of d, which the reader knows.
func reasonOf(err error, d action.Digest) string {
	if m, ok := errors.AsType[*missError](err); ok && m.d == d {
		return m.reason
	}
	return err.Error()
}

type shardOf struct {
	kind Kind
	f    action.Function
	path string
}

// each calls f with every file of the kinds, on every processor.
func (v *verifier) each(ctx context.Context, f func(e *entry, fi *durable.FileInfo) error, kinds ...Kind) error {
	var dirs []shardOf
	for _, kind := range kinds {
		err := v.s.shards(kind, func(f action.Function, dir string) error {
			dirs = append(dirs, shardOf{kind, f, dir})
			return nil
		})
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan shardOf)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for d := range work {
				if err := v.s.walkShard(ctx, d.kind, d.f, d.path, f); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, d := range dirs {
		work <- d
	}
	close(work)
	all.Wait()
	return context.Cause(ctx)
}

func (v *verifier) blobs(ctx context.Context) error {
	return v.each(ctx, func(e *entry, fi *durable.FileInfo) error {
		path := e.path(v.s)
		d, err := action.Shortened(e.f, e.hash, fi.Size)
		if err != nil {
			return err
		}
		switch err := v.verify(ctx, d, path, fi); {
		case errors.Is(err, action.ErrMiss):
			v.damaged(e, d.String(), path, reasonOf(err, d), fi.Ino)
		case errors.Is(err, fs.ErrNotExist): // trimmed
		case err != nil:
			return err
		}
		v.checked(KindBlob, fi.Size)
		return nil
	}, KindBlob)
}

func (v *verifier) verify(ctx context.Context, d action.Digest, path string, fi *durable.FileInfo) error {
	if !fi.Mode.IsRegular() {
		return miss(d, "blob", "damaged: it is no regular file")
	}
	err := v.s.verify(ctx, d, path)
	if err == nil && !v.s.trusted(fi) {
		v.s.trust(d, path)
	}
	return err
}

// records verifies results and notes.
func (v *verifier) records(ctx context.Context) error {
	return v.each(ctx, func(e *entry, fi *durable.FileInfo) error {
		path := e.path(v.s)
		// The size of the action is not in the name of its result.
		name := e.f.String() + ":" + filepath.Base(path)
		err := v.record(ctx, e, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, action.ErrMiss), errors.Is(err, errRecord):
			key, _ := action.Shortened(e.f, e.hash, 0)
			v.damaged(e, name, path, reasonOf(err, key), fi.Ino)
		case err != nil:
			return err
		}
		v.checked(e.kind, fi.Size)
		return nil
	}, KindResult, KindNote)
}

func (v *verifier) record(ctx context.Context, e *entry, path string) error {
	key, err := action.Shortened(e.f, e.hash, 0)
	if err != nil {
		return err
	}
	if e.kind == KindNote {
		_, _, err := readRecord(path, noteMagic, recordName(key))
		return err
	}
	data, _, err := readRecord(path, resultMagic, recordName(key))
	if err != nil {
		return err
	}
	res, err := action.ParseResult(data, e.f)
	if err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	return v.s.complete(ctx, key, res, inspect)
}

func (v *verifier) layers(ctx context.Context) error {
	list, err := v.s.layers()
	if err != nil {
		return err
	}
	for i := range list {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &list[i]
		path := e.path(v.s)
		fi, err := durable.Stat(path)
		if err != nil {
			continue // trimmed
		}
		err = v.layer(ctx, e, path)
		switch {
		case errors.Is(err, action.ErrMiss), errors.Is(err, errRecord), absent(err):
			v.damaged(e, e.name, path, err.Error(), fi.Ino)
		case err != nil:
			return err
		}
		v.checked(KindLayer, e.bytes)
	}
	return nil
}

func (v *verifier) layer(ctx context.Context, e *entry, path string) error {
	l, err := readLayer(e.times(path), e.name)
	if err != nil {
		return err
	}
	sum, err := layerSum(filepath.Join(path, "data"))
	if err != nil {
		return err
	}
	if sum != l.sum {
		return fmt.Errorf("%w: its contents are not what was put", errRecord)
	}
	for _, d := range l.refs {
		if err := v.s.has(ctx, d, inspect); err != nil {
			return err
		}
	}
	return nil
}
