package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestLimits has limits with which Go does not start.
func TestLimits(t *testing.T) {
	l := newLimited(t)
	for name, test := range map[string]func(*limited){"alone": (*limited).alone, "tasks": (*limited).tasks, "names": (*limited).names, "scripts": (*limited).scripts, "flags": (*limited).cFlags} {
		t.Run(name, func(t *testing.T) {
			l := &limited{&fronted{t: t, command: l.command, dir: l.dir, store: l.store, top: l.top, env: l.env}}
			test(l)
		})
	}
}

// A limited is a program that is executed with a limit of resources.
type limited struct{ *fronted }

func newLimited(t *testing.T) *limited {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no front, which is what looks at limits")
	}
	l := &limited{newFronted(t)}
	l.write("script", "#!/bin/sh\necho \"$0: $*\"\nexit 7\n")
	l.write("plain", "echo \"$0: $*\"\nexit 7\n")
	l.write("data", "")
	for _, name := range []string{"script", "plain"} {
		if err := os.Chmod(filepath.Join(l.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.says("-n 1000", l.command, "cc", "gcc", "--version") // there are statistics now
	return l
}

// says is what a program says, and its exit code. Limit is for ulimit, whose flags sh and
// bash do not have alike.
func (l *limited) says(limit string, args ...string) string {
	l.t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", "ulimit -c 0 " + limit + ` && exec env "$0" "$@"`}, args...)...)
	cmd.Dir, cmd.Env = l.dir, l.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return fmt.Sprintf("%v\n%s%s", cmd.ProcessState, stdout.String(), stderr.String())
}

func (l *limited) counted() int {
	data, _ := os.ReadFile(filepath.Join(l.store, "stat", "cc1"))
	return strings.Count(string(data), string(cc.ReasonLimits))
}

// alone has limits with which a compiler works, or fails in its own way, and in
// which Go does not start: the compiler is all that is to be seen, and it is counted.
// There is one line where there is no compiler.
func (l *limited) alone() {
	for _, limit := range []string{"-v 500000", "-v 100000", "-d 40000", "-n 6", "-n 16"} {
		before := l.counted()
		for _, args := range [][]string{{"gcc", "-DALONE", "-c", "src/a.c", "-o", "a.o"}, {"gcc", "-c", "none.c"}, {"./script", "-c", "x.c"}} {
			_ = os.Remove(filepath.Join(l.dir, "a.o"))
			want := l.says(limit, args...)
			alone, aerr := os.ReadFile(filepath.Join(l.dir, "a.o"))
			_ = os.Remove(filepath.Join(l.dir, "a.o"))
			got := l.says(limit, append([]string{l.command, "cc"}, args...)...)
			made, err := os.ReadFile(filepath.Join(l.dir, "a.o"))
			if got != want || !bytes.Equal(made, alone) || (err == nil) != (aerr == nil) {
				l.t.Errorf("ulimit %s, %q: %swant %s", limit, args, got, want)
			}
		}
		if n := l.counted() - before; n != 3 {
			l.t.Errorf("ulimit %s: %d calls are counted, want 3", limit, n)
		}
		option, value, _ := strings.Cut(limit, " ")
		for _, args := range [][]string{{"run", "--", "true"}, {"cc", "--stats"}, {"cc"}, {"--help"}} {
			got := l.says(limit, append([]string{l.command}, args...)...)
			if want := "exit status 125\nsbx-action: ulimit " + option + " " + value + " is too low for this program to start: raise it to "; !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 2 {
				l.t.Errorf("ulimit %s, %q: %swant %s…", limit, args, got, want)
			}
		}
	}
}

// tasks has a limit of processes: as root nothing comes of it, and others
// have more already.
func (l *limited) tasks() {
	want := l.says("-u 1", "gcc", "-c", "src/a.c", "-o", "a.o")
	if got := l.says("-u 1", l.command, "cc", "gcc", "-c", "src/a.c", "-o", "a.o"); got != want {
		l.t.Errorf("%swant %s", got, want)
	}
	if os.Geteuid() == 0 {
		return // in the sandbox it may be another user who has too many
	}
	got := l.says("-u 1", l.command, "run", "--", "true")
	if want := "exit status 125\nsbx-action: ulimit -u 1 is too low"; !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 2 {
		l.t.Errorf("%swant %s…", got, want)
	}
}

// names finds programs as a shell does, but for links to us.
func (l *limited) names() {
	links, real := filepath.Join(l.top, "links"), filepath.Join(l.top, "real")
	for link, to := range map[string]string{
		links + "/prog": l.command, links + "/none": l.command, real + "/prog": l.dir + "/script",
		real + "/data": l.dir + "/data",
	} {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.Symlink(to, link); err != nil {
			l.t.Fatal(err)
		}
	}
	for _, p := range personalities() {
		if err := os.Symlink(l.command, filepath.Join(links, p.name)); err != nil {
			l.t.Fatal(err)
		}
	}
	path := "PATH=" + links + "::" + real + ":" + os.Getenv("PATH")
	for _, c := range []struct{ args, want string }{
		{"prog x", "7 " + real + "/prog: x"},
		{links + "/prog x y", "7 " + real + "/prog: x y"},
		{l.command + " cc prog x", "7 " + real + "/prog: x"},
		{l.command + " cc " + links + "/prog x", "7 " + real + "/prog: x"},
		{l.command + " cc -- prog", "7 " + real + "/prog: "},
		{l.command + " cc script", "7 ./script: "},
		{l.command + " cc plain x", "7 ./plain: x"},
		{l.command + " cc none", "127 sbx-action: cc: none: not found"},
		{links + "/none", "127 sbx-action: cc: none: not found"},
		{l.command + " cc ./none", "127 sbx-action: cc: ./none: not found"},
		{l.command + " cc data", "126 sbx-action: cc: data: permission denied"},
		{l.command + " cc ./data", "126 sbx-action: cc: ./data: permission denied"},
		{l.command + " cc src", "127 sbx-action: cc: src: not found"},
	} {
		status, said, _ := strings.Cut(l.says("-n 16", append([]string{"env", path}, strings.Split(c.args, " ")...)...), "\n")
		if got := strings.TrimPrefix(status, "exit status ") + " " + strings.TrimSuffix(said, "\n"); got != c.want {
			l.t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
	for _, p := range personalities() {
		if got := l.says("-n 16", filepath.Join(links, p.name), "--version"); !strings.HasPrefix(got, "exit status 125\nsbx-action: ulimit -n 16 ") {
			l.t.Errorf("%s: %s", p.name, got)
		}
	}
}

// cFlags finds the compiler behind all flags there are.
func (l *limited) cFlags() {
	var f ccFlags
	flags := flag.NewFlagSet("cc", flag.ContinueOnError)
	f.declare(flags)
	flags.VisitAll(func(fl *flag.Flag) {
		want := "exit status 7\n./script: --stats\n"
		if !isSetting(fl.Name) && fl.Name != "any" && !strings.HasPrefix(fl.Name, "remote") {
			want = "exit status 125\n"
		}
		spellings := [][]string{{"--" + fl.Name, "value"}, {"-" + fl.Name + "=value"}}
		if b, ok := fl.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			spellings = [][]string{{"--" + fl.Name}, {"-" + fl.Name + "=true"}}
		}
		for _, s := range spellings {
			args := append(append([]string{l.command, "cc", "--verbose"}, s...), "./script", "--stats")
			if got := l.says("-n 16", args...); !strings.HasPrefix(got, want) {
				l.t.Errorf("%q: %swant %s", s, got, want)
			}
		}
	})
}

// scripts are called like the compiler for which they call us: each is passed over once it
// has, also where the next call finds Go, and the other way round.
func (l *limited) scripts() {
	scripts, real := filepath.Join(l.top, "scripts"), filepath.Join(l.top, "compilers")
	path := real
	for i, first := range []string{"#!/bin/sh\n", "#!/bin/bash\n", "", "#!/bin/sh\n"} {
		dir := fmt.Sprint(scripts, i)
		path = dir + "/:" + path
		l.script(filepath.Join(dir, "tool"), first+"exec "+l.command+" cc --any tool \"$@\"\n")
	}
	l.script(filepath.Join(real, "tool"), "#!/bin/sh\necho \"tool: $*\"\nexit 7\n")
	path = "PATH=" + path + ":" + os.Getenv("PATH")
	for _, limit := range []string{"-n 16", "-n 1000"} {
		for _, call := range []string{"tool x", l.command + " cc --any tool x"} {
			got := l.says(limit, append([]string{"env", path}, strings.Fields(call)...)...)
			if want := "exit status 7\ntool: x\n"; got != want {
				l.t.Errorf("ulimit %s, %s: %swant %s", limit, call, got, want)
			}
		}
	}
	// The first has a limit that its next call has not.
	l.script(filepath.Join(scripts+"4", "tool"), "#!/bin/sh\nulimit -n 1000; exec "+l.command+" cc --any tool \"$@\"\n")
	got := l.says("-Sn 16", "env", strings.Replace(path, "PATH=", "PATH="+scripts+"4:", 1), l.command, "cc", "--any", "tool", "x")
	if want := "exit status 7\ntool: x\n"; got != want {
		l.t.Errorf("a limit that is lifted: %swant %s", got, want)
	}
}

func (l *limited) script(name, text string) {
	l.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		l.t.Fatal(err)
	}
}
