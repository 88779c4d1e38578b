package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWarmSignals interrupts a call, whose command has stopped itself (one that looks
// something up when its sandbox dies says so): the caller ends as it would without a session,
// and the worker is free again.
func TestWarmSignals(t *testing.T) {
	// What is started in the background, or by nohup, ignores some: who is caught
	// here is ignored by none of ours.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(caught)
	w := newWarmed(t, 1)
	w.endsByFirst(syscall.SIGTERM)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
		var said [2]string
		for i, warmly := range []bool{false, true} {
			c := call{args: []string{"run", "--", "sh", "-c", fmt.Sprintf("echo begun; : %d %v; kill -STOP $$", sig, warmly)}}
			before := w.counts()
			cmd := w.begin(&c, "store", warmly)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			cmd.Process.Signal(sig)
			cmd.Wait()
			said[i] = fmt.Sprint(line, cmd.ProcessState, stderr.String())
			if warmly && sig != syscall.SIGKILL && w.counts().Served != before.Served+1 {
				t.Errorf("%v: no worker answered", sig)
			}
		}
		if said[0] != said[1] {
			t.Errorf("%v: %s\nwithout a session: %s", sig, said[1], said[0])
		}
		// The only worker has time again: what it ran has ended.
		before := w.counts()
		next := call{args: []string{"run", "--", "echo", "next", sig.String()}}
		if got := w.said(&next, "store", true); !strings.Contains(got, "next") || w.counts().Served != before.Served+1 {
			t.Errorf("after %v: %s, and no worker answered", sig, got)
		}
	}
}

// endsByFirst wants a caller to end by a signal that the worker died of before it could
// do anything about it, as where all processes of a group are to end.
func (w *warmed) endsByFirst(sig syscall.Signal) {
	w.t.Helper()
	c := call{args: []string{"run", "--", "sh", "-c", "echo begun; kill -STOP $$"}}
	cmd := w.begin(&c, "store", true)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	old := w.parts("work")
	for _, pid := range old {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	cmd.Process.Signal(sig)
	w.until("the caller has the signal", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		return err == nil && bytes.Contains(status, []byte("ShdPnd:\t0000000000000000"))
	})
	for _, pid := range old {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	hangs := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	cmd.Wait()
	hangs.Stop()
	if got, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !got.Signaled() || got.Signal() != sig {
		w.t.Errorf("%v, and the worker was killed: %v", sig, cmd.ProcessState)
	}
	w.until("there is another worker", func() bool { now := w.parts("work"); return len(now) == 1 && !slices.Contains(old, now[0]) })
}

// TestWarmDies kills each part of a session while a call waits for it.
func TestWarmDies(t *testing.T) {
	w := newWarmed(t, 1)
	// Its output is more than the pipe takes: the worker cannot be done before we read.
	const many = 1 << 20
	c := call{args: []string{"run", "--", "sh", "-c", fmt.Sprintf("echo begun; head -c %d /dev/zero | tr '\\0' x; echo; echo done", many)}}
	cmd := w.begin(&c, "store", true)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	line, _ := r.ReadString('\n')
	old := w.parts("work")
	for _, pid := range old {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	var rest bytes.Buffer
	rest.ReadFrom(r)
	if err := cmd.Wait(); err != nil || line != "begun\n" || !strings.HasSuffix(rest.String(), "begun\n"+strings.Repeat("x", many)+"\ndone\n") || !strings.Contains(stderr.String(), "a warm worker ended") {
		t.Errorf("the call: %v, %q, %d bytes, %q", err, line, rest.Len(), stderr.String())
	}
	w.until("there is another worker", func() bool { now := w.parts("work"); return len(now) == 1 && now[0] != old[0] })
	before := w.counts()
	next := call{args: []string{"run", "--", "echo", "next"}}
	if got := w.said(&next, "store", true); !strings.Contains(got, "next") || w.counts().Served != before.Served+1 {
		t.Errorf("after the worker's death: %s, and no worker answered", got)
	}
	for _, pid := range w.parts("keep") {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	w.until("the workers end with the keeper", func() bool { return len(w.parts("work")) == 0 })
	next.args = append(next.args, "without")
	if got := w.said(&next, "store", true); !strings.Contains(got, "next without") {
		t.Errorf("after the keeper's death: %s", got)
	}
}
