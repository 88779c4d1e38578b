package component

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTryFunction runs what a build runs, outside of a sandbox: each command
// gets exactly the environment that is declared, whatever is in it, and the first
// one that fails ends it with its code.
func TestTryFunction(t *testing.T) {
	nasty := "it's $HOME `id` \"x\"\n\\ end"
	script := "set -e\n" + tryFunction([]Variable{{"NASTY", nasty}, {"PATH", os.Getenv("PATH")}}) +
		"try 'first one' sh -c -e " + quote(`printf %s "$NASTY" >"$0.out"; env | sed 's/=.*//' >"$0.env"`+"\n") + " " + quote(filepath.Join(t.TempDir(), "x")) + "\n" +
		"try second MAKEFLAGS=-j7 sh -c -e 'echo $MAKEFLAGS; false; echo not this'\n" +
		"try third echo neither\n"
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"LEAK=1", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, %v", code, err)
	}
	want := "## first one\n## second\n-j7\nsecond failed with 1\n"
	if string(out) != want {
		t.Errorf("said %q, want %q", out, want)
	}
}

// TestScript changes each thing that a build depends on, and wants another
// script; and other things, and wants the same.
func TestScript(t *testing.T) {
	make1 := func(change func(*Component)) string {
		c := &Component{Name: "a", Short: "a", Steps: []Step{{"build-commands", []string{"make", "make check"}, true}, {"install-commands", []string{"make install"}, false}}}
		change(c)
		return c.script([]Variable{{"A", "1"}})
	}
	same := make1(func(*Component) {})
	for name, change := range map[string]func(*Component){
		"a command": func(c *Component) { c.Steps[0].Commands[0] = "make all" },
		"the order": func(c *Component) { slices.Reverse(c.Steps) },
		"MAKEFLAGS": func(c *Component) { c.Steps[0].Parallel = false },
		"max-jobs":  func(c *Component) { c.MaxJobs = 1 },
		"the name":  func(c *Component) { c.Short = "b" },
	} {
		if make1(change) == same {
			t.Errorf("%s is not in the script", name)
		}
	}
	for name, change := range map[string]func(*Component){
		"the path":   func(c *Component) { c.Name = "strata/x/a" },
		"the place":  func(c *Component) { c.Where = "elsewhere:1:1" },
		"the limits": func(c *Component) { c.Limits.Memory = 1 << 30 },
	} {
		if make1(change) != same {
			t.Errorf("%s is in the script", name)
		}
	}
	if strings.Contains(same, "MAKEFLAGS=-j") || strings.Count(same, "MAKEFLAGS") != 2 {
		t.Errorf("MAKEFLAGS:\n%s", same)
	}
}

// TestOutsideCheck runs what looks on another machine for changes outside of what is
// a component's own, on a root in a directory.
func TestOutsideCheck(t *testing.T) {
	for name, c := range map[string]struct {
		change string // commands in the root
		want   string // what is said; empty: nothing
	}{
		"nothing":        {"", ""},
		"its own":        {"echo x >a.build/x; mkdir -p a.inst/usr; echo x >cache/y", ""},
		"a file":         {"echo x >>etc/motd", "etc/motd"},
		"a new file":     {"echo x >usr/stray", "usr/stray"},
		"a removed file": {"rm -f usr/old", "usr"},
		"what we ignore": {"mkdir -p etc usr/__pycache__; echo x >etc/ld.so.cache; echo x >tmp/y", ""},
	} {
		root := t.TempDir()
		for _, f := range []string{"etc/motd", "etc/ld.so.cache", "usr/old", "usr/__pycache__/x", "a.build/x", "a.inst/x", "cache/x", "tmp/x"} {
			write(t, filepath.Join(root, f), "old")
		}
		run(t, root, "find", ".", "-exec", "touch", "-h", "-d", "@1321009871", "{}", "+")
		old := filepath.Join(root, "cache/x")
		script := "set -e\n(cd " + root + "\n" + c.change + "\n)\n" + outsideCheck(root, old, []string{"/a.build", "/a.inst", "/cache"})
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		if (err != nil) != (c.want != "") || c.want != "" && !strings.Contains(string(out), filepath.Join(root, c.want)+"\n") || c.want == "" && len(out) > 0 {
			t.Errorf("%s: %v, %q; want %q", name, err, out, c.want)
		}
		if out, err := exec.Command("sh", "-c", hereVariable+"=1\n"+script).CombinedOutput(); err != nil {
			t.Errorf("%s, here: %v, %q", name, err, out)
		}
	}
}
