package progress

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sbx-action/sbx-action/progress/screen"
)

// see compares what is on the screen.
func see(t *testing.T, s *screen.Screen, want string) {
	t.Helper()
	got, err := s.Text()
	if err != nil {
		t.Error(err)
	}
	if got != want {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
	}
}

func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen.Screen{Columns: 60, Rows: 20}
		v := New(Options{
			To: s, Size: func() (int, int) { return s.Columns, s.Rows }, Color: true, Unit: "actions", AtOnce: 2,
			Jobs: []Job{{"a.o", time.Second}, {"b.o", 2 * time.Second}, {"evil\x1b[2J\u202e", 0}, {"app", 4 * time.Second}, {"test", 1 * time.Second}, {"gone", time.Second}},
		})
		v.Phase(0, "look up")
		v.Phase(1, "look up")
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		see(t, s, "[0/6]  2 in work  100 ms  about 5 s left\n    100 ms  a.o (look up)\n    100 ms  b.o (look up)\n")
		v.Finish(0, Hit, 0, "")
		v.Phase(1, "run")
		time.Sleep(time.Second)
		synctest.Wait()
		v.Print(func() { io.WriteString(s, "b.c:1: warning\r\n") })
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		see(t, s, "b.c:1: warning\n[1/6]  1 in work  1 hit  1.2 s  about 1 s left\n     1.1 s  b.o (run)\n")
		v.Finish(1, Ran, 2*time.Second, "")
		v.Phase(2, "run")
		v.Finish(2, Failed, time.Second, "exit code 1")
		v.Finish(3, Skipped, 0, "a failed")
		v.Phase(4, "run")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		see(t, s, "b.c:1: warning\n[3/6] FAILED evil?[2J? 1.0 s: exit code 1\n[4/6]  1 in work  1 hit  1 run  1 failed  1 skipped  1.3 s…\n     50 ms  test (run)\n")
		v.Finish(4, Stopped, 0, "")
		v.Close()
		v.Close()
		see(t, s, "b.c:1: warning\n[3/6] FAILED evil?[2J? 1.0 s: exit code 1\n"+
			"6 actions: 1 hit, 1 run, 1 failed, 1 skipped, 2 not done in\n1.4 s (hit rate 33%)\nslowest: b.o 2.0 s, evil?[2J? 1.0 s\n")
	})
}

// TestManyInWork has more than fit, on a terminal that gets narrower.
func TestManyInWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen.Screen{Columns: 80, Rows: 10}
		var jobs []Job
		for i := range 30 {
			jobs = append(jobs, Job{Name: fmt.Sprintf("%02d %s", i, strings.Repeat("x", 100))})
		}
		v := New(Options{To: s, Size: func() (int, int) { return s.Columns, s.Rows }, Jobs: jobs})
		for i := range jobs {
			v.Phase(i, "run")
		}
		time.Sleep(150 * time.Millisecond)
		synctest.Wait()
		x := strings.Repeat("x", 63)
		see(t, s, "[0/30]  30 in work  100 ms\n    100 ms  00 "+x+"…\n    100 ms  01 "+x+"…\n    100 ms  02 "+x+"…\n  and 27 more\n")
		for i := range jobs {
			v.Finish(i, Ran, time.Second, "")
		}
		v.Close()
		x = strings.Repeat("x", 36) + "… 1.0 s"
		see(t, s, "30 jobs: 30 run in 150 ms (hit rate 0%)\nslowest: 00 "+x+", 01 "+x[:20]+"\n"+x[20:]+", 02 "+x+"\n")
	})
}

// TestPlain has no terminal: no sequences, a line for each job that ran.
func TestPlain(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1, 0)
	v := New(Options{To: &out, Jobs: []Job{{Name: "a"}, {Name: "b\n"}, {Name: "c"}, {Name: "d"}}, Now: func() time.Time { return now }})
	v.Phase(0, "run")
	v.Finish(0, Ran, 1234*time.Millisecond, "")
	v.Finish(0, Failed, 0, "twice")
	v.Finish(1, Failed, 2*time.Minute, "exit\x07")
	v.Finish(2, Hit, 0, "")
	v.Finish(3, Skipped, 0, "b failed")
	now = now.Add(time.Hour)
	v.Close()
	want := "[1/4] run  a 1.2 s\n[2/4] FAILED b? 2 min 0 s: exit?\n4 jobs: 1 hit, 1 run, 1 failed, 1 skipped in 1 h 0 min (hit rate 33%)\nslowest: b? 2 min 0 s, a 1.2 s\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestNothing(t *testing.T) {
	var out bytes.Buffer
	New(Options{To: &out, Now: func() time.Time { return time.Unix(1, 0) }}).Close()
	if out.String() != "nothing to do (0 ms)\n" {
		t.Errorf("%q", out.String())
	}
}

func TestWidthAndCut(t *testing.T) {
	for _, c := range []struct {
		s       string
		width   int
		columns int
		cut     string
	}{
		{"abc", 3, 3, "abc"},
		{"abcd", 4, 3, "ab…"},
		{"日本語", 6, 5, "日本…"},
		{"e\u0301x", 2, 2, "e\u0301x"},
		{"", 0, 0, ""},
	} {
		if w := Width(c.s); w != c.width {
			t.Errorf("%q is %d wide", c.s, w)
		}
		if got := cut(c.s, c.columns); got != c.cut {
			t.Errorf("%q cut to %d is %q", c.s, c.columns, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0 ms", 999 * time.Millisecond: "999 ms", time.Second: "1.0 s", 59949 * time.Millisecond: "59.9 s",
		59950 * time.Millisecond: "1 min 0 s", 3*time.Hour + 29*time.Second: "3 h 0 min",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%d: %s, want %s", d, got, want)
		}
	}
}
