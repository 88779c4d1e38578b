package bubblewrap

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/backendtest"
)

var open = backendtest.Opener(Open, Options{})

func TestPromises(t *testing.T) { backendtest.Test(t, open) }

func TestMissing(t *testing.T) {
	b := backendtest.Opener(Open, Options{Program: "/absent/bwrap"})(t)
	c := b.Capabilities()
	if c.Works || !strings.Contains(c.Reason, "/absent/bwrap") || !strings.Contains(c.Reason, "apt-get install bubblewrap") {
		t.Errorf("Capabilities = %+v; want a reason that names the program and says how to get it", c)
	}
	_, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/x"}, Dir: "/"})
	if err == nil || !strings.Contains(err.Error(), "apt-get install bubblewrap") {
		t.Errorf("Run = %v; want the same advice", err)
	}
}

// fake makes a program that stands in for bwrap.
func fake(t *testing.T, script string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake-bwrap-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "bwrap")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBwrapFails(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"Says":    {"echo 'bwrap: Creating new namespace failed' >&2; exit 1", "could not make the sandbox: Creating new namespace failed"},
		"Silent":  {"exit 3", "ended with status 3"},
		"Dies":    {"kill -9 $$", "killed"},
		"NoFence": {`while [ "$1" != -- ]; do shift; done; shift; exec "$@"`, "one of the first three processes"},
	} {
		t.Run(name, func(t *testing.T) {
			b := backendtest.Opener(Open, Options{Program: fake(t, c.script)})(t)
			_, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/bin/true"}, Dir: "/"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run = %v; want an error with %q", err, c.want)
			}
			if caps := b.Capabilities(); caps.Works || !strings.Contains(caps.Reason, c.want) {
				t.Errorf("Capabilities = %+v; want one that does not work because of %q", caps, c.want)
			}
		})
	}
}

// A bwrap that never comes to its end must not keep us from ours.
func TestBwrapHangs(t *testing.T) {
	b := backendtest.Opener(Open, Options{Program: fake(t, "exec sleep 600")})(t)
	cause := errors.New("the cause")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer cancel()
	begun := time.Now()
	_, err := b.Run(ctx, &backends.Spec{Args: []string{"/bin/true"}, Dir: "/"})
	if !errors.Is(err, cause) {
		t.Errorf("Run = %v, want the cause", err)
	}
	if took := time.Since(begun); took > 5*time.Minute {
		t.Errorf("Run took %v", took)
	}
}

func TestRunAfterClose(t *testing.T) {
	b := backendtest.Opener(Open, Options{})(t)
	b.Close()
	if _, err := b.Run(t.Context(), &backends.Spec{Args: []string{"/x"}, Dir: "/"}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Run = %v, want an error that says that the backend is closed", err)
	}
}
