package cc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// tool runs the program under test with a command of ours, and returns what it
// printed.
func (w *world) tool(args ...string) (string, int) {
	w.t.Helper()
	return w.toolIn(".", args...)
}

func (w *world) toolIn(dir string, args ...string) (string, int) {
	w.t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Dir = w.path(dir)
	cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache)
	for name, value := range w.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestReports reads what --stats, --json, --why and --zero say.
func TestReports(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	call := words("gcc -O1 -c a.c -o a.o")
	want := w.bare(call)
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	w.wrapped(words("gcc --version"))
	out, _ := w.tool("cc", "--stats")
	for _, line := range []string{"from the cache            1 (50.0 % of what could be cached)", "not seen before", "asks the compiler something"} {
		if !strings.Contains(out, line) {
			t.Errorf("--stats says %q, without %q", out, line)
		}
	}
	out, _ = w.tool("cc", "--stats", "--json")
	var stats struct {
		Hits, Misses int
		Calls        []cc.Total
	}
	if err := json.Unmarshal([]byte(out), &stats); err != nil || stats.Hits != 1 || stats.Misses != 1 || len(stats.Calls) != 3 {
		t.Errorf("--json says %q: %v", out, err)
	}
	for _, c := range []struct{ change, call, why string }{
		{"#define A 2\n", "gcc -O1 -c a.c -o a.o", "/a.h has changed"},
		{"#define A 2\n", "gcc -O2 -c a.c -o a.o", `argument "-O2" was "-O1"`},
		{"#define A 2\n", "gcc -O2 -Wall -c a.c -o a.o", `argument "-Wall" is new`},
		{"#define A 2\n", "gcc -c a.c -O2 -Wall -o a.o", "arguments are in another order"},
	} {
		w.write("a.h", c.change)
		w.settle()
		w.wrapped(words(c.call))
		out, code := w.tool("cc", "--why", "a.o")
		if code != 0 || !strings.Contains(out, c.why) || !strings.Contains(out, c.call) {
			t.Errorf("--why after %s says %q, without %q", c.call, out, c.why)
		}
	}
	if out, code := w.tool("cc", "--why", "absent.o"); code != 125 || !strings.Contains(out, "absent.o") {
		t.Errorf("--why of what is not known: %d, %q", code, out)
	}
	if out, _ := w.tool("cc", "--stats", "--zero"); !strings.Contains(out, "asks the compiler something") {
		t.Errorf("--stats --zero says %q", out)
	}
	if len(w.totals()) != 0 {
		t.Error("--zero leaves something")
	}
}

// TestWrongFlags wants one line, with what is wrong in it, and exit code 125.
func TestWrongFlags(t *testing.T) {
	for _, c := range []struct{ args, says, variable, file string }{
		{args: "", says: "no compiler"},
		{args: "--nonsense gcc -c a.c", says: "nonsense"},
		{args: "--path nowhere gcc -c a.c", says: "nowhere"},
		{args: "--verify 0 gcc -c a.c", says: "above 0"},
		{args: "--json", says: "--stats"},
		{args: "--zero --json", says: "--stats"},
		{args: "--stats --why a.o", says: "one of them"},
		{args: "--inputs absent gcc -c a.c", says: "absent"},
		{args: "--inputs a.c gcc -c a.c", says: "not a directory"},
		{args: "--root a.c gcc -c a.c", says: "not a directory"},
		{args: "--env A=B gcc -c a.c", says: "A=B"},
		{args: "--backend magic gcc -c a.c", says: "magic"},
		{args: "--stats gcc", says: "run no compiler"},
		{args: "gcc -c a.c", says: "SBX_CC_DISABLE", variable: "SBX_CC_DISABLE=perhaps"},
		{args: "gcc -c a.c", says: ".sbx-cc", file: "color = red\n"},
		{args: "gcc -c a.c", says: ".sbx-cc", file: "verify = often\n"},
		{args: "gcc -c a.c", says: "want 1 or 0", file: "disable = yes\n"},
		{args: "gcc -c a.c", says: ".sbx-cc", file: "disable = 1\n\x00\n"},
		{args: "gcc -c a.c", says: "twice", file: "env = A\nenv = B\n"},
		{args: "gcc -c a.c", says: "larger", file: "#" + strings.Repeat("x", 64<<10)},
	} {
		w := newWorld(t)
		w.write("a.c", "int a;\n")
		if c.file != "" {
			w.write(".sbx-cc", c.file)
		}
		if name, value, ok := strings.Cut(c.variable, "="); ok {
			w.env[name] = value
		}
		out, code := w.tool(append([]string{"cc"}, words(c.args)...)...)
		if code != 125 || !strings.Contains(out, c.says) || strings.Count(out, "\n") != 1 {
			t.Errorf("cc %s: %d, %q, want 125 and a line with %q", c.args, code, out, c.says)
		}
	}
	w := newWorld(t)
	if out, code := w.tool("cc", "--help"); code != 0 || !strings.Contains(out, "--cache-links") {
		t.Errorf("--help: %d, %q", code, out)
	}
}

// TestSettingsUnreadable has something called .sbx-cc that cannot be read, or is not the
// user's: nobody gets results as if it were not there.
func TestSettingsUnreadable(t *testing.T) {
	w := newWorld(t)
	w.write("sub/a.c", "int a;\n")
	file := w.path(".sbx-cc")
	for name, make := range map[string]func() error{
		"a directory":     func() error { return os.Mkdir(file, 0o755) },
		"a dangling link": func() error { return os.Symlink("nothing", file) },
		"a FIFO":          func() error { return unix.Mkfifo(file, 0o644) },
		"permissions": func() error {
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				return err
			}
			return os.Chmod(file, 0)
		},
	} {
		if name == "permissions" && os.Geteuid() == 0 {
			continue // who reads what has none
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		out, code := w.toolIn("sub", "cc", "gcc", "-c", "a.c")
		if code != 125 || !strings.Contains(out, file) || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %d, %q, want 125 and a line with its name", name, code, out)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if out, code := w.toolIn("sub", "cc", "gcc", "-c", "a.c"); code != 0 || out != "" {
		t.Errorf("without it: %d, %q", code, out)
	}
}

// TestSettingsOfOthers has a file of another user above the working directory, which
// must neither be followed nor be in the way.
func TestSettingsOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes files of other users")
	}
	w := newWorld(t)
	w.write("sub/a.c", "int a;\n")
	w.write(".sbx-cc", "cache = nowhere\nno setting\n")
	file := w.path(".sbx-cc")
	call := func() (string, int) { return w.toolIn("sub", "cc", "gcc", "-c", "a.c") }
	if out, code := call(); code != 125 || !strings.Contains(out, file) {
		t.Errorf("the user's own: %d, %q", code, out)
	}
	for _, owner := range []int{12345, 54321} {
		if err := errors.Join(os.Chown(file, owner, -1), os.Chown(w.path("sub"), 54321, -1)); err != nil {
			t.Fatal(err)
		}
		out, code := call()
		if theirs := owner == 54321; theirs && code != 125 || !theirs && (code != 0 || out != "") {
			t.Errorf("of user %d, where sub is of 54321: %d, %q", owner, code, out)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Mkfifo(file, 0), os.Chown(file, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if out, code := call(); code != 0 || out != "" {
		t.Errorf("somebody's FIFO: %d, %q", code, out)
	}
	if err := errors.Join(os.Remove(file), os.Symlink("/etc/passwd", file), os.Lchown(file, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	if out, code := call(); code != 0 || out != "" {
		t.Errorf("somebody's link: %d, %q", code, out)
	}
}

// TestSettings takes settings from variables and from the project's file, in this order.
func TestSettings(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	w.write("sub/x", "")
	call := words("gcc -c a.c")
	want := w.bare(call)
	w.env["SBX_CC_DISABLE"] = "1"
	w.expect("disabled by a variable", call, want, cc.Plain)
	delete(w.env, "SBX_CC_DISABLE")
	w.write(".sbx-cc", "# a comment\n\ndisable = true\n")
	w.expect("disabled by the file", call, want, cc.Plain)
	w.env["SBX_CC_DISABLE"] = "false"
	w.expect("enabled by a variable all the same", call, want, cc.Miss)
	w.flags = []string{"--disable"}
	w.expect("disabled by a flag all the same", call, want, cc.Plain)

	// Names in the file are as seen from there, wherever the call is.
	w.files(map[string]string{"a b/sub/x": "", "a b/a.c": "int a;\n", "a b/.sbx-cc": "inputs = sub .\n"})
	if out, code := w.toolIn("a b/sub", "cc", "gcc", "-c", "../a.c", "-o", "../b.o"); code != 0 {
		t.Errorf("in a directory below: %d, %q", code, out)
	}
}

// TestLinks calls compilers through links to us.
func TestLinks(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	out, code := w.tool("cc", "--install-links", "links")
	if code != 0 || !strings.Contains(out, "PATH="+w.path("links")) {
		t.Fatalf("%d, %q", code, out)
	}
	if _, code := w.tool("cc", "--install-links", "links"); code != 0 {
		t.Error("links that are there already are no reason to fail")
	}
	call := words("gcc -Wall -g -c a.c -o a.o")
	want := w.bare(call)
	w.env["PATH"] = w.path("links") + ":" + os.Getenv("PATH")
	for i, name := range []string{"gcc", w.path("links/gcc"), "gcc"} {
		got := w.run(append([]string{"/usr/bin/env", name}, call[1:]...))
		if diff := got.differs(want); diff != "" {
			t.Errorf("call %d of %s: %s", i, name, diff)
		}
	}
	if total := w.totals(); total[totalKey{cc.Hit, ""}] != 2 || total[totalKey{cc.Miss, "not seen before"}] != 1 || len(total) != 2 {
		t.Errorf("%v", total)
	}
	w.expect("a wrapper in front of a link", call, want, cc.Hit)
	w.flags = []string{"--read-only", command, "cc"}
	w.expect("a wrapper in front of a wrapper", call, want, cc.Hit)
	w.flags = []string{command, "cc", "--disable"}
	w.expect("a wrapper in front of one that is off", call, want, cc.Plain)
	w.flags = nil
	w.write("wrong.c", "int x = y;\n")
	for _, mixed := range []bool{false, true} { // what is in the directory
		if mixed {
			w.write("links/mine", "")
		}
		for _, line := range []string{"gcc -c a.c -o a.o", "gcc -print-prog-name=cc1 -print-search-dirs", "gcc -c wrong.c", "clang -c a.c -o a.o"} {
			args := words(line)
			want := w.run(append([]string{"/usr/bin/env", "PATH=" + os.Getenv("PATH")}, args...))
			for _, name := range []string{args[0], w.path("links/" + args[0])} {
				got := w.run(append([]string{"/usr/bin/env", "SBX_CC_DISABLE=1", name}, args[1:]...))
				if diff := got.differs(want); diff != "" {
					t.Errorf("%s by %s is executed, other programs beside the link: %v: %s", line, name, mixed, diff)
				}
			}
		}
	}
	w.link(command, "links/no-bison")
	if got := w.run([]string{"/usr/bin/env", "no-bison", "x"}); got.code != 127 || !strings.Contains(got.stderr, "no-bison") {
		t.Errorf("a link without a program: %+v", got)
	}
	w.write("links/mine", "")
	w.remove("links/gcc")
	w.write("links/gcc", "mine")
	if out, code := w.tool("cc", "--install-links", "links"); code != 125 || !strings.Contains(out, "links/gcc") {
		t.Errorf("what is not ours was replaced: %d, %q", code, out)
	}
}

// TestVerify finds a compiler that makes something else each time.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	w.flags = []string{"--verify", "1"}
	call := words("gcc -c a.c -o a.o")
	want := w.bare(call)
	w.expect("at first", call, want, cc.Miss)
	again := func() effect {
		w.settle()
		return w.run(append([]string{command, "cc", "--verify", "1"}, call...))
	}
	if diff := again().differs(want); diff != "" || w.totals()[totalKey{cc.Verified, ""}] != 1 {
		t.Errorf("a hit that is right: %q, %v", diff, w.totals())
	}
	w.script("r-gcc", "gcc \"$@\" && head -c 8 /dev/urandom >>a.o")
	call[0] = "./r-gcc"
	again()
	if got := again(); got.code != 0 || !strings.Contains(got.stderr, "a.o") || w.totals()[totalKey{cc.Differed, cc.Reason(w.path("a.o"))}] != 1 {
		t.Errorf("a hit that is wrong: %+v, %v", got, w.totals())
	}
}

// TestRecache replaces a result.
func TestRecache(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	call := words("gcc -c a.c -o a.o")
	want := w.bare(call)
	w.expect("at first", call, want, cc.Miss)
	w.flags = []string{"--recache"}
	w.expect("again", call, want, cc.Miss)
	w.flags = nil
	w.expect("after that", call, want, cc.Hit)
	if total := w.totals(); total[totalKey{cc.Miss, cc.ReasonRecache}] != 1 || total[totalKey{cc.Miss, "not seen before"}] != 1 {
		t.Errorf("reasons of misses: %v", total)
	}
}

// TestSaysMuch executes calls that say more than is kept, as an error repeated for ever does.
func TestSaysMuch(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	w := newWorld(t)
	line := strings.Repeat("x", 1<<10) + "\n"
	for size, want := range map[int]cc.Outcome{60 << 10: cc.Miss, 66 << 10: cc.Plain} {
		w.write("a.c", strings.Repeat(line, size))
		call := words("gcc -E -P a.c")
		w.expect(fmt.Sprint(size), call, w.bare(call), want)
	}
	if got := w.totals()[totalKey{cc.Plain, cc.ReasonMuch}]; got != 1 {
		t.Errorf("%d calls were executed because they said much, want 1: %v", got, w.totals())
	}
}

// TestColours wants colours where the compiler would write to a terminal, and not
// otherwise. "script" is the terminal.
func TestColours(t *testing.T) {
	for _, term := range []string{"xterm", "xterm-256color"} { // GCC makes links on one of them
		t.Run(term, func(t *testing.T) { testColours(t, term) })
	}
}

func testColours(t *testing.T, term string) {
	w := newWorld(t)
	w.files(twoFiles)
	w.env["TERM"] = term
	call := "gcc -Wall -c a.c -o a.o"
	terminal := func(prefix string) string {
		cmd := exec.Command("script", "-qec", prefix+call, "/dev/null")
		cmd.Dir = w.dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=" + term, "SBX_CACHE=" + w.cache, "HOME=" + w.top, "PWD=" + w.dir, "SBX_WARM=off"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		w.remove("a.o")
		return string(out)
	}
	want := terminal("")
	if !strings.Contains(want, "\x1b[") {
		t.Fatalf("control: no colours in %q", want)
	}
	if links := strings.Contains(want, "\x1b]8;;"); links != (term == "xterm-256color") {
		t.Fatalf("control: links in %q", want)
	}
	w.settle()
	for i := range 3 {
		if got := terminal(command + " cc "); got != want {
			t.Errorf("call %d at a terminal says %q, want %q", i, got, want)
		}
	}
	plain := w.bare(words(call))
	w.expect("not at a terminal", words(call), plain, cc.Miss)
	w.expect("not at a terminal, again", words(call), plain, cc.Hit)
	if got := terminal(command + " cc "); got != want {
		t.Errorf("at a terminal again: %q", got)
	}
	w.write("a.c", "int a;\n") // without warnings
	w.settle()
	w.expect("no warnings", words(call), w.bare(words(call)), cc.Miss)
	before := w.totals()[totalKey{cc.Hit, ""}]
	if out := terminal(command + " cc "); out != "" || w.totals()[totalKey{cc.Hit, ""}] != before+1 {
		t.Errorf("without warnings, at a terminal: %q, %v", out, w.totals())
	}
}

// TestMake builds with make -j and its jobserver, as a pipe; each call gets what
// a bare compiler gets, link-time optimisation that shares the jobserver, too.
func TestMake(t *testing.T) {
	w := newWorld(t)
	var objects []string
	for n := range strings.SplitSeq("abcdefgh", "") {
		w.write(n+".c", "int "+n+"(void) { return 1; }\n")
		objects = append(objects, n+".o")
	}
	w.write("main.c", "int a(void);\nint main(void) { return a() - 1; }\n")
	w.write("Makefile", "CC = gcc\nall: prog lto\nprog: main.o "+strings.Join(objects, " ")+"\n\t$(CC) -o $@ $^\nlto: main.c a.c\n\t+$(CC) -flto=jobserver -O1 -o $@ main.c a.c\n"+
		"%.o: %.c\n\t$(CC) -c -o $@ $<\n")
	want := w.run(words("make -s -j3"))
	if want.code != 0 {
		t.Fatalf("control: %+v", want)
	}
	delete(want.files, "lto") // its bytes hold names of temporary files
	for i, hits := range []int64{0, 11} {
		w.settle()
		w.tool("cc", "--zero")
		got := w.run([]string{"make", "-s", "-j3", "CC=" + command + " cc --cache-links gcc"})
		if _, ok := got.files["lto"]; !ok {
			t.Errorf("round %d: no lto", i)
		}
		delete(got.files, "lto")
		if diff := got.differs(want); diff != "" {
			t.Errorf("round %d: %s", i, diff)
		}
		total := w.totals()
		if total[totalKey{cc.Hit, ""}] != hits || total[totalKey{cc.Plain, cc.ReasonJobserver}] != 0 {
			t.Errorf("round %d: %v", i, total)
		}
	}
}

// TestStandardOutput passes what goes to standard output, of any size, in full.
func TestStandardOutput(t *testing.T) {
	w := newWorld(t)
	var big bytes.Buffer
	for range 40000 {
		big.WriteString("extern int a_declaration_that_is_rather_long_and_says_nothing;\n")
	}
	w.write("a.c", big.String())
	call := words("gcc -E -P a.c")
	want := w.bare(call)
	if len(want.stdout) < 1<<20 {
		t.Fatalf("control: %d bytes", len(want.stdout))
	}
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	// Nobody reads.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	w.must(err)
	defer full.Close()
	cmd := exec.Command(command, append([]string{"cc"}, call...)...)
	cmd.Dir, cmd.Stdout, cmd.Env = w.dir, full, append(os.Environ(), "SBX_CACHE="+w.cache)
	if err := cmd.Run(); err == nil {
		t.Error("output that could not be written was a success")
	}
}

// TestFullDisk compiles where there is no space: for the output, or for the store.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can mount a small one
	}
	w := newWorld(t)
	w.files(twoFiles)
	call := "gcc -g -c a.c -o out/a.o"
	want := w.bare(words("gcc -g -c a.c -o a.o"))
	for _, c := range []struct {
		name, mount string
		fails       bool
	}{
		{"the output", w.path("out"), true},
		{"the store", w.cache, false},
	} {
		w.mkdir("out")
		w.must(os.MkdirAll(c.mount, 0o755))
		script := "mount -t tmpfs -o size=4k,nr_inodes=64 none " + c.mount + " && head -c 4096 /dev/zero >" + c.mount + "/lost+found && cd " + w.dir + " && exec " + command + " cc " + call
		cmd := exec.Command("unshare", "-m", "sh", "-c", script)
		cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache)
		out, err := cmd.CombinedOutput()
		if (err != nil) != c.fails {
			t.Errorf("%s is full: %v, %s", c.name, err, out)
		}
		if c.fails && !strings.Contains(string(out), "No space left") {
			t.Errorf("%s is full: the compiler would say so, not %q", c.name, out)
		}
		if total := w.totals(); c.fails && total[totalKey{cc.Broken, "no space left on device"}] != 1 {
			t.Errorf("%s is full: %v", c.name, total)
		}
		if !c.fails && w.tree()["out/a.o"].data != want.files["a.o"].data {
			t.Errorf("%s is full: another object", c.name)
		}
		_ = os.RemoveAll(filepath.Join(w.dir, "out"))
		_ = os.RemoveAll(w.cache)
	}
}
