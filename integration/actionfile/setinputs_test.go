package actionfile

import (
	"strings"
	"testing"
)

func TestSetInputs(t *testing.T) {
	const odd = "it's: \"%{x}\" \\ #"
	for _, c := range []struct{ name, file, text, want string }{
		{"block list", "f.yaml", `version: 1
# about actions
actions:
  one:
    inputs: # these
      - old
      # a comment
      - older

    # about the command
    command: [cc]
  two: {command: [x]}
`, `version: 1
# about actions
actions:
  one:
    inputs:
      - src/a.c
      - 'it''s: "%%{x}" \ #'

    # about the command
    command: [cc]
  two: {command: [x]}
`},
		{"at the end, not indented", "f.yaml", `actions:
  one:
    command: [cc]
    inputs:
    - old
`, `actions:
  one:
    command: [cc]
    inputs:
      - src/a.c
      - 'it''s: "%%{x}" \ #'
`},
		{"one text", "f.yaml", `actions:
  one:
    inputs: old
    command: [cc]
`, `actions:
  one:
    inputs:
      - src/a.c
      - 'it''s: "%%{x}" \ #'
    command: [cc]
`},
		{"flow list", "f.yaml", `actions:
  one:
    inputs: ['a]', "b\"]", # comment ]
      c]  # these
    command: [cc]
`, `actions:
  one:
    inputs: ["src/a.c", "it's: \"%%{x}\" \\ #"]  # these
    command: [cc]
`},
		{"none, block", "f.yaml", `actions:
  "one":
    # about the command
    command: [ü]
`, `actions:
  "one":
    # about the command
    inputs:
      - src/a.c
      - 'it''s: "%%{x}" \ #'
    command: [ü]
`},
		{"none, flow", "f.yaml", "actions: {ü: {command: [x]}, one: {command: [x]}}\n", "actions: {ü: {command: [x]}, one: {\"inputs\": [\"src/a.c\", \"it's: \\\"%%{x}\\\" \\\\ #\"], command: [x]}}\n"},
		{"JSON", "f.json", `{"actions": {"one": {"command": ["cc"], "inputs": ["a", "]"]}}}`, `{"actions": {"one": {"command": ["cc"], "inputs": ["src/a.c", "it's: \"%%{x}\" \\ #"]}}}`},
		{"JSON, none", "f.json", `{"actions": {"one": {}}}`, `{"actions": {"one": {"inputs": ["src/a.c", "it's: \"%%{x}\" \\ #"]}}}`},
	} {
		got, err := SetInputs(c.file, c.text, "one", []string{"src/a.c", odd})
		if err != nil || got != c.want {
			t.Errorf("%s: %v, got\n%swant\n%s", c.name, err, got, c.want)
		}
	}
}

func TestSetInputsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no action is called": "actions: {two: {}}",
		"stands for many":     "actions: {one: {foreach: '*.c', command: [x]}}",
		"f.yaml:1:":           "actions: [",
		"by hand":             "actions:\n  one:\n",
	} {
		if got, err := SetInputs("f.yaml", text, "one", []string{"a"}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

// TestSetNoInputs: a command that needs none.
func TestSetNoInputs(t *testing.T) {
	got, err := SetInputs("f.yaml", "actions:\n  one:\n    inputs:\n      - a\n    command: [x]\n", "one", nil)
	if want := "actions:\n  one:\n    inputs: []\n    command: [x]\n"; err != nil || got != want {
		t.Errorf("%v, %q", err, got)
	}
}

// FuzzSetInputs: whatever it returns differs in the inputs only; that is checked
// by SetInputs itself, so what is left is that it comes to an end, and that a
// second time changes nothing.
func FuzzSetInputs(f *testing.F) {
	f.Add("actions:\n  one:\n    inputs: [a]\n", "x")
	f.Add("actions:\n  one:\n    inputs:\n    - b\n    # c\n    command: [x]\n", "'")
	f.Fuzz(func(t *testing.T, text, input string) {
		once, err := SetInputs("f.yaml", text, "one", []string{input})
		if err != nil {
			return
		}
		twice, err := SetInputs("f.yaml", once, "one", []string{input})
		if err != nil || twice != once {
			t.Errorf("%q became %q and then %q, %v", text, once, twice, err)
		}
	})
}
