package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// TestClosed has standard descriptors that are closed: a compiler does what it does
// without us, and what a command of run says is not lost without a word.
func TestClosed(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no front, and Go opens /dev/null")
	}
	f := newFronted(t)
	f.write("src/warns.c", "int f(void) { int x; return x; }\n")
	says := func(script string, args ...string) string {
		cmd := exec.Command("sh", append([]string{"-c", script}, args...)...)
		cmd.Dir, cmd.Env = f.dir, f.env
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.String() + "\n" + string(out)
	}
	for _, closed := range []string{"<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"} {
		for _, args := range []string{
			"gcc -E src/a.c", "gcc -c src/a.c -o a.o", "gcc -Wall -c src/warns.c -o a.o", "gcc -c -xc - -o a.o", "gcc -c none.c",
			"--any cat", "--any cat src/a.h", "--any gcc -E src/a.c",
		} {
			bare := strings.Fields(strings.TrimPrefix(args, "--any "))
			const script = `rm -f a.o; (exec "$@" %) </dev/null; echo $?; cksum a.o 2>&1`
			run := strings.ReplaceAll(script, "%", closed)
			want := says(run, append([]string{"sh"}, bare...)...)
			for range 2 {
				if got := says(run, append([]string{"sh", f.command, "cc"}, strings.Fields(args)...)...); got != want {
					t.Errorf("%s %s: %swant %s", args, closed, got, want)
				}
			}
		}
	}
	const lost = "125\nsbx-action: run: "
	for _, c := range []struct{ closed, command, want string }{
		{"<&-", "echo out; echo err >&2; cat", "out\nerr\n0\n"},
		{">&-", "true", "0\n"},
		{">&-", "echo err >&2", "err\n0\n"},
		{"2>&-", "echo out", "out\n0\n"},
		{"2>&-", "echo err >&2", "125\n"},
		{">&- 2>&-", "echo out", "125\n"},
		{">&-", "echo out", lost},
	} {
		for range 2 { // a hit, the second time
			got := says(`(exec "$@" `+c.closed+`) 2>said; code=$?; echo $code; cat said`, "sh", f.command, "run", "--", "sh", "-c", c.command)
			if c.want != lost {
				got = says(`(exec "$@" `+c.closed+`); echo $?`, "sh", f.command, "run", "--", "sh", "-c", c.command)
			}
			got = strings.TrimPrefix(got, "exit status 0\n")
			if c.want != lost && got != c.want || !strings.HasPrefix(got, c.want) || c.want == lost && !strings.Contains(got, "bad file descriptor") {
				t.Errorf("run -- %s %s: %swant %s", c.command, c.closed, got, c.want)
			}
		}
	}
	for _, args := range []string{"cc --stats", "cache stat", "cache path", "--version", "--help", "help run", "cc --help", "cache stat --help", "explain -- true", "run --json -- true"} {
		got := says(`"$@" >&-; echo $?`, append([]string{"sh", f.command}, strings.Fields(args)...)...)
		if !strings.Contains(got, "bad file descriptor\n125\n") {
			t.Errorf("%s: %s", args, got)
		}
	}
}
