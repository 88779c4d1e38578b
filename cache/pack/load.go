package pack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// load fills places from the files, the oldest first, so that of two with the
// same tag the later one is kept.
func (p *Pack) load(numbers []uint32) {
	defer func() {
		p.whole.Store(true)
		close(p.loaded)
	}()
	for _, n := range numbers {
		if p.ctx.Err() != nil {
			return
		}
		if err := p.loadFile(n); err != nil {
			p.warn(err)
		}
	}
}

func (p *Pack) loadFile(number uint32) error {
	f, err := os.Open(p.path(number, ".pack"))
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, f.Close())
	}
	entries, ok := p.readIndex(number, info.Size())
	if !ok {
		err := scan(f, func(r *record) error {
			entries = append(entries, entry{r.tag(), placeOf(number, r.offset, len(r.data))})
			return p.ctx.Err()
		})
		if err != nil {
			return errors.Join(err, f.Close())
		}
		p.warn(p.writeIndex(number, entries))
	}
	if len(entries) == 0 {
		return errors.Join(f.Close(), p.remove(number))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range entries {
		p.places[e.tag] = e.at
	}
	p.files = append(p.files, &file{number: number, f: f, end: info.Size(), count: len(entries)})
	p.bytes += info.Size()
	p.blobs += len(entries)
	return nil
}

// A record is one in a file.
type record struct {
	mark   byte
	name   action.Digest // or key
	offset int64
	data   []byte
}

func (r *record) tag() uint64 { return tagOf(r.mark, r.name.Function(), r.name.Bytes()) }

func (r *record) good() bool {
	if r.mark == keyMark {
		return isRecord(r.name, r.data)
	}
	return holds(r.name, r.data)
}

// scan calls each for every record that is good. It ends where no record is; an
// error is one of reading, or each's.
func scan(f *os.File, each func(*record) error) error {
	return walk(f, func(r *record, good bool) error {
		if !good {
			return nil
		}
		return each(r)
	})
}

// walk is scan for all records: of one that is not good, only the offset is.
func walk(f *os.File, each func(r *record, good bool) error) error {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, fileMax))
	if err != nil {
		return err
	}
	for at := 0; len(data)-at >= header; {
		h := data[at : at+header]
		size := int64(binary.LittleEndian.Uint32(h[4:]))
		if h[0] != blobMark && h[0] != keyMark || h[2] != 0 || h[3] != 0 || size > MaxSize || int64(len(data)-at) < header+size {
			return nil
		}
		r := &record{mark: h[0], offset: int64(at), data: data[at+header:][:size]}
		r.name, err = action.Shortened(action.Function(h[1]), [32]byte(h[8:]), size)
		if err := each(r, err == nil && r.good()); err != nil {
			return err
		}
		at += header + int(size)
	}
	return nil
}

// writeIndex writes where the records of a file are.
func (p *Pack) writeIndex(number uint32, entries []entry) error {
	b := make([]byte, 0, indexHead+16*len(entries))
	b = append(append(b, indexMagic...), p.boot[:]...)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, e.tag)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.at))
	}
	path := p.path(number, ".index")
	err := os.WriteFile(path+".new", b, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new")
		return fmt.Errorf("write an index, without which the next start takes longer: %w", err)
	}
	return nil
}

// readIndex reads the index of a file that has size bytes, if it is of this boot.
func (p *Pack) readIndex(number uint32, size int64) ([]entry, bool) {
	b, err := os.ReadFile(p.path(number, ".index"))
	if err != nil || p.o.Boot == "" || len(b) < indexHead || [8]byte(b[4:]) != p.boot {
		return nil, false
	}
	entries, ok := parseIndex(b)
	if !ok {
		return nil, false
	}
	for _, e := range entries {
		if e.at.number() != number || e.at.offset()+int64(header+e.at.size()) > size || e.at.size() > MaxSize {
			return nil, false
		}
	}
	return entries, true
}

// parseIndex returns what is in an index, which may be of another boot.
func parseIndex(b []byte) ([]entry, bool) {
	if len(b) < indexHead || string(b[:4]) != indexMagic || (len(b)-indexHead)%16 != 0 {
		return nil, false
	}
	b = b[indexHead:]
	entries := make([]entry, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		entries = append(entries, entry{binary.LittleEndian.Uint64(b), place(binary.LittleEndian.Uint64(b[8:]))})
	}
	return entries, true
}

func (p *Pack) remove(number uint32) error {
	err := os.Remove(p.path(number, ".index"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(p.path(number, ".pack")))
}

// spillAll gives the oldest blobs away whenever room is short, until it is not.
func (p *Pack) spillAll() {
	<-p.loaded
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.wake:
		}
		for p.ctx.Err() == nil {
			f := p.oldest()
			if f == nil {
				break
			}
			began := time.Now()
			if err := p.spill(f); err != nil {
				if p.ctx.Err() == nil {
					p.warn(err)
				}
				break // the next Put that lacks room tries again
			}
			// Whoever waits for an answer comes first.
			select {
			case <-p.ctx.Done():
			case <-time.After(time.Since(began)):
			}
		}
	}
}

// oldest is the file to spill; nil if there is room, or no file but the open one.
func (p *Pack) oldest() *file {
	p.mu.RLock()
	defer p.mu.RUnlock()
	short := p.bytes > p.o.MaxBytes/2 || p.blobs > p.o.MaxBlobs/2 || len(p.files) > maxFiles/2
	if !short || len(p.files) == 0 || p.files[0] == p.open {
		return nil
	}
	return p.files[0]
}

// spill gives away what is in a file, and removes it.
func (p *Pack) spill(f *file) error {
	var tags []uint64
	ctx := context.WithoutCancel(p.ctx) // what is begun is done
	err := scan(f.f, func(r *record) error {
		tags = append(tags, r.tag())
		current := func() bool {
			at, ok := p.lookup(r.mark, r.name.Function(), r.name.Bytes())
			return ok && at == placeOf(f.number, r.offset, len(r.data))
		}
		switch {
		case p.ctx.Err() != nil:
			return p.ctx.Err()
		case !current(): // there is a later one
			return nil
		case r.mark == blobMark:
			return p.o.Spill(ctx, action.Sum(r.name.Function(), r.data), r.data)
		case len(r.data) > sha256.Size:
			return p.o.SpillRecord(ctx, r.name, r.data[sha256.Size:], current)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("move blobs into files: %w", err)
	}
	p.mu.Lock()
	p.moved.Add(1)
	if len(tags) < f.count { // some are damaged: nobody else says which
		tags = slices.Collect(maps.Keys(p.places))
	}
	for _, tag := range tags {
		if p.places[tag].number() == f.number {
			delete(p.places, tag)
		}
	}
	p.files = p.files[1:]
	p.bytes -= f.end
	p.blobs -= f.count
	err = f.f.Close()
	p.mu.Unlock()
	return errors.Join(err, p.remove(f.number))
}
