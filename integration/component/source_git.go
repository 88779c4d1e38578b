package component

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	when, err := runGit(ctx, repo, nil, "-c", "log.showSignature=false", "show", "-s", "--format=%ct", commit)
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
	if out.Tree, err = f.noted(ctx, key, out); err != nil {
		return nil, err
	}
	return out, f.gitSubmodules(ctx, s, repo, commit, out)
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
	// With the objects of the repository, and not its settings: these can name
	// programs that git runs when it writes files.
	objects, err := runGit(ctx, repo, nil, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return action.Digest{}, err
	}
	format := "--object-format=sha1"
	if len(commit) == 64 {
		format = "--object-format=sha256"
	}
	own := filepath.Join(tmp, "git")
	if _, err := runGit(ctx, "", nil, "init", "--quiet", "--bare", "--template=", format, own); err != nil {
		return action.Digest{}, err
	}
	env := []string{"GIT_DIR=" + own, "GIT_OBJECT_DIRECTORY=" + objects, "GIT_INDEX_FILE=" + filepath.Join(tmp, "index"), "GIT_WORK_TREE=" + work}
	if _, err := runGit(ctx, "", env, "read-tree", commit); err != nil {
		return action.Digest{}, err
	}
	if _, err := runGit(ctx, "", env, "checkout-index", "--all", "--force"); err != nil {
		return action.Digest{}, err
	}
	imported, err := staging.ImportDir(ctx, f.Blobs, work, staging.ImportOptions{Function: f.Function, MaxBytes: mostOfSource, MaxFiles: mostFiles})
	if err != nil {
		return action.Digest{}, err
	}
	return imported.Tree, nil
}

// runGit runs git, without what the user and the machine have configured, and
// returns what it prints.
func runGit(ctx context.Context, repo string, env []string, args ...string) (string, error) {
	all := []string{"-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never"}
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
		return "", fmt.Errorf("git %s: %w: %s", gitWord(args), err, said)
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// gitWord is the command among the arguments of git.
func gitWord(args []string) string {
	for len(args) > 2 && args[0] == "-c" {
		args = args[2:]
	}
	return args[0]
}
