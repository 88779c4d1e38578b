package baserock

import (
	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// parseYAML parses a file. An error is a Problem where it has a place, or
// Problems: then there is a value all the same.
func parseYAML(name string, data []byte) (*value, error) {
	n, err := strictyaml.ParseMerging(name, data)
	switch e := err.(type) {
	case nil:
		return valueOf(n), nil
	case *strictyaml.Error:
		return nil, Problem{placeOf(e.Pos), e.Message}
	case strictyaml.ErrorList:
		var all Problems
		for _, one := range e {
			all = append(all, Problem{placeOf(one.Pos), one.Message})
		}
		if n == nil {
			return nil, all
		}
		return valueOf(n), all
	}
	return nil, err
}

func placeOf(p strictyaml.Pos) Place { return Place{p.File, p.Line, p.Column} }

func valueOf(n *strictyaml.Node) *value {
	v := &value{Place: placeOf(n.Pos), text: n.Text, plain: n.Plain}
	switch n.Kind {
	case strictyaml.List:
		v.kind = list
		for _, item := range n.Items {
			v.items = append(v.items, valueOf(item))
		}
	case strictyaml.Mapping:
		v.kind = mapping
		for _, f := range n.Fields {
			v.items = append(v.items, &value{Place: placeOf(f.Pos), text: f.Key}, valueOf(f.Value))
		}
	}
	return v
}
