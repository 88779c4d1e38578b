package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
	"github.com/sbx-action/sbx-action/staging"
)

// witness is a compiler that notes what it has inherited, and becomes gcc. It is no
// script: of what those do, nothing tells.
const witness = `
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>
static char byDefault(int s)
{
	struct sigaction a;
	return sigaction(s, 0, &a) == 0 && a.sa_handler == SIG_DFL ? 'y' : 'n';
}
int main(int argc, char **argv)
{
	FILE *f = fopen(SEEN, "a");
	fprintf(f, "SIGPIPE %c SIGXFSZ %c slack %d\n", byDefault(SIGPIPE), byDefault(SIGXFSZ), prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
	fclose(f);
	argv[0] = GCC;
	execv(GCC, argv);
	return 99;
}
`

// TestInheritedWhereTold has a compiler that runs outside of a sandbox, because nothing
// can be observed, inherit neither the signals that we ignore nor our timers' slack.
func TestInheritedWhereTold(t *testing.T) {
	f := newFronted(t)
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Fatal(err)
	}
	bin, seen := filepath.Join(t.TempDir(), "gcc"), filepath.Join(f.top, "seen")
	f.write("witness.c", witness)
	build := exec.Command(gcc, "-DSEEN="+strconv.Quote(seen), "-DGCC="+strconv.Quote(gcc), "-o", bin, "witness.c")
	build.Dir = f.dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runtime.LockOSThread() // and not unlocked: it ends with this test
	// It has been found out before that nothing can be observed.
	if err := os.MkdirAll(filepath.Join(f.store, "stat"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.store, "stat", "blind"), []byte(cc.Circumstances()+"\ninjected\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What was written in the tick of the clock in which a call starts may have been
	// written after it started, and then nothing is kept of the call.
	for written := time.Now().UnixNano(); int64(staging.Now()) <= written; {
		time.Sleep(time.Millisecond)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 70_000, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	call := exec.Command(f.command, "cc", bin, "-c", "src/a.c", "-o", "a.o")
	call.Dir, call.Env = f.dir, f.env
	if out, err := call.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	stats := exec.Command(f.command, "cc", "--stats")
	stats.Dir, stats.Env = f.dir, f.env
	if out, err := stats.CombinedOutput(); err != nil || !strings.Contains(string(out), string(cc.ReasonTold)) {
		t.Errorf("control: the compiler was not asked: %v\n%s", err, out)
	}
	const line = "SIGPIPE y SIGXFSZ y slack 70000\n"
	if got, err := os.ReadFile(seen); err != nil || string(got) != line+line {
		t.Errorf("it has inherited, when it was asked and when it compiled: %q, %v, want twice %q", got, err, line)
	}
}
