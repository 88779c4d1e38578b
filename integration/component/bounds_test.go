package component

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

func TestDefaultBounds(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, c := range []struct {
		memory int64
		jobs   int
		want   Bounds
	}{
		{0, 1, Bounds{}},
		{400 * mib, 1, Bounds{200 * mib, 100 * mib}},
		{24 * gib, 1, Bounds{21 * gib, 21 * gib / 2}},
		{128 * gib, 4, Bounds{28 * gib, 14 * gib}},
		{16 * gib, 100, Bounds{4 * gib, 2 * gib}},
		{1 * gib, 100, Bounds{768 * mib, 384 * mib}},
	} {
		if got := DefaultBounds(UsableMemory(c.memory), c.jobs); got != c.want {
			t.Errorf("%d, %d: %+v, want %+v", c.memory, c.jobs, got, c.want)
		}
	}
}

// A limitless backend notes what it was asked for, and runs until its context ends,
// if it shall.
type limitless struct {
	can  backends.Capabilities
	got  backends.Spec
	wait bool
}

func (b *limitless) Name() string                        { return "limitless" }
func (b *limitless) Capabilities() backends.Capabilities { return b.can }
func (b *limitless) Close() error                        { return nil }

func (b *limitless) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	b.got = *spec
	if b.wait {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return &backends.Status{}, nil
}

// TestBounded wants bounds only for what says no limit, where they can be held.
func TestBounded(t *testing.T) {
	exact := backends.Capabilities{MemoryLimit: backends.Exact, ScratchLimit: true}
	rough := backends.Capabilities{MemoryLimit: backends.PerProc, ScratchLimit: true}
	for _, c := range []struct {
		name    string
		can     backends.Capabilities
		says    backends.Limits
		scratch string
		want    backends.Limits
	}{
		{"says nothing", exact, backends.Limits{Pids: 5}, "", backends.Limits{Memory: 100, Scratch: 50, Pids: 5}},
		{"says it", exact, backends.Limits{Memory: 7, Scratch: 9}, "", backends.Limits{Memory: 7, Scratch: 9}},
		{"no control groups", rough, backends.Limits{}, "", backends.Limits{Scratch: 50}},
		{"no control groups, and says it", rough, backends.Limits{Memory: 7}, "", backends.Limits{Memory: 7, Scratch: 50}},
		{"on a disk", exact, backends.Limits{Scratch: 1 << 40}, t.TempDir(), backends.Limits{Memory: 100}},
	} {
		under := &limitless{can: c.can}
		b := &bounded{Backend: under, bounds: Bounds{100, 50}, disk: &diskGuard{}, name: "x"}
		if _, err := b.Run(t.Context(), &backends.Spec{Limits: c.says, Root: backends.Root{ScratchDir: c.scratch}}); err != nil {
			t.Fatal(err)
		}
		if under.got.Limits != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, under.got.Limits, c.want)
		}
	}
}

// TestBoundedOnDisk stops one that writes more than it may to a disk.
func TestBoundedOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 3<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &bounded{Backend: &limitless{wait: true}, disk: &diskGuard{}, name: "x"}
	_, err := b.Run(t.Context(), &backends.Spec{Limits: backends.Limits{Scratch: 1 << 20}, Root: backends.Root{ScratchDir: dir}})
	if err == nil || !strings.Contains(err.Error(), "more than its limit of 1.0 MiB") {
		t.Errorf("%v", err)
	}
}

// TestDiskFull stops the one that has most, and no other until that is gone.
func TestDiskFull(t *testing.T) {
	var g diskGuard
	top := t.TempDir()
	contexts := map[string]context.Context{}
	for i, name := range []string{"small", "large", "middle"} {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, []int{1, 9, 5}[i]<<16), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, done := g.watch(t.Context(), name, dir, 0)
		defer done()
		contexts[name] = ctx
	}
	stopped := func(name string) bool {
		_, ok := errors.AsType[*boundError](context.Cause(contexts[name]))
		return ok
	}
	g.full(1 << 30)
	g.full(1 << 30)
	if !stopped("large") || stopped("middle") || stopped("small") {
		t.Error("not the largest was stopped, or others, too")
	}
	g.forget(filepath.Join(top, "large"))
	g.full(1 << 30)
	if !stopped("middle") || stopped("small") {
		t.Error("the next one was not stopped, or all were")
	}
}

// TestScratch gives each component a directory of its own, and removes what a dead
// process has left.
func TestScratch(t *testing.T) {
	top := t.TempDir()
	left, other := filepath.Join(top, scratchPrefix+"left"), filepath.Join(top, "other")
	for _, dir := range []string{left + "/shut", other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(left+"/shut", 0); err != nil {
		t.Fatal(err)
	}
	b := &Builder{ScratchDir: top, Say: t.Logf}
	one, removeOne, err := b.newScratch()
	if err != nil {
		t.Fatal(err)
	}
	two, removeTwo, err := b.newScratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(one); err != nil || one == two {
		t.Errorf("%s, %s: %v", one, two, err)
	}
	removeOne()
	removeTwo()
	names, err := os.ReadDir(top)
	if err != nil || len(names) != 1 || names[0].Name() != "other" {
		t.Errorf("left are %v, %v", names, err)
	}
	if dir, remove, err := new(Builder).newScratch(); dir != "" || err != nil {
		t.Errorf("without a directory: %q, %v", dir, err)
	} else {
		remove()
	}
}
