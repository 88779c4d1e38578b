package sandboxexec

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

var update = flag.Bool("update", false, "write the golden files")

func TestProfile(t *testing.T) {
	for name, p := range map[string]Profile{
		"none": {},
		"build": {
			Read:  []Path{{"/usr", true}, {"/Library/Developer", true}, {"/private/etc/hosts", false}},
			Write: []Path{{"/private/var/folders/x/sbx-root-1", true}, {"/Users/me/a \"b\" (c)\\d", true}},
		},
		"network": {Read: []Path{{"/usr", true}}, Network: true},
	} {
		got, err := p.String()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", name+".sb")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s%v", name, got, want, err)
		}
	}
}

func TestProfileRefuses(t *testing.T) {
	for _, name := range []string{"", "usr", "/a\nb", "/a\x00b", "/\xff", "/a\x7f"} {
		if text, err := (&Profile{Read: []Path{{Name: name}}}).String(); err == nil {
			t.Errorf("%q: no error, but\n%s", name, text)
		}
	}
}

// read reads S-expressions as SBPL has them, and returns the strings in them by the
// word before: enough to see that no path becomes a rule.
func read(text string) (rules []string, strs []string, err error) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(':
			if depth == 0 {
				word, _, _ := strings.Cut(text[i+1:], " ")
				rules = append(rules, word)
			}
			depth++
		case ')':
			if depth--; depth < 0 {
				return nil, nil, errors.New("a bracket too many")
			}
		case '"':
			var s strings.Builder
			for i++; ; i++ {
				if i >= len(text) {
					return nil, nil, errors.New("a string without end")
				}
				if text[i] == '"' {
					break
				}
				if text[i] == '\\' {
					i++
				}
				s.WriteByte(text[i])
			}
			strs = append(strs, s.String())
		}
	}
	if depth != 0 {
		return nil, nil, errors.New("a bracket too few")
	}
	return rules, strs, nil
}

// FuzzProfile: whatever a path is called, the profile has the same rules, and the path.
func FuzzProfile(f *testing.F) {
	for _, s := range []string{"/usr", `/a") (allow default) (x "`, `/\`, `/\\"`, "/ü", "/;x", "/#|"} {
		f.Add(s)
	}
	plain, _ := (&Profile{Read: []Path{{"/x", true}}}).String()
	want, _, err := read(plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		text, err := (&Profile{Read: []Path{{name, true}}}).String()
		if err != nil {
			return
		}
		rules, strs, err := read(text)
		if err != nil || !slices.Equal(rules, want) || !slices.Contains(strs, name) {
			t.Errorf("%q: rules %q, strings %q, %v", name, rules, strs, err)
		}
	})
}

// TestElsewhere: where there is no macOS, it never works.
func TestElsewhere(t *testing.T) {
	if runtime.GOOS == "darwin" {
		return
	}
	b, err := Open(Options{Program: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if c := b.Capabilities(); c.Works || !strings.Contains(c.Reason, "macOS") {
		t.Errorf("Capabilities = %+v", c)
	}
	if _, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/bin/true"}, Dir: "/"}); !errors.Is(err, backends.ErrUnsupported) {
		t.Errorf("Run = %v", err)
	}
}
