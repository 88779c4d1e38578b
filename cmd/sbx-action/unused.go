package main

import (
	"flag"
	"path"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/compare"
	"github.com/sbx-action/sbx-action/staging"
)

// insight is the flags of run that have to do with what of its inputs a command
// reads.
type insight struct {
	prune, unused, suggest bool

	quiet bool // do not say what is odd about the inputs: they are ours
}

func (f *insight) declare(flags *flag.FlagSet) {
	flags.BoolVar(&f.prune, "prune", false, "also take a result of other inputs, if nothing differs that the command\nlooked at: a change in a file that is declared and not read is a hit")
	flags.BoolVar(&f.unused, "unused", false, "run it, and name the declared inputs that it never looked at")
	flags.BoolVar(&f.suggest, "suggest-inputs", false, "run it with the whole workspace as input, or what -i says; then print the\nleast -i that it needs, a line each")
}

// pruner returns what --prune asks for, or nil.
func (f *runFlags) pruner(job *job) action.Pruner {
	if !f.prune {
		return nil
	}
	p := &staging.Pruner{Notes: job.parts.store, Snapshot: job.snapshot, Action: job.action}
	if job.parts.rootfs.Tree().IsZero() {
		p.Witness = job.parts.witness
	}
	return p
}

// neverRead returns the declared inputs that the command never looked at, and
// says which they are. A directory stands for all that is in it.
func (f *runFlags) neverRead(job *job, out *action.Outcome) []string {
	if !f.unused || out.Status == nil {
		return nil
	}
	if !out.Status.Complete {
		f.say("--unused: what the command looked at could not be observed")
		return nil
	}
	list := unusedInputs(job.snapshot, job.snapshot.Uses(out.Status.Lookups))
	if !f.json {
		for _, u := range list {
			f.say("never read: %s", compare.Legible(u))
		}
	}
	return list
}

// unusedInputs are the files, links and given trees that were not used. If
// nothing in a directory was, it is the directory, with a slash at its end.
func unusedInputs(snap *staging.Snapshot, uses map[string]staging.Use) []string {
	used := map[string]bool{".": true} // directories with something in them that was
	for name := range uses {
		e, _ := snap.Find(name)
		if e.Kind == staging.KindDirectory && uses[name]&staging.Read == 0 {
			continue // to pass through it, or to look whether it is there, is no use of it
		}
		for dir := name; dir != "."; dir = path.Dir(dir) {
			used[dir] = true
		}
	}
	var list []string
	_ = snap.Walk(func(name string, e staging.Entry) error {
		if used[name] || !used[path.Dir(name)] {
			return nil
		}
		// A directory that was listed was used, and files in it were not.
		if e.Kind == staging.KindDirectory {
			name += "/"
		}
		list = append(list, name)
		return nil
	})
	return list
}
