package commandline

import (
	"runtime"
	"testing"
)

// TestProcessors begins with one processor, and has as many as before once the
// program can be interrupted; or as many as there are, if it was started with one.
func TestProcessors(t *testing.T) {
	for _, one := range []bool{false, true} {
		runtime.SetDefaultGOMAXPROCS()
		all := runtime.GOMAXPROCS(0)
		want := all
		if one {
			runtime.GOMAXPROCS(1)
		} else {
			want = all + 3
			runtime.GOMAXPROCS(want)
		}
		ctx := withSignals(t.Context(), one)
		if got := runtime.GOMAXPROCS(0); got != 1 {
			t.Errorf("one %v: %d at first, want 1", one, got)
		}
		Interruptible(ctx)
		if got := runtime.GOMAXPROCS(0); got != want {
			t.Errorf("one %v: then %d, want %d", one, got, want)
		}
	}
	runtime.SetDefaultGOMAXPROCS()
}
