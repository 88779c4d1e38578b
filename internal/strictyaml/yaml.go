package strictyaml

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parseYAML turns the parser's tree into ours.
func parseYAML(name, text string, merge bool) (n *Node, err error) {
	c := &converter{file: name, merge: merge, lines: strings.Split(text, "\n"), anchors: map[string]*Node{}}
	defer func() {
		if r := recover(); r != nil { // a parser that lost its way over a file is no reason for a stack trace
			n, err = nil, fmt.Errorf("%s cannot be read as YAML (%v)", name, r)
		}
	}()
	if !strings.HasSuffix(text, "\n") {
		text += "\n" // or the lexer loses a tag that is the last thing
	}
	tokens := lexer.Tokenize(text)
	if err := c.checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, c.syntax(err)
	}
	var root *Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		first := root
		if root, err = c.convert(doc.Body, 1); err != nil {
			return nil, err
		}
		if first != nil {
			return nil, root.Pos.Errorf("a second document: one file holds one")
		}
	}
	if root == nil {
		root = &Node{Pos: Pos{name, 1, 1}}
	}
	return root, c.errs.Err()
}

type converter struct {
	errs    Errors // what does not keep the rest from being read
	file    string
	merge   bool // merge keys are followed
	lines   []string
	anchors map[string]*Node
	nodes   int

	measured, width int // the line that was measured last, from 1, and its characters
	reached         Pos // the place that offset found last
	bytes           int // where that is in its line
}

func (c *converter) at(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{c.file, 1, 1}
	}
	// What is not written, such as a value that was left out, has a place behind
	// the end of its line.
	line := min(max(t.Position.Line, 1), len(c.lines))
	if c.measured != line { // once: all of a file may be one line
		c.measured, c.width = line, utf8.RuneCountInString(c.lines[line-1])
	}
	return Pos{c.file, line, min(max(t.Position.Column, 1), c.width+1)}
}

// checkTokens refuses what we do not take, while we still have the token, and
// nesting, before the parser walks down into it.
func (c *converter) checkTokens(tokens token.Tokens) error {
	flow, line, entries := 0, 0, 0
	type block struct{ column, keys int }
	var columns []block // of the block mappings and lists around the token
	for _, t := range tokens {
		pos := c.at(t)
		switch t.Type {
		case token.DirectiveType:
			if c.char(pos) != "%" || pos.Column > 1 {
				return pos.Errorf(`plain text cannot begin with "%%": put it in quotes`)
			}
			return pos.Errorf("a directive: leave it out")
		case token.TagType:
			return pos.Errorf("the tag %s: types are fixed here, leave it out", t.Value)
		case token.MergeKeyType:
			if c.merge {
				break
			}
			return pos.Errorf(`the merge key "<<" is not supported`)
		case token.MappingKeyType:
			return pos.Errorf(`an explicit key ("?"): write KEY: VALUE`)
		case token.DoubleQuoteType:
			if err := c.checkEscapes(pos); err != nil {
				return err
			}
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		}
		if pos.Line != line {
			line, entries = pos.Line, 0
			if flow == 0 {
				at := block{pos.Column, 0}
				for len(columns) > 0 && columns[len(columns)-1].column >= pos.Column {
					if last := columns[len(columns)-1]; last.column == pos.Column {
						at = last
					}
					columns = columns[:len(columns)-1]
				}
				if t.Type != token.SequenceEntryType && t.Type != token.CommentType {
					at.keys++
				}
				if at.keys > MaxKeys {
					return pos.Errorf("more than %d keys in one mapping", MaxKeys)
				}
				columns = append(columns, at)
			}
		}
		if t.Type == token.SequenceEntryType {
			entries++
		}
		if max(flow, 0)+entries+len(columns) > MaxDepth {
			return pos.Errorf("nested more than %d deep", MaxDepth)
		}
	}
	return nil
}

// convert turns a node of the parser into ours.
func (c *converter) convert(n ast.Node, depth int) (*Node, error) {
	pos := c.at(n.GetToken())
	if c.nodes++; c.nodes > MaxNodes || depth > MaxDepth {
		return nil, pos.Errorf("nested more than %d deep, or more than %d values", MaxDepth, MaxNodes)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &Node{Pos: pos, Plain: true}, nil
	case *ast.BoolNode:
		return &Node{Kind: Bool, Pos: pos, Text: n.GetToken().Value, Plain: true}, nil
	case *ast.IntegerNode:
		return &Node{Kind: Int, Pos: pos, Text: n.GetToken().Value, Plain: true}, nil
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &Node{Kind: Float, Pos: pos, Text: n.GetToken().Value, Plain: true}, nil
	case *ast.StringNode:
		quoted := n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType
		return &Node{Kind: Text, Pos: pos, Text: n.Value, Plain: !quoted}, nil
	case *ast.LiteralNode:
		return &Node{Kind: Text, Pos: pos, Text: n.Value.Value}, nil
	case *ast.SequenceNode:
		return c.list(n, pos, depth)
	case *ast.MappingNode:
		return c.mapping(n.Values, pos, depth)
	case *ast.MappingValueNode:
		return c.mapping([]*ast.MappingValueNode{n}, pos, depth)
	case *ast.AnchorNode:
		return c.anchor(n, depth)
	case *ast.AliasNode:
		return c.alias(n, pos)
	}
	return nil, pos.Errorf("%s is not understood here", n.Type())
}

func (c *converter) list(n *ast.SequenceNode, pos Pos, depth int) (*Node, error) {
	list := &Node{Kind: List, Pos: pos}
	for _, v := range n.Values {
		if item := c.glued(v); item != nil {
			list.Items = append(list.Items, item)
			continue
		}
		item, err := c.convert(v, depth+1)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, item)
	}
	return list, nil
}

// glued returns the text a:b, where there is nothing between the colon and what
// follows. The parser takes it for a mapping in a list within braces, and only
// there: {x: [a:b]}.
func (c *converter) glued(n ast.Node) *Node {
	m, ok := n.(*ast.MappingNode)
	if !ok || len(m.Values) != 1 || m.GetToken().Type == token.MappingStartType {
		return nil
	}
	v := m.Values[0]
	if !plain(v.Key) || !plain(v.Value) {
		return nil
	}
	key, colon, value := c.at(v.Key.GetToken()), c.at(v.Start), c.at(v.Value.GetToken())
	if colon.Line != value.Line || value.Column != colon.Column+1 {
		return nil
	}
	c.nodes++
	return &Node{Kind: Text, Pos: key, Text: v.Key.GetToken().Value + ":" + v.Value.GetToken().Value, Plain: true}
}

// plain says whether a node is a scalar that is written without quotes.
func plain(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode:
		t := n.GetToken().Type
		return t != token.SingleQuoteType && t != token.DoubleQuoteType
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

func (c *converter) mapping(values []*ast.MappingValueNode, pos Pos, depth int) (*Node, error) {
	m := &Node{Kind: Mapping, Pos: pos}
	var merged []Field
	for i, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			more, err := c.merged(v.Value, depth+1)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		key, err := c.key(v.Key)
		if err != nil {
			return nil, err
		}
		if i == 0 && pos.Line >= key.Pos.Line { // the parser's token is the colon, ours is where it begins
			if c.char(pos) != "{" {
				m.Pos = key.Pos
			}
		}
		if key.Value, err = c.convert(v.Value, depth+1); err != nil {
			return nil, err
		}
		m.Fields = append(m.Fields, key)
	}
	c.errs.list = append(c.errs.list, repeated(m.Fields)...)
	m.addMissing(merged)
	return m, nil
}

// merged returns the fields that the value of a merge key stands for.
func (c *converter) merged(value ast.Node, depth int) ([]Field, error) {
	n, err := c.convert(value, depth)
	if err != nil {
		return nil, err
	}
	from := []*Node{n}
	if n.Kind == List {
		from = n.Items
	}
	var all []Field
	for _, m := range from {
		if m.Kind != Mapping {
			return nil, m.Pos.Errorf("a merge key takes a mapping, not %s", m.Kind)
		}
		all = append(all, m.Fields...)
	}
	return all, nil
}

// addMissing adds those of fields whose keys n does not have; of equal ones the
// first.
func (n *Node) addMissing(fields []Field) {
	have := make(map[string]bool, len(n.Fields))
	for _, f := range n.Fields {
		have[f.Key] = true
	}
	for _, f := range fields {
		if !have[f.Key] {
			have[f.Key] = true
			n.Fields = append(n.Fields, f)
		}
	}
}

// key reads the key of a field: a scalar, as it was written.
func (c *converter) key(k ast.Node) (Field, error) {
	pos := c.at(k.GetToken())
	switch k := k.(type) {
	case *ast.StringNode:
		return Field{Key: k.Value, Pos: pos}, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return Field{Key: k.GetToken().Value, Pos: pos}, nil
	}
	return Field{}, pos.Errorf("a key must be text")
}

// repeated are mistakes: keys that are there before.
func repeated(fields []Field) (mistakes []*Error) {
	seen := make(map[string]Pos, len(fields))
	for _, f := range fields {
		if first, ok := seen[f.Key]; ok {
			mistakes = append(mistakes, &Error{f.Pos, fmt.Sprintf("%q is there twice; first in line %d", f.Key, first.Line)})
			continue
		}
		seen[f.Key] = f.Pos
	}
	return mistakes
}

func (c *converter) anchor(n *ast.AnchorNode, depth int) (*Node, error) {
	value, err := c.convert(n.Value, depth)
	if err != nil {
		return nil, err
	}
	name := n.Name.GetToken().Value
	if _, ok := c.anchors[name]; ok {
		c.errs.Addf(c.at(n.GetToken()), "the anchor &%s is there twice", name)
	}
	c.anchors[name] = value // after its value: it cannot hold itself
	return value, nil
}

// alias stands for the value of an anchor. It counts as much as what it stands
// for, since readers walk through it again.
func (c *converter) alias(n *ast.AliasNode, pos Pos) (*Node, error) {
	name := n.Value.GetToken().Value
	value, ok := c.anchors[name]
	if !ok {
		c.errs.Addf(pos, "the alias *%s has no anchor &%s before it; put text that begins with * in quotes", name, name)
		return &Node{Pos: pos, Plain: true}, nil
	}
	if c.nodes += value.size(); c.nodes > MaxNodes {
		return nil, pos.Errorf("more than %d values, after aliases were followed", MaxNodes)
	}
	return value, nil
}

// size is how many values n holds, itself included, and little more than
// MaxNodes if there are more.
func (n *Node) size() int {
	size := 1
	for _, item := range n.Items {
		if size += item.size(); size > MaxNodes {
			return size
		}
	}
	for _, f := range n.Fields {
		if size += f.Value.size(); size > MaxNodes {
			return size
		}
	}
	return size
}

// char is the character at a position, "" if there is none.
func (c *converter) char(p Pos) string {
	if p.Line < 1 || p.Line > len(c.lines) {
		return ""
	}
	column := 1
	for _, r := range c.lines[p.Line-1] {
		if column == p.Column {
			return string(r)
		}
		column++
	}
	return ""
}

// syntax turns an error of the parser into one line of ours.
func (c *converter) syntax(err error) error {
	e, ok := err.(interface {
		GetToken() *token.Token
		GetMessage() string
	})
	if !ok {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return fmt.Errorf("%s: %s", c.file, first)
	}
	pos := c.at(e.GetToken())
	switch char := c.char(pos); {
	case char == "%" || char == "@" || char == "`":
		return pos.Errorf("plain text cannot begin with %q: put it in quotes", char)
	case char == "\t":
		return pos.Errorf("a tab: indent with spaces")
	}
	return pos.Errorf("%s", e.GetMessage())
}
