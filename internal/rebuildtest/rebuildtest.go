// Package rebuildtest checks that binaries that are checked in are what their
// source makes: by building it again, and comparing.
package rebuildtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compilers are Debian 12's, which make the same bytes anywhere, and their
// packages.
var compilers = map[string]string{
	"x86_64-linux-gnu-gcc-12":  "gcc-12",
	"aarch64-linux-gnu-gcc-12": "gcc-12-aarch64-linux-gnu",
}

// Test calls ./build.sh with a directory, and wants the files of these names in
// it to be those here. Which compilers build.sh needs, it says itself. Where one
// is missing it skips, but in CI, where CI is set, it fails.
func Test(t *testing.T, names ...string) {
	t.Helper()
	script, err := os.ReadFile("build.sh")
	if err != nil {
		t.Fatal(err)
	}
	for compiler, debian := range compilers {
		if !strings.Contains(string(script), "cc="+compiler) {
			continue
		}
		if _, err := exec.LookPath(compiler); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v: apt-get install %s", err, debian)
			}
			t.Skipf("%v: install Debian 12's %s to compare", err, debian)
		}
	}
	dir := t.TempDir()
	if out, err := exec.Command("./build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	for _, name := range names {
		have, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not what build.sh makes of src: run build.sh, and commit", name)
		}
	}
}
