package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Pattern is an input or output seen as a set of paths, before any file is
// looked at: a path or a pattern in the language of inputs.go, with "!" before
// it or not. What it matches stands for all that is below it, too.
type Pattern struct {
	Text    string
	Exclude bool   // it began with "!"
	Literal bool   // it is a path
	Base    string // the directory that all that matches is below or is: "" or a path
	alts    [][]globSeg
}

// ParsePattern parses a relative path or pattern. Lists ("@FILE") and trees by
// digest are none.
func ParsePattern(text string) (*Pattern, error) {
	p := &Pattern{Text: text}
	body := text
	if body, p.Exclude = strings.CutPrefix(text, "!"); body == "" {
		return nil, errors.New("it is empty")
	}
	if body[0] == '/' {
		return nil, errors.New("it is absolute: name it relative to the workspace")
	}
	if strings.IndexByte(body, 0) >= 0 {
		return nil, errors.New("it contains a NUL byte")
	}
	texts, err := expandBraces(body)
	if err != nil {
		return nil, err
	}
	for i, alt := range texts {
		clean := path.Clean(alt)
		if clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(clean) {
			return nil, errors.New("it is outside of the workspace")
		}
		var segs []globSeg
		if clean != "." {
			for name := range strings.SplitSeq(clean, "/") {
				seg, err := parseSeg(name)
				if err != nil {
					return nil, err
				}
				segs = append(segs, seg)
			}
		}
		p.alts = append(p.alts, segs)
		fixed := joinSegs(segs[:literalPrefix(segs)])
		if i == 0 {
			p.Base, p.Literal = fixed, len(texts) == 1 && literalPrefix(segs) == len(segs)
		} else {
			p.Base = path.Join(common(strings.Split(p.Base, "/"), strings.Split(fixed, "/"))...)
		}
	}
	return p, nil
}

// Covers says whether it matches the path, or a directory that it is in.
func (p *Pattern) Covers(name string) bool {
	names := split(name)
	for n := range len(names) + 1 {
		if slices.ContainsFunc(p.alts, func(segs []globSeg) bool { return matchSegs(segs, names[:n]) }) {
			return true
		}
	}
	return false
}

// Meets says whether there can be a path that is in both sets. It may say so of
// two patterns, not of a path and a pattern, where there is none.
func (p *Pattern) Meets(q *Pattern) bool {
	for _, a := range p.alts {
		for _, b := range q.alts {
			if meetSegs(a, b) {
				return true
			}
		}
	}
	return false
}

// meetSegs is Meets for two sequences of components: does one of them, to its
// end, match what the other begins with?
func meetSegs(a, b []globSeg) bool {
	seen := make([]bool, (len(a)+1)*(len(b)+1))
	var meet func(i, j int) bool
	meet = func(i, j int) bool {
		if i == len(a) || j == len(b) {
			return true
		}
		at := i*(len(b)+1) + j
		if seen[at] { // and it was false, or we would not ask again
			return false
		}
		seen[at] = true
		if a[i].kind == globDeep || b[j].kind == globDeep {
			// "**" matches nothing, or one component more of the other.
			return meet(i+1, j) || meet(i, j+1)
		}
		return a[i].meets(&b[j]) && meet(i+1, j+1)
	}
	return meet(0, 0)
}

// meets says whether there can be a name that both components match.
func (s *globSeg) meets(t *globSeg) bool {
	switch {
	case s.kind == globLiteral:
		return t.match(s.text)
	case t.kind == globLiteral:
		return s.match(t.text)
	case s.kind == globAny || t.kind == globAny:
		return true
	}
	// Each ends and begins with fixed text, and one must be within the other.
	first1, last1 := s.ends()
	first2, last2 := t.ends()
	return (strings.HasPrefix(first1, first2) || strings.HasPrefix(first2, first1)) &&
		(strings.HasSuffix(last1, last2) || strings.HasSuffix(last2, last1))
}

// ends are the fixed texts that a name must begin and end with.
func (s *globSeg) ends() (first, last string) {
	if s.kind == globSuffix {
		return "", s.text
	}
	if strings.ContainsAny(s.text, `\`) {
		return "", ""
	}
	return s.text[:strings.IndexAny(s.text, "*?[")], s.text[strings.LastIndexAny(s.text, "*?]")+1:]
}

func split(name string) []string {
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

// Expand returns the files, and links that are not directories, that the
// patterns name in a workspace, sorted: as with inputs, the last pattern that
// matches decides, and a directory is all that is in it. A path that is not
// there is an error that wraps fs.ErrNotExist, a pattern that matches nothing is
// none.
func Expand(workspace string, patterns []*Pattern) ([]string, error) {
	found := map[string]bool{}
	for i, p := range patterns {
		if p.Exclude {
			continue
		}
		start := filepath.Join(workspace, p.Base)
		if _, err := os.Lstat(start); err != nil {
			if p.Literal || !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%s: %w", p.Text, errors.Unwrap(err))
			}
			continue
		}
		err := filepath.WalkDir(start, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(workspace, name)
			if err != nil {
				return err
			}
			if d.IsDir() {
				if !p.reaches(rel) {
					return fs.SkipDir
				}
				return nil
			}
			if p.Covers(rel) && !slices.ContainsFunc(patterns[i+1:], func(q *Pattern) bool { return q.Exclude && q.Covers(rel) }) {
				found[filepath.ToSlash(rel)] = true
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Text, err)
		}
	}
	list := make([]string, 0, len(found))
	for name := range found {
		list = append(list, name)
	}
	slices.Sort(list)
	return list, nil
}

// reaches says whether something in the directory can match.
func (p *Pattern) reaches(dir string) bool {
	segs := literalSegs(split(dir))
	return slices.ContainsFunc(p.alts, func(alt []globSeg) bool { return meetSegs(alt, segs) })
}
