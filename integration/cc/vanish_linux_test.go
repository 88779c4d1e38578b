package cc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
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
		_ = os.WriteFile(header+".new", []byte("int from_header;\n"), 0o644)
		_ = os.Rename(header+".new", header) // nobody finds it without its text
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
		if findProcess(args...) > 0 {
			return true
		}
	}
	return false
}

// findProcess returns the number of a process with these two arguments, or 0.
func findProcess(args ...string) int {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if tail := args[0] + "\x00" + args[1] + "\x00"; bytes.HasSuffix(data, []byte(tail)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// TestOthersWriteBeside has another job write to a directory in which a compiler looks
// for a header in vain, because the source names that directory's file of another
// place. That nothing was there is believed: the directory was looked at before.
func TestOthersWriteBeside(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "# include \"sub/a.h\"\n")
	w.write("one/sub/b.h", "int b;\n")
	w.write("two/sub/a.h", "int a;\n")
	mark := filepath.Join(w.top, "mark")
	w.script("gcc", `
[ -e one/sub/a.h ]
sh -c 'kill -STOP $$' `+mark+` phase-one
cat two/sub/a.h
echo object >a.o`)
	call := words("./gcc -Ione -Itwo -c a.c -o a.o")
	beside := filepath.Join("one", "sub", "b.o")
	over, ended := make(chan struct{}), make(chan struct{})
	go func() { // lets every run of the compiler go on, also one that should not be
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if pid := findProcess(mark, "phase-one"); pid > 1 {
				_ = os.WriteFile(w.path(beside), []byte("of another job\n"), 0o644)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}()
	defer func() { close(over); <-ended }()
	w.skip = "one"
	got, outcome, reason := w.wrapped(call)
	if got.stdout != "int a;\n" || got.code != 0 {
		t.Fatalf("control: the compiler did not run as it should: %+v", got)
	}
	if outcome != cc.Miss {
		t.Errorf("ended with %s (%s)", outcome, reason)
	}
	w.expect("again", call, got, cc.Hit)
	w.write("one/sub/a.h", "int earlier;\n")
	w.script("gcc", "cat one/sub/a.h; echo object >a.o")
	w.expect("a header appears there", call, w.bare(call), cc.Miss)
}
