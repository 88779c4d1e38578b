package component

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A Source says where the source of a component is.
type Source struct {
	Kind SourceKind
	At   string // a directory, a file, a URL, or a repository
	Ref  string // of git
	Sum  string // SHA-256 of a tar, in hex

	// Strip is how many directories are left out of the paths of an archive; what is
	// not in so many, is left out. nil: one, if all of it is in it.
	Strip *int

	// Submodules are by path in the tree. One of git may lack a Ref; one that is
	// nil stays an empty directory. See source_submodules.go for others.
	Submodules map[string]*Source

	// Locate says where a repository is that .gitmodules names; nil if it is
	// nowhere. No function: where .gitmodules says.
	Locate func(url string) *Source

	Patches []string // files, which a step of the component applies
}

// A SourceKind is how a source is read.
type SourceKind string

// The kinds of sources.
const (
	DirSource SourceKind = "dir" // a directory, without its .git
	TarSource SourceKind = "tar" // an archive; a directory that all of it is in is left out
	GitSource SourceKind = "git" // a commit of a repository
	DscSource SourceKind = "dsc" // the upstream source of a Debian source package
)

// ParseSource parses dir:PATH, tar:FILE-OR-URL#SHA256, git:REPO@REF or dsc:FILE.
func ParseSource(s string) (*Source, error) {
	kind, at, ok := strings.Cut(s, ":")
	src := &Source{Kind: SourceKind(kind), At: at}
	switch {
	case !ok || at == "":
	case src.Kind == DirSource, src.Kind == DscSource:
		return src, nil
	case src.Kind == TarSource:
		i := strings.LastIndexByte(at, '#')
		if i < 0 {
			return nil, fmt.Errorf("%q has no digest: want tar:FILE#SHA256; 'sha256sum %s' prints it", s, at)
		}
		src.At, src.Sum = at[:i], strings.TrimPrefix(at[i+1:], "sha256:")
		if err := checkSum(src.Sum); err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		return src, nil
	case src.Kind == GitSource:
		i := strings.LastIndexByte(at, '@')
		if i <= 0 || i == len(at)-1 {
			return nil, fmt.Errorf("%q has no commit: want git:REPO@REF", s)
		}
		src.At, src.Ref = at[:i], at[i+1:]
		return src, nil
	}
	return nil, fmt.Errorf("%q is no source: want dir:DIR, tar:FILE#SHA256, git:REPO@REF or dsc:FILE", s)
}

func checkSum(s string) error {
	if raw, err := hex.DecodeString(s); err != nil || len(raw) != 32 || strings.ToLower(s) != s {
		return fmt.Errorf("%q is no SHA-256: want 64 digits, a to f in small letters", s)
	}
	return nil
}

// String is the source as ParseSource reads it.
func (s *Source) String() string {
	switch s.Kind {
	case TarSource:
		return "tar:" + s.At + "#" + s.Sum
	case GitSource:
		return "git:" + s.At + "@" + s.Ref
	}
	return string(s.Kind) + ":" + s.At
}

// remote says whether at has to be fetched from somewhere.
func remote(at string) bool {
	scheme, _, ok := strings.Cut(at, "://")
	return ok && scheme != "file"
}

// A Fetched source is a tree.
type Fetched struct {
	Tree   action.Digest
	Epoch  int64  // for SOURCE_DATE_EPOCH
	ID     string // what it is, independent of where it is: a digest or a commit
	Pinned bool   // what it is cannot change without ID being asked for

	again func(ctx context.Context) (action.Digest, error) // stores the tree again
	ready bool                                             // it is in the store
}

// A Fetcher turns sources into trees. Its fields are set before it is used, and
// any number of goroutines may then use it.
type Fetcher struct {
	Blobs    action.Blobs
	Notes    action.Notes
	Function action.Function

	Dir       string               // of the files and repositories that were fetched
	StatCache string               // see staging.ScanConfig
	Files     *staging.FileHasher  // with SHA-256
	Offline   bool                 // fetch nothing
	Say       func(string, ...any) // what takes long
}

// Missing says what is not there, or cannot be meant, without reading it: nil if
// everything is, or can be fetched.
func (f *Fetcher) Missing(s *Source) error {
	var err error
	switch {
	case remote(s.At) && f.Offline && !f.have(s):
		err = fmt.Errorf("%s was not fetched yet, and --offline forbids it", s.At)
	case remote(s.At):
	default:
		err = f.local(s)
	}
	for _, p := range s.Patches {
		_, e := os.Stat(p)
		err = errors.Join(err, e)
	}
	for _, name := range slices.Sorted(maps.Keys(given(s.Submodules))) {
		if e := f.Missing(s.Submodules[name]); e != nil {
			err = errors.Join(err, fmt.Errorf("submodule %s: %w", name, e))
		}
	}
	return err
}

// here says whether a source can be read without fetching anything.
func (f *Fetcher) here(s *Source) bool { return !remote(s.At) || f.Offline }

func (f *Fetcher) local(s *Source) error {
	info, err := os.Stat(strings.TrimPrefix(s.At, "file://"))
	switch {
	case err != nil:
		return err
	case (s.Kind == DirSource || s.Kind == GitSource) && !info.IsDir():
		return fmt.Errorf("%s is not a directory", s.At)
	case (s.Kind == TarSource || s.Kind == DscSource) && !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", s.At)
	case s.Kind == DscSource:
		d, err := readDsc(s.At)
		if err != nil {
			return err
		}
		for _, file := range d.tars {
			info, err := os.Stat(file.path)
			if err != nil {
				return err
			}
			if !info.Mode().IsRegular() {
				return fmt.Errorf("%s is no regular file", file.path)
			}
		}
	}
	return nil
}

// have says whether a remote source was fetched before.
func (f *Fetcher) have(s *Source) bool {
	where := f.download(s.Sum)
	if s.Kind == GitSource {
		where = f.mirror(s.At)
	}
	_, err := os.Stat(where)
	return err == nil
}

// Fetch returns the tree of a source.
func (f *Fetcher) Fetch(ctx context.Context, s *Source) (*Fetched, error) {
	var out *Fetched
	var err error
	switch s.Kind {
	case DirSource:
		out, err = f.dir(ctx, s)
	case TarSource:
		out, err = f.tar(ctx, s)
	case GitSource:
		out, err = f.git(ctx, s)
	case DscSource:
		out, err = f.dsc(ctx, s)
	default:
		err = fmt.Errorf("unknown kind of source %q", s.Kind)
	}
	if err != nil {
		return nil, err
	}
	if s.Kind != GitSource {
		err = f.submodules(ctx, given(s.Submodules), out)
	}
	return out, err
}

// given leaves out what is nil.
func given(subs map[string]*Source) map[string]*Source {
	subs = maps.Clone(subs)
	maps.DeleteFunc(subs, func(_ string, s *Source) bool { return s == nil })
	return subs
}

// Save makes sure that the tree is in the store, whole.
func (f *Fetcher) Save(ctx context.Context, x *Fetched) error {
	if x.ready || f.whole(ctx, x.Tree) == nil {
		return nil
	}
	d, err := x.again(ctx)
	if err == nil && d != x.Tree {
		err = fmt.Errorf("the source changed while we read it: it was %v and is %v", x.Tree, d)
	}
	return err
}

// whole says what of a tree the store does not have.
func (f *Fetcher) whole(ctx context.Context, d action.Digest) error {
	t := newTree(f.Blobs, f.Function, d)
	return t.visit(ctx, func(p string, n *node) error {
		if n.file != nil && !n.file.Digest.IsEmpty() && !f.Blobs.Has(ctx, n.file.Digest) {
			return fmt.Errorf("%s: %w", p, action.ErrMiss)
		}
		return nil
	})
}

func (f *Fetcher) dir(ctx context.Context, s *Source) (*Fetched, error) {
	abs, err := filepath.Abs(s.At)
	if err != nil {
		return nil, err
	}
	snapshot, err := staging.Scan(ctx, staging.ScanConfig{
		Workspace: abs, Inputs: []string{".", "!./.git/**"}, Function: f.Function, StatCache: f.StatCache,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.At, err)
	}
	return &Fetched{
		Tree: snapshot.Root, Epoch: staging.MTime, ID: "tree " + snapshot.Root.String(),
		again: func(ctx context.Context) (action.Digest, error) {
			return snapshot.Root, snapshot.Save(ctx, f.Blobs, nil)
		},
	}, nil
}

// tar returns the tree of an archive whose digest is as was asked for.
func (f *Fetcher) tar(ctx context.Context, s *Source) (*Fetched, error) {
	name := strings.TrimPrefix(s.At, "file://")
	if remote(s.At) {
		name = f.download(s.Sum)
		if _, err := os.Stat(name); err != nil {
			if err := f.get(ctx, s.At, name, s.Sum); err != nil {
				return nil, fmt.Errorf("fetch %s: %w", s.At, err)
			}
		}
	}
	if err := f.verify(name, s.Sum); err != nil {
		return nil, err
	}
	return f.archives(ctx, []archive{{path: name, sum: s.Sum, strip: s.Strip}})
}

// verify compares the digest of a file with what it should be.
func (f *Fetcher) verify(name, sum string) error {
	stamp, err := f.Files.Digest(name)
	if err != nil {
		return err
	}
	if got := stamp.Digest.Hash(); got != sum {
		return fmt.Errorf("%s is not what was asked for: its SHA-256 is %s, not %s", name, got, sum)
	}
	return nil
}

// An archive is a tar whose digest is known, and where in the source it goes.
type archive struct {
	path, sum, into string
	strip           *int // see Source.Strip
}

// archives returns the tree of archives; the first is the source itself. What
// became of it is noted.
func (f *Fetcher) archives(ctx context.Context, list []archive) (*Fetched, error) {
	var id strings.Builder
	for _, a := range list {
		id.WriteString("sha256:" + a.sum)
		if a.into != "" {
			id.WriteString(" at " + a.into)
		}
		if a.strip != nil {
			fmt.Fprintf(&id, " strip %d", *a.strip)
		}
		id.WriteString("\n")
	}
	out := &Fetched{Epoch: staging.MTime, ID: strings.TrimSuffix(id.String(), "\n"), Pinned: true}
	key := action.Sum(f.Function, []byte("component source 1\n"+id.String()))
	out.again = func(ctx context.Context) (action.Digest, error) {
		d, err := f.unpack(ctx, list)
		if err == nil {
			err = f.Notes.PutNote(ctx, key, []byte(d.String()))
		}
		return d, err
	}
	var err error
	out.Tree, err = f.noted(ctx, key, out)
	return out, err
}

// noted returns the tree that a note names, or makes it.
func (f *Fetcher) noted(ctx context.Context, key action.Digest, out *Fetched) (action.Digest, error) {
	if text, err := f.Notes.Note(ctx, key); err == nil {
		if d, err := action.ParseDigest(string(text)); err == nil {
			return d, nil
		}
	}
	out.ready = true
	return out.again(ctx)
}

// unpack imports archives into one tree.
func (f *Fetcher) unpack(ctx context.Context, list []archive) (action.Digest, error) {
	var all *tree
	for _, a := range list {
		f.Say("unpacking %s", path.Base(a.path))
		d, err := f.unpackOne(ctx, a.path)
		if err != nil {
			return d, fmt.Errorf("%s: %w", a.path, err)
		}
		t := newTree(f.Blobs, f.Function, d)
		if err := t.strip(ctx, a.strip); err != nil {
			return d, fmt.Errorf("%s: %w", a.path, err)
		}
		if all == nil {
			all = t
			continue
		}
		if err := all.put(ctx, a.into, &node{dir: t.root}); err != nil {
			return d, err
		}
	}
	var s sealer
	d := all.seal(&s)
	return d, s.save(ctx, f.Blobs, f.Function)
}

func (f *Fetcher) unpackOne(ctx context.Context, name string) (action.Digest, error) {
	file, err := os.Open(name)
	if err != nil {
		return action.Digest{}, err
	}
	defer file.Close()
	r, err := decompress(file)
	if err != nil {
		return action.Digest{}, err
	}
	imported, err := staging.ImportTar(ctx, f.Blobs, r, staging.ImportOptions{Function: f.Function, MaxBytes: mostOfSource, MaxFiles: mostFiles})
	if err != nil {
		return action.Digest{}, err
	}
	for _, n := range imported.Notes {
		f.Say("%s: %s", path.Base(name), n)
	}
	return imported.Tree, nil
}

// What a source may hold: a bomb holds more.
const (
	mostOfSource = 16 << 30
	mostFiles    = 1_000_000
)

// strip leaves out the first n directories of all paths; without n, the only
// directory of the root, if it has nothing else, as those who unpack releases do.
func (t *tree) strip(ctx context.Context, n *int) error {
	if n == nil {
		if err := t.load(ctx, t.root); err != nil {
			return err
		}
		for _, x := range t.root.names {
			if len(t.root.names) == 1 && x.dir != nil {
				t.root = x.dir
			}
		}
		return nil
	}
	for range *n {
		if err := t.load(ctx, t.root); err != nil {
			return err
		}
		below := newDir()
		for name, x := range t.root.names {
			if x.dir == nil {
				continue
			}
			if err := t.load(ctx, x.dir); err != nil {
				return err
			}
			for name2, y := range x.dir.names {
				if below.names[name2] != nil {
					return fmt.Errorf("strip: %s is in %s and in another directory, too", name2, name)
				}
				below.names[name2] = y
			}
		}
		if len(below.names) == 0 {
			return fmt.Errorf("strip: nothing is in %d directories", *n)
		}
		t.root = below
	}
	return nil
}

func (f *Fetcher) download(sum string) string { return filepath.Join(f.Dir, "files", sum) }

// get fetches a file, if it is what it should be.
func (f *Fetcher) get(ctx context.Context, url, to, sum string) error {
	if f.Offline {
		return errors.New("--offline forbids it")
	}
	f.Say("fetching %s", url)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(to), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := action.NewHasher(action.SHA256)
	n, err := copyBoth(tmp, h, resp.Body, mostOfSource)
	if err != nil {
		return err
	}
	if got := h.Sum().Hash(); got != sum {
		return fmt.Errorf("its SHA-256 is %s (of %d bytes), not %s", got, n, sum)
	}
	return cmp.Or(tmp.Sync(), os.Rename(tmp.Name(), to))
}

// patchesDir returns the patches of a source as a directory: 1-NAME, 2-NAME, …
func (f *Fetcher) patchesDir(ctx context.Context, s *Source) (*dir, error) {
	d := newDir()
	for i, p := range s.Patches {
		data, err := readPatch(p)
		if err != nil {
			return nil, err
		}
		digest, err := f.Blobs.PutBytes(ctx, f.Function, data)
		if err != nil {
			return nil, err
		}
		d.names[patchName(i, p)] = &node{file: &action.FileNode{Digest: digest}}
	}
	return d, nil
}
