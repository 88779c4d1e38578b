package main

import (
	"path"
	"slices"

	"github.com/sbx-action/sbx-action/staging"
)

// fold returns inputs, in the language of -i, that mean the names and, of what
// is there now, nothing else: a directory for all that is in it, and else the
// name. No patterns: a shell would need quotes for them.
func fold(snap *staging.Snapshot, names []string) []string {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	whole := wholeDirs(snap, wanted)
	taken := func(name string) bool {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if whole[dir] {
				return true
			}
		}
		return false
	}
	var list []string
	for dir := range whole {
		if !taken(dir) {
			list = append(list, inputText(dir))
		}
	}
	for _, n := range names {
		if !taken(n) {
			list = append(list, inputText(n))
		}
	}
	slices.Sort(list)
	return list
}

// wholeDirs are the directories of which all files are wanted, and more than
// one.
func wholeDirs(snap *staging.Snapshot, wanted map[string]bool) map[string]bool {
	total, have := map[string]int{}, map[string]int{}
	_ = snap.Walk(func(name string, e staging.Entry) error {
		if e.Kind == staging.KindDirectory {
			total[name] += 0
			return nil
		}
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			total[dir]++
			if wanted[name] {
				have[dir]++
			}
		}
		return nil
	})
	whole := map[string]bool{}
	for dir, n := range total {
		if n > 1 && have[dir] == n {
			whole[dir] = true
		}
	}
	return whole
}
