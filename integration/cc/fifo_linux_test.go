package cc_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestOutputIsFIFO has calls write to FIFOs, which somebody reads: what comes out at the
// other end is what comes without us, and the FIFO stays one. Some are known to write
// there, for some there is a result of when there was a file.
func TestOutputIsFIFO(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, first string
		call        []string
		want        cc.Reason
	}{
		{"what a shell is told", "", []string{"sh", "-c", "cat a.c >out"}, cc.ReasonInput},
		{"a value", "", []string{"dd", "if=a.c", "of=out", "status=none"}, cc.ReasonInput},
		{"a script", "", []string{"sh", "-c", ". ./write"}, cc.ReasonStream}, // who opens it for reading, too, waits for nobody
		{"a result of before", "out", []string{"sh", "-c", ". ./write"}, cc.ReasonStream},
	} {
		w := newWorld(t)
		w.write("a.c", "int a;\n")
		w.write("write", "cat a.c 1<>out\n")
		w.flags = []string{"--any"}
		if c.first != "" {
			w.expect(c.name+", with a file", c.call, w.bare(c.call), cc.Miss)
			w.expect(c.name+", with a file", c.call, w.bare(c.call), cc.Hit)
		}
		w.must(unix.Mkfifo(w.path("out"), 0o644))
		fd, err := unix.Open(w.path("out"), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) // so nobody waits
		w.must(err)
		heard := func() string {
			buf := make([]byte, 4096)
			n, err := unix.Read(fd, buf)
			if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return string(buf[:max(n, 0)])
		}
		want := w.bare(c.call)
		if said := heard(); said != "int a;\n" {
			t.Fatalf("control: %s: %q", c.name, said)
		}
		for range 2 {
			got, outcome, reason := w.wrapped(c.call)
			if said, diff := heard(), got.differs(want); said != "int a;\n" || diff != "" || outcome != cc.Plain || reason != c.want {
				t.Errorf("%s: said %q; %s; ended with %s (%s), want %s (%s)", c.name, said, diff, outcome, reason, cc.Plain, c.want)
			}
			if info, err := os.Lstat(w.path("out")); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
				t.Errorf("%s: the FIFO is %v now, %v", c.name, info, err)
			}
		}
		unix.Close(fd)
	}
}
