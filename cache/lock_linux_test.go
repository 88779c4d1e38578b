package cache_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/cache"
)

// childLock locks key 0, says so, and waits for its input to end.
func childLock(ctx context.Context, dir string, _ []string) error {
	s, err := cache.Open(dir, cache.Options{})
	if err != nil {
		return err
	}
	if _, err := s.Lock(ctx, keyOf(0)); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.ReadAll(os.Stdin)
	return err // the lock ends with the process
}

// holder starts a process that has the lock of keyOf(0) until its input ends.
func holder(t *testing.T, dir string) (*exec.Cmd, io.Closer) {
	t.Helper()
	c := child(t, "lock", dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return c, in
}

// TestLockOfProcess: others wait for a process until it ends, however.
func TestLockOfProcess(t *testing.T) {
	s := newStore(t)
	for _, how := range []string{"end", "kill"} {
		c, in := holder(t, s.Dir())
		if unlock, err := s.Lock(t.Context(), keyOf(1)); err != nil { // control
			t.Errorf("another key: %v", err)
		} else {
			unlock()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if _, err := s.Lock(ctx, keyOf(0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock while another has it = %v", err)
		}
		cancel()
		end := in.Close
		if how == "kill" {
			end = c.Process.Kill
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		unlock, err := s.Lock(t.Context(), keyOf(0))
		if err != nil {
			t.Fatalf("Lock after its %s: %v", how, err)
		}
		unlock()
		unlock() // a second time does nothing
		if err := c.Wait(); (err != nil) != (how == "kill") {
			t.Errorf("child: %v", err)
		}
	}
}

// TestLockOfStopped stops a process that has the lock: of several others, each gets
// it, one at a time, and again when the process has gone on and ended.
func TestLockOfStopped(t *testing.T) {
	s := newStore(t)
	c, in := holder(t, s.Dir())
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lockAll := func() {
		var all sync.WaitGroup
		var holders atomic.Int32
		for range 5 {
			other := openStore(t, s.Dir(), cache.Options{})
			all.Go(func() {
				unlock, err := other.Lock(t.Context(), keyOf(0))
				if err != nil {
					t.Errorf("Lock: %v", err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				runtime.Gosched()
				holders.Add(-1)
				unlock()
			})
		}
		all.Wait()
	}
	lockAll()
	if err := errors.Join(c.Process.Signal(syscall.SIGCONT), in.Close(), c.Wait()); err != nil {
		t.Fatal(err)
	}
	lockAll()
}

// TestLockOfGoroutine: within a process, and between two stores in it.
func TestLockOfGoroutine(t *testing.T) {
	s := newStore(t)
	stores := []*cache.Store{s, s, openStore(t, s.Dir(), cache.Options{})}
	var all sync.WaitGroup
	var holders, counter atomic.Int32
	for g := range 6 {
		all.Go(func() {
			for range 50 {
				unlock, err := stores[g%len(stores)].Lock(t.Context(), keyOf(0))
				if err != nil {
					t.Errorf("Lock: %v", err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				counter.Add(1)
				runtime.Gosched()
				holders.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
	if n := counter.Load(); n != 300 {
		t.Errorf("counted %d, want 300", n)
	}
}
