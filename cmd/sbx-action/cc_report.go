package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/cc"
)

// report returns what to do instead of running a compiler, if the flags say so.
func (f *ccFlags) report() (func(context.Context) error, bool) {
	asked := 0
	for _, is := range []bool{f.stats || f.zero, f.why != "", f.installLinks != ""} {
		if is {
			asked++
		}
	}
	switch {
	case asked > 1:
		return func(context.Context) error {
			return errors.New("--stats, --why and --install-links: want one of them at a time")
		}, true
	case f.json && !f.stats:
		return func(context.Context) error { return errors.New("--json goes with --stats") }, true
	case f.stats && f.zero:
		return func(context.Context) error { return errors.Join(f.printStats(), f.zeroStats()) }, true
	case f.stats:
		return func(context.Context) error { return f.printStats() }, true
	case f.zero:
		return func(context.Context) error { return f.zeroStats() }, true
	case f.why != "":
		return f.printWhy, true
	case f.installLinks != "":
		return func(context.Context) error { return f.install() }, true
	}
	return nil, false
}

func (f *ccFlags) statsDir() (string, error) {
	dir, err := wiring.CacheDir(f.cache)
	return wiring.StatDir(dir), err
}

// sizeOfStore is what --stats says of the store.
func (f *ccFlags) sizeOfStore() (*storeSize, error) {
	store, err := f.openStore(cache.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return f.storeSize(store)
}

func (f *ccFlags) zeroStats() error {
	dir, err := f.statsDir()
	if err != nil {
		return err
	}
	return cc.ZeroStats(dir)
}

func (f *ccFlags) printStats() error {
	dir, err := f.statsDir()
	if err != nil {
		return err
	}
	store := filepath.Dir(dir)
	s, err := cc.ReadStats(dir)
	if err != nil {
		return cmp.Or(storeProblem(store), err)
	}
	size, err := f.sizeOfStore()
	if err != nil && !errors.Is(storeProblem(store), errStore) { // else storeNote says it
		return err
	}
	if f.json {
		hits, misses := hitsAndMisses(s)
		lines := s.Lines
		if lines == nil {
			lines = []cc.Total{}
		}
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"hits": hits.Count, "misses": misses, "saved_seconds": hits.Saved.Seconds(), "calls": lines, "note": storeNote(store), "store": size,
		})
	}
	var b bytes.Buffer
	writeTotals(&b, s)
	for i, line := range size.lines() {
		fmt.Fprintf(&b, "%-18s %s\n", []string{"store", ""}[min(i, 1)], line)
	}
	if why := f.blindReason(); why != "" {
		fmt.Fprintf(&b, "nothing can be observed here, so that the compiler is asked what it depends on: %s\n", why)
	}
	if note := storeNote(store); note != "" {
		fmt.Fprintln(&b, note)
	}
	_, err = b.WriteTo(os.Stdout)
	return err
}

func hitsAndMisses(s cc.Stats) (hits cc.Total, misses int64) {
	return s.Of(cc.Hit), s.Of(cc.Miss).Count + s.Of(cc.Unkept).Count
}

// writeTotals says how many calls ended how, and for which reasons.
func writeTotals(b *bytes.Buffer, s cc.Stats) {
	hits, misses := hitsAndMisses(s)
	rate := ""
	if hits.Count+misses > 0 {
		rate = fmt.Sprintf(" (%.1f %% of what could be cached)", 100*float64(hits.Count)/float64(hits.Count+misses))
	}
	reasons := func(o cc.Outcome) {
		for _, t := range s.Lines {
			if t.Outcome == o && t.Reason != "" {
				fmt.Fprintf(b, "  %-16s %8d  %s\n", "", t.Count, t.Reason)
			}
		}
	}
	fmt.Fprintf(b, "from the cache     %8d%s\n", hits.Count, rate)
	fmt.Fprintf(b, "  time saved       %8s of the compiler\n", hits.Saved.Round(10*time.Millisecond))
	fmt.Fprintf(b, "  outputs          %8d bytes\n", hits.Bytes)
	reasons(cc.Hit)
	for _, c := range []struct {
		o    cc.Outcome
		head string
	}{
		{cc.Miss, "ran, and was kept"},
		{cc.Unkept, "ran, but not kept"},
		{cc.Failed, "failed"},
		{cc.Plain, "executed as it is"},
		{cc.Broken, "executed, by fault"},
		{cc.Verified, "hits that were right"},
		{cc.Differed, "hits that were wrong"},
	} {
		if total := s.Of(c.o); total.Count > 0 {
			fmt.Fprintf(b, "%-18s %8d\n", c.head, total.Count)
			reasons(c.o)
		}
	}
}

// install makes links by the names of all compilers on PATH.
func (f *ccFlags) install() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.installLinks, 0o777); err != nil {
		return fmt.Errorf("--install-links: %w", err)
	}
	made := 0
	me := cc.NewSelf()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := e.Name()
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); !cc.Knows(name) || err != nil || info.IsDir() || info.Mode()&0o111 == 0 || me.Is(path) {
				continue
			}
			link := filepath.Join(f.installLinks, name)
			if old, err := os.Lstat(link); err == nil {
				if old.Mode()&os.ModeSymlink == 0 || !me.Is(link) {
					return fmt.Errorf("--install-links: %s is there already, and is not ours: choose another directory, or remove it", link)
				}
				continue
			}
			if err := os.Symlink(self, link); err != nil {
				return fmt.Errorf("--install-links: %w", err)
			}
			made++
		}
	}
	dir, err := filepath.Abs(f.installLinks)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%d links made; now: export PATH=%s:$PATH\n", made, shellQuote(dir))
	return err
}
