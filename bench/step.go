package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/staging"
)

// A stepper is what the process of some steps works with.
type stepper struct {
	ctx     context.Context
	dir     string
	store   *cache.Store // nil: nothing is remembered
	backend backends.Backend
	tree    action.Digest
	snap    *staging.Snapshot
	took    time.Duration
}

// runStep does the steps that inputs.steps asks for, and prints how many
// nanoseconds they took and the tree.
func runStep(text string) error {
	words := strings.Split(text, "\x01")
	s := &stepper{ctx: context.Background(), dir: words[0]}
	var err error
	if words[1] != "" {
		if s.store, err = cache.Open(words[1], cache.Options{}); err != nil {
			return err
		}
		defer s.store.Close()
	}
	if words[2] != "" {
		if s.tree, err = action.ParseDigest(words[2]); err != nil {
			return err
		}
	}
	if s.backend, err = native.Open(native.Options{}); err != nil {
		return err
	}
	defer s.backend.Close()
	steps := map[string]func() error{"scan": s.scan, "save": s.save, "stage": s.stage, "run": s.run}
	for i := 3; i < len(words); i++ {
		start := time.Now()
		if words[i] == "collect" {
			return s.collect(words[i+1])
		}
		if err := steps[words[i]](); err != nil {
			return fmt.Errorf("%s: %w", words[i], err)
		}
		s.took += time.Since(start)
	}
	return s.report(s.took)
}

func (s *stepper) scan() (err error) {
	cfg := staging.ScanConfig{Workspace: s.dir, Inputs: []string{"."}, Function: action.BLAKE3}
	if s.store != nil {
		cfg.StatCache = filepath.Join(s.store.Dir(), "stat")
	}
	if s.snap, err = staging.Scan(s.ctx, cfg); err == nil {
		s.tree = s.snap.Root
	}
	return err
}

func (s *stepper) save() error {
	return s.snap.Save(s.ctx, s.store, s.stager().Saved(s.ctx, s.input()))
}

func (s *stepper) stager() *staging.Stager {
	return &staging.Stager{Blobs: s.store, Layers: s.store, Notes: s.store, Capabilities: s.backend.Capabilities()}
}

func (s *stepper) input() staging.Input {
	return staging.Input{Tree: s.tree, Hint: action.Sum(action.BLAKE3, []byte(s.dir))}
}

func (s *stepper) root() (backends.Root, error) {
	return s.stager().Stage(s.ctx, s.input(), staging.HostRootfs(staging.HostOptions{}))
}

func (s *stepper) stage() error {
	_, err := s.root()
	return err
}

func (s *stepper) run() error {
	root, err := s.root()
	if err != nil {
		return err
	}
	_, err = s.command(root, "/bin/true")
	return err
}

func (s *stepper) command(root backends.Root, args ...string) (*backends.Status, error) {
	status, err := s.backend.Run(s.ctx, &backends.Spec{
		Root: root, Args: args, Env: []string{"PATH=/bin"}, Dir: action.WorkRoot, KeepRoot: true,
	})
	if err == nil && status.Code != 0 {
		err = fmt.Errorf("%v: exit %d: %w", args, status.Code, status.Start)
	}
	return status, err
}

// collect has a command make files, and times collecting them.
func (s *stepper) collect(n string) error {
	var err error
	if s.tree, err = s.store.PutBytes(s.ctx, action.BLAKE3, nil); err != nil {
		return err
	}
	root, err := s.root()
	if err != nil {
		return err
	}
	script := fmt.Sprintf("mkdir out; i=0; while [ $i -lt %s ]; do echo $i.%d >out/$i; i=$((i+1)); done", n, time.Now().UnixNano())
	status, err := s.command(root, "/bin/sh", "-c", script)
	if err != nil {
		return err
	}
	defer status.Root.Close()
	start := time.Now()
	_, missing, err := staging.Collect(s.ctx, s.store, status.Root, staging.Outputs{Paths: []string{"out"}, Function: action.BLAKE3})
	if err == nil && len(missing) > 0 {
		err = errors.New("out is missing")
	}
	if err != nil {
		return err
	}
	return s.report(time.Since(start))
}

// report prints how long the steps took in nanoseconds, the most memory that
// this process had in bytes, and the tree. (The kernel's own account of a child
// counts the memory of its parent, too.)
func (s *stepper) report(took time.Duration) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return fmt.Errorf("/proc/self/status: VmHWM: %w", err)
	}
	_, err = fmt.Println(took.Nanoseconds(), kib<<10, s.tree)
	return err
}
