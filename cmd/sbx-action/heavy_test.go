package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// heavyDir returns a directory with sbx-actiond, for PATH: that of
// SBX_TEST_ACTIOND, where the tests run without Go's tools, else one that this
// makes.
func heavyDir(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("SBX_TEST_ACTIOND"); file != "" {
		if _, err := os.Stat(file); err != nil { // which also tells go test that it is an input
			t.Fatal(err)
		}
		return filepath.Dir(file)
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, heavyProgram), "../sbx-actiond")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return dir
}
