package staging

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// maxBraces is how many patterns one pattern with braces may stand for.
const maxBraces = 1024

// A globSeg is one component of a pattern. The common shapes have a kind of
// their own, because a pattern meets every name of a workspace.
type globSeg struct {
	kind globKind
	text string
}

type globKind uint8

const (
	globLiteral globKind = iota // text is the name
	globDeep                    // "**": any number of components
	globAny                     // "*"
	globSuffix                  // "*" and text
	globPattern                 // text is for path.Match
)

// match says whether the component matches name. globDeep is the caller's.
func (s *globSeg) match(name string) bool {
	switch s.kind {
	case globLiteral:
		return s.text == name
	case globAny:
		return true
	case globSuffix:
		return strings.HasSuffix(name, s.text)
	case globPattern:
		ok, _ := path.Match(s.text, name) // checked by parseSeg
		return ok
	}
	return false
}

// hasGlobMeta says whether s would mean something else than itself.
func hasGlobMeta(s string) bool { return strings.ContainsAny(s, `*?[{\`) }

var errBadGlob = errors.New(`malformed pattern: close every "[", and write a backslash as "\\"`)

var errDotGlob = errors.New(`malformed pattern: "." and ".." stand alone, without a backslash`)

// parseSeg parses one component of a pattern whose braces are expanded.
func parseSeg(s string) (globSeg, error) {
	if s == "**" {
		return globSeg{globDeep, ""}, nil
	}
	if !strings.ContainsAny(s, `*?[\`) {
		return globSeg{globLiteral, s}, nil
	}
	if strings.Trim(s, "*") == "" {
		return globSeg{globAny, ""}, nil
	}
	if s[0] == '*' && !strings.ContainsAny(s[1:], `*?[\`) {
		return globSeg{globSuffix, s[1:]}, nil
	}
	if !hasWildcard(s) && !strings.HasSuffix(strings.ReplaceAll(s, `\\`, ""), `\`) {
		name := unescapeGlob(s)
		if name == "." || name == ".." { // no names, and what comes next takes each for one
			return globSeg{}, errDotGlob
		}
		return globSeg{globLiteral, name}, nil
	}
	s = strings.ReplaceAll(s, "[!", "[^")
	if _, err := path.Match(s, "x"); err != nil {
		return globSeg{}, errBadGlob
	}
	return globSeg{globPattern, s}, nil
}

// hasWildcard says whether s has a wildcard that is not escaped.
func hasWildcard(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func unescapeGlob(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// expandBraces returns the patterns that one with {a,b} stands for, in order.
// As in shells, braces that are not closed or hold no comma are themselves.
func expandBraces(pattern string) ([]string, error) {
	out, work := []string(nil), []string{pattern}
	for len(work) > 0 {
		p := work[len(work)-1]
		work = work[:len(work)-1]
		alts := splitBrace(p)
		if alts == nil {
			out = append(out, p)
		}
		for i := len(alts) - 1; i >= 0; i-- {
			work = append(work, alts[i])
		}
		if len(out)+len(work) > maxBraces {
			return nil, fmt.Errorf("the braces stand for more than %d patterns", maxBraces)
		}
	}
	return out, nil
}

// splitBrace replaces the first brace expression of p by each of its
// alternatives, or returns nil if there is none.
func splitBrace(p string) []string {
	for open := 0; open < len(p); open++ {
		switch p[open] {
		case '\\':
			open++
		case '{':
			if commas, end := braceParts(p, open); end > 0 && len(commas) > 0 {
				return joinBrace(p, open, end, commas)
			}
		}
	}
	return nil
}

// braceParts finds the commas and the end of the brace that opens at open.
func braceParts(p string, open int) (commas []int, end int) {
	depth := 0
	for i := open; i < len(p); i++ {
		switch p[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			depth--
			if depth == 0 {
				return commas, i
			}
		case ',':
			if depth == 1 {
				commas = append(commas, i)
			}
		}
	}
	return nil, 0
}

func joinBrace(p string, open, end int, commas []int) []string {
	var out []string
	from := open + 1
	for _, to := range append(commas, end) {
		out = append(out, p[:open]+p[from:to]+p[end+1:])
		from = to + 1
	}
	return out
}

// A scanSel says what of one directory and of what is below it was declared:
// cover is the last rule that matches the directory itself or one above it,
// and states are the later rules that may still match something below.
type scanSel struct {
	cover  *scanRule
	states []scanState
}

// A scanState is a rule with the components that have not met a name yet.
type scanState struct {
	rule *scanRule
	segs []globSeg // not empty
}

// covered says that the directory is in the tree with everything below it that
// no state excludes.
func (s *scanSel) covered() bool { return s.cover != nil && !s.cover.exclude }

// whole says that everything below is in the tree.
func (s *scanSel) whole() bool { return len(s.states) == 0 && s.covered() }

// none says that nothing of it is in the tree.
func (s *scanSel) none() bool { return len(s.states) == 0 && !s.covered() }

// listed says that names must be listed to know which are in the tree; else
// the rules name them all.
func (s *scanSel) listed() bool {
	if s.covered() {
		return true
	}
	for i := range s.states {
		if st := &s.states[i]; st.segs[0].kind != globLiteral && !st.rule.exclude {
			return true
		}
	}
	return false
}

// deep says that directories below will be listed too.
func (s *scanSel) deep() bool {
	if s.covered() {
		return true
	}
	for i := range s.states {
		if st := &s.states[i]; !st.rule.exclude && (st.segs[0].kind == globDeep || len(st.segs) > 1) {
			return true
		}
	}
	return false
}

// A selStepper steps from one directory to the names in it.
type selStepper struct {
	sel  scanSel
	lits map[string][]scanState // states that wait for exactly that name
	wild []scanState
}

func newSelStepper(sel scanSel) *selStepper {
	s := &selStepper{sel: sel}
	for _, st := range sel.states {
		if st.segs[0].kind != globLiteral {
			s.wild = append(s.wild, st)
			continue
		}
		if s.lits == nil {
			s.lits = map[string][]scanState{}
		}
		s.lits[st.segs[0].text] = append(s.lits[st.segs[0].text], st)
	}
	return s
}

// step returns what was declared of name. Rules that match it are marked.
func (s *selStepper) step(name string, isDir bool) scanSel {
	next := scanSel{cover: s.sel.cover}
	for _, st := range s.lits[name] {
		next.advance(st.rule, st.segs[1:], isDir)
	}
	for _, st := range s.wild {
		if st.segs[0].kind != globDeep {
			if st.segs[0].match(name) {
				next.advance(st.rule, st.segs[1:], isDir)
			}
			continue
		}
		rest := st.segs[1:]
		if len(rest) == 0 {
			next.advance(st.rule, nil, isDir)
			continue
		}
		if isDir {
			next.add(st)
		}
		if rest[0].match(name) {
			next.advance(st.rule, rest[1:], isDir)
		}
	}
	next.prune()
	return next
}

// advance takes rule to its remaining components, after a name that matched.
func (s *scanSel) advance(rule *scanRule, rest []globSeg, isDir bool) {
	if len(rest) > 0 { // also for "dir/**", which is what is in dir, not dir
		if isDir {
			s.add(scanState{rule, rest})
		}
		return
	}
	if rule.dirOnly && !isDir {
		return
	}
	rule.matched.Store(true)
	if s.cover == nil || rule.index >= s.cover.index {
		if rule.exclude && s.covered() {
			rule.effective.Store(true)
		}
		s.cover = rule
	}
}

// add adds a state once, so that a pattern with many "**" stays linear.
func (s *scanSel) add(st scanState) {
	for i := range s.states {
		if s.states[i].rule == st.rule && &s.states[i].segs[0] == &st.segs[0] {
			return
		}
	}
	s.states = append(s.states, st)
}

// prune drops the states that can change nothing: rules before the one that
// covers all of it, and exclusions where nothing is included.
func (s *scanSel) prune() {
	kept, includes := s.states[:0], s.covered()
	for _, st := range s.states {
		if s.cover != nil && st.rule.index <= s.cover.index {
			if !st.rule.exclude {
				st.rule.shadowed.Store(true)
			}
			continue
		}
		kept = append(kept, st)
		includes = includes || !st.rule.exclude
	}
	if !includes {
		kept = nil
	}
	s.states = kept
}
