package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// git returns the tree of a commit. The repository is used where it is, or
// mirrored, if it is elsewhere.
func (f *Fetcher) git(ctx context.Context, s *Source) (*Fetched, error) {
	repo, err := f.repository(ctx, s)
	if err != nil {
		return nil, err
	}
	commit, err := runGit(ctx, repo, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", s.Ref+"^{commit}")
	if err != nil {
		return nil, fmt.Errorf("%s has no commit %q", s.At, s.Ref)
	}
	id, err := runGit(ctx, repo, nil, "rev-parse", commit+"^{tree}")
	if err != nil {
		return nil, err
	}
	when, err := runGit(ctx, repo, nil, "show", "-s", "--format=%ct", commit)
	if err != nil {
		return nil, err
	}
	epoch, err := strconv.ParseInt(when, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s: the time of commit %s: %w", s.At, commit, err)
	}
	out := &Fetched{Epoch: epoch, ID: "git commit " + commit, Pinned: commitID.MatchString(s.Ref)}
	key := action.Sum(f.Function, []byte("component source 1\ngit tree "+id+"\n"))
	out.again = func(ctx context.Context) (action.Digest, error) {
		d, err := f.checkout(ctx, repo, commit)
		if err == nil {
			err = f.Notes.PutNote(ctx, key, []byte(d.String()))
		}
		return d, err
	}
	if out.Tree, err = f.noted(ctx, key, out); err == nil && newTree(f.Blobs, f.Function, out.Tree).has(ctx, ".gitmodules") {
		f.tellSubmodules(ctx, repo, commit, s)
	}
	return out, err
}

// tellSubmodules says which submodules a commit has that nobody wants.
func (f *Fetcher) tellSubmodules(ctx context.Context, repo, commit string, s *Source) {
	all, err := runGit(ctx, repo, nil, "ls-tree", "-r", "-z", commit)
	if err != nil {
		return
	}
	for entry := range strings.SplitSeq(all, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		if strings.HasPrefix(about, "160000 ") && s.Submodules[name] == nil {
			f.Say("warning: %s: %s is a submodule that nothing says the place of: it is an empty directory", s.At, name)
		}
	}
}

// mirror is where a repository from elsewhere is kept.
func (f *Fetcher) mirror(url string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '_'
	}, url)
	return filepath.Join(f.Dir, "git", name+"-"+action.Sum(action.SHA256, []byte(url)).Hash()[:16])
}

// repository returns a local repository that has the commit, if it can.
func (f *Fetcher) repository(ctx context.Context, s *Source) (string, error) {
	if !remote(s.At) {
		return strings.TrimPrefix(s.At, "file://"), nil
	}
	dir := f.mirror(s.At)
	if _, err := os.Stat(dir); err != nil {
		if f.Offline {
			return "", fmt.Errorf("%s was not fetched yet, and --offline forbids it", s.At)
		}
		f.Say("fetching %s", s.At)
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return "", err
		}
		tmp, err := os.MkdirTemp(filepath.Dir(dir), "new-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(tmp)
		if _, err := runGit(ctx, "", nil, "clone", "--quiet", "--mirror", "--", s.At, tmp+"/repo"); err != nil {
			return "", err
		}
		if err := os.Rename(tmp+"/repo", dir); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	_, err := runGit(ctx, dir, nil, "cat-file", "-e", s.Ref+"^{commit}")
	if (err != nil || !commitID.MatchString(s.Ref)) && !f.Offline { // a branch may have moved
		f.Say("fetching what is new in %s", s.At)
		if _, err := runGit(ctx, dir, nil, "fetch", "--quiet", "--prune"); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// checkout stores the files of a commit.
func (f *Fetcher) checkout(ctx context.Context, repo, commit string) (action.Digest, error) {
	tmp, err := os.MkdirTemp("", "sbx-git-")
	if err != nil {
		return action.Digest{}, err
	}
	defer os.RemoveAll(tmp)
	work := filepath.Join(tmp, "tree")
	if err := os.Mkdir(work, 0o755); err != nil {
		return action.Digest{}, err
	}
	env := []string{"GIT_INDEX_FILE=" + filepath.Join(tmp, "index"), "GIT_WORK_TREE=" + work}
	if _, err := runGit(ctx, repo, env, "read-tree", commit); err != nil {
		return action.Digest{}, err
	}
	if _, err := runGit(ctx, repo, env, "checkout-index", "--all", "--force"); err != nil {
		return action.Digest{}, err
	}
	imported, err := staging.ImportDir(ctx, f.Blobs, work, staging.ImportOptions{Function: f.Function, MaxBytes: mostOfSource, MaxFiles: mostFiles})
	if err != nil {
		return action.Digest{}, err
	}
	return imported.Tree, nil
}

// submodules puts the trees of submodules into that of s. Which commit of each
// is wanted, the repository says.
func (f *Fetcher) submodules(ctx context.Context, s *Source, out *Fetched) error {
	repo := ""
	if s.Kind == GitSource {
		var err error
		if repo, err = f.repository(ctx, s); err != nil {
			return err
		}
	}
	base := *out
	var parts []*Fetched
	t := newTree(f.Blobs, f.Function, out.Tree)
	for _, name := range slices.Sorted(maps.Keys(s.Submodules)) {
		sub := *s.Submodules[name]
		if repo != "" && sub.Ref == "" {
			entry, err := runGit(ctx, repo, nil, "ls-tree", s.Ref, "--", name)
			mode, rest, _ := strings.Cut(entry, " ")
			kind, rest, _ := strings.Cut(rest, " ")
			if err != nil || mode != "160000" || kind != "commit" {
				return fmt.Errorf("submodule %s: commit %s of %s has no submodule there", name, s.Ref, s.At)
			}
			sub.Ref, _, _ = strings.Cut(rest, "\t")
		}
		part, err := f.Fetch(ctx, &sub)
		if err != nil {
			return fmt.Errorf("submodule %s: %w", name, err)
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

// runGit runs git, without what the user and the machine have configured, and
// returns what it prints.
func runGit(ctx context.Context, repo string, env []string, args ...string) (string, error) {
	all := []string{"-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "protocol.ext.allow=never"}
	if repo != "" {
		all = append([]string{"-C", repo}, all...)
	}
	cmd := exec.CommandContext(ctx, "git", append(all, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("git is not installed: it reads sources of kind git")
		}
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, said)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}
