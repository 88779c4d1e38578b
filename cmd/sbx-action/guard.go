package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// guardStore refuses outputs, given relative to the working directory, that
// would be written over the store or into it: the directory that a command
// made replaces the one that is in its place.
func (j *job) guardStore(outputs []string) error {
	if len(outputs) == 0 {
		return nil
	}
	store, err := filepath.EvalSymlinks(j.parts.store.Dir())
	if err != nil || store != j.workspace && !within(store, j.workspace) && !within(j.workspace, store) {
		return nil // not there yet, or nowhere near
	}
	for _, out := range outputs {
		out = j.inWorkspace(out)
		at := filepath.Join(j.workspace, out)
		if dir, err := filepath.EvalSymlinks(filepath.Dir(at)); err == nil { // of the last part, a link is replaced
			at = filepath.Join(dir, filepath.Base(at))
		}
		if at == store || within(at, store) || within(store, at) {
			return fmt.Errorf("the output %q would be written over the cache in %s: choose another place for one of them; --cache or SBX_CACHE sets the cache's", out, j.parts.store.Dir())
		}
	}
	return nil
}

// within says whether the clean path p is below dir.
func within(p, dir string) bool {
	return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// outputPaths are the paths of everything that res has.
func outputPaths(res *action.Result) []string {
	var list []string
	for _, f := range res.Files {
		list = append(list, f.Path)
	}
	for _, d := range res.Directories {
		list = append(list, d.Path)
	}
	for _, s := range res.Symlinks {
		list = append(list, s.Path)
	}
	return list
}
