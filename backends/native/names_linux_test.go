package native

import (
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// TestLayersHaveShortNames looks for the places of layers in what a command may
// read of its mounts. The control is a bind, whose place the kernel does show.
func TestLayersHaveShortNames(t *testing.T) {
	b := open(t)
	if !b.Capabilities().Overlay {
		t.Skip("no overlay here: layers are copied")
	}
	lower, data, bound := t.TempDir(), t.TempDir(), t.TempDir()
	spec := shell("cat /proc/self/mountinfo")
	spec.Root.Lowers, spec.Root.Data = []backends.Layer{{Dir: lower}}, data
	spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: bound, Target: "/bound"})
	out, st := output(t, b, spec)
	if st.Code != 0 || !strings.Contains(out, "overlay") || !strings.Contains(out, last(bound)) {
		t.Fatalf("control: exit %d, no overlay or no %s in\n%s", st.Code, bound, out)
	}
	for _, dir := range []string{lower, data} {
		if strings.Contains(out, last(dir)) {
			t.Errorf("the command sees %s:\n%s", dir, out)
		}
	}
}

// last is the end of a path, which is seen whatever is mounted where.
func last(dir string) string {
	names := strings.Split(dir, "/")
	return strings.Join(names[len(names)-2:], "/")
}
