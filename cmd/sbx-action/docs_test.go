package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

// TestDocsNameWhatIsThere looks at each command line of the README and of docs: there
// is such a command, and it has the flags that are given to it.
func TestDocsNameWhatIsThere(t *testing.T) {
	t.Setenv("PATH", heavyDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	p := whole(t.Context())
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	lines, flags := 0, 0
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(string(text)) {
			lines++
			words := strings.Fields(line)
			c, ok := p.Lookup(words[0])
			switch {
			case !ok && words[0] != "help":
				t.Errorf("%s: 'sbx-action %s': there is no such command", name, line)
			case !ok || c.Setup == nil: // it has another program's flags
			default:
				for _, flag := range givenFlags(words) {
					flags++
					if !hasFlag(c, flag) {
						t.Errorf("%s: 'sbx-action %s': %s has no flag -%s", name, line, c.Name, flag)
					}
				}
			}
		}
	}
	if lines < 150 || flags < 100 {
		t.Errorf("only %d lines with %d flags were found: the test is broken itself", lines, flags)
	}
}

// TestDocsNameEveryFlag looks for each flag of each command in the README and in docs:
// what is only in --help is found by nobody who does not know of it.
func TestDocsNameEveryFlag(t *testing.T) {
	t.Setenv("PATH", heavyDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:^|[^\w-])--?([\w-]+)`).FindAllSubmatch(text, -1) {
			named[string(m[1])] = true
		}
	}
	flags := 0
	var look func(of string, c commandline.Command)
	look = func(of string, c commandline.Command) {
		if c.Setup != nil {
			c.Flags().VisitAll(func(f *flag.Flag) {
				if flags++; !named[f.Name] {
					t.Errorf("%s%s has a flag --%s, which is in no text: put it into the one of docs where who needs it looks", of, c.Name, f.Name)
				}
			})
		}
		for _, word := range c.Words {
			look(of+c.Name+" ", word)
		}
	}
	for _, c := range whole(t.Context()).Commands {
		if c.Name != "buildbox-run" { // it has another program's flags
			look("", c)
		}
	}
	if flags < 200 || named["no-such-flag"] {
		t.Errorf("only %d flags were found: the test is broken itself", flags)
	}
}

// commandLines returns what stands behind "sbx-action " in the code of a text in
// Markdown, up to the end of the command.
func commandLines(text string) (lines []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, code := range regexp.MustCompile("(?s)```.*?```|`[^`]+`").FindAllString(text, -1) {
		for _, m := range regexp.MustCompile(`\bsbx-action ([a-z][^\n]*)`).FindAllStringSubmatch(strings.Trim(code, "`"), -1) {
			line := m[1]
			if i := strings.IndexAny(line, "|;)>\"#'"); i >= 0 {
				line = line[:i]
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// givenFlags returns the names of the flags that a command is given, and not those of
// a command that it runs.
func givenFlags(words []string) (names []string) {
	for _, word := range words[1:] {
		name := strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
		if word == "--" || name == word && (words[0] == "cc" || words[0] == "warm") {
			break
		}
		if i := strings.IndexAny(name, "=[,…"); i >= 0 {
			name = name[:i]
		}
		if strings.HasPrefix(word, "-") && name != "" && name != "help" {
			names = append(names, name)
		}
	}
	return names
}

// hasFlag says whether a command has a flag, or one of its words does.
func hasFlag(c commandline.Command, name string) bool {
	if c.Flags().Lookup(name) != nil {
		return true
	}
	for _, word := range c.Words {
		if word.Setup != nil && word.Flags().Lookup(name) != nil {
			return true
		}
	}
	return false
}
