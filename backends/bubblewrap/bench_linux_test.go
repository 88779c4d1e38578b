package bubblewrap

import (
	"os"
	"os/exec"
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

// BenchmarkRun runs a program that does nothing, with the host's /usr.
func BenchmarkRun(b *testing.B) {
	backend, err := Open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	spec := &backends.Spec{Args: []string{"/usr/bin/true"}, Dir: "/"}
	for _, d := range []string{"/usr", "/lib", "/lib64"} {
		if st, err := os.Stat(d); err == nil && st.IsDir() {
			spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: d, Target: d})
		}
	}
	for b.Loop() {
		if st, err := backend.Run(b.Context(), spec); err != nil || st.Code != 0 {
			b.Fatalf("%+v, %v", st, err)
		}
	}
}

// BenchmarkBwrap is the same with bwrap alone.
func BenchmarkBwrap(b *testing.B) {
	args := []string{"--unshare-all", "--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"}
	for _, d := range []string{"/usr", "/lib", "/lib64"} {
		if st, err := os.Stat(d); err == nil && st.IsDir() {
			args = append(args, "--ro-bind", d, d)
		}
	}
	for b.Loop() {
		if out, err := exec.Command("bwrap", append(args, "/usr/bin/true")...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}
