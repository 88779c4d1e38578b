package main

import (
	"os"
	"strings"
	"testing"
)

// TestCheck has a module with faults that only one system has, and one that all have.
func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	files := map[string]string{
		"go.mod":          "module m\n\ngo 1.26\n",
		"a.go":            "package m\n\nimport \"syscall\"\n\nvar Stat syscall.Stat_t\n",
		"a_freebsd.go":    "package m\n\nfunc broken() int { return Nothing }\n",
		"a_arm64_test.go": "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { var n int64 = Stat.Nlink }\n",
		"x_darwin_test.go": "package m_test\n\nimport (\n\t\"testing\"\n\n\t\"m\"\n)\n\n" +
			"func TestX(t *testing.T) { m.Missing() }\n",
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for system, want := range map[string][]string{
		"linux/amd64":   nil, // control
		"freebsd/amd64": {"undefined: Nothing"},
		"darwin/amd64":  {"undefined: m.Missing"},
		"linux/arm64":   {"declared and not used: n", "cannot use Stat.Nlink (variable of type uint32)"},
		"plan10":        {"no system like"},
	} {
		n, err := check(system, "./...")
		if want == nil && (err != nil || n != 1) {
			t.Errorf("%s: %d packages, %v; want 1", system, n, err)
		}
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q", system, err, w)
			}
		}
	}
}
