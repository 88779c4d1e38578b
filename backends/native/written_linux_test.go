package native

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// room prints how many bytes /tmp, /dev/shm and the scratch may hold.
const room = `for d in /tmp /dev/shm /build; do set -- $(stat -f -c '%b %S' $d); echo $(($1 * $2)); done`

// TestLimitsOfWhatIsPrepared limits commands whose sandboxes, and roots, were made
// before anybody knew of a limit, and then one that has none.
func TestLimitsOfWhatIsPrepared(t *testing.T) {
	const limit = 8 << 20
	fill := func(dir string) string {
		return fmt.Sprintf("head -c %d /dev/zero >%s/full || stat -c %%s %s/full", 2*limit, dir, dir)
	}
	a := newAheadTest(t)
	a.run("the first one", a.spec("true", "key", "text"), false)
	for _, dir := range []string{"/tmp", "/dev/shm", "/build"} {
		spec := a.spec(fill(dir), "key", "text")
		spec.Limits.Scratch = limit
		// A scratch with a limit is made anew.
		got := a.run(dir+" limited", spec, false)
		says, size, _ := strings.Cut(strings.TrimSpace(got), "\n")
		// The scratch also holds an input.
		if n, err := strconv.Atoi(size); err != nil || n > limit || n < limit-64<<10 || !strings.Contains(says, unix.ENOSPC.Error()[1:]) {
			t.Errorf("filling %s with a limit of %d bytes: %q", dir, limit, got)
		}
		if got := a.run(dir, a.spec(fill(dir), "key", "text"), true); got != "" {
			t.Errorf("filling %s without a limit: %q", dir, got)
		}
	}
	if a.b.Capabilities().MemoryLimit == backends.Exact {
		return // a control group counts what is written
	}
	spec := a.spec(room, "key", strings.Repeat("x", 1<<20))
	spec.Limits.Memory = limit
	// The scratch holds an input, of which the command knows nothing.
	if got, want := a.run("room", spec, true), fmt.Sprintf("%d\n%d\n%d\n", limit, limit, limit+1<<20); got != want {
		t.Errorf("with a memory limit of %d, there is room for %q, want %q", limit, got, want)
	}
	if got := a.run("room without a limit", a.spec(room, "key", "text"), true); strings.Contains(got, fmt.Sprintln(limit)) {
		t.Errorf("without a limit, there is room for %q", got)
	}
}
