package staging

import (
	"fmt"
	"path"
	"strings"
)

// A pathGlob is a pattern for whole paths, in the language of inputs.go.
type pathGlob struct {
	alts [][]globSeg
	base string // the directory that all that matches is below: "" or a path
}

// parsePathGlob parses a relative pattern.
func parsePathGlob(p string) (*pathGlob, error) {
	patterns, err := expandBraces(p)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", p, err)
	}
	g := &pathGlob{}
	var base []string
	for i, text := range patterns {
		var segs []globSeg
		for name := range strings.SplitSeq(text, "/") {
			seg, err := parseSeg(name)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", p, err)
			}
			segs = append(segs, seg)
		}
		g.alts = append(g.alts, segs)
		if dirs := literalDirs(segs); i == 0 {
			base = dirs
		} else {
			base = common(base, dirs)
		}
	}
	g.base = path.Join(base...)
	return g, nil
}

// literalDirs are the names before the first that is a pattern, or the last.
func literalDirs(segs []globSeg) []string {
	var names []string
	for _, s := range segs[:len(segs)-1] {
		if s.kind != globLiteral {
			break
		}
		names = append(names, s.text)
	}
	return names
}

// common is what a and b both begin with.
func common(a, b []string) []string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// match says whether p, a clean relative path, is meant.
func (g *pathGlob) match(p string) bool {
	names := strings.Split(p, "/")
	for _, segs := range g.alts {
		if matchSegs(segs, names) {
			return true
		}
	}
	return false
}

// matchSegs says whether names are what segs mean. It never goes back further than
// to the last "**": whatever an earlier one could take instead, this one can.
func matchSegs(segs []globSeg, names []string) bool {
	deep, taken := -1, 0 // where that is, and up to where its names go
	at := 0
	for i := 0; i < len(names); {
		switch {
		case at < len(segs) && segs[at].kind == globDeep:
			deep, taken = at, i
			at++
		case at < len(segs) && segs[at].match(names[i]):
			at++
			i++
		case deep >= 0:
			taken++
			at, i = deep+1, taken
		default:
			return false
		}
	}
	for at < len(segs) && segs[at].kind == globDeep {
		at++
	}
	return at == len(segs)
}
