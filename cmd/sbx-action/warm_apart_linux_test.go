package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWarmApart has builds that put each command into a process group of its own, and
// what looks like one.
func TestWarmApart(t *testing.T) {
	b := newBuilt(t)
	// A script with jobs is such a build, which ends.
	b.saysBash("commands", `
set -m
miss
[ -e "$dir" ] && echo "one miss began a session"
begin
miss; miss
"$SBX" warm --count
`, "answered 2, declined 0\n")
	b.gone()
	b.saysBash("lines for a shell", `
set -m
line() { n=$((n+1)); sh -c '"$SBX" run -- echo "$1" "$2" >said; :' sh "$n" "$$"; [ "$(cat said)" = "$n $$" ] || echo "it said $(cat said)"; }
line
[ -e "$dir" ] && echo "one miss began a session"
until [ -e "$dir" ]; do line; done; until ready; do sleep 0.01; done
line; line; miss
"$SBX" warm --count
`, "answered 3, declined 0\n")
	b.gone()
	b.ninja()

	b.saysBash("sessions of the kernel's", `set -m; for n in 1 2 3 4; do setsid -w "$SBX" run -- echo "$n" $$ alone; done >said; wc -l <said; ls "$XDG_RUNTIME_DIR"`, "4\n")
	for _, shell := range []string{"exec bash --norc --noprofile -i", "bash --norc --noprofile -i; :"} {
		if got := b.typed(shell, `
for n in 1 2 3 4; do "$SBX" run -- echo $n $$ typed >>said; ls "$XDG_RUNTIME_DIR" >>said; done
for n in 5 6 7 8; do "$SBX" run -- echo $n $$ behind >>said & wait; ls "$XDG_RUNTIME_DIR" >>said; done
`); strings.Count(got, "\n") != 8 || strings.Contains(got, "sbx-warm") {
			t.Errorf("%s: it said %s", shell, got)
		}
	}
	if got := b.left(); len(got) > 0 {
		t.Errorf("there is %q", got)
	}
}

// saysBash is says for a script of bash, which alone has jobs without a terminal. It is
// in the middle of another one's group.
func (b *built) saysBash(name, script, want string) {
	b.t.Helper()
	b.says(name, "exec bash -c \"$SCRIPT\"", want, "SCRIPT="+prelude+script+"\n:") // bash would become its last command
}

// ninja has Ninja run a build of which each command is a miss.
func (b *built) ninja() {
	t := b.t
	t.Helper()
	const file = `
rule line
  command = "$$SBX" run -- echo $n here >$out
rule lines
  command = : && "$$SBX" run -- echo $n here >$out && :
rule count
  command = until flock -n "$$XDG_RUNTIME_DIR"/sbx-warm-*/0.lock true; do sleep 0.01; done; "$$SBX" run -- echo last here >said; "$$SBX" warm --count >$out
`
	var text strings.Builder
	text.WriteString(file)
	last := ""
	for n := range strings.FieldsSeq("0 1 2 3 4 5 6 7 8 9") {
		rule := "line"
		if n == "3" {
			rule = "lines"
		}
		text.WriteString("build out" + n + ": " + rule + last + "\n  n = " + n + "\n")
		last = " | out" + n
	}
	text.WriteString("build count: count" + last + "\n")
	if err := os.WriteFile(filepath.Join(b.dir, "build.ninja"), []byte(text.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	b.says("ninja", `ninja >log || cat log; grep -q "^answered [1-9][0-9]*, declined 0$" count || cat count; cat out9 said`, "9 here\nlast here\n")
	b.gone()
}

// typed starts a shell at a terminal of its own, types lines, and returns what they have
// written to a file.
func (b *built) typed(shell, lines string) string {
	t := b.t
	t.Helper()
	said := filepath.Join(b.dir, "said")
	os.Remove(said)
	ours, theirs := pseudoTerminal(t)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", shell)
	cmd.Dir, cmd.Env = b.dir, append(b.env, "PS1=", "TERM=dumb", "HISTFILE=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := io.WriteString(ours, lines+"exit\n"); err != nil {
		t.Fatal(err)
	}
	screen, _ := io.ReadAll(ours) // an error, EIO, when nobody has the other end any more
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v, %s", shell, err, screen)
	}
	data, err := os.ReadFile(said)
	if err != nil {
		t.Errorf("%v, %s", err, screen)
	}
	return string(data)
}
