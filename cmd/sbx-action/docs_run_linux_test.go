package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/staging"
)

var update = flag.Bool("update", false, "write what the commands of the docs print into the docs")

// volatile is what differs from one run to the next, and from one machine to another:
// times, days, sizes of what a compiler makes, keys.
var volatile = regexp.MustCompile(`(?m)^slowest: .*$| *\d+(\.\d+)? ?([mµ]?s|[KM]iB|bytes)\b|\b\d+\.\d{3,}\b|( on|,)? *(\d{4}-\d\d-\d\d )?(at )?\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d|SHA256:[^ \n]+|\b[0-9a-f]{8}\b|/[^ :]*/\.sbx-action`)

// here stands in the docs for the directory in which their commands run.
const here = "/home/me/project"

// TestDocsRun does what the docs say, as a new user would, and compares what comes out
// with what they say that comes out.
//
// A block "console" has commands, each after "$ ", and what they print. A block with
// "file=NAME" is a file. A comment that begins with "<!-- before" has commands that
// the reader does not see, which must succeed: they make what the next blocks need.
// Each text has a directory, which is its home, and a store of its own. What runs is
// each block "console" there is: a block that cannot be run is called otherwise.
func TestDocsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	t.Setenv("PATH", os.Getenv("PATH")+string(os.PathListSeparator)+heavyDir(t))
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n```console\n") {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".md"), func(t *testing.T) {
			// A text that has gone stale differs each time. A run that is not kept, because
			// something of the host changed meanwhile, is no matter of the text.
			var wrong string
			for range 3 {
				d := docsRun{t: t, dir: t.TempDir()}
				said := d.text(string(text))
				if *update {
					if err := os.WriteFile(name, []byte(said), 0o666); err != nil {
						t.Fatal(err)
					}
					return
				}
				if wrong = difference(said, string(text)); wrong == "" {
					ran += d.commands
					return
				}
				t.Logf("%s, %s", name, wrong)
			}
			t.Errorf("%s: what its commands print differs; 'go test ./cmd/sbx-action -run DocsRun -update' writes it there", name)
		})
	}
	if ran < 40 && !t.Failed() && !*update && flag.Lookup("test.run").Value.String() == "" {
		t.Errorf("only %d commands were found: the test is broken itself", ran)
	}
}

// difference says where two texts begin to differ in what is not volatile, or is "".
func difference(said, text string) string {
	got, want := strings.Split(volatile.ReplaceAllString(said, "…"), "\n"), strings.Split(volatile.ReplaceAllString(text, "…"), "\n")
	for i := range max(len(got), len(want)) {
		if i == len(got) || i == len(want) || got[i] != want[i] {
			around := func(lines []string) string {
				return strings.Join(lines[min(max(0, i-5), len(lines)):min(i+8, len(lines))], "\n")
			}
			return fmt.Sprintf("line %d: its commands print\n%s\nand not\n%s", i+1, around(got), around(want))
		}
	}
	return ""
}

// docsRun is one text whose commands are run.
type docsRun struct {
	t        *testing.T
	dir      string
	commands int
}

// text returns a text with what its commands print now.
func (d *docsRun) text(text string) string {
	var out, block strings.Builder
	const none = "no block"
	info := none
	for line := range strings.Lines(text) {
		switch {
		case info == none && strings.HasPrefix(line, "```"):
			info = strings.TrimSpace(line[3:])
		case info == none && line == "<!-- before\n":
			info = "before"
		case info == "before" && line == "-->\n", info != none && info != "before" && strings.HasPrefix(line, "```"):
			out.WriteString(d.block(info, block.String()))
			block.Reset()
			info = none
		case info != none:
			block.WriteString(line)
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

// block does what a block is for, and returns what it should have been.
func (d *docsRun) block(info, block string) string {
	d.t.Helper()
	if _, file, ok := strings.Cut(info, "file="); ok {
		if err := os.WriteFile(filepath.Join(d.dir, file), []byte(block), 0o666); err != nil {
			d.t.Fatal(err)
		}
	}
	switch info {
	case "before":
		if out, err := d.run("set -e\n" + block); err != nil {
			d.t.Fatalf("%v\n%s\n%s", err, block, out)
		}
	case "console":
		var out strings.Builder
		for _, command := range regexp.MustCompile(`(?m)^\$ (.*\\\n)*.*\n`).FindAllString(block, -1) {
			d.commands++
			said, _ := d.run(command[2:]) // that it fails may be the point
			fmt.Fprint(&out, command, said)
		}
		return out.String()
	}
	return block
}

// run runs a command in a shell, and returns what it prints.
func (d *docsRun) run(command string) (string, error) {
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir = d.dir
	// What is set where the tests run is not what they are about.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SBX_") })
	cmd.Env = append(cmd.Env, "SBX_WARM=off", "HOME="+d.dir, "SBX_CACHE="+filepath.Join(d.dir, ".cache"), "XDG_CONFIG_HOME="+d.dir, "MAKEFLAGS=", "MAKELEVEL=", "LC_ALL=C.UTF-8", "TERM=dumb")
	out, err := cmd.CombinedOutput()
	d.tick()
	return strings.ReplaceAll(string(out), d.dir, here), err
}

// tick waits until the clock that files are stamped with is past what was written so
// far: people are slower than it, which goes by some milliseconds at a time. What cc
// reads in the one in which it was written is not kept.
func (d *docsRun) tick() {
	name := filepath.Join(d.t.TempDir(), "now")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		d.t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		d.t.Fatal(err)
	}
	for since := time.Now(); int64(staging.Now()) <= info.ModTime().UnixNano(); time.Sleep(time.Millisecond) {
		if time.Since(since) > time.Minute {
			d.t.Fatal("the clock of the file system stands still")
		}
	}
}
