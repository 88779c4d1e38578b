package baserock

import (
	"github.com/sbx-action/sbx-action/internal/strictyaml"
)

// parseYAML parses a file. An error is a Problem where it has a place.
func parseYAML(name string, data []byte) (*value, error) {
	n, err := strictyaml.ParseMerging(name, data)
	if err != nil {
		if e, ok := err.(*strictyaml.Error); ok {
			return nil, Problem{placeOf(e.Pos), e.Message}
		}
		return nil, err
	}
	return valueOf(n), nil
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
