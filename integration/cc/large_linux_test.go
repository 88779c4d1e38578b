package cc_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestLargeFileOfTheSystem: one that is not read when it is first seen. Nobody can say
// that it is as it was once it was touched; after that it is known by its content.
func TestLargeFileOfTheSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it is root's; it is tested as root
	}
	dir, err := os.MkdirTemp("/usr/lib", "sbx-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.flags = []string{"--any", "--no-stdin"}
	file := filepath.Join(dir, "large.so")
	args := []string{"head", "-c1", file}
	old := func(text string) { // as an edit that hides itself
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
		w.must(err)
		defer f.Close()
		_, err = f.WriteAt([]byte(text), 0)
		w.must(err)
		w.must(f.Truncate(16 << 20))
		w.must(os.Chtimes(file, time.Unix(1, 1), time.Unix(1, 1)))
	}
	old("1")
	time.Sleep(150 * time.Millisecond) // else it is read
	for _, step := range []struct {
		what   string
		change func()
		want   cc.Outcome
	}{
		{"at first", func() {}, cc.Miss},
		{"unchanged", func() {}, cc.Hit},
		{"another content of the same size and time", func() { old("2") }, cc.Miss},
		{"unchanged then", func() {}, cc.Hit},
		{"touched", func() { w.must(os.Chtimes(file, time.Now(), time.Now())) }, cc.Hit},
		{"as at first, which nobody has read", func() { old("1") }, cc.Miss},
		{"as before that", func() { old("2") }, cc.Hit},
		{"as at first again", func() { old("1") }, cc.Hit},
		{"another length", func() { w.must(os.Truncate(file, 16<<20+1)) }, cc.Miss},
	} {
		step.change()
		want := w.bare(args)
		w.expect(step.what, args, want, step.want)
		if step.want == cc.Hit {
			w.atOnce(step.what+", by the front", args, want)
		}
	}
}
