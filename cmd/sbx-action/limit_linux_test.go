package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/cache"
)

// A trimmed has a store with a limit, and calls of cc that are misses.
type trimmed struct {
	*fronted
	n int
}

func newTrimmed(t *testing.T, most string) *trimmed {
	l := &trimmed{fronted: newFronted(t)}
	l.env = append(l.env, "SBX_CACHE_MAX="+most)
	t.Cleanup(func() { l.until("no process is left", func() bool { return len(l.fits()) == 0 }) })
	return l
}

// cc compiles a file that makes an object of 64 KiB, whose content depends on n.
func (l *trimmed) cc(n int) {
	l.t.Helper()
	l.write("src/big.c", fmt.Sprintf("char big[65536] = {%d, %d};\n", 1+n%100, 1+n/100))
	cmd := exec.Command(l.command, "cc", "gcc", "-c", "src/big.c", "-o", "big.o")
	cmd.Dir, cmd.Env = l.dir, l.env
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 { // which waits until nobody holds its output any more
		l.t.Fatalf("cc: %v\n%s", err, out)
	}
}

// misses makes n misses.
func (l *trimmed) misses(n int) {
	l.t.Helper()
	for range n {
		l.n++
		l.cc(l.n)
	}
}

// says returns what a call says.
func (l *trimmed) says(args ...string) string {
	l.t.Helper()
	cmd := exec.Command(l.command, args...)
	cmd.Dir, cmd.Env = l.dir, l.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// used is what the files of the store take, counted without its help.
func (l *trimmed) used() (n int64) {
	l.t.Helper()
	for _, kind := range []string{"blob", "result", "note"} {
		err := filepath.WalkDir(filepath.Join(l.store, kind), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				var info fs.FileInfo
				if info, err = d.Info(); err == nil {
					n += info.Size()
				}
			}
			if errors.Is(err, fs.ErrNotExist) { // trimmed meanwhile
				err = nil
			}
			return err
		})
		if err != nil {
			l.t.Fatal(err)
		}
	}
	return n
}

// fits returns the processes that trim this store in the background.
func (l *trimmed) fits() (pids []int) {
	l.t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range procs {
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if bytes.Contains(line, []byte("\x00cache\x00fit\x00--cache\x00"+l.store+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(p))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (l *trimmed) until(what string, ok func() bool) {
	l.t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Errorf("not within five minutes: %s", what)
}

// TestLimit makes misses until the store is trimmed by itself: it stays within its limit,
// no process is left, and what is made then is a hit.
func TestLimit(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	l := newTrimmed(t, "1M")
	l.misses(24) // one and a half times as much as it may have
	looks := 0
	l.until("the store is within its limit", func() bool {
		if looks++; looks%10 == 0 && len(l.fits()) == 0 && l.used() > most {
			l.misses(1) // the last one came while another one trimmed, or just after that
		}
		return l.used() <= most
	})
	l.until("no process is left", func() bool { return len(l.fits()) == 0 })
	if l.used() == 0 {
		t.Error("nothing is left")
	}
	l.misses(1) // for which there is room, so that nobody trims
	before := l.says("cc", "--stats", "--json")
	l.cc(l.n)
	if after := l.says("cc", "--stats", "--json"); hitsIn(t, after) != hitsIn(t, before)+1 {
		t.Errorf("what was made then is no hit:\n%s%s", before, after)
	}
	if got := l.says("cc", "--stats"); !strings.Contains(got, " of at most 1.0 MiB (SBX_CACHE_MAX)\n") || !strings.Contains(got, "last trimmed ") {
		t.Errorf("--stats: %s", got)
	}
	l.says("cache", "verify")
}

// hitsIn returns the hits that --stats --json tells of.
func hitsIn(t *testing.T, text string) (n int) {
	t.Helper()
	_, rest, ok := strings.Cut(text, `"hits":`)
	if _, err := fmt.Sscanf(rest, "%d", &n); !ok || err != nil {
		t.Fatalf("no hits in %s", text)
	}
	return n
}

// TestNoLimit: nobody trims a store that was given no limit, and users are told how to.
func TestNoLimit(t *testing.T) {
	t.Parallel()
	l := newTrimmed(t, "")
	l.misses(3)
	for _, args := range [][]string{{"cc", "--stats"}, {"cache", "stat"}} {
		if got := l.says(args...); !strings.Contains(got, "KiB, no limit (default): SBX_CACHE_MAX=20G, or cache-max in your settings, sets one\n") {
			t.Errorf("%v: %s", args, got)
		}
	}
	if len(l.fits()) > 0 || l.used() < 3*65536 {
		t.Error("the store was trimmed")
	}
}

// TestFitKilled kills processes that trim with signal 9, wherever they are: what is left is
// whole, and the next one trims.
func TestFitKilled(t *testing.T) {
	t.Parallel()
	l := newTrimmed(t, "")
	l.misses(12)
	const most = 256 << 10
	killed := 0
	for i := range 12 {
		cmd := exec.Command(l.command, "cache", "fit", "--max-size", "256K")
		cmd.Env = l.env
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // another place each time
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			killed++
		} else if err != nil {
			t.Fatal(err)
		}
		s, err := cache.Open(l.store, cache.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Verify(t.Context(), nil); err != nil || len(r.Damaged) > 0 {
			t.Errorf("after %d ms: %+v, %v", i, r, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d of 12 were killed before they were done", killed)
	l.until("the next one trims", func() bool {
		l.says("cache", "fit", "--max-size", "256K")
		return l.used() <= most
	})
	l.misses(1)
	l.says("cache", "verify")
}
