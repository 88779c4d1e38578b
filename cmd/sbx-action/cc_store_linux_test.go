package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStoreProblem has names of stores that are no good: a compiler's call does what the
// compiler does, and who asks is told why nothing comes from the cache.
func TestStoreProblem(t *testing.T) {
	t.Parallel()
	f := newFronted(t)
	file := filepath.Join(f.top, "file")
	foreign := filepath.Join(f.top, "foreign")
	for _, name := range []string{file, filepath.Join(foreign, "letter")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("kept\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, store, says string }{
		{"a file", file, "cannot be a cache"},
		{"below a file", filepath.Join(file, "below"), "cannot be a cache"},
		{"nobody can make it", "/proc/sbx-store", "the directory /proc/sbx-store cannot be made"},
		{"somebody else's", foreign, `holds "letter" and no VERSION file`},
	} {
		says := func(args ...string) (string, bool) {
			cmd := exec.Command(f.command, args...)
			cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX_CACHE="+c.store)
			out, err := cmd.CombinedOutput()
			return string(out), err == nil
		}
		for range 2 {
			if out, ok := says("cc", "gcc", "-c", "src/a.c", "-o", "a.o"); !ok || out != "" {
				t.Errorf("%s: cc: %s", c.name, out)
			}
		}
		if out, _ := says("cc", "--stats"); !strings.Contains(out, "the cache cannot be used: ") || !strings.Contains(out, c.says) {
			t.Errorf("%s: cc --stats: %s", c.name, out)
		}
		for _, args := range []string{"run -- true", "cache stat"} {
			out, ok := says(strings.Fields(args)...)
			said, _, _ := strings.Cut(c.says, " cannot be made") // of which run says it in other words
			if said = strings.TrimPrefix(said, "the directory "); ok || !strings.Contains(out, said) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: %s: %s", c.name, args, out)
			}
		}
		d := doctor{}
		d.cache = c.store
		if list := d.disk(); len(list) == 0 || list[0].Name != "store" || list[0].State != stateNo || list[0].Remedy == "" {
			t.Errorf("%s: doctor: %+v", c.name, list)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "kept\n" {
		t.Errorf("the file has become %q, %v", data, err)
	}
	if names, err := os.ReadDir(foreign); err != nil || len(names) != 1 {
		t.Errorf("somebody else's directory: %v, %v", names, err)
	}
	for _, flag := range []string{"--read-only", "--recache"} { // the second is the control
		cmd := exec.Command(f.command, "cc", flag, "gcc", "-c", "src/a.c", "-o", "a.o")
		store := filepath.Join(f.top, "unmade")
		cmd.Dir, cmd.Env = f.dir, append(f.env, "SBX_CACHE="+store)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v, %s", flag, err, out)
		}
		if _, err := os.Lstat(store); (err == nil) != (flag == "--recache") {
			t.Errorf("%s: the store: %v", flag, err)
		}
	}
	if note := storeNote("relative"); !strings.Contains(note, `"relative"`) {
		t.Errorf("a relative name: %q", note)
	}
	if note := storeNote(f.store); note != "" {
		t.Errorf("a store that can be made: %q", note)
	}
	if _, err := os.Lstat(f.store); err == nil {
		t.Error("it was made by who only asked")
	}
}

// TestContradictions wants flags that make no sense together to be told, and nothing to
// be run.
func TestContradictions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flags, want string }{
		{"--read-only --recache", "--read-only and --recache: want one of them"},
		{"--disable --verify 2", "--disable and --verify: want one of them"},
		{"--disable --recache", "--disable and --recache: want one of them"},
		{"--disable --read-only", "--disable and --read-only: want one of them"},
		{"--recache --verify 2", "--recache and --verify: want one of them"},
		{"--no-stdin", "--no-stdin goes with --any"},
		{"--read-only --recache=false", ""},
		{"--any --no-stdin --read-only", ""},
	} {
		flags := flag.NewFlagSet("cc", flag.ContinueOnError)
		var f ccFlags
		f.declare(flags)
		err := flags.Parse(strings.Fields(c.flags))
		if err == nil {
			err = f.together()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.flags, err, c.want)
		}
	}
}
