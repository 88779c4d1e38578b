package cc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestAppearsAndVanishes has another job make a header, and remove it, while a
// compiler runs that reads it: before and after the run it is absent.
func TestAppearsAndVanishes(t *testing.T) {
	w := newWorld(t)
	inc, err := os.MkdirTemp("/var/tmp", "sbx-test-")
	w.must(err)
	t.Cleanup(func() { os.RemoveAll(inc) })
	w.must(os.Chmod(inc, 0o755))
	header := filepath.Join(inc, "a.h")
	w.write("a.c", "int a;\n")
	w.script("gcc", `
header=$1/a.h
header=${header#-I}
if [ "$3" = wait.c ]; then
	sh -c 'until [ -e "$0" ]; do sleep 0.01; done' "$header" phase-one
	cat "$header"
	sh -c 'while [ -e "$0" ]; do sleep 0.01; done' "$header" phase-two
else
	[ -e "$header" ]
fi
echo object >a.o`)
	w.write("wait.c", "int a;\n")
	// The control: what is looked for in vain, and stays absent, is no reason.
	quiet := words("./gcc -I" + inc + " -c a.c -o a.o")
	want := w.bare(quiet)
	w.expect("nothing appears", quiet, want, cc.Miss)
	w.expect("nothing has appeared", quiet, want, cc.Hit)

	done := make(chan struct{})
	go func() {
		defer close(done)
		if !waitFor(header, "phase-one") {
			return
		}
		_ = os.WriteFile(header, []byte("int from_header;\n"), 0o644)
		waitFor(header, "phase-two")
		_ = os.Remove(header)
	}()
	got, outcome, reason := w.wrapped(words("./gcc -I" + inc + " -c wait.c -o a.o"))
	<-done
	if got.stdout != "int from_header;\n" {
		t.Fatalf("control: the compiler did not read the header: %+v", got)
	}
	if outcome != cc.Unkept || reason != "an input changed meanwhile" {
		t.Errorf("ended with %s (%s): a header that is not there any more was read", outcome, reason)
	}
}

// waitFor waits for a process with these two arguments, wherever it runs.
func waitFor(args ...string) bool {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range lines {
			data, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			if tail := args[0] + "\x00" + args[1] + "\x00"; bytes.HasSuffix(data, []byte(tail)) {
				return true
			}
		}
	}
	return false
}
