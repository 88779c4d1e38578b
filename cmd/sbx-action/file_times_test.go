package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/schedule"
)

const timesFile = `
version: 1
actions:
  short:  {outputs: [s], shell: 'sleep 0.01; touch s'}
  long:   {outputs: [l], shell: 'sleep 0.01; touch l'}
  head:   {outputs: [h], shell: 'sleep 0.01; touch h'}
  tail:   {inputs: [h], outputs: [t], shell: 'sleep 0.01; touch t'}
`

var knownTimes = map[string]time.Duration{"short": 2 * time.Second, "long": 4 * time.Second, "head": time.Second, "tail": 8 * time.Second}

// TestTimes runs a file, and looks at what the store then knows; puts other times
// there, and looks at what the schedule is told, whose own tests show that the
// longest path goes first.
func TestTimes(t *testing.T) {
	self, err := exec.LookPath("sbx-action")
	if err != nil {
		t.Fatal(err)
	}
	dir, storeDir := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "build.yaml"), []byte(timesFile), 0o666); err != nil {
		t.Fatal(err)
	}
	run := func() (order []string) {
		cmd := exec.Command(self, "run", "-f", "build.yaml", "-j", "1", "--refresh", "--progress", "plain")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "SBX_CACHE="+storeDir, "MAKEFLAGS=", "XDG_CONFIG_HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, m := range regexp.MustCompile(`(?m)^\[\d/4\] run +(\w+) `).FindAllStringSubmatch(string(out), -1) {
			order = append(order, m[1])
		}
		return order
	}
	if got, want := run(), []string{"head", "short", "long", "tail"}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Fatalf("%q ran", got)
	}
	store, err := cache.Open(storeDir, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	graph, _, err := loadGraph(filepath.Join(dir, "build.yaml"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	graph.File = "build.yaml" // as it was named
	known := readTimes(t.Context(), store, graph)
	for name := range knownTimes {
		// sleep takes at least that, and a process some memory.
		if took, memory := known.of(name); took < 10*time.Millisecond || memory < 100<<10 {
			t.Errorf("of %s the store knows %v and %d bytes", name, took, memory)
		}
	}
	for name, took := range knownTimes {
		known.note(name, took, 1<<20)
	}
	known.write(t.Context(), store)
	told := func() map[string]schedule.Job {
		var f runFlags
		set := flag.NewFlagSet("run", flag.ContinueOnError)
		f.declare(set)
		f.many.declare(set)
		if err := set.Parse([]string{"--cache", storeDir}); err != nil {
			t.Fatal(err)
		}
		graph, selected, err := loadGraph(filepath.Join(dir, "build.yaml"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		graph.File = "build.yaml"
		r := &fileRun{flags: &f, graph: graph}
		r.parts.open = func(w *wiringFlags, _ bool) (*parts, error) {
			return w.open(t.Context(), f.digest.Function, networkOf(f.network), false)
		}
		defer r.parts.Close()
		if err := r.plan(t.Context(), selected); err != nil {
			t.Fatal(err)
		}
		jobs := map[string]schedule.Job{}
		for i, j := range r.jobs {
			if len(j.Needs) != len(r.actions[i].Needs) {
				t.Errorf("%s needs %d, and the schedule knows %d", j.Name, len(r.actions[i].Needs), len(j.Needs))
			}
			jobs[j.Name] = j
		}
		return jobs
	}
	for name, job := range told() {
		if job.Expect != knownTimes[name] || job.Memory != 1<<20 {
			t.Errorf("of %s the schedule is told %v and %d bytes, want %v and 1 MiB", name, job.Expect, job.Memory, knownTimes[name])
		}
	}
	run()
	// Hits say nothing of how long it takes; what ran is known anew.
	if took, _ := readTimes(t.Context(), store, graph).of("tail"); took <= 0 || took == knownTimes["tail"] {
		t.Errorf("of tail the store knows %v still", took)
	}
}

// TestTimesNote reads what has been written, and of what is damaged the rest.
func TestTimesNote(t *testing.T) {
	store, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	dir := t.TempDir()
	name := filepath.Join(dir, "build.yaml")
	if err := os.WriteFile(name, []byte(timesFile), 0o666); err != nil {
		t.Fatal(err)
	}
	graph, _, err := loadGraph(name, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	times := readTimes(ctx, store, graph)
	if took, memory := times.of("long"); took != 0 || memory != 0 {
		t.Errorf("an empty store knows %v and %d", took, memory)
	}
	times.note("long", 1500*time.Millisecond, 3<<20)
	times.note("a\tb", time.Second, 1)
	times.note("objects[src/a b.c]", 2*time.Second, 0)
	times.write(ctx, store)
	times = readTimes(ctx, store, graph)
	if took, memory := times.of("long"); took != 1500*time.Millisecond || memory != 3<<20 {
		t.Errorf("long: %v and %d", took, memory)
	}
	if took, memory := times.of("objects[src/a b.c]"); took != 2*time.Second || memory != 0 {
		t.Errorf("objects: %v and %d", took, memory)
	}
	if len(times.list) != 2 {
		t.Errorf("it knows %v", times.list)
	}
	if err := store.PutNote(ctx, times.key, []byte("short\t1.5\t7\nlong\tNaN\t1\nhead\t-1\t1\ntail\t1e300\t1\nx\t1\t-1\ny\t1\nz\t1\t1\t1\n\x00\xff")); err != nil {
		t.Fatal(err)
	}
	times = readTimes(ctx, store, graph)
	if took, memory := times.of("short"); took != 1500*time.Millisecond || memory != 7 || len(times.list) != 1 {
		t.Errorf("of a damaged note it knows %v", times.list)
	}
	// Another file, or the same one of another workspace, has times of its own.
	graph.Workspace = strings.ToUpper(dir)
	if list := readTimes(ctx, store, graph).list; len(list) != 0 {
		t.Errorf("another workspace knows %v", list)
	}
}
