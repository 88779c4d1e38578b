package baserock

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// A TreeID returns the id of the git tree of the source of a chunk.
type TreeID func(repo, ref string) (string, error)

// SyntheticTreeID makes an id of what is written, for trees whose sources are
// not at hand: sha1("tree:" + repo + "@" + ref).
func SyntheticTreeID(repo, ref string) (string, error) {
	sum := sha1.Sum([]byte("tree:" + repo + "@" + ref))
	return hex.EncodeToString(sum[:]), nil
}

// An ElementKey is the key of an element.
type ElementKey struct {
	Element *Element
	Key     string
}

// YBDKeys computes the keys that YBD (artifact-version 8) gives to target and
// to everything that it is made of, sorted by path. They show that a tree is
// read as YBD reads it. We find results by other keys: YBD's do not depend on
// the products, the prefix and the environment of a chunk.
//
// A key is the name, a dot, and SHA-256 of a JSON object as Python's json.dumps
// writes it, with sorted keys. It has the architecture; the keys of all that the
// element needs and contains, by path; the tree of the source, submodules,
// devices and commands, as the definition has them; what its build-system is by
// DEFAULTS; "single" or "parallel" for max-jobs; and the version of all this, 8.
func (t *Tree) YBDKeys(target *Element, arch string, id TreeID) ([]ElementKey, error) {
	y := &ybd{tree: t, arch: arch, id: id, keys: map[*Element]string{}}
	if y.arch == "" {
		y.arch = target.Arch
	}
	if y.arch == "" {
		return nil, fmt.Errorf("the keys of a %s depend on the architecture: give one with --arch", target.Kind)
	}
	if _, err := y.key(target); err != nil {
		return nil, err
	}
	list := make([]ElementKey, 0, len(y.keys))
	for e, k := range y.keys {
		list = append(list, ElementKey{e, k})
	}
	slices.SortFunc(list, func(a, b ElementKey) int { return strings.Compare(a.Element.Path, b.Element.Path) })
	return list, nil
}

type ybd struct {
	tree *Tree
	arch string
	id   TreeID
	keys map[*Element]string
}

func (y *ybd) key(e *Element) (string, error) {
	if k, ok := y.keys[e]; ok {
		return k, nil
	}
	factors := map[string]any{"arch": y.arch, "artifact-version": int64(8), "default-build-systems": y.tree.Defaults.BuildSystems["manual"].raw}
	for _, d := range e.Depends {
		k, err := y.key(d)
		if err != nil {
			return "", err
		}
		factors[d.Path] = k
	}
	for _, c := range e.Contents {
		if c.Kind == System && c.Arch != y.arch {
			factors[c.Path] = false // as YBD does, with a warning
			continue
		}
		k, err := y.key(c.Element)
		if err != nil {
			return "", err
		}
		factors[c.Path] = k
	}
	if e.Kind == Chunk {
		if err := y.chunk(e, factors); err != nil {
			return "", err
		}
	}
	sum := sha256.Sum256([]byte(pythonJSON(factors)))
	k := e.Name + "." + hex.EncodeToString(sum[:])
	y.keys[e] = k
	return k, nil
}

func (y *ybd) chunk(e *Element, factors map[string]any) error {
	id, err := y.id(e.Repo, e.Ref)
	if err != nil {
		return fmt.Errorf("the tree of %s: %w", e.Path, err)
	}
	if e.Repo != "" {
		factors["tree"] = id
	}
	if b := y.tree.Defaults.BuildSystems[e.BuildSystem]; b != nil {
		factors["default-build-systems"] = b.raw
	}
	for name, f := range e.factors {
		if name == "max-jobs" {
			switch f {
			case int64(0), nil:
			case int64(1):
				factors[name] = "single"
			default:
				factors[name] = "parallel"
			}
			continue
		}
		if truthy(f) {
			factors[name] = f
		}
	}
	return nil
}

// truthy says whether Python takes a value for true.
func truthy(x any) bool {
	switch x := x.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case int64:
		return x != 0
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return true
}

// pythonJSON is x as json.dumps(x, sort_keys=True) of Python writes it.
func pythonJSON(x any) string {
	var b strings.Builder
	writeJSON(&b, x)
	return b.String()
}

func writeJSON(b *strings.Builder, x any) {
	switch x := x.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(x))
	case int64:
		b.WriteString(strconv.FormatInt(x, 10))
	case string:
		writeJSONString(b, x)
	case []any:
		b.WriteByte('[')
		for i, v := range x {
			if i > 0 {
				b.WriteString(", ")
			}
			writeJSON(b, v)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for i, k := range slices.Sorted(maps.Keys(x)) {
			if i > 0 {
				b.WriteString(", ")
			}
			writeJSONString(b, k)
			b.WriteString(": ")
			writeJSON(b, x[k])
		}
		b.WriteByte('}')
	}
}

func writeJSONString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		if i := strings.IndexRune("\"\\\n\r\t\f\b", r); i >= 0 {
			b.WriteByte('\\')
			b.WriteByte(`"\nrtfb`[i])
			continue
		}
		switch {
		case r < ' ' || r >= 0x80 && r < 0x10000:
			fmt.Fprintf(b, `\u%04x`, r)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
