package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/integration/actionfile"
)

// suggestIntoFile finds the inputs of one action of a file, and writes them
// into the file.
func (f *runFlags) suggestIntoFile(ctx context.Context, targets []string) error {
	if len(targets) != 1 {
		return fmt.Errorf("--suggest-inputs: name the one action of %s whose inputs are to be found", f.file)
	}
	graph, selected, err := loadGraph(f.file, f.workspace, targets)
	if err != nil {
		return err
	}
	var a *actionfile.Action
	for _, i := range selected {
		if graph.Actions[i].Name == targets[0] {
			a = graph.Actions[i]
		}
	}
	if a == nil {
		return fmt.Errorf("--suggest-inputs: %q is not the name of one action of %s", targets[0], f.file)
	}
	f.workspace = graph.Workspace
	r := &fileRun{flags: f, graph: graph}
	if err := r.checkSettings(selected); err != nil {
		return err
	}
	g := r.flagsOf(a)
	g.inputs = nil // everything is in sight
	if err := g.check(a.Args); err != nil {
		return err
	}
	interruptible(ctx)
	s := &suggester{f: g, args: a.Args}
	defer s.close()
	if err := s.observe(ctx); err != nil {
		return err
	}
	names, how, err := s.narrow(ctx)
	if err != nil {
		return err
	}
	if err := s.print(names, how); err != nil {
		return err
	}
	return setInputs(f.file, a.Group, fold(s.seen.snapshot, names))
}

// setInputs changes an action file, or the file that it is a link to, as a
// whole.
func setInputs(file, action string, inputs []string) error {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(real)
	if err != nil {
		return err
	}
	text, err := actionfile.SetInputs(file, string(data), action, inputs)
	if err != nil || text == string(data) {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if err := replaceFile(real, text, info.Mode().Perm()); err != nil {
		return err
	}
	say("%s: the inputs of %s are written there", file, action)
	return nil
}

// replaceFile puts text in the place of a file, at once.
func replaceFile(name, text string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // a draft
	}
	return err
}
