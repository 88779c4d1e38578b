package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/component"
)

// systems puts the systems together and writes what was asked for. A component
// that is a target of its own is written as a system of it alone.
func (f *buildFlags) systems(ctx context.Context, run *component.Run, parts *buildParts, job *buildJob, built map[*component.Component]*component.Built) error {
	systems := job.systems
	wanted := len(f.outputs) > 0 || f.manifest != "" || f.sbom != ""
	for _, s := range systems {
		if len(f.outputs) > 0 {
			s.Outputs = nil // as the user wants it, this time
		}
	}
	if len(systems) == 0 && wanted {
		if len(job.targets) == 0 {
			return errors.New("there is nothing to write")
		}
		systems = []*component.System{job.alone()}
	}
	if len(systems) > 1 && wanted {
		return fmt.Errorf("%d systems, and one place for what is written: build one at a time", len(systems))
	}
	for _, s := range systems {
		b, err := f.system(ctx, run, s, built)
		if err != nil {
			return err
		}
		if err := f.write(ctx, run, parts, b, built); err != nil {
			return err
		}
	}
	return nil
}

// alone is a system of the targets.
func (j *buildJob) alone() *component.System {
	s := &component.System{Name: j.asked[len(j.asked)-1], Where: j.dir, Raw: true}
	for _, c := range j.roots {
		s.Contents = append(s.Contents, component.Content{Component: c, All: true})
	}
	return s
}

// system puts one together.
func (f *buildFlags) system(ctx context.Context, run *component.Run, s *component.System, built map[*component.Component]*component.Built) (*component.BuiltSystem, error) {
	log, err := run.State.OpenLog(s.Name)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	b, err := run.System(ctx, &component.SystemRequest{System: s, Built: built, Log: log, Rebuild: named(f.rebuild)(&component.Component{Name: s.Name})})
	failed, ok := errors.AsType[*component.FailedError](err)
	if ok {
		run.View.Failed(&component.Component{Name: s.Name}, &component.FailedError{Code: failed.Code, Reason: failed.Reason, Tail: log.Tail(20)}, time.Since(start), run.State.LogPath(s.Name))
	}
	if e := log.Close(); e != nil {
		run.Say("%s: %v", s.Name, e)
	}
	if ok {
		return nil, commandline.ExitCode(failed.Code)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s.Where, s.Name, err)
	}
	how := ""
	if b.Cached && len(s.Integration) > 0 {
		how = ", as before"
	}
	run.Say("system   %s: %v%s", s.Name, b.Tree, how)
	return b, nil
}

// write writes outputs, the manifest and the SBOM.
func (f *buildFlags) write(ctx context.Context, run *component.Run, parts *buildParts, b *component.BuiltSystem, built map[*component.Component]*component.Built) error {
	w := &component.Writer{Blobs: parts.store, Function: f.digest.Function, Say: run.Say}
	im := &component.Image{Name: b.Name, Tree: b.Tree, Owners: b.Owners, Arch: runtime.GOARCH}
	if run.Machine != nil {
		im.Arch = run.Machine.Name
	}
	outputs := slices.Clone(b.Outputs)
	for _, o := range f.outputs {
		out, err := component.ParseOutput(o)
		if err != nil {
			return err
		}
		outputs = append(outputs, out)
	}
	for _, out := range outputs {
		if err := w.Write(ctx, im, out); err != nil {
			return err
		}
	}
	if f.manifest != "" {
		if err := commandline.WriteWhole(f.manifest, func(to io.Writer) error { return run.Manifest(ctx, b, to) }); err != nil {
			return fmt.Errorf("--manifest: %w", err)
		}
	}
	if f.sbom != "" {
		if err := commandline.WriteWhole(f.sbom, func(to io.Writer) error { return run.SBOM(b, built, to) }); err != nil {
			return fmt.Errorf("--sbom: %w", err)
		}
	}
	return nil
}

// checkShells warns of root file systems in the place of a toolchain whose
// /bin/sh makes the strip commands of definitions do nothing.
func (f *buildFlags) checkShells(ctx context.Context, parts *buildParts, job *buildJob, view *component.Shown) {
	for _, c := range job.project.Components {
		if c.Tree == "" || !job.project.Strips() {
			continue
		}
		base, err := parts.base(ctx, c.Tree)
		if err != nil {
			continue // the build says so
		}
		target, err := component.LinkTarget(ctx, parts.store, base.Tree, "bin/sh")
		if err == nil && filepath.Base(target) == "dash" {
			view.Say("warning: /bin/sh of %s is dash, and the strip commands of these definitions need a shell whose read has -n: they will strip nothing, and not fail; use a root file system in which sh is bash or busybox", c.Tree)
		}
	}
}
