package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTrapsHaveTests looks for every test, promise and script that
// docs/traps.md names.
func TestTrapsHaveTests(t *testing.T) {
	doc, err := os.ReadFile("../../docs/traps.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests, promises strings.Builder
	err = filepath.WalkDir("../..", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(p, ".go") {
			return err
		}
		into := &promises
		if strings.HasSuffix(p, "_test.go") {
			into = &tests
		} else if !strings.Contains(p, "/promise/") {
			return nil
		}
		data, err := os.ReadFile(p)
		into.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range regexp.MustCompile("`([^`/]*)/?([^`]*)`").FindAllStringSubmatch(string(doc), -1) {
		name, ok := strings.Trim(m[0], "`"), true
		switch {
		case strings.HasPrefix(name, "Test"):
			ok = strings.Contains(tests.String(), "\nfunc "+name+"(")
		case m[1] == "script" && m[2] != "x":
			_, err := os.Stat("../../cmd/sbx-action/testdata/script/" + m[2] + ".txtar")
			ok = err == nil
		case regexp.MustCompile(`^[a-z]+/[a-z0-9-]+$`).MatchString(name) && m[2] != "x":
			ok = strings.Contains(promises.String(), `Name: "`+name+`"`)
		default:
			continue
		}
		found++
		if !ok {
			t.Errorf("docs/traps.md: there is no %s", name)
		}
	}
	if found < 50 {
		t.Errorf("docs/traps.md names %d tests, want 50 or more: does this test read it well?", found)
	}
}
