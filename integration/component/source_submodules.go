package component

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// # Submodules
//
// Which commit of a submodule is wanted, the repository says, where
// [Source.Submodules] does not. Where it comes from, that field says, or else the
// file .gitmodules of the commit: then a warning says so, because nobody has
// decided it. URLs of that file go through [Source.Locate]. Relative ones are
// relative to where the repository is, as for git. Submodules can have submodules.

// gitSubmodules puts into out, the tree of a commit, those of its submodules.
func (f *Fetcher) gitSubmodules(ctx context.Context, s *Source, repo, commit string, out *Fetched) error {
	if len(s.Submodules) == 0 && !newTree(f.Blobs, f.Function, out.Tree).has(ctx, ".gitmodules") {
		return nil
	}
	links, err := gitLinks(ctx, repo, commit)
	if err != nil {
		return err
	}
	urls, err := gitModules(ctx, repo, commit)
	if err != nil {
		return err
	}
	subs := map[string]*Source{}
	var problems []error
	for _, p := range slices.Sorted(maps.Keys(given(s.Submodules))) {
		with := *s.Submodules[p]
		if with.Kind == GitSource && with.Ref == "" {
			if with.Ref = links[p]; with.Ref == "" {
				problems = append(problems, fmt.Errorf("submodule %s: commit %s of %s has no submodule there", p, s.Ref, s.At))
				continue
			}
		}
		if with.Locate == nil {
			with.Locate = s.Locate
		}
		subs[p] = &with
	}
	for _, p := range slices.Sorted(maps.Keys(links)) {
		if _, said := s.Submodules[p]; said {
			continue
		}
		if urls[p] == "" {
			f.Say("warning: %s: %s is a submodule that nothing says the place of: it is an empty directory", s.At, p)
			continue
		}
		sub, err := s.submodule(p, urls[p], links[p])
		if err != nil {
			problems = append(problems, err)
			continue
		}
		f.Say("warning: %s: its submodule %s comes from %s, as its .gitmodules says, and nothing else does", s.At, p, sub.At)
		subs[p] = sub
	}
	return errors.Join(append(problems, f.submodules(ctx, subs, out))...)
}

// GitSubmodules returns the submodules that the commit of a source has, as
// .gitmodules says, where s does not say it. It is for a repository that is here.
func (s *Source) GitSubmodules(ctx context.Context) (map[string]*Source, error) {
	all := maps.Clone(s.Submodules)
	repo := strings.TrimPrefix(s.At, "file://")
	links, err := gitLinks(ctx, repo, s.Ref)
	if err != nil {
		return nil, err
	}
	urls, err := gitModules(ctx, repo, s.Ref)
	if err != nil {
		return nil, err
	}
	for p, commit := range links {
		if _, said := all[p]; said || urls[p] == "" {
			continue
		}
		sub, err := s.submodule(p, urls[p], commit)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = map[string]*Source{}
		}
		all[p] = sub
	}
	return all, nil
}

// submodule is the source of a submodule that .gitmodules names.
func (s *Source) submodule(p, url, commit string) (*Source, error) {
	var sub Source
	if s.Locate != nil {
		if at := s.Locate(url); at != nil {
			sub = *at
		}
	}
	if sub.Kind == "" {
		at, err := resolveURL(s.At, url)
		if err != nil {
			return nil, fmt.Errorf("submodule %s: %w", p, err)
		}
		sub = Source{Kind: GitSource, At: ExistingRepository(at)}
	}
	if sub.Kind == GitSource && !remote(sub.At) {
		if info, err := os.Stat(strings.TrimPrefix(sub.At, "file://")); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("submodule %s is at %s, as .gitmodules says, and that is not here: say where with --source %s=SOURCE or an --alias, and in an sbx.yaml by its submodules", p, url, url)
		}
	}
	if sub.Kind == GitSource && sub.Ref == "" {
		sub.Ref = commit
	}
	sub.Locate = s.Locate
	return &sub, nil
}

// ExistingRepository is a repository as it is called on the disk, with or without
// .git, and at if it is neither.
func ExistingRepository(at string) string {
	if strings.Contains(at, "://") {
		return at
	}
	for _, name := range []string{at, at + ".git", strings.TrimSuffix(at, ".git")} {
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			return name
		}
	}
	return at
}

var scpLike = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:[^/:]`)

// resolveURL is where a URL of .gitmodules is, in the repository at base. A
// repository from elsewhere cannot name a file of this machine.
func resolveURL(base, url string) (string, error) {
	if strings.HasPrefix(url, "./") || strings.HasPrefix(url, "../") {
		scheme, rest, ok := strings.Cut(base, "://")
		if !ok || scheme == "file" {
			return filepath.Join(strings.TrimPrefix(base, "file://"), url), nil
		}
		host, dir, _ := strings.Cut(rest, "/")
		return scheme + "://" + host + path.Join("/"+dir, url), nil
	}
	switch {
	case remote(url):
		return url, nil
	case !strings.Contains(url, "://") && scpLike.MatchString(url):
		host, p, _ := strings.Cut(url, ":")
		return "ssh://" + host + "/" + p, nil
	case remote(base):
		return "", fmt.Errorf(".gitmodules of %s names %q, a place on this machine: say where it is yourself", base, url)
	}
	return url, nil
}

// gitLinks are the commits of submodules in the tree of a commit, by path.
func gitLinks(ctx context.Context, repo, commit string) (map[string]string, error) {
	all, err := runGit(ctx, repo, nil, "ls-tree", "-r", "-z", "--full-tree", "--end-of-options", commit)
	if err != nil {
		return nil, err
	}
	links := map[string]string{}
	for entry := range strings.SplitSeq(all, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		if rest, ok := strings.CutPrefix(about, "160000 commit "); ok {
			links[name] = rest
		}
	}
	return links, nil
}

// gitModules are the URLs that .gitmodules of a commit says, by path.
func gitModules(ctx context.Context, repo, commit string) (map[string]string, error) {
	if is, err := runGit(ctx, repo, nil, "ls-tree", "--full-tree", "--end-of-options", commit, ".gitmodules"); err != nil || !strings.HasPrefix(is, "100") {
		return nil, err // there is none, or it is no file
	}
	all, err := runGit(ctx, repo, nil, "config", "--blob", commit+":.gitmodules", "--null", "--list")
	if err != nil {
		return nil, fmt.Errorf("its .gitmodules: %w", err)
	}
	paths, urls := map[string]string{}, map[string]string{}
	for entry := range strings.SplitSeq(all, "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		rest, ok := strings.CutPrefix(key, "submodule.")
		i := strings.LastIndexByte(rest, '.')
		if !ok || i < 0 {
			continue
		}
		switch name := rest[:i]; rest[i+1:] {
		case "path":
			paths[name] = value
		case "url":
			urls[name] = value
		}
	}
	byPath := map[string]string{}
	for name, p := range paths {
		byPath[p] = urls[name]
	}
	return byPath, nil
}

// submodules puts the trees of subs, by path, into that of out.
func (f *Fetcher) submodules(ctx context.Context, subs map[string]*Source, out *Fetched) error {
	if len(subs) == 0 {
		return nil
	}
	base := *out
	var parts []*Fetched
	var problems []error
	t := newTree(f.Blobs, f.Function, out.Tree)
	for _, name := range slices.Sorted(maps.Keys(subs)) {
		part, err := f.Fetch(ctx, subs[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("submodule %s: %w", name, err))
			continue
		}
		if err := f.Save(ctx, part); err != nil {
			return fmt.Errorf("submodule %s: %w", name, err)
		}
		if err := f.Save(ctx, &base); err != nil {
			return err
		}
		if err := t.put(ctx, name, &node{dir: &dir{digest: part.Tree}}); err != nil {
			return fmt.Errorf("submodule %s: %w", name, err)
		}
		out.ID += "\nsubmodule " + name + " " + part.ID
		out.Pinned = out.Pinned && part.Pinned
		parts = append(parts, part)
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	var seal sealer
	out.Tree = t.seal(&seal)
	out.ready = false
	out.again = func(ctx context.Context) (action.Digest, error) {
		for _, part := range append(parts, &base) {
			if err := f.Save(ctx, part); err != nil {
				return action.Digest{}, err
			}
		}
		return out.Tree, seal.save(ctx, f.Blobs, f.Function)
	}
	return seal.save(ctx, f.Blobs, f.Function)
}
