package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTimerSlack has a command in a sandbox sleep as exactly as any does, and a compiler
// that is executed in our place as exactly as our caller, while our own threads are
// woken late: see [front.Exact].
func TestTimerSlack(t *testing.T) {
	f := newFronted(t)
	runtime.LockOSThread() // and not unlocked: it ends with this test
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 70_000, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "gcc"), []byte("#!/bin/sh\nexec cat /proc/self/timerslack_ns\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"control", "70000\n", []string{"cat", "/proc/self/timerslack_ns"}},
		{"a command that runs", "50000\n", []string{f.command, "run", "--", "cat", "/proc/self/timerslack_ns"}},
		{"a command that runs again", "50000\n", []string{f.command, "run", "--refresh", "--", "cat", "/proc/self/timerslack_ns"}},
		{"a compiler in our place", "70000\n", []string{f.command, "cc", filepath.Join(bin, "gcc"), "--version"}},
	} {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.Dir, cmd.Env = f.dir, f.env
		out, err := cmd.Output()
		if err != nil || string(out) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, out, err, c.want)
		}
	}
}

// TestSignalsAreDeadly has what is executed in our place be ended by the signals that we
// ignore. For what runs in a sandbox that is a promise of the backends.
func TestSignalsAreDeadly(t *testing.T) {
	t.Parallel()
	f := newFronted(t)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "gcc"), []byte("#!/bin/sh\nexec grep SigIgn /proc/self/status\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	const pipe, filesize = 1 << (unix.SIGPIPE - 1), 1 << (unix.SIGXFSZ - 1)
	for _, c := range []struct {
		name string
		want uint64
		args []string
	}{
		{"control", pipe, []string{"grep", "SigIgn", "/proc/self/status"}},
		{"in our place", 0, []string{f.command, "cc", filepath.Join(bin, "gcc"), "--version"}},
		{"another command in our place", 0, []string{f.command, "cc", "--any", "grep", "SigIgn", "/proc/self/status"}},
	} {
		cmd := exec.Command("sh", append([]string{"-c", `trap "" PIPE; exec "$0" "$@"`}, c.args...)...)
		cmd.Dir, cmd.Env = f.dir, f.env
		out, err := cmd.Output()
		// Who calls may ignore others: make has what it starts ignore 32 and 33.
		ignored, nerr := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(string(out)), "SigIgn:\t"), 16, 64)
		if got := ignored & (pipe | filesize); err != nil || nerr != nil || got != c.want {
			t.Errorf("%s: %q, %v, %v: it ignores %#x of ours, want %#x", c.name, out, err, nerr, got, c.want)
		}
	}
}
