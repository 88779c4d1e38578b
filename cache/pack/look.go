package pack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Usage says how many pack files there are in dir, and how many bytes they take,
// with their indexes. There may be none, and a server may use them meanwhile.
func Usage(dir string) (files int, bytes int64, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // spilled, this instant
		}
		if strings.HasSuffix(e.Name(), ".pack") {
			files++
		}
		bytes += info.Size()
	}
	return files, bytes, err
}

// A Report says what [Verify] has found.
type Report struct {
	Files   int
	Bytes   int64
	Damaged []Damage
}

// A Damage is a record that does not have the content that it should have. It
// costs its blob: whoever asks for that is told that it is not there.
type Damage struct {
	File   string
	Offset int64
}

// Verify reads the pack files in dir, and changes nothing: a server may use them
// meanwhile. What follows the last record of a file, as a crash may leave it, is
// no damage unless the file's index names a record there.
func Verify(ctx context.Context, dir string) (*Report, error) {
	report := &Report{}
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("verify packs: %w", err)
	}
	for _, e := range list {
		if !strings.HasSuffix(e.Name(), ".pack") || !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		size, bad, err := verifyFile(ctx, name)
		if err == nil && len(bad) > 0 {
			// A write that failed may have been made again just now.
			var again []int64
			if size, again, err = verifyFile(ctx, name); err == nil {
				for _, at := range bad {
					if slices.Contains(again, at) {
						report.Damaged = append(report.Damaged, Damage{e.Name(), at})
					}
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // spilled, this instant
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("verify packs: %w", err)
		}
		report.Files++
		report.Bytes += size
	}
	return report, nil
}

// verifyFile returns the size of a pack file and the offsets of what is damaged.
func verifyFile(ctx context.Context, name string) (size int64, bad []int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	good := map[int64]bool{}
	err = walk(f, func(r *record, is bool) error {
		if good[r.offset] = is; !is {
			bad = append(bad, r.offset)
		}
		return ctx.Err()
	})
	for _, e := range indexEntries(strings.TrimSuffix(name, ".pack") + ".index") {
		if at := e.at.offset(); !good[at] && !slices.Contains(bad, at) {
			bad = append(bad, at)
		}
	}
	return info.Size(), bad, err
}

// indexEntries are those of an index, of whatever boot; nil where there is none.
func indexEntries(name string) []entry {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	entries, _ := parseIndex(b)
	return entries
}
