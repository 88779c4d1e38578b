package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the guide's commands print into the guide")

// volatile is what differs from one run to the next.
var volatile = regexp.MustCompile(`\d+(\.\d)? m?s\b|/[^ :]*/\.sbx-action`)

// TestGuide does what docs/guide.md says, as a new user would, and compares what
// comes out. A block with "file=NAME" is a file; a block "console" has commands,
// each after "$ ", and what they print.
func TestGuide(t *testing.T) {
	const name = "../../docs/guide.md"
	guide, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var out strings.Builder
	commands := 0
	info, block := "", ""
	for line := range strings.Lines(string(guide)) {
		switch {
		case info == "" && strings.HasPrefix(line, "```"):
			info, block = strings.TrimSpace(line[3:]), ""
			out.WriteString(line)
		case info != "" && strings.HasPrefix(line, "```"):
			if _, file, ok := strings.Cut(info, "file="); ok {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(block), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if info == "console" {
				for command := range strings.Lines(block) {
					if c, ok := strings.CutPrefix(command, "$ "); ok {
						commands++
						out.WriteString(command + guideRun(t, dir, c))
					}
				}
			} else {
				out.WriteString(block)
			}
			out.WriteString(line)
			info = ""
		case info != "":
			block += line
		default:
			out.WriteString(line)
		}
	}
	if commands < 10 {
		t.Errorf("the guide has %d commands", commands)
	}
	if *update {
		if err := os.WriteFile(name, []byte(out.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, want := volatile.ReplaceAllString(out.String(), "…"), volatile.ReplaceAllString(string(guide), "…")
	if got != want {
		t.Errorf("what the commands of docs/guide.md print is now\n%s\n'go test ./cmd/sbx-action -run Guide -update' writes it there", got)
	}
}

// guideRun runs a command in a shell, and returns what it prints.
func guideRun(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", command)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SBX_CACHE="+filepath.Join(dir, ".cache"), "XDG_CONFIG_HOME="+dir, "MAKEFLAGS=", "MAKELEVEL=", "LC_ALL=C.UTF-8")
	out, _ := cmd.CombinedOutput() // that it fails may be the point
	return string(out)
}
