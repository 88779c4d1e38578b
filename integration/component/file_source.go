package component

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// source reads where a source is. For a submodule of a repository, that says
// which commit, unless a ref does.
func (f *fileReader) source(n *strictyaml.Node, submodule bool) *Source {
	if n == nil || n.Kind == strictyaml.Null {
		return nil
	}
	if n.Kind == strictyaml.Text {
		s, err := ParseSource(n.Text)
		if err != nil {
			f.errs.Addf(n.Pos, "%v", err)
			return nil
		}
		s.At = f.at(s.At)
		return s
	}
	m := f.errs.Map(n, "source")
	s := &Source{}
	for _, kind := range []SourceKind{DirSource, TarSource, GitSource, DscSource} {
		if at := m.String(string(kind)); at != "" {
			if s.Kind != "" {
				f.errs.Addf(n.Pos, "a source has one of dir, tar, git and dsc, not %s and %s", s.Kind, kind)
			}
			s.Kind, s.At = kind, f.at(at)
		}
	}
	s.Sum, s.Ref = m.String("sha256"), m.String("ref")
	switch {
	case s.Kind == "":
		f.errs.Addf(n.Pos, "a source must have one of dir, tar, git and dsc")
	case s.Kind == TarSource && checkSum(s.Sum) != nil:
		f.errs.Addf(n.Pos, "a tar must have its sha256, of 64 digits: 'sha256sum FILE' prints it")
	case s.Kind != TarSource && s.Sum != "":
		f.errs.Addf(m.KeyPos("sha256"), "sha256 is for a tar")
	case s.Kind == GitSource && s.Ref == "" && !submodule:
		f.errs.Addf(n.Pos, "a git source must have a ref: a commit, or a branch, which can move")
	}
	if strip := int(m.Int("strip", 0, 100)); m.KeyPos("strip") != m.Node.Pos {
		s.Strip = &strip
		if s.Kind != TarSource && s.Kind != DscSource && s.Kind != "" {
			f.errs.Addf(m.KeyPos("strip"), "strip is for an archive")
		}
	}
	for _, p := range m.Strings("patches") {
		s.Patches = append(s.Patches, f.at(p))
	}
	for _, field := range f.fields(m.Take("submodules"), "submodules") {
		if p := field.Key; path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "..") {
			f.errs.Addf(field.Pos, "the path of a submodule must be relative, without \"..\": %q is not", p)
		}
		if s.Submodules == nil {
			s.Submodules = map[string]*Source{}
		}
		s.Submodules[field.Key] = f.source(field.Value, s.Kind == GitSource)
	}
	m.Done()
	return s
}

// at is a file or place, relative to the directory of ours.
func (f *fileReader) at(p string) string {
	if filepath.IsAbs(p) || strings.Contains(p, "://") {
		return p
	}
	return filepath.Join(f.dir, p)
}
