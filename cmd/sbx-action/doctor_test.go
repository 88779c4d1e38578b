package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// TestDoctorPage holds docs/doctor.md against what doctor says here: it names all
// that is looked at, and where this machine is in the state that is shown there, it
// says the same, with the same remedy.
func TestDoctorPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	self := os.Args[0]
	t.Cleanup(func() { os.Args[0] = self })
	os.Args[0] = "sbx-action" // what is started in a user namespace is the program, and not all tests: see TestMain
	d := doctor{}
	d.cache = t.TempDir()
	here, all := map[string]finding{}, machine()
	for _, name := range []string{"native", "bubblewrap"} { // each takes a moment; a machine that boots does not
		all = append(all, d.sandbox(t.Context(), name)...)
	}
	for _, f := range append(all, d.disk()...) {
		here[f.Name] = f
	}
	known := map[string]bool{}
	for _, name := range wiring.BackendNames() {
		known["backend "+name] = true
	}
	// What differs between machines: numbers, places, the kernel.
	numbers := regexp.MustCompile(`[0-9][0-9.,]*`)
	general := func(text string) string { return numbers.ReplaceAllString(text, "0") }

	shown, compared := map[string]bool{}, 0
	rows := strings.Split(string(page), "\n")
	row := regexp.MustCompile(`^(ok|slow|no) +(\S.*)$`)
	for i, line := range rows {
		if m := row.FindStringSubmatch(line); m == nil || len(line) < 33 {
			continue
		}
		state, name, detail := strings.TrimSpace(line[:5]), strings.TrimSpace(line[6:31]), line[32:]
		shown[name] = true
		now, ok := here[name]
		if !ok {
			if !known[name] {
				t.Errorf("line %d: doctor says nothing of %q here", i+1, name)
			}
			continue
		}
		if now.State != state || name == "kernel" || name == "store" || name == "TMPDIR" || name == "control groups" {
			continue
		}
		compared++
		if general(now.Detail) != general(detail) {
			t.Errorf("line %d: %s is %q here, and %q in the page", i+1, name, now.Detail, detail)
		}
		_, remedy, _ := strings.Cut(rows[i+1], " -> ")
		if !strings.HasPrefix(rows[i+1], " ") {
			remedy = ""
		}
		if remedy != now.Remedy {
			t.Errorf("line %d: the remedy for %s is %q here, and %q in the page", i+1, name, now.Remedy, remedy)
		}
	}
	if compared < 5 {
		t.Errorf("only %d lines of the page could be compared", compared)
	}
	for name := range here {
		if !shown[name] {
			t.Errorf("docs/doctor.md does not show %q", name)
		}
	}
}
