package main

import (
	"context"
	"flag"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/internal/front"
	"github.com/sbx-action/sbx-action/staging"
)

// memoFlags are the flags with which a call of run may have a memo: those that say
// nothing that a hit does besides writing its outputs.
var memoFlags = []string{"i", "o", "env", "cwd", "timeout", "memory", "scratch", "pids", "digest", "backend", "cache", limitName, "rootfs"}

// leaveMemo writes down what the call gave, as [ccJob.leaveMemo] does.
func (f *runFlags) leaveMemo(ctx context.Context, j *job, out *action.Outcome) {
	if !front.Wanted() {
		return
	}
	if m, err := f.memo(j, out); err == nil {
		_ = putMemo(ctx, j.parts.store, m) // without it the next hit takes a millisecond more
	}
}

// plainForMemo says whether the flags and settings ask for nothing that the front
// does not do. Settings are not among the flags that were given, so each is looked at.
func (f *runFlags) plainForMemo() bool {
	plain := !f.json && f.verify == 0 && !f.insight.prune && !f.insight.unused && !f.insight.suggest && !f.noCache && !f.readOnly && !f.refresh &&
		!f.keepFailed && !f.network && f.stdin == "" && f.log == "" && !f.verbose && f.workspace == "" && f.rootfs == "host" && f.file == "" && !f.spared
	f.set.Visit(func(fl *flag.Flag) { plain = plain && slices.Contains(memoFlags, fl.Name) })
	for _, e := range f.env {
		if name, _, given := strings.Cut(e, "="); !given && front.Ignored(name+"=") {
			return false
		}
	}
	return plain
}

func (f *runFlags) memo(j *job, out *action.Outcome) (*front.Memo, error) {
	dir, err := cc.WorkingDirectory()
	facts, held := j.parts.witness.Held()
	if err != nil || !held || out.Unkept != nil || out.Pruned || out.Away != nil || out.Result.ExitCode != 0 || len(out.Missing) > 0 || len(j.snapshot.Warnings) > 0 ||
		j.parts.remote != nil || j.workspace != dir || !f.plainForMemo() {
		return nil, errNoMemo
	}
	m := front.NewMemo(calledAs, os.Environ(), dir)
	if err := noSettings(m, dir); err != nil {
		return nil, err
	}
	if err := f.inputFacts(m, j); err != nil {
		return nil, err
	}
	if f.cwd != "" {
		if err := passed(m, dir, path.Join(f.cwd, "x")); err != nil {
			return nil, err
		}
	}
	for _, fact := range facts {
		if fact.Path != fact.Seen { // a link of the host's is in between
			return nil, errNoMemo
		}
	}
	addFacts(m, j.parts.hasher, facts, !out.Cached)
	res := *out.Result
	res.Files = slices.Clone(res.Files)
	for i := range res.Files {
		p := path.Join(f.cwd, res.Files[i].Path)
		if !filepath.IsLocal(p) || p == "." {
			return nil, errNoMemo
		}
		res.Files[i].Path = p
	}
	m.Root, m.Stdout, m.Stderr = dir, res.StdoutRaw, res.StderrRaw
	if err := addResult(m, j.parts.store, &res, out.Key, j.action.Digest(f.digest.Function)); err != nil {
		return nil, err
	}
	r := history.Of(f.request(j, nil, nil), &action.Outcome{Key: out.Key, Result: out.Result, Cached: true}, nil)
	r.Workspace, r.Tool = j.workspace, "run"
	record, err := r.Record()
	if err != nil {
		return nil, err
	}
	name, most := cache.HistoryFile()
	m.Append(front.Append{File: name, Most: most, Dated: true, Data: record})
	return m, nil
}

// noSettings notes that there are no files of settings.
func noSettings(m *front.Memo, dir string) error {
	names := []string{}
	if user := commandline.UserSettings(); user != "" {
		names = append(names, user)
	}
	for up := dir; ; up = filepath.Dir(up) {
		names = append(names, filepath.Join(up, ".sbx-action"))
		if up == filepath.Dir(up) {
			break
		}
	}
	for _, name := range names {
		if _, err := os.Lstat(name); !isAbsent(err) {
			return errNoMemo
		}
		m.Nothing(name)
	}
	return nil
}

// inputFacts notes the inputs, if they are a few files by their names: what a pattern
// matches, or a directory holds, is for the scan.
func (f *runFlags) inputFacts(m *front.Memo, j *job) error {
	if len(f.inputs) > 64 {
		return errNoMemo
	}
	ways := map[string]bool{}
	for _, in := range f.inputs {
		if !filepath.IsLocal(in) || filepath.Clean(in) != in || in == "." || strings.ContainsAny(in[:1], "!@") || strings.ContainsAny(in, `*?[]{}\=:`) {
			return errNoMemo
		}
		name := filepath.Join(j.workspace, in)
		d, err := j.parts.hasher.Digest(name)
		entry, found := j.snapshot.Find(in)
		if err != nil || !found || entry.Kind != staging.KindFile || entry.Digest != d.Digest || !d.Stable || (d.ID.Mode&0o111 != 0) != entry.Executable {
			return errNoMemo
		}
		m.Unchanged(name, front.ID(d.ID))
		if way := path.Dir(in); !ways[way] {
			ways[way] = true
			if err := passed(m, j.workspace, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// passed notes the directories between dir and the path name below it: there are no
// links among them.
func passed(m *front.Memo, dir, name string) error {
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		p := filepath.Join(dir, up)
		info, err := os.Lstat(p)
		if err != nil || !info.IsDir() {
			return errNoMemo
		}
		id, err := staging.StatPath(p, staging.KeepLinks)
		if err != nil {
			return err
		}
		m.Directory(p, id.Mode&0o7777)
	}
	return nil
}
