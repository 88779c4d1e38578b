package backendtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// A StandIn is a script in the place of a tool that cannot be had everywhere. It
// writes its arguments down, and then does what Body says.
type StandIn struct {
	Program string // its path
	record  string
}

// NewStandIn makes a script with the name of a tool.
func NewStandIn(t *testing.T, name, body string) *StandIn {
	t.Helper()
	dir, err := os.MkdirTemp("", "stand-in-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &StandIn{Program: filepath.Join(dir, name), record: filepath.Join(dir, "record")}
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" >>'" + s.record + "'\n" + body + "\n"
	err = errors.Join(
		os.Chmod(dir, 0o755),
		os.WriteFile(s.record, nil, 0o600), os.Chmod(s.record, 0o666), // the tool may run as somebody else
		os.WriteFile(s.Program, []byte(script), 0o755), os.Chmod(s.Program, 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Recorded returns what the stand-in was called with since the last time.
func (s *StandIn) Recorded(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(s.record)
	if err == nil {
		err = os.Truncate(s.record, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(strings.TrimSpace(string(data)))
}

// TestReal is [TestRootOnly] with the tool itself, where it is found: open opens the
// backend that looks the program up. Where it is not, that is what the backend has
// to say.
func TestReal(t *testing.T, program string, open func(*testing.T) backends.Backend) {
	if _, err := exec.LookPath(program); err == nil {
		TestRootOnly(t, open)
		return
	}
	c := open(t).Capabilities()
	if c.Works || !strings.Contains(c.Reason, program) {
		t.Errorf("Capabilities = %+v; want a reason that names %s", c, program)
	}
	t.Logf("%s is not installed: only its stand-in was tested", program)
}

// TestStandIn runs a command in a backend whose tool is a stand-in that makes a
// sandbox, and returns how the stand-in was called. Such a backend does not work,
// whatever it runs.
func TestStandIn(t *testing.T, s *StandIn, b backends.Backend) []string {
	t.Helper()
	if c := b.Capabilities(); c.Works || !strings.Contains(c.Reason, "stands in") {
		t.Errorf("Capabilities = %+v; want a reason that speaks of the stand-in", c)
	}
	e := NewEnv(t)
	status, err := b.Run(t.Context(), &backends.Spec{
		Root: backends.Root{Binds: []backends.Bind{{Source: e.Probe, Target: "/sbx-probe"}}},
		Args: []string{"/sbx-probe", "die", "9"}, Dir: "/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if status.Signal != 9 {
		t.Errorf("a command that ended by signal 9: %+v", status)
	}
	return s.Recorded(t)
}
