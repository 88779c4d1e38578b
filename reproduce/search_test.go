package reproduce_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/reproduce"
)

// Few entries come in the same order in two orders by hash, and in another one
// in the file system's own: the reason is found all the same.
func TestOrderOfFewEntries(t *testing.T) {
	for _, other := range []uint32{2, 3, 7} { // the first of the orders that is another
		printed := func(order uint32) *action.Result {
			if order == 0 || order >= other {
				return &action.Result{StdoutRaw: []byte("b a\n")}
			}
			return &action.Result{StdoutRaw: []byte("a b\n")}
		}
		c := reproduce.Checker{
			Base: reproduce.Base{Start: time.Now(), CPUs: 2}, Command: &action.Command{Arguments: []string{"ls"}}, Rounds: 1,
			Own: func(string) bool { return false },
			Say: func(format string, args ...any) { t.Logf(format, args...) },
			Run: func(_ context.Context, v *backends.Vary, _ *action.Command) (*reproduce.Trial, error) {
				return &reproduce.Trial{Result: printed(v.Order)}, nil
			},
		}
		was := printed(0)
		if other == 2 { // else nothing differs from what it was
			was = printed(1)
		}
		report, err := c.Check(t.Context(), was)
		if err != nil {
			t.Fatal(err)
		}
		want := "[standard output differs at byte 0 of 4, line 1: when the order of directory entries differs]"
		var got []string
		for _, d := range report.Differences {
			got = append(got, d.String())
		}
		if fmt.Sprint(got) != want {
			t.Errorf("another order from %d on: %v, want %v", other, got, want)
		}
	}
}

// What races has another order when nothing but the umask differs, too, by chance:
// that is no reason, unless it is one when everything runs in turn.
func TestRaceWonByChance(t *testing.T) {
	for _, counts := range []bool{false, true} {
		printed := func(v *backends.Vary) *action.Result {
			text := "1 2\n"
			switch {
			case v == nil:
			case v.Delay == backends.InTurn && counts && v.Umask != nil:
				text = "1 3\n"
			case v.Delay == backends.InTurn:
			case v.Delay != 0, v.Umask != nil:
				text = "2 1\n"
			}
			return &action.Result{StdoutRaw: []byte(text)}
		}
		c := reproduce.Checker{
			Base: reproduce.Base{Start: time.Now(), CPUs: 2}, Command: &action.Command{Arguments: []string{"ls"}}, Rounds: 1,
			Own: func(string) bool { return false },
			Say: func(format string, args ...any) { t.Logf(format, args...) },
			Run: func(_ context.Context, v *backends.Vary, _ *action.Command) (*reproduce.Trial, error) {
				return &reproduce.Trial{Result: printed(v)}, nil
			},
		}
		report, err := c.Check(t.Context(), printed(nil))
		if err != nil {
			t.Fatal(err)
		}
		want := "[standard output differs at byte 0 of 4, line 1: when the parallelism differs]"
		if counts {
			want = "[standard output differs at byte 0 of 4, line 1: when the parallelism differs, and when the umask differs]"
		}
		var got []string
		for _, d := range report.Differences {
			got = append(got, d.String())
		}
		if fmt.Sprint(got) != want {
			t.Errorf("counts: %v: %v, want %v", counts, got, want)
		}
	}
}
