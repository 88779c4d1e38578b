package actionfile

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestSchema compares the keys of the schema with those that the reader knows,
// which its complaint of an unknown key lists.
func TestSchema(t *testing.T) {
	var schema struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
			More       any            `json:"additionalProperties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, text string
		properties map[string]any
	}{
		{"the file", "zzzzzzzzzz: 1\nversion: 1\nactions: {a: {command: [x]}}\n", schema.Properties},
		{"an action", "version: 1\nactions: {a: {zzzzzzzzzzzz: 1, command: [x]}}\n", schema.Defs["action"].Properties},
		{"a template", "version: 1\ntemplates: {t: {zzzzzzzzzzzz: 1}}\nactions: {a: {command: [x]}}\n", schema.Defs["template"].Properties},
	} {
		_, err := parse(workspace(t), c.text)
		if err == nil {
			t.Fatalf("%s: an unknown key is taken", c.what)
		}
		_, keys, _ := strings.Cut(err.Error(), "its keys are ")
		if want := strings.Join(slices.Sorted(maps.Keys(c.properties)), ", "); keys != want {
			t.Errorf("%s: the reader knows %s\nthe schema %s", c.what, keys, want)
		}
	}
	for name, d := range schema.Defs {
		if len(d.Properties) > 0 && d.More != false {
			t.Errorf("%s takes any key", name)
		}
	}
}
