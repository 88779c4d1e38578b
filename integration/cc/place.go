package cc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

var errPlace = errors.New("tells where the project is")

// movable are the beginnings of options that put the working directory into
// outputs, where it may be compressed, so that it is not found by looking for it.
var immovable = []string{"-g", "-flto", "-fprofile", "--coverage", "-ftest-coverage", "-fplugin", "-specs", "-save-temps", "-fdump", "-gz", "-frecord"}

// Movable says whether the result of the call may be the same when the project in
// root is somewhere else: it can then be run [Anywhere], and the outputs will
// show it.
func (c *Call) Movable(root string, env []action.EnvironmentVariable) bool {
	switch c.Kind {
	case Compile, Preprocess, Assemble, Archive:
	default:
		return false
	}
	if c.Script { // it can ask for the directory, and do with it what it likes
		return false
	}
	if _, ok := under(c.Dir, root); !ok || root == "/" || strings.ContainsAny(root, " \t\n\"\\$#:") {
		return false // of a name that make, C or JSON write otherwise, nobody would find it in outputs
	}
	for _, a := range slices.Concat(c.Args, c.expanded) {
		if strings.Contains(a, root) || a != "-g0" && slices.ContainsFunc(immovable, func(o string) bool { return strings.HasPrefix(a, o) }) {
			return false
		}
	}
	return !slices.ContainsFunc(env, func(v action.EnvironmentVariable) bool { return v.Name != "PWD" && strings.Contains(v.Value, root) })
}

// ByLink says whether PWD names the working directory by way of a link: a compiler then
// does so, too.
func (c *Call) ByLink(env []action.EnvironmentVariable) bool {
	return slices.ContainsFunc(env, func(v action.EnvironmentVariable) bool { return v.Name == "PWD" && v.Value != c.Dir })
}

// Tells says whether a run [Anywhere], which has no PWD, may have named the project's
// directory in what it wrote or said.
func (s *Session) Tells(d *Done) bool {
	return d.Status != nil && (s.placed != "" || errors.Is(d.Unkept, errPlace) || bytes.Contains(s.heard(), []byte(s.view.base)))
}

// dependsOnPlace sets s.placed if anything that the run read or said holds the
// name of the project's directory. Of the outputs the collector has seen it.
func (s *Session) dependsOnPlace(status *backends.Status) {
	base := s.view.base
	if bytes.Contains(s.heard(), []byte(base)) {
		s.placed = "what the compiler says"
	}
	out := leaver{base: base, known: map[string]string{}}
	now := staging.Now()
	for _, l := range status.Lookups {
		if s.placed != "" {
			return
		}
		at := "/"
		_, named := under(l.Path, base)
		odd := strings.Contains(l.Path, "/.") || strings.Contains(l.Path, "//")
		if !named && !odd {
			continue // most of them: cleaning it would not lead there
		}
		if named && l.Path != base {
			dir, name := path.Split(l.Path)
			if at = out.dir(dir); at == "" || at == base && name == ".." {
				s.placed = l.Path
				continue
			}
		}
		p := l.Path
		if odd || strings.HasSuffix(p, "/") {
			p = filepath.Clean(p)
		}
		if _, ok := under(p, base); !ok {
			continue
		}
		id, err := staging.StatPath(p, staging.KeepLinks)
		switch mode := id.Mode & unix.S_IFMT; {
		case err != nil:
		case mode == unix.S_IFLNK:
			target, err := os.Readlink(p)
			if _, in := under(at, base); err != nil || filepath.IsAbs(target) || in && out.walk(at, target, new(int)) == "" {
				s.placed = p
			}
		case mode == unix.S_IFREG && l.Op == backends.Open && !s.parts.Hash.Lacks(id, now, base):
			if found, err := s.fileHolds(p, &id, now, base); found || err != nil {
				s.placed = p
			}
		}
	}
}

// fileHolds says whether text is in the file called name, which was just seen to be id, not
// before the moment at. It is mostly one that has to be read for its digest as well.
func (s *Session) fileHolds(name string, id *staging.StatID, at staging.Moment, text string) (found bool, err error) {
	seen := false
	d, err := s.parts.Hash.DigestAs(name, id, at, func(content []byte) (mark byte) {
		seen, found = true, bytes.Contains(content, []byte(text))
		if s.compiles() {
			mark = clockMark(content)
		}
		return mark
	})
	switch {
	case err != nil || !seen:
		return s.fileHas(name, text)
	case !found:
		s.parts.Hash.NoteLack(d.ID, at, text)
	}
	return found, nil
}

// fileHas reads the file called name to see whether text is in it.
func (s *Session) fileHas(name, text string) (bool, error) {
	fd, err := openRead(name)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	now := staging.Now()
	id, err := staging.StatFD(fd) // it need not be what was at that name a moment ago
	if err != nil {
		return false, err
	}
	found, err := s.holds(descriptor(fd), text)
	if err == nil && !found {
		s.parts.Hash.NoteLack(id, now, text)
	}
	return found, err
}

// A leaver knows which paths lead out of a directory, by "..": what is there depends
// on where the directory is. Links to absolute names do not, because each of them is
// compared with its target.
type leaver struct {
	base  string
	known map[string]string // by a directory as it was named: see dir
	away  []string          // absolute names to which links have led
}

// dir returns where the directory is, whose name begins with the base: "" is outside,
// and "/" where an absolute link has led.
func (l *leaver) dir(dir string) string {
	at, known := l.known[dir]
	if !known {
		at = l.walk(l.base, strings.TrimPrefix(dir, l.base), new(int))
		l.known[dir] = at
	}
	return at
}

// walk goes from at, which has no links in it, to rest, and returns where that is, ""
// if the way leads out of the base, or "/" if an absolute link does.
func (l *leaver) walk(at, rest string, links *int) string {
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			if at == l.base {
				return ""
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, name)
		target, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if *links++; *links > 40 || path.IsAbs(target) {
			l.away = append(l.away, target)
			return "/"
		}
		if at = l.walk(path.Dir(at), target, links); at == "" || at == "/" {
			return at
		}
	}
	return at
}

// located are the names of sections that tell of the directory: compressed, or with
// another prefix, so that it is not found by looking for it. Besides options ([immovable])
// there are configuration files and assemblers that make them.
var located = [][]byte{[]byte(".debug_"), []byte(".zdebug_"), []byte(".gnu.lto_")}

// tells says whether an output may tell where the project is.
func (s *Session) tells(f io.ReaderAt) (bool, error) {
	if s.view.names != nil {
		return s.concealsName(f)
	}
	base := []byte(s.view.base)
	var head [8]byte
	if n, _ := f.ReadAt(head[:], 0); contentOf(head[:n]) == packed {
		return true, nil
	}
	if s.aside() {
		base = []byte(asideRoot[1:]) // perhaps in the name of a symbol
	}
	return s.scan(f, max(len(base), len(".gnu.lto_")), func(b []byte) bool {
		return bytes.Contains(b, base) || slices.ContainsFunc(located, func(name []byte) bool { return bytes.Contains(b, name) })
	})
}

// holds says whether text is in the file f.
func (s *Session) holds(f io.ReaderAt, text string) (bool, error) {
	return s.scan(f, len(text), func(b []byte) bool { return bytes.Contains(b, []byte(text)) })
}

// scan says whether has finds something in a piece of f. It overlaps the next one by
// longest bytes, so that nothing of that length is cut.
func (s *Session) scan(f io.ReaderAt, longest int, has func(text []byte) bool) (bool, error) {
	buf, kept := s.piece(), 0
	for at := int64(0); ; {
		n, err := f.ReadAt(buf[kept:], at)
		at += int64(n)
		if has(buf[:kept+n]) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		end := kept + n
		kept = min(longest, end)
		copy(buf, buf[end-kept:end])
	}
}

// KeepHere keeps the result of a run that turned out to depend on where the
// project is, under the key of here, a session of the same call with [Here].
func (s *Session) KeepHere(ctx context.Context, here *Session, d *Done) {
	if s.placed == "" || d.Status == nil || d.Unkept == nil || !errors.Is(d.Unkept, errPlace) {
		return
	}
	here.written, here.listed, here.binds = s.written, s.listed, s.binds
	status := *d.Status
	sealed, err := here.Seal(ctx, here.action, &status, s.start)
	if err != nil {
		d.Unkept = err
		return
	}
	res := *d.Result
	res.Files = slices.Clone(res.Files)
	for i := range res.Files {
		res.Files[i].Path = s.place(res.Files[i].Path)[1:]
	}
	res.Symlinks = slices.Clone(res.Symlinks)
	for i := range res.Symlinks {
		res.Symlinks[i].Path = s.place(res.Symlinks[i].Path)[1:]
	}
	kept := res.WithOrigin(sealed, here.command)
	d.Key = sealed.Digest(s.parts.Function)
	if d.Unkept = s.parts.Cache.PutResult(ctx, d.Key, kept); d.Unkept == nil {
		d.story, d.origin = here, kept
	}
}

// place is where the output of a result is on the host.
func (s *Session) place(output string) string {
	p := "/" + output
	if host, ok := s.view.host(p); ok {
		return host
	}
	return p
}

// here returns a result with its outputs at their places, and, with a project
// that is at another place in the sandbox, with its name in those that are text.
func (s *Session) here(ctx context.Context, res *action.Result) (*action.Result, error) {
	out := *res
	out.Files, out.Symlinks = slices.Clone(res.Files), slices.Clone(res.Symlinks)
	for i := range out.Symlinks {
		out.Symlinks[i].Path = s.place(res.Symlinks[i].Path)[1:]
	}
	for i := range out.Files {
		f := &out.Files[i]
		f.Path = s.place(f.Path)[1:]
		if !s.view.fixed() || f.Properties == nil || !slices.Contains(f.Properties.Properties, textProperty) {
			continue
		}
		data, err := s.read(ctx, f)
		if err != nil {
			return nil, err
		}
		f.Contents, f.Properties = back(data, s.view.base), nil
		f.Digest = action.Sum(s.parts.Function, f.Contents)
	}
	return &out, nil
}

func (s *Session) read(ctx context.Context, f *action.OutputFile) ([]byte, error) {
	if f.Contents != nil || f.Digest.Size() == 0 {
		return f.Contents, nil
	}
	r, err := s.parts.Blobs.Open(ctx, f.Digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && action.Sum(f.Digest.Function(), data) != f.Digest {
		err = action.Doubted(ctx, s.parts.Blobs, f.Digest)
	}
	return data, err
}

// ProjectRoot returns the directory of the project that dir is in: the nearest
// one that holds a .sbx-cc or a repository; else dir. What it looks for, it asks
// exists.
func ProjectRoot(dir string, exists func(path string) bool) string {
	for d := dir; d != "/"; d = filepath.Dir(d) {
		for _, mark := range []string{".sbx-cc", ".git", ".hg"} {
			if exists(d + "/" + mark) {
				return d
			}
		}
	}
	return dir
}
