package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/staging"
	"golang.org/x/sys/unix"
)

// stagingRows measure scans, staging and collecting, in one process.
func (b *bench) stagingRows(sizes string) ([]row, error) {
	store, err := cache.Open(filepath.Join(b.dir, "store"), cache.Options{})
	if err != nil {
		return nil, err
	}
	backend, err := native.Open(native.Options{})
	if err != nil {
		return nil, err
	}
	var rows []row
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("-sizes: %w", err)
		}
		w := &inputs{n: n, dir: filepath.Join(b.dir, "inputs-"+text), store: store, backend: backend, caps: backend.Capabilities()}
		rows = append(rows, w.rows()...)
	}
	return append(rows, b.hashRow(), collectRow(1, store, backend), collectRow(1000, store, backend)), nil
}

// inputs are n files of 4 KiB, 16 in a directory.
type inputs struct {
	n       int
	dir     string
	store   *cache.Store
	backend backends.Backend
	caps    backends.Capabilities
	tree    action.Digest
	names   []string
	rounds  int
}

func (w *inputs) rows() []row {
	label := func(what string) string { return fmt.Sprintf("%d inputs: %s", w.n, what) }
	targets := map[string]string{}
	if w.n == 100_000 {
		targets = map[string]string{"warm": "≤ 1 ms", "changed": "≤ 10 ms"}
	}
	return []row{
		{name: label("first scan and store"), rounds: 1, ours: side{"scan", w.first}},
		{name: label("scan, no change"), target: "≤ 2.5", rounds: 5, ours: side{"scan", w.scan}, peer: side{"fstatat loop", w.statLoop}},
		{name: label("stage, cold"), rounds: 1, ours: side{"stage", w.stage}},
		{name: label("stage, warm"), target: targets["warm"], rounds: 10, ours: side{"stage", w.stage}},
		{name: label("stage and mount and run, warm"), rounds: 5, ours: side{"stage, true", w.run}},
		{name: label("stage, 0.1 % changed"), target: targets["changed"], rounds: 3, ours: side{"stage", w.changed}},
	}
}

func (w *inputs) make() error {
	for i := range w.n {
		dir := filepath.Join(w.dir, "d"+strconv.Itoa(i/16%64), "e"+strconv.Itoa(i/1024))
		if i%16 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		name := filepath.Join(dir, "file"+strconv.Itoa(i))
		if err := os.WriteFile(name, content(i, 0), 0o644); err != nil {
			return err
		}
		w.names = append(w.names, name)
	}
	return nil
}

// content is 4 KiB that no other file has.
func content(i, round int) []byte {
	line := fmt.Sprintf("file %d, round %d\n", i, round)
	return []byte(strings.Repeat(line, 4096/len(line)+1)[:4096])
}

func (w *inputs) config() staging.ScanConfig {
	return staging.ScanConfig{
		Workspace: w.dir, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: filepath.Join(w.store.Dir(), "stat"),
	}
}

func (w *inputs) first() (time.Duration, error) {
	if err := w.make(); err != nil {
		return 0, err
	}
	start := time.Now()
	snap, err := staging.Scan(context.Background(), w.config())
	if err != nil {
		return 0, err
	}
	w.tree = snap.Root
	err = snap.Save(context.Background(), w.store, nil)
	took := time.Since(start)
	// What was written just now is not trusted yet; the next scan learns it.
	time.Sleep(2500 * time.Millisecond)
	_, err2 := w.scan()
	if err == nil {
		err = err2
	}
	return took, err
}

func (w *inputs) scan() (time.Duration, error) {
	start := time.Now()
	snap, err := staging.Scan(context.Background(), w.config())
	if err == nil && snap.Root != w.tree {
		err = fmt.Errorf("the tree is %v, want %v", snap.Root, w.tree)
	}
	return time.Since(start), err
}

// statLoop is what no scan by stat can beat: one fstatat for each file, by its
// absolute path.
func (w *inputs) statLoop() (time.Duration, error) {
	start := time.Now()
	var st unix.Stat_t
	for _, name := range w.names {
		if err := unix.Fstatat(unix.AT_FDCWD, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// stage makes the root from nothing, as a new process would.
func (w *inputs) stage() (time.Duration, error) {
	start := time.Now()
	_, err := w.root()
	return time.Since(start), err
}

func (w *inputs) root() (backends.Root, error) {
	s := staging.Stager{Blobs: w.store, Layers: w.store, Notes: w.store, Capabilities: w.caps}
	in := staging.Input{Tree: w.tree, Hint: action.Sum(action.BLAKE3, []byte(w.dir))}
	return s.Stage(context.Background(), in, staging.HostRootfs(staging.HostOptions{}))
}

func (w *inputs) run() (time.Duration, error) {
	start := time.Now()
	root, err := w.root()
	if err != nil {
		return 0, err
	}
	status, err := w.backend.Run(context.Background(), &backends.Spec{
		Root: root, Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}, Dir: action.WorkRoot, KeepRoot: true,
	})
	if err != nil {
		return 0, err
	}
	status.Root.Close()
	return time.Since(start), nil
}

// changed writes 0.1 % of the files anew, and stages the tree that they make.
func (w *inputs) changed() (time.Duration, error) {
	w.rounds++
	for i := 0; i < w.n; i += 1000 {
		if err := os.WriteFile(w.names[i], content(i, w.rounds), 0o644); err != nil {
			return 0, err
		}
	}
	snap, err := staging.Scan(context.Background(), w.config())
	if err == nil {
		err = snap.Save(context.Background(), w.store, nil)
	}
	if err != nil {
		return 0, err
	}
	w.tree = snap.Root
	return w.stage()
}

// hashRow reads and hashes 1 GiB of inputs.
func (b *bench) hashRow() row {
	dir := filepath.Join(b.dir, "large")
	const files, size = 16, 64 << 20
	made := false
	prepare := func() error {
		if made {
			return nil
		}
		made = true
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		block := make([]byte, size)
		for i := range files {
			block[0] = byte(i)
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), block, 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return row{
		name: "1 GiB of inputs, hashed", target: "≤ 1.25", rounds: 3,
		ours: side{"scan", func() (time.Duration, error) {
			if err := prepare(); err != nil {
				return 0, err
			}
			start := time.Now()
			_, err := staging.Scan(context.Background(), staging.ScanConfig{Workspace: dir, Inputs: []string{"."}, Function: action.BLAKE3})
			return time.Since(start), err
		}},
		peer: side{"BLAKE3 of memory, all cores", func() (time.Duration, error) {
			block := make([]byte, size)
			return many(files, func() (time.Duration, error) {
				action.Sum(action.BLAKE3, block)
				return 0, nil
			})
		}},
	}
}

// collectRow runs a command that makes n files and measures collecting them.
func collectRow(n int, store *cache.Store, backend backends.Backend) row {
	return row{
		name: fmt.Sprintf("collect %d outputs", n), rounds: 5,
		ours: side{"collect", func() (time.Duration, error) {
			s := staging.Stager{Blobs: store, Capabilities: backend.Capabilities()}
			empty, err := store.PutBytes(context.Background(), action.BLAKE3, nil)
			if err != nil {
				return 0, err
			}
			root, err := s.Stage(context.Background(), staging.Input{Tree: empty}, staging.HostRootfs(staging.HostOptions{}))
			if err != nil {
				return 0, err
			}
			script := fmt.Sprintf("mkdir out; i=0; while [ $i -lt %d ]; do echo $i.$$.%d >out/$i; i=$((i+1)); done", n, time.Now().UnixNano())
			status, err := backend.Run(context.Background(), &backends.Spec{
				Root: root, Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/bin"}, Dir: action.WorkRoot, KeepRoot: true,
			})
			if err != nil {
				return 0, err
			}
			defer status.Root.Close()
			start := time.Now()
			_, missing, err := staging.Collect(context.Background(), store, status.Root, staging.Outputs{
				Paths: []string{"out"}, Function: action.BLAKE3,
			})
			if err == nil && len(missing) > 0 {
				err = fmt.Errorf("%v is missing", missing)
			}
			return time.Since(start), err
		}},
	}
}
