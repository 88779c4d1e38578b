package component

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withSubmodule adds a submodule to a repository, at p, whose .gitmodules says url.
func withSubmodule(t *testing.T, repo, p, url, commit string) string {
	t.Helper()
	run(t, repo, "git", "update-index", "--add", "--cacheinfo", "160000,"+commit+","+p)
	run(t, repo, "git", "config", "--file", ".gitmodules", "submodule.some name."+p+".path", p)
	run(t, repo, "git", "config", "--file", ".gitmodules", "submodule.some name."+p+".url", url)
	run(t, repo, "git", "add", ".gitmodules")
	run(t, repo, "git", "commit", "-q", "-m", "submodule "+p)
	return run(t, repo, "git", "rev-parse", "HEAD")
}

// TestGitModules fetches what only .gitmodules says the place of: relative, nested,
// under another name, and where a function says.
func TestGitModules(t *testing.T) {
	f, m := fetcher(t)
	dir := t.TempDir()
	for _, name := range []string{"deep.git", "near", "far", "top"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	deep := repository(t, dir+"/deep.git", map[string]string{"d": "deep"})
	repository(t, dir+"/near", map[string]string{"n": "near"})
	near := withSubmodule(t, dir+"/near", "below/deep", "../deep", deep) // it is called deep.git here
	far := repository(t, dir+"/far", map[string]string{"f": "far"})
	repository(t, dir+"/top", map[string]string{"t": "top"})
	withSubmodule(t, dir+"/top", "sub/near", "../near", near)
	top := withSubmodule(t, dir+"/top", "far", "git://nowhere.invalid/far", far)

	said := ""
	f.Say = func(format string, args ...any) { said += fmt.Sprintf(format, args...) + "\n" }
	s := &Source{Kind: GitSource, At: dir + "/top", Ref: top, Locate: func(url string) *Source {
		if rest, ok := strings.CutPrefix(url, "git://nowhere.invalid/"); ok {
			return &Source{Kind: GitSource, At: dir + "/" + rest}
		}
		return nil
	}}
	x, got := fetched(t, f, m, s)
	got = slices.DeleteFunc(got, func(l string) bool { return strings.Contains(l, ".gitmodules") || strings.HasPrefix(l, "\t") })
	want := []string{"far/f far", "sub/near/below/deep/d deep", "sub/near/n near", "t top"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for _, c := range []string{top, near, far, deep} {
		if !x.Pinned || !strings.Contains(x.ID, c) {
			t.Errorf("%s is not in %q", c, x.ID)
		}
	}
	if strings.Count(said, "as its .gitmodules says") != 3 {
		t.Errorf("said %q", said)
	}
	all, err := s.GitSubmodules(t.Context())
	if err != nil || len(all) != 2 || all["far"].At != dir+"/far" || all["sub/near"].Ref != near {
		t.Errorf("%v, %v", all, err)
	}

	s.Locate = nil
	s.Submodules = map[string]*Source{"far": nil, "sub/near": {Kind: GitSource, At: dir + "/far"}}
	if _, err := f.Fetch(t.Context(), s); err == nil || !strings.Contains(err.Error(), "no commit") {
		t.Errorf("a repository without the commit: %v", err)
	}
	s.Submodules["sub/near"] = nil
	if _, got := fetched(t, f, m, s); !slices.Contains(got, "t top") || slices.Contains(got, "far/f far") {
		t.Errorf("with submodules that are to be left empty: %q", got)
	}
	lost := withSubmodule(t, dir+"/top", "lost", "../lost", far)
	s.Submodules, s.Ref = map[string]*Source{"far": nil}, lost
	if _, err := f.Fetch(t.Context(), s); err == nil || !strings.Contains(err.Error(), "submodule lost is at ../lost") {
		t.Errorf("one that is not here: %v", err)
	}
}

func TestResolveURL(t *testing.T) {
	for _, c := range []struct{ base, url, want string }{
		{"/srv/git/top", "../sub.git", "/srv/git/sub.git"},
		{"https://host/a/top.git", "../../b/sub", "https://host/b/sub"},
		{"https://host/a", "../../../../etc", "https://host/etc"},
		{"https://host/a", "git@other:x/y.git", "ssh://git@other/x/y.git"},
		{"https://host/a", "https://other/x", "https://other/x"},
		{"https://host/a", "/etc/passwd", ""},
		{"https://host/a", "file:///etc", ""},
		{"https://host/a", "ext::sh -c x", ""},
		{"/srv/git/top", "/srv/git/sub", "/srv/git/sub"},
	} {
		got, err := resolveURL(c.base, c.url)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s in %s: %q, %v; want %q", c.url, c.base, got, err, c.want)
		}
	}
}

// TestGitSettings reads a repository whose settings name programs.
func TestGitSettings(t *testing.T) {
	f, m := fetcher(t)
	repo := t.TempDir()
	mark := filepath.Join(t.TempDir(), "ran")
	program := "touch " + mark + " && cat"
	write(t, filepath.Join(repo, ".gitattributes"), "* filter=evil\n")
	commit := repository(t, repo, map[string]string{"a": "one"})
	for _, key := range []string{"filter.evil.smudge", "core.fsmonitor", "gpg.program", "core.pager"} {
		run(t, repo, "git", "config", key, program)
	}
	run(t, repo, "git", "config", "log.showSignature", "true")
	if _, got := fetched(t, f, m, &Source{Kind: GitSource, At: repo, Ref: commit}); !slices.Contains(got, "a one") {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program of the repository's settings ran")
	}
	out := run(t, repo, "git", "-c", "core.fsmonitor=false", "cat-file", "--filters", "HEAD:a")
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("control: git does not run it: %q", out)
	}
}
