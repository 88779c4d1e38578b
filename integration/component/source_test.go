package component

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

func fetcher(t *testing.T) (*Fetcher, *memory) {
	t.Helper()
	m := newMemory(t)
	h := staging.NewFileHasher("", action.SHA256)
	t.Cleanup(func() { h.Close() })
	return &Fetcher{Blobs: m, Notes: m, Function: action.BLAKE3, Dir: t.TempDir(), Files: h, Say: t.Logf}, m
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_DATE=@1500000000 +0000", "GIT_COMMITTER_DATE=@1500000000 +0000",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// repository makes a git repository with these files and returns its commit.
func repository(t *testing.T, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	run(t, dir, "git", "init", "-q", "-b", "main")
	run(t, dir, "git", "add", "-A")
	run(t, dir, "git", "commit", "-q", "-m", "x")
	return run(t, dir, "git", "rev-parse", "HEAD")
}

func fetched(t *testing.T, f *Fetcher, m *memory, s *Source) (*Fetched, []string) {
	t.Helper()
	if err := f.Missing(s); err != nil {
		t.Fatal(err)
	}
	x, err := f.Fetch(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Save(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	return x, listing(t, m, newTree(m, action.BLAKE3, x.Tree))
}

func TestGit(t *testing.T) {
	f, m := fetcher(t)
	sub, repo := t.TempDir(), t.TempDir()
	subCommit := repository(t, sub, map[string]string{"inner": "sub"})
	write(t, filepath.Join(repo, ".gitattributes"), "secret export-ignore\n")
	repository(t, repo, map[string]string{"a": "one", "secret": "kept", "d/x": "y"})
	run(t, repo, "git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub, "vendor/sub")
	run(t, repo, "git", "commit", "-q", "-m", "with a submodule")
	commit := run(t, repo, "git", "rev-parse", "HEAD")
	write(t, filepath.Join(sub, "inner"), "later")
	run(t, sub, "git", "commit", "-qam", "later")

	s := &Source{Kind: GitSource, At: repo, Ref: commit, Submodules: map[string]*Source{"vendor/sub": {Kind: GitSource, At: sub}}}
	x, got := fetched(t, f, m, s)
	want := []string{
		".gitattributes secret export-ignore\n", "a one", "d/x y", "secret kept", "vendor/sub/inner sub",
	}
	got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, ".gitmodules") })
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if !x.Pinned || x.Epoch != 1500000000 || !strings.Contains(x.ID, commit) || !strings.Contains(x.ID, subCommit) {
		t.Errorf("%+v", x)
	}
	said := ""
	f.Say = func(format string, args ...any) { said += fmt.Sprintf(format, args...) }
	x, _ = fetched(t, f, m, &Source{Kind: GitSource, At: repo, Ref: "main"})
	if !strings.Contains(said, "its submodule vendor/sub comes from "+sub) {
		t.Errorf("of a submodule that only .gitmodules names: %q", said)
	}
	if x.Pinned {
		t.Error("a branch is pinned")
	}
	run(t, repo, "git", "config", "--file", ".gitmodules", "--unset", "submodule.vendor/sub.url")
	run(t, repo, "git", "commit", "-q", "-a", "-m", "without its place")
	if fetched(t, f, m, &Source{Kind: GitSource, At: repo, Ref: "main"}); !strings.Contains(said, "vendor/sub is a submodule that nothing says the place of") {
		t.Errorf("of a submodule that nothing says the place of: %q", said)
	}
	for _, ref := range []string{"nothing", "--help", "HEAD^{tree}"} {
		if _, err := f.Fetch(t.Context(), &Source{Kind: GitSource, At: repo, Ref: ref}); err == nil {
			t.Errorf("there is a commit %s", ref)
		}
	}
}

// TestGone fetches sources again whose files the store has lost.
func TestGone(t *testing.T) {
	f, m := fetcher(t)
	dir := t.TempDir()
	write(t, dir+"/src/file", "content")
	run(t, dir, "tar", "-cf", "x.tar", "src")
	write(t, dir+"/git/file", "content")
	commit := repository(t, dir+"/git", nil)
	for _, s := range []*Source{
		{Kind: DirSource, At: dir + "/src"}, {Kind: TarSource, At: dir + "/x.tar", Sum: sum(t, dir+"/x.tar")}, {Kind: GitSource, At: dir + "/git", Ref: commit},
	} {
		fetched(t, f, m, s)
		clear(m.blobs)
		x, err := f.Fetch(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Save(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, m, newTree(m, action.BLAKE3, x.Tree)); !slices.Equal(got, []string{"file content"}) {
			t.Errorf("%v: %q", s, got)
		}
	}
}

func sum(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// TestStrip leaves out none, one and two directories of an archive.
func TestStrip(t *testing.T) {
	f, m := fetcher(t)
	dir := t.TempDir()
	write(t, dir+"/top/a/x", "1")
	write(t, dir+"/top/b/y", "2")
	write(t, dir+"/top/z", "3")
	run(t, dir, "tar", "-cf", "x.tar", "top")
	two := 2
	for strip, want := range map[*int][]string{
		nil:      {"a/x 1", "b/y 2", "z 3"},
		new(int): {"top/a/x 1", "top/b/y 2", "top/z 3"},
		&two:     {"x 1", "y 2"},
	} {
		s := &Source{Kind: TarSource, At: dir + "/x.tar", Sum: sum(t, dir+"/x.tar"), Strip: strip}
		for range 2 { // made, and noted
			if _, got := fetched(t, f, m, s); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
	two = 4
	if _, err := f.Fetch(t.Context(), &Source{Kind: TarSource, At: dir + "/x.tar", Sum: sum(t, dir+"/x.tar"), Strip: &two}); err == nil || !strings.Contains(err.Error(), "strip: nothing is in 4 directories") {
		t.Errorf("more than there are: %v", err)
	}
	write(t, dir+"/top/b/x", "2")
	run(t, dir, "tar", "-cf", "y.tar", "top")
	two = 2
	if _, err := f.Fetch(t.Context(), &Source{Kind: TarSource, At: dir + "/y.tar", Sum: sum(t, dir+"/y.tar"), Strip: &two}); err == nil || !strings.Contains(err.Error(), "strip: x is in ") {
		t.Errorf("two of one name: %v", err)
	}
}

func TestDsc(t *testing.T) {
	f, m := fetcher(t)
	dir := t.TempDir()
	write(t, dir+"/p-1.0/main.c", "main")
	write(t, dir+"/more/extra", "extra")
	write(t, dir+"/debian/debian/rules", "rules")
	var text strings.Builder
	text.WriteString("-----BEGIN PGP SIGNED MESSAGE-----\n\nFormat: 3.0 (quilt)\nChecksums-Sha1:\n 00 1 p_1.0.orig.tar.gz\nChecksums-Sha256:\n")
	for _, a := range [][3]string{
		{"p_1.0.orig-doc.tar.xz", "-cJf", "more"}, {"p_1.0.orig.tar.gz", "-czf", "p-1.0"}, {"p_1.0-1.debian.tar.xz", "-cJf", "debian"},
	} {
		run(t, dir, "tar", a[1], a[0], a[2])
		text.WriteString(fmt.Sprintf(" %s 1 %s\n", sum(t, dir+"/"+a[0]), a[0]))
	}
	write(t, dir+"/p.dsc", text.String()+"Files:\n 00 1 p_1.0.orig.tar.gz\n")
	s := &Source{Kind: DscSource, At: dir + "/p.dsc"}
	x, got := fetched(t, f, m, s)
	if want := []string{"doc/extra extra", "main.c main"}; !slices.Equal(got, want) || !x.Pinned {
		t.Errorf("%q, want %q", got, want)
	}
	write(t, dir+"/p_1.0.orig.tar.gz", "something else")
	if _, err := f.Fetch(t.Context(), s); err == nil || !strings.Contains(err.Error(), "is not what was asked for") {
		t.Errorf("a changed archive: %v", err)
	}
	if err := os.Remove(dir + "/p_1.0.orig-doc.tar.xz"); err != nil {
		t.Fatal(err)
	}
	if err := f.Missing(s); err == nil {
		t.Error("a missing archive is not missing")
	}
	write(t, dir+"/bad.dsc", "Checksums-Sha256:\n "+strings.Repeat("0a", 32)+" 1 ../../p.orig.tar.gz\n")
	if err := f.Missing(&Source{Kind: DscSource, At: dir + "/bad.dsc"}); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("a name with a slash: %v", err)
	}
}

func TestFetchURL(t *testing.T) {
	f, m := fetcher(t)
	dir := t.TempDir()
	write(t, dir+"/src/file", "content")
	run(t, dir, "tar", "-czf", "x.tar.gz", "src")
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
	}))
	defer server.Close()
	s := &Source{Kind: TarSource, At: server.URL + "/x.tar.gz", Sum: sum(t, dir+"/x.tar.gz")}
	f.Offline = true
	if err := f.Missing(s); err == nil {
		t.Error("it is there, without having been fetched")
	}
	f.Offline = false
	if _, got := fetched(t, f, m, s); !slices.Equal(got, []string{"file content"}) {
		t.Errorf("%q", got)
	}
	f.Offline = true
	fetched(t, f, m, s)
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
	f.Offline = false
	wrong := &Source{Kind: TarSource, At: s.At, Sum: strings.Repeat("0", 64)}
	if _, err := f.Fetch(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "its SHA-256 is "+s.Sum) {
		t.Errorf("the wrong digest: %v", err)
	}
	left, err := os.ReadDir(filepath.Join(f.Dir, "files"))
	if err != nil || len(left) != 1 {
		t.Errorf("what is left: %v, %v", left, err)
	}
}

func TestRemoteGit(t *testing.T) {
	f, m := fetcher(t)
	repo := t.TempDir()
	commit := repository(t, repo, map[string]string{"a": "one"})
	run(t, repo, "git", "update-server-info")
	server := httptest.NewServer(http.FileServer(http.Dir(repo)))
	defer server.Close()
	s := &Source{Kind: GitSource, At: server.URL + "/.git", Ref: commit}
	if _, got := fetched(t, f, m, s); !slices.Equal(got, []string{"a one"}) {
		t.Errorf("%q", got)
	}
	server.Close() // a commit that is here is not asked for again
	if _, got := fetched(t, f, m, s); !slices.Equal(got, []string{"a one"}) {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Fetch(ctx, &Source{Kind: GitSource, At: "http://127.0.0.1:1/x", Ref: commit}); err == nil {
		t.Error("fetched from nowhere")
	}
}

// TestSources wants all that are missing, and all that are bad, at once; and tells
// one from the other.
func TestSources(t *testing.T) {
	f, _ := fetcher(t)
	dir := t.TempDir()
	write(t, dir+"/x.tar", "no archive")
	write(t, dir+"/src/file", "content")
	write(t, dir+"/bad.patch", "no patch")
	write(t, dir+"/good.patch", "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-content\n+other\n")
	from := func(name string, s *Source) *Component { return &Component{Name: name, Where: name, Source: s} }
	good := from("good", &Source{Kind: DirSource, At: dir + "/src", Patches: []string{dir + "/good.patch"}})
	bad := []*Component{
		from("digest", &Source{Kind: TarSource, At: dir + "/x.tar", Sum: strings.Repeat("0", 64)}),
		from("archive", &Source{Kind: TarSource, At: dir + "/x.tar", Sum: sum(t, dir+"/x.tar")}),
		from("patch", &Source{Kind: DirSource, At: dir + "/src", Patches: []string{dir + "/bad.patch"}}),
	}
	test := &Component{Name: "digest/test", Source: bad[0].Source, Test: true, Needs: bad[:1]}
	r := &Run{Builder: &Builder{Fetcher: f}}
	sources, faults, err := r.Sources(t.Context(), append([]*Component{good, test}, bad...))
	if err != nil || len(faults) != 4 || sources[good] == nil {
		t.Fatalf("%v, %v, %v", sources, faults, err)
	}
	for _, c := range bad {
		if err := faults[c]; err == nil || !strings.HasPrefix(err.Error(), c.Name+": the source of "+c.Name) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	missing := []*Component{
		from("gone", &Source{Kind: DirSource, At: dir + "/none"}),
		from("lost", &Source{Kind: DirSource, At: dir + "/src", Patches: []string{dir + "/none.patch"}}),
	}
	_, _, err = r.Sources(t.Context(), slices.Concat(missing, []*Component{good, test}, bad))
	if err == nil {
		t.Fatal("nothing is missing")
	}
	var said []string
	for line := range strings.Lines(err.Error()) {
		name, _, _ := strings.Cut(line, ":")
		said = append(said, name)
	}
	if want := []string{"gone", "lost", "digest", "archive", "patch"}; !slices.Equal(said, want) {
		t.Errorf("said of %q, want %q:\n%v", said, want, err)
	}
}
