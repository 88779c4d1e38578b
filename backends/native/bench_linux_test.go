package native

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// staticTrue is the cheapest program there is.
func staticTrue(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	src, bin := filepath.Join(dir, "true.c"), filepath.Join(dir, "true")
	code := `void _start(void){
#if defined __x86_64__
__asm__ volatile("mov $60,%eax; xor %edi,%edi; syscall");
#else
__asm__ volatile("mov x8,#93; mov x0,#0; svc 0");
#endif
}`
	if err := os.WriteFile(src, []byte(code), 0o644); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-static", "-nostdlib", "-o", bin, src).CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(bin, 0o755); err != nil {
		tb.Fatal(err)
	}
	return bin
}

// BenchmarkPeers runs the same static program in turn: bare, with this
// backend, and with bubblewrap, and reports the median of each.
func BenchmarkPeers(b *testing.B) {
	bin := staticTrue(b)
	if err := os.Chmod(filepath.Dir(bin), 0o755); err != nil {
		b.Fatal(err)
	}
	n, err := Open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	spec := backends.Spec{
		Root: backends.Root{Binds: []backends.Bind{{Source: filepath.Dir(bin), Target: "/bin"}, {Source: "/usr", Target: "/usr"}}},
		Args: []string{"/bin/true"},
		Dir:  "/",
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	peers := []struct {
		name string
		run  func() error
	}{
		{"forkexec", func() error {
			pid, err := syscall.ForkExec(bin, []string{"true"}, &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
			if err == nil {
				_, err = syscall.Wait4(pid, nil, 0, nil)
			}
			return err
		}},
		{"native", func() error {
			st, err := n.Run(b.Context(), &spec)
			if err == nil && st.Code != 0 {
				b.Fatalf("%+v", st)
			}
			return err
		}},
		{"cold", func() error {
			n, err := Open(Options{})
			if err != nil {
				return err
			}
			_, err = n.Run(b.Context(), &spec)
			b.StopTimer()
			n.Close()
			b.StartTimer()
			return err
		}},
		{"bwrap", func() error {
			return exec.Command("bwrap", "--unshare-all", "--ro-bind", filepath.Dir(bin), "/bin", "--ro-bind", "/usr", "/usr",
				"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true").Run()
		}},
	}
	times := make([][]time.Duration, len(peers))
	for b.Loop() {
		for i, p := range peers {
			start := time.Now()
			if err := p.run(); err != nil {
				b.Fatalf("%s: %v", p.name, err)
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	for i, p := range peers {
		slices.Sort(times[i])
		b.ReportMetric(float64(times[i][len(times[i])/4].Microseconds()), p.name+"-p25-µs")
		b.ReportMetric(float64(times[i][len(times[i])/2].Microseconds()), p.name+"-p50-µs")
	}
}

// BenchmarkObserve compiles a small program with and without Observe, in turn.
func BenchmarkObserve(b *testing.B) {
	n, err := Open(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	spec := shell(`printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void){return puts("x")<0;}\n' > a.c && gcc -c a.c`)
	var times [2]time.Duration
	lookups := 0
	for b.Loop() {
		for i := range times {
			spec.Observe = i == 1
			start := time.Now()
			st, err := n.Run(b.Context(), spec)
			if err != nil || st.Code != 0 || st.Complete != spec.Observe {
				b.Fatalf("%+v, %v", st, err)
			}
			times[i] += time.Since(start)
			lookups = len(st.Lookups)
		}
	}
	b.ReportMetric(float64(lookups), "different-paths")
	b.ReportMetric(float64(times[0].Microseconds())/float64(b.N), "plain-µs")
	b.ReportMetric(float64(times[1].Microseconds())/float64(b.N), "observed-µs")
}
