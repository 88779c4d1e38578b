package staging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/await"
)

// # The language of inputs
//
//	src/main.c       a file, or a directory with all that is in it, or a
//	                 symbolic link, which stays a link
//	src/*.c          a pattern, whose components match names: * any characters
//	                 but "/" (a leading dot too), ? one, [a-z] [!a-z] one of a
//	                 class, {c,h} either; a backslash takes the meaning away
//	src/**/*.h       ** matches any number of components; a pattern that
//	                 matches a directory means all that is in it
//	!**/*.o          takes away what an earlier input declared
//	@FILE            one input per line; or, if FILE has NUL bytes, one path
//	                 after each, in which no character means anything else
//	FUNCTION:HASH/SIZE      the tree of that digest, as the whole input root
//	DIR=FUNCTION:HASH/SIZE  the tree of that digest, at DIR; either is the digest
//	                        of a Directory, or with ScanConfig.Tree of a Tree,
//	                        as output directories have
//
// For each path the last input that matches it, or a directory above it,
// decides. A path that exists means itself, also if it could be a pattern.
// Write "./!x" or "./@x" for names that begin so. Empty directories are kept.
//
// "dir/" means the directory behind dir: if dir is a link, the link and what
// it leads to. A path through a linked directory, "link/x", likewise declares
// the link and the file at its real place. Patterns do not walk through links.
//
// Relative inputs are relative to ScanConfig.Dir; ".." is resolved in the text.

// A scanRule is one input after parsing.
type scanRule struct {
	text    string // as the user wrote it
	index   int    // later ones win
	exclude bool
	literal bool
	dirOnly bool
	own     bool          // made by us: no complaint if it matches nothing
	store   bool          // keeps the store itself out
	tree    action.Digest // not zero: stands for the tree of that digest
	alts    [][]globSeg   // any of them; an empty one is the workspace

	matched   atomic.Bool // something exists that it names
	effective atomic.Bool // an exclusion took something away
	shadowed  atomic.Bool // some of it was not tried, because a later rule decides
}

// literalPath is the path of a literal rule.
func (r *scanRule) literalPath() string {
	return joinSegs(r.alts[0])
}

func joinSegs(segs []globSeg) string {
	names := make([]string, len(segs))
	for i := range segs {
		names[i] = segs[i].text
	}
	return strings.Join(names, "/")
}

// maxListDepth bounds lists that name lists.
const maxListDepth = 8

type inputParser struct {
	workspace string // as given, cleaned
	resolved  string // without symbolic links
	base      []string
	fn        action.Function
	tree      func(action.Digest) (action.Digest, error) // see ScanConfig
	ctx       context.Context                            // of Scan
	lists     map[string][]byte                          // what was read, by the path of the list
	root      int                                        // descriptor of the workspace
	rules     []*scanRule
	seen      map[string]bool // inputs that rules hold already
	excludes  bool            // some rule takes away
	plain     map[string]bool // directories without links on the way
}

// parse adds the rules that text means.
func (p *inputParser) parse(text string, depth int) error {
	switch {
	case text == "":
		return errors.New("an input is empty: want a path, a pattern, @FILE or a digest")
	case text[0] == '@':
		return p.list(text[1:], depth)
	case text[0] == '!':
		return p.path(text, text[1:], true)
	}
	if d, err := action.ParseDigest(text); err == nil {
		return p.placed(text, "", d)
	}
	if i := strings.LastIndexByte(text, '='); i >= 0 {
		if d, err := action.ParseDigest(text[i+1:]); err == nil {
			return p.placed(text, text[:i], d)
		}
	}
	err := p.path(text, text, false)
	if _, bad := looksLikeDigest(text); bad != nil && err == nil && p.rules[len(p.rules)-1].literal && !p.exists(p.rules[len(p.rules)-1].literalPath()) {
		return bad
	}
	return err
}

// looksLikeDigest returns why text, or what follows its last "=", is no digest
// although it begins like one.
func looksLikeDigest(text string) (string, error) {
	rest := text[strings.LastIndexByte(text, '=')+1:]
	name, _, ok := strings.Cut(rest, ":")
	if !ok {
		return rest, nil
	}
	if _, err := action.ParseFunction(name); err != nil {
		return rest, nil
	}
	_, err := action.ParseDigest(rest)
	return rest, err
}

// list reads a file of inputs.
func (p *inputParser) list(name string, depth int) error {
	if name == "" {
		return errors.New(`input "@": want @FILE, a file with one input per line`)
	}
	if depth >= maxListDepth {
		return fmt.Errorf("input list %q: lists name each other more than %d deep", name, maxListDepth)
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(append([]string{p.workspace}, append(slices.Clone(p.base), file)...)...)
	}
	data, err := p.readList(file)
	if err != nil {
		return fmt.Errorf("input list %q: %w", name, err)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		for one := range strings.SplitSeq(string(data), "\x00") {
			if one == "" {
				continue
			}
			if err := p.verbatim(one, one); err != nil {
				return fmt.Errorf("input list %q: %w", name, err)
			}
		}
		return nil
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" {
			continue
		}
		if err := p.parse(line, depth+1); err != nil {
			return fmt.Errorf("input list %q: %w", name, err)
		}
	}
	return nil
}

// readList reads a list once, however often it is asked for: it may be a pipe.
func (p *inputParser) readList(file string) ([]byte, error) {
	if data, ok := p.lists[file]; ok {
		return data, nil
	}
	data, err := await.Done(p.ctx, func() ([]byte, error) { return os.ReadFile(file) })
	if err == nil {
		p.lists[file] = data
	}
	return data, err
}

// placed adds a tree that the store has.
func (p *inputParser) placed(text, dir string, d action.Digest) error {
	if d.Function() != p.fn {
		return fmt.Errorf("input %q: its digest is %v, but this action uses %v", text, d.Function(), p.fn)
	}
	if p.tree != nil {
		var err error
		if d, err = p.tree(d); err != nil {
			return fmt.Errorf("input %q: %w", text, err)
		}
	}
	names, _, err := p.names(text, dir)
	if err != nil {
		return err
	}
	p.add(&scanRule{text: text, literal: true, tree: d, alts: [][]globSeg{literalSegs(names)}})
	return nil
}

// path adds what is a path if it exists, and else may be a pattern.
func (p *inputParser) path(text, s string, exclude bool) error {
	if s == "" {
		return fmt.Errorf("input %q: nothing follows the %q", text, text[:1])
	}
	if !hasGlobMeta(s) {
		return p.plainPath(text, s, exclude)
	}
	if names, _, err := p.names(text, s); err == nil && p.exists(strings.Join(names, "/")) {
		return p.plainPath(text, s, exclude)
	}
	r := &scanRule{text: text, exclude: exclude}
	alts, err := expandBraces(s)
	if err != nil {
		return fmt.Errorf("input %q: %w", text, err)
	}
	for _, alt := range alts {
		names, dirOnly, err := p.names(text, alt)
		if err != nil {
			return err
		}
		segs, err := p.segments(names)
		if err != nil {
			return fmt.Errorf("input %q: %w", text, err)
		}
		r.dirOnly = r.dirOnly || dirOnly
		r.alts = append(r.alts, segs)
	}
	if len(r.alts) == 1 && literalPrefix(r.alts[0]) == len(r.alts[0]) {
		r.literal = true // only backslashes made it look like a pattern
	}
	return p.resolve(r)
}

// plainPath adds a path without patterns.
func (p *inputParser) plainPath(text, s string, exclude bool) error {
	if !exclude {
		return p.verbatim(text, s)
	}
	names, dirOnly, err := p.names(text, s)
	if err != nil {
		return err
	}
	return p.resolve(&scanRule{text: text, exclude: true, literal: true, dirOnly: dirOnly, alts: [][]globSeg{literalSegs(names)}})
}

func (p *inputParser) verbatim(text, s string) error {
	names, dirOnly, err := p.names(text, s)
	if err != nil {
		return err
	}
	return p.resolve(&scanRule{text: text, literal: true, dirOnly: dirOnly, alts: [][]globSeg{literalSegs(names)}})
}

// names returns the components of s from the workspace on, and whether s wants
// a directory.
func (p *inputParser) names(text, s string) ([]string, bool, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return nil, false, fmt.Errorf("input %q: a NUL byte in a path", text)
	}
	names := slices.Clone(p.base)
	if path.IsAbs(s) {
		var ok bool
		if s, ok = p.fromWorkspace(s); !ok {
			return nil, false, p.outside(text)
		}
		names = names[:0]
	}
	var last string
	for c := range strings.SplitSeq(s, "/") {
		last = c
		switch c {
		case "", ".":
		case "..":
			if len(names) == 0 {
				return nil, false, p.outside(text)
			}
			names = names[:len(names)-1]
		default:
			names = append(names, c)
		}
	}
	return names, last == "" || last == "." || last == "..", nil
}

// fromWorkspace makes an absolute path relative to the workspace.
func (p *inputParser) fromWorkspace(s string) (string, bool) {
	for _, ws := range []string{p.workspace, p.resolved} {
		if s == ws || ws == "/" {
			return "./" + s[len(ws):], true
		}
		if rest, ok := strings.CutPrefix(s, ws+"/"); ok {
			return "./" + rest, true
		}
	}
	return "", false
}

func (p *inputParser) outside(text string) error {
	return fmt.Errorf("input %q is outside of the workspace %s: run from a directory that holds all inputs, or name it with --workspace", text, p.workspace)
}

// segments parses components; the ones of the base directory are literal.
func (p *inputParser) segments(names []string) ([]globSeg, error) {
	var segs []globSeg
	for i, name := range names {
		if i < len(p.base) && name == p.base[i] {
			segs = append(segs, globSeg{globLiteral, name})
			continue
		}
		seg, err := parseSeg(name)
		if err != nil {
			return nil, err
		}
		if n := len(segs); seg.kind == globDeep && n > 0 && segs[n-1].kind == globDeep {
			continue
		}
		segs = append(segs, seg)
	}
	return segs, nil
}

func literalSegs(names []string) []globSeg {
	segs := make([]globSeg, len(names))
	for i, name := range names {
		segs[i] = globSeg{globLiteral, name}
	}
	return segs
}

// literalPrefix is how many components of a pattern are names.
func literalPrefix(segs []globSeg) int {
	for i := range segs {
		if segs[i].kind != globLiteral {
			return i
		}
	}
	return len(segs)
}

func (p *inputParser) exists(name string) bool {
	_, err := statAt(p.root, dotIfEmpty(name))
	return err == nil
}

func (p *inputParser) add(r *scanRule) {
	r.index = len(p.rules)
	p.rules = append(p.rules, r)
}

// resolve adds r after leading it around symbolic links to directories.
func (p *inputParser) resolve(r *scanRule) error {
	key := fmt.Sprint(r.exclude, r.literal, r.dirOnly, r.alts)
	if r.literal { // the common case, and the one that comes by the thousand
		key = r.literalPath() + "\x00" + string([]byte{flagByte(r.exclude), flagByte(r.dirOnly)})
	}
	p.excludes = p.excludes || r.exclude
	if p.seen[key] && !p.excludes {
		return nil // said twice, with nothing between that could matter
	}
	p.seen[key] = true
	for i, segs := range r.alts {
		n := literalPrefix(segs)
		if n == len(segs) && !r.dirOnly {
			n--
		}
		if n <= 0 {
			continue
		}
		fixed, err := p.aroundLinks(r, segs, n)
		if err != nil {
			return err
		}
		r.alts[i] = fixed
	}
	p.add(r)
	return nil
}

func flagByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// aroundLinks returns segs with its first n components, which are names, led
// around symbolic links; each link on the way is declared as well.
func (p *inputParser) aroundLinks(r *scanRule, segs []globSeg, n int) ([]globSeg, error) {
	dir := joinSegs(segs[:n])
	if p.plain[dir] {
		return segs, nil
	}
	if noLinks(p.root, dir) {
		p.plain[dir] = true
		return segs, nil
	}
	names := make([]string, n)
	for i := range names {
		names[i] = segs[i].text
	}
	names, err := p.followLinks(r, names)
	if err != nil {
		return nil, err
	}
	return append(literalSegs(names), segs[n:]...), nil
}

// followLinks resolves names as the kernel would, within the workspace.
func (p *inputParser) followLinks(r *scanRule, names []string) ([]string, error) {
	var done []string
	for hops := 0; len(names) > 0; {
		here := strings.Join(append(slices.Clone(done), names[0]), "/")
		st, err := statAt(p.root, here)
		if err != nil || !isLink(&st) {
			done, names = append(done, names[0]), names[1:]
			continue
		}
		if hops++; hops > 40 {
			return nil, fmt.Errorf("input %q: the symbolic link %q leads in a circle", r.text, here)
		}
		target, err := readLinkAt(p.root, here)
		if err != nil {
			return nil, fmt.Errorf("input %q: read link %q: %w", r.text, here, err)
		}
		if !r.exclude {
			p.add(&scanRule{text: r.text, literal: true, own: true, alts: [][]globSeg{literalSegs(strings.Split(here, "/"))}})
		}
		sub := inputParser{workspace: p.workspace, resolved: p.resolved, base: done}
		to, _, err := sub.names(r.text, target)
		if err != nil {
			return nil, fmt.Errorf("input %q: the symbolic link %q leads out of the workspace, to %q: import that as a tree, or run from a directory that holds both", r.text, here, target)
		}
		done, names = nil, append(to, names[1:]...)
	}
	return done, nil
}

func dotIfEmpty(name string) string {
	if name == "" {
		return "."
	}
	return name
}
