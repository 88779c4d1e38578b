package native

import (
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// TestDrains: reading begins while a command waits for that, and only with what it
// writes to.
func TestDrains(t *testing.T) {
	b := open(t)
	for script, want := range map[string][2]int{
		"true":                         {0, 0},
		"head -c 300000 /dev/zero":     {300000, 0},
		"head -c 300000 /dev/zero >&2": {0, 300000},
		"for i in 1 2 3; do head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; done": {300000, 300000},
	} {
		spec := shell(script)
		var got [2]int
		var begun [2]bool
		var all sync.WaitGroup
		var ours, theirs [2]*os.File
		for i := range 2 {
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			ours[i], theirs[i] = os.NewFile(uintptr(p[0]), fmt.Sprint("ours ", i)), os.NewFile(uintptr(p[1]), fmt.Sprint("theirs ", i))
			spec.Drains = append(spec.Drains, backends.Drain{Fd: p[0], Begin: func() {
				if begun[i] {
					t.Errorf("%s: stream %d begins twice", script, i)
				}
				begun[i] = true
				all.Go(func() {
					n, _ := io.Copy(io.Discard, ours[i])
					got[i] = int(n)
				})
			}})
		}
		spec.Stdout, spec.Stderr = theirs[0], theirs[1]
		st, err := b.Run(t.Context(), spec)
		if err != nil || st.Code != 0 {
			t.Fatalf("%s: %+v, %v", script, st, err)
		}
		for i := range 2 {
			theirs[i].Close()
		}
		all.Wait()
		for i := range 2 {
			ours[i].Close()
			if got[i] != want[i] || begun[i] != (want[i] > 0) {
				t.Errorf("%s: stream %d had %d bytes, want %d, begun %v", script, i, got[i], want[i], begun[i])
			}
		}
	}
}
