package baserock

import (
	"regexp"
	"strconv"
	"strings"
)

// A value is a YAML value and where it is. Aliases are resolved.
type value struct {
	Place
	kind  valueKind
	text  string   // of a scalar
	plain bool     // a scalar without quotes, which may be something else than text
	items []*value // of a list; of a mapping, key and value in turn
}

type valueKind int

const (
	scalar valueKind = iota
	list
	mapping
)

func (k valueKind) String() string {
	return [...]string{"text", "a list", "a mapping"}[k]
}

var yamlInt = regexp.MustCompile(`^[-+]?(0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$`)

// scalarOf is what a scalar is by the rules of YAML 1.1, which the tools of
// Baserock follow: nil, a bool, an int64, or else text. (In YAML 1.2, "yes" and
// 0666 are something else.)
func (v *value) scalarOf() any {
	if !v.plain {
		return v.text
	}
	switch v.text {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return true
	case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return false
	}
	if !yamlInt.MatchString(v.text) {
		return v.text
	}
	digits := strings.ReplaceAll(v.text, "_", "")
	if n, err := strconv.ParseInt(digits, 0, 64); err == nil { // 0666 and 0x1b6 as in Go
		return n
	}
	return v.text
}

// isNull says whether v is an empty value, as that of a field without one.
func (v *value) isNull() bool { return v.kind == scalar && v.scalarOf() == nil }

// generic is v without places, as an encoder of JSON likes it.
func (v *value) generic() any {
	switch v.kind {
	case list:
		l := make([]any, len(v.items))
		for i, x := range v.items {
			l[i] = x.generic()
		}
		return l
	case mapping:
		m := make(map[string]any, len(v.items)/2)
		for i := 0; i < len(v.items); i += 2 {
			m[v.items[i].text] = v.items[i+1].generic()
		}
		return m
	}
	return v.scalarOf()
}

// each calls f for every key of a mapping.
func (v *value) each(f func(key, val *value)) {
	for i := 0; i+1 < len(v.items); i += 2 {
		f(v.items[i], v.items[i+1])
	}
}
