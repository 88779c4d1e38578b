package actionfile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"
)

// compiled is the schema as another program reads it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4) // as it says itself, or $defs and const would mean nothing
	c.AssertFormat()
	if err := c.AddResource("action-file.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("action-file.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value reads a file as an editor does, with a YAML reader that is not ours. JSON
// is YAML, too.
func value(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSchemaTakes validates the files that we show.
func TestSchemaTakes(t *testing.T) {
	schema := compiled(t)
	files := map[string]string{"project": project}
	names, err := filepath.Glob("../../examples/*/build.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	guide, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	_, guided, _ := strings.Cut(string(guide), "yaml file=build.yaml\n")
	files["guide"], _, _ = strings.Cut(guided, "```")
	source, err := os.ReadFile("actionfile.go")
	if err != nil {
		t.Fatal(err)
	}
	_, doc, _ := strings.Cut(string(source), "\n//\n//\tversion")
	doc, _, _ = strings.Cut("//\tversion"+doc, "\n//\n")
	files["documentation"] = strings.ReplaceAll(doc, "//\t", "")
	scripts, err := filepath.Glob("../../cmd/sbx-action/testdata/script/file*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		parts := regexp.MustCompile(`(?m)^-- (.*) --$`).Split(string(text), -1)
		heads := regexp.MustCompile(`(?m)^-- (.*) --$`).FindAllStringSubmatch(string(text), -1)
		for i, h := range heads {
			if ext := filepath.Ext(h[1]); (ext == ".yaml" || ext == ".json") && !strings.HasPrefix(h[1], "bad") {
				files[name+": "+h[1]] = parts[i+1]
			}
		}
	}
	for name, text := range files {
		if !strings.Contains(text, "version") || !strings.Contains(text, "actions") {
			t.Errorf("%s is no file: %q", name, text)
		} else if err := schema.Validate(value(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(files) < 8 {
		t.Errorf("only %d files", len(files))
	}
}

// TestSchemaRefuses has files that the schema and the reader refuse both.
func TestSchemaRefuses(t *testing.T) {
	schema := compiled(t)
	for _, c := range []struct{ text, at, rule string }{
		{"version: 2\nactions: {a: {command: [x]}}", "/version", "const"},
		{"version: '1'\nactions: {a: {command: [x]}}", "/version", "const"},
		{"actions: {a: {command: [x]}}", "", "required"},
		{"version: 1", "", "required"},
		{"version: 1\nactions: {}", "/actions", "minProperties"},
		{"version: 1\nactions: [a]", "/actions", "type"},
		{"version: 1\nactoins: {}\nactions: {a: {command: [x]}}", "", "additionalProperties"},
		{"version: 1\nactions: {a: {command: [x], inptus: [b]}}", "/actions/a", "additionalProperties"},
		{"version: 1\nactions: {a: {command: x}}", "/actions/a/command", "type"},
		{"version: 1\nactions: {a: {command: []}}", "/actions/a/command", "minItems"},
		{"version: 1\nactions: {a: {command: [x, [y]]}}", "/actions/a/command/1", "type"},
		{"version: 1\nactions: {a: {command: [x], shell: y}}", "/actions/a", "not"},
		{"version: 1\nactions: {a: {command: [x], network: 'yes'}}", "/actions/a/network", "type"},
		{"version: 1\nactions: {a: {command: [x], env: [A=b]}}", "/actions/a/env", "type"},
		{"version: 1\nactions: {a: {command: [x], env: {A: [b]}}}", "/actions/a/env/A", "type"},
		{"version: 1\nactions: {a: {command: [x], timeout: true}}", "/actions/a/timeout", "type"},
		{"version: 1\nactions: {a: {command: [x], inputs: {b: c}}}", "/actions/a/inputs", "type"},
		{"version: 1\nactions: {a: {command: [x], inputs: ['']}}", "/actions/a/inputs/0", "minLength"},
		{"version: 1\nactions: {'a b': {command: [x]}}", "", "pattern"},
		{"version: 1\nvars: {out: x}\nactions: {a: {command: [x]}}", "", "not"},
		{"version: 1\ntemplates: {t: {foreach: x}}\nactions: {a: {command: [x]}}", "/templates/t", "additionalProperties"},
		{"version: 1\ndefaults: {optional: true}\nactions: {a: {command: [x]}}", "/defaults", "additionalProperties"},
	} {
		if _, err := parse(workspace(t), c.text); err == nil {
			t.Errorf("the reader takes\n%s", c.text)
		}
		err := schema.Validate(value(t, c.text))
		if err == nil {
			t.Errorf("the schema takes\n%s", c.text)
			continue
		}
		if !complains(err.(*jsonschema.ValidationError), c.at, c.rule) {
			t.Errorf("want a complaint of %q at %q, have %v\nfor %s", c.rule, c.at, err, c.text)
		}
	}
}

// complains says whether one of the causes is a rule that is broken at a place.
func complains(e *jsonschema.ValidationError, at, rule string) bool {
	var here strings.Builder
	for _, word := range e.InstanceLocation {
		here.WriteString("/" + word)
	}
	path := e.ErrorKind.KeywordPath()
	if _, ok := e.ErrorKind.(*kind.Not); ok { // which names no keyword
		path = []string{"not"}
	}
	if here.String() == at && len(path) > 0 && path[0] == rule {
		return true
	}
	for _, cause := range e.Causes {
		if complains(cause, at, rule) {
			return true
		}
	}
	return false
}
