package strictyaml

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
)

// dump writes a tree on one line: text in quotes, numbers as written.
func dump(n *Node) string {
	switch n.Kind {
	case Null:
		return "null"
	case Text:
		return strconv.Quote(n.Text)
	case List:
		var items []string
		for _, i := range n.Items {
			items = append(items, dump(i))
		}
		return "[" + strings.Join(items, " ") + "]"
	case Mapping:
		var fields []string
		for _, f := range n.Fields {
			fields = append(fields, strconv.Quote(f.Key)+":"+dump(f.Value))
		}
		return "{" + strings.Join(fields, " ") + "}"
	}
	return n.Text
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "null"},
		{"# nothing\n", "null"},
		{"a: 1\nb: [x, 'y z', \"q\\n\"]\n", `{"a":1 "b":["x" "y z" "q\n"]}`},
		{"a: |\n  foo\n\n  bar\nb: >-\n  fold\n  me\n", `{"a":"foo\n\nbar\n" "b":"fold me"}`},
		{"a: |+\n  x\n\n\nb: |2\n    y\n", `{"a":"x\n\n\n" "b":"  y\n"}`},
		{"a: yes\nb: true\nc: ~\nd:\ne: 1.10\nf: 007\n", `{"a":"yes" "b":true "c":null "d":null "e":1.10 "f":007}`},
		{"a: &x {b: 1}\nc: *x\n", `{"a":{"b":1} "c":{"b":1}}`},
		{"a:\n- b\n- c: d\n  e: f\n", `{"a":["b" {"c":"d" "e":"f"}]}`},
		{"a: it's\nb: 'it''s'\nc: multi\n  line\n", `{"a":"it's" "b":"it's" "c":"multi line"}`},
		{"3: x\n'4': y\n", `{"3":"x" "4":"y"}`},
		{"\ufeffa: b\r\nc: d\r\n", `{"a":"b" "c":"d"}`},
		{"---\na: b\n...\n", `{"a":"b"}`},
		{`a: "\ud83d\ude00"`, `{"a":"😀"}`},
		{"s: {a: [x:y, z, u:v w, 1:2, p:q:r, 'k':v, k: v, http://x/y], b: x:y}\n", `{"s":{"a":["x:y" "z" "u:v w" "1:2" "p:q:r" {"k":"v"} {"k":"v"} "http://x/y"] "b":"x:y"}}`},
		{"a: '%{x}'\nb: x%{y}\n", `{"a":"%{x}" "b":"x%{y}"}`},
	} {
		n, err := Parse("f.yaml", []byte(c.in))
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got := dump(n); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a: 1\nb: 2\na: 3\n", `f.yaml:3:1: "a" is there twice; first in line 1`},
		{"x: {b: 1, b: 2}\n", `f.yaml:1:11: "b" is there twice; first in line 1`},
		{"a: [1,2\n", "f.yaml:1:4: "},
		{"a:\n\t- b\n", "f.yaml:2:1: a tab: indent with spaces"},
		{"a: @foo\n", `f.yaml:1:4: plain text cannot begin with "@": put it in quotes`},
		{"a: %{x}\n", `f.yaml:1:4: plain text cannot begin with "%": put it in quotes`},
		{"a: `x`\n", "f.yaml:1:4: plain text cannot begin with \"`\": put it in quotes"},
		{"a: 1\n---\nb: 2\n", "f.yaml:3:1: a second document: one file holds one"},
		{"<<: {a: 1}\n", `f.yaml:1:1: the merge key "<<" is not supported`},
		{"a: !!int 3\n", "f.yaml:1:4: the tag !!int: types are fixed here, leave it out"},
		{"? a\n: b\n", `f.yaml:1:1: an explicit key ("?"): write KEY: VALUE`},
		{"%YAML 1.2\n---\na: 1\n", "f.yaml:1:1: a directive: leave it out"},
		{"a: *b\n", "f.yaml:1:4: the alias *b has no anchor &b before it; put text that begins with * in quotes"},
		{"a: &b [*b]\n", "f.yaml:1:8: the alias *b has no anchor"},
		{"a: &b 1\nc: &b 2\n", "f.yaml:2:4: the anchor &b is there twice"},
		{"a: b: c\n", "f.yaml:1:4: "},
		{"ü: x\xff\n", "f.yaml:1:5: the byte 0xff is not UTF-8 text"},
		{"a: x\x00\n", "f.yaml:1:5: the character U+0000 does not belong into a text file"},
		{`a: ["\x41\\x", "b\x7X"]`, `f.yaml:1:18: \x takes two hexadecimal digits`},
		{"a: \"b\n  \\U00110000\"", `f.yaml:2:3: \x takes two hexadecimal digits`},
		{`a: "\udc00"`, `f.yaml:1:5: \x takes two hexadecimal digits`},
		{"a: b\rc: d\n", "f.yaml:1:5: a carriage return without a line feed"},
		{strings.Repeat("[", 100), "f.yaml:1:65: nested more than 64 deep"},
		{strings.Repeat("- ", 100), "f.yaml:1:"},
		{strings.Repeat("{a: ", 100), "f.yaml:1:"},
		{"a: " + strings.Repeat("x", MaxSize), "f.yaml is larger than 4194304 bytes"},
	} {
		n, err := Parse("f.yaml", []byte(c.in))
		if err == nil {
			t.Errorf("%.60q: %s; want an error", c.in, dump(n))
		} else if !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q: %v\nwant %s", c.in, err, c.want)
		}
	}
}

// TestDeep nests by indentation, level by level.
func TestDeep(t *testing.T) {
	nest := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
		}
		return b.String()
	}
	if _, err := Parse("f.yaml", []byte(nest(MaxDepth-2))); err != nil {
		t.Errorf("control: %v", err)
	}
	for _, in := range []string{nest(MaxDepth + 1), nest(1000)} {
		if _, err := Parse("f.yaml", []byte(in)); err == nil || !strings.Contains(err.Error(), "nested more than") {
			t.Errorf("deep: %v", err)
		}
	}
}

// TestAliasBomb is the billion laughs.
func TestAliasBomb(t *testing.T) {
	bomb := func(levels int) string {
		var b strings.Builder
		b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
		for i := 1; i < levels; i++ {
			b.WriteString(fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", ")))
		}
		return b.String()
	}
	if _, err := Parse("f.yaml", []byte(bomb(3))); err != nil {
		t.Errorf("control: %v", err)
	}
	_, err := Parse("f.yaml", []byte(bomb(20)))
	if err == nil || !strings.Contains(err.Error(), "more than 200000 values, after aliases were followed") {
		t.Errorf("bomb: %v", err)
	}
}

// TestManyKeys: the parser needs the square of the number of keys, so there is an
// end of it before it begins.
func TestManyKeys(t *testing.T) {
	keys := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "k%d: 1\n", i)
		}
		return []byte(b.String())
	}
	if _, err := Parse("f.yaml", keys(MaxKeys)); err != nil {
		t.Error(err)
	}
	if _, err := Parse("f.yaml", keys(MaxKeys+1)); err == nil || !strings.Contains(err.Error(), "f.yaml:10001:1: more than 10000 keys in one mapping") {
		t.Errorf("one more: %v", err)
	}
}

func TestPositions(t *testing.T) {
	const in = "top:\n  # a comment\n  ä: [b, {c: d}]\n  list:\n    - x\n    - y: z\n      w: |\n        text\n"
	const inJSON = "{\n\t\"top\": {\n\t\t\"ä\": [ \"b\",{\"c\" : \"d\"}],\n \"list\": []}}"
	var where func(n *Node) string
	where = func(n *Node) string {
		var s strings.Builder
		s.WriteString(fmt.Sprintf("%d:%d", n.Pos.Line, n.Pos.Column))
		for _, i := range n.Items {
			s.WriteString(" " + where(i))
		}
		for _, f := range n.Fields {
			s.WriteString(fmt.Sprintf(" %s@%d:%d=%s", f.Key, f.Pos.Line, f.Pos.Column, where(f.Value)))
		}
		return s.String()
	}
	for _, c := range []struct{ name, in, want string }{
		{"f.yaml", in, "1:1 top@1:1=3:3 ä@3:3=3:6 3:7 3:10 c@3:11=3:14 list@4:3=5:5 5:7 6:7 y@6:7=6:10 w@7:7=7:10"},
		{"f.json", inJSON, "1:1 top@2:2=2:9 ä@3:3=3:8 3:10 3:14 c@3:15=3:21 list@4:2=4:10"},
	} {
		n, err := Parse(c.name, []byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		if got := where(n); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a": [1, -2.5e3, true, null, "x\n\u00e4\ud83d\ude00\/"], "b": {}, "c": []}`, `{"a":[1 -2.5e3 true null "x\nä😀/"] "b":{} "c":[]}`},
		{"\t[ ]\r\n", "[]"},
		{`{"a": 1, "a": 2}`, `!f.json:1:10: "a" is there twice; first in line 1`},
		{`{"a": 1,}`, `!f.json:1:9: '}' where there should be a key in quotes`},
		{`[1 2]`, "!f.json:1:4: '2' where there should be a comma or the end of the list"},
		{`[1] x`, "!f.json:1:5: something follows the value: one file holds one"},
		{"{\n // c\n}", "!f.json:2:2: a comment"},
		{`["\q"]`, "!f.json:1:3: a backslash"},
		{`["\u00g0"]`, "!f.json:1:3: a backslash"},
		{`["\ud83d"]`, "!f.json:1:3: half of a surrogate pair"},
		{`["a`, "!f.json:1:4: the file ends where there should be the end of the text"},
		{"[\"a\nb\"]", "!f.json:1:4: "},
		{`[01]`, "!f.json:1:2: not a number of JSON"},
		{`[1.]`, "!f.json:1:2: not a number of JSON"},
		{`[-]`, "!f.json:1:2: not a number of JSON"},
		{``, "!f.json:1:1: the file ends where there should be a value"},
		{`{a: 1}`, "!f.json:1:2: 'a' where there should be a key in quotes"},
		{strings.Repeat("[", 100000), "!f.json:1:65: nested more than 64 deep"},
	} {
		n, err := Parse("f.json", []byte(c.in))
		got := ""
		if err != nil {
			got = "!" + err.Error()
		} else {
			got = dump(n)
		}
		if want, isErr := strings.CutPrefix(c.want, "!"); isErr != (err != nil) || !strings.HasPrefix(got, c.want) {
			t.Errorf("%.40q\n got %s\nwant %s", c.in, got, want)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(name, []byte("a: [b]\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if n, err := ReadFile(name); err != nil || dump(n) != `{"a":["b"]}` {
		t.Errorf("%v %v", n, err)
	}
	if _, err := ReadFile("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("/dev/zero: %v", err)
	}
	if _, err := ReadFile(dir); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
}

func TestRead(t *testing.T) {
	n, err := Parse("f.yaml", []byte("name: 5\nlist: [a, 1.10, true]\nnone:\nflag: 1\nnumber: 99\nmisspelt: 1\nmore:\n  x: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var errs Errors
	m := errs.Map(n, "the file")
	if s := m.String("name"); s != "5" {
		t.Errorf("name is %q", s)
	}
	if l := m.Strings("list"); len(l) != 3 || l[1] != "1.10" {
		t.Errorf("list is %q", l)
	}
	m.String("none")
	m.Bool("flag")
	m.Int("number", 1, 9)
	m.Need("needed")
	m.Take("mispelt")
	errs.Map(m.Take("more"), "more").Done()
	m.Done()
	want := `f.yaml:1:1: the file has no "needed"
f.yaml:2:17: each of "list" must be text, and true is a boolean: write "true", with quotes
f.yaml:3:6: "none" must be text, not nothing
f.yaml:4:7: "flag" must be true or false, not 1
f.yaml:5:9: "number" must be a whole number from 1 to 9, not 99
f.yaml:6:1: the file has no key "misspelt": did you mean "mispelt"?
f.yaml:8:3: more has no key "x"`
	if got := errs.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestAllMistakes wants every mistake, also of a file whose tree is in doubt.
func TestAllMistakes(t *testing.T) {
	n, err := Parse("f.yaml", []byte("a: 1\na: 2\nb: *none\nc: {d: 1, d: 2}\nc: 3\n"))
	list, ok := err.(ErrorList)
	if !ok || len(list) != 4 || n == nil {
		t.Fatalf("%T: %v", err, err)
	}
	var errs Errors
	errs.Add(n.Pos, err)
	for i := range 1500 {
		errs.Addf(Pos{"f.yaml", 10 + i, 1}, "number %d", i)
	}
	lines := strings.Split(errs.Err().Error(), "\n")
	if len(lines) != 1001 || lines[0] != `f.yaml:2:1: "a" is there twice; first in line 1` || lines[1000] != "and 504 more" {
		t.Errorf("%d lines, the first %q, the last %q", len(lines), lines[0], lines[len(lines)-1])
	}
}

// TestAgrees compares with another implementation.
func TestAgrees(t *testing.T) {
	for _, in := range corpus {
		n, err := Parse("f.yaml", []byte(in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(in), &doc); err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		// Whether 08 is a number, the two may disagree on: as text it is the same.
		unquote := strings.NewReplacer(`"`, "")
		if got, want := unquote.Replace(dump(n)), unquote.Replace(dumpOther(&doc)); got != want {
			t.Errorf("%q\nwe  %s\nthey %s", in, got, want)
		}
	}
}

var corpus = []string{
	"a: 1\nb: [x, 'y z', \"q\\n\"]\n", "a: |\n  foo\n\n  bar\nb: >-\n  fold\n  me\n", "a: &x {b: 1}\nc: *x\n",
	"a:\n- b\n- c: d\n  e: f\n", "a: multi\n  line\n", "- - a\n  - b\n-\n  c: d\n", "a: {b: c, d: [e, f]}\n", "a: \"x\n  y\"\n",
	"a: 'x\n\n  y'\n", "a: >\n  x\n   y\n\n  z\n", "a: |2-\n   x\n", "a: x # c\n", "a:\n  - |\n    b\n  - c\n", "\"a b\": c\n", "a: ~\n",
	"a: x#y\nb: http://c:8/d\n", "- a # c\n# c\n-   b\n", "a:\n  b:\n    c: d\n  e: f\ng: h\n", "a: [\n  b,\n  c,\n]\n", "a: {\n  b: c\n}\n",
	"a: \"\\x41\\t\\u00e4\\\\\"\n", "a: |\n  #!/bin/sh\n  echo $x > y: z\n\n\nb: c\n", "a: '%{x}'\n", "a: -O2\nb: -x\n", "a: 08\nb: 1_000\nc: .5\nd: 1e3\n",
	"a:\r\n  - b\r\n", "'a': \"b\"\n", "a: |-\n    x\n      y\n    z", "a: >+\n  x\n\nb: c\n", "a: b\n\n\n# end\n",
}

// FuzzParse says that every position is in the file, and that the tree written
// as JSON is the same tree.
func FuzzParse(f *testing.F) {
	for _, s := range corpus {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		n, err := Parse("f.yaml", []byte(in))
		if err != nil {
			return
		}
		lines := strings.Split(in, "\n")
		var check func(n *Node)
		inside := func(p Pos) {
			if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1 {
				t.Errorf("%q: %v is not in the file", in, p)
			}
		}
		check = func(n *Node) {
			inside(n.Pos)
			for _, i := range n.Items {
				check(i)
			}
			for _, f := range n.Fields {
				inside(f.Pos)
				check(f.Value)
			}
		}
		check(n)
		again, err := Parse("f.json", []byte(asJSON(n)))
		if err != nil {
			t.Fatalf("%q as JSON is %s: %v", in, asJSON(n), err)
		}
		if asJSON(again) != asJSON(n) {
			t.Errorf("%q as JSON is %s, and again %s", in, asJSON(n), asJSON(again))
		}
	})
}

// asJSON writes a tree, all scalars as text.
func asJSON(n *Node) string {
	quote := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		var out strings.Builder
		for _, r := range string(b) { // what does not belong into a file, but may be escaped
			if r >= 0x7f && r < 0xa0 || r == '\ufeff' {
				fmt.Fprintf(&out, `\u%04x`, r)
			} else {
				out.WriteRune(r)
			}
		}
		return out.String()
	}
	switch n.Kind {
	case List:
		var items []string
		for _, i := range n.Items {
			items = append(items, asJSON(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case Mapping:
		var fields []string
		for _, f := range n.Fields {
			fields = append(fields, quote(f.Key)+": "+asJSON(f.Value))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	return quote(n.Text)
}

// dumpOther is dump for the other implementation. Its scalars that are not text
// are as they were written.
func dumpOther(n *yaml.Node) string {
	switch n.Kind {
	case yaml.DocumentNode:
		return dumpOther(n.Content[0])
	case yaml.AliasNode:
		return dumpOther(n.Alias)
	case yaml.SequenceNode:
		var items []string
		for _, i := range n.Content {
			items = append(items, dumpOther(i))
		}
		return "[" + strings.Join(items, " ") + "]"
	case yaml.MappingNode:
		var fields []string
		for i := 0; i < len(n.Content); i += 2 {
			fields = append(fields, strconv.Quote(n.Content[i].Value)+":"+dumpOther(n.Content[i+1]))
		}
		return "{" + strings.Join(fields, " ") + "}"
	}
	switch n.ShortTag() {
	case "!!null":
		return "null"
	case "!!bool", "!!int", "!!float":
		return n.Value
	case "":
		return "null" // no document at all
	}
	return strconv.Quote(n.Value)
}
