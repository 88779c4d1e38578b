package native

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

//go:embed testdata/often.c
var oftenSource string

// runOften runs testdata/often.c, observed, and returns what it printed.
func runOften(t *testing.T, b *Backend, program, part string) (*backends.Status, string, string) {
	t.Helper()
	dir := t.TempDir()
	out, err1 := os.Create(filepath.Join(dir, "out"))
	errors, err2 := os.Create(filepath.Join(dir, "err"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	defer out.Close()
	defer errors.Close()
	spec := &backends.Spec{
		// Without /etc/ld.so.cache, so that the loader looks around, and all programs
		// get a scribe early: also those that have a handler for a timer later.
		Root: backends.Root{Binds: []backends.Bind{{Source: "/usr", Target: "/usr"}}},
		Args: append([]string{"/build/often"}, strings.Fields(part)...), Dir: "/build", Observe: true, Stdout: out, Stderr: errors,
	}
	spec.Root.Fill = func(root *os.File) error {
		for _, l := range []string{"bin", "lib", "lib64"} {
			if err := unix.Symlinkat("usr/"+l, int(root.Fd()), l); err != nil {
				return err
			}
		}
		for _, d := range []string{"build", "build/sub", "build/empty"} {
			if err := unix.Mkdirat(int(root.Fd()), d, 0o777); err != nil {
				return err
			}
			owner := b.Capabilities().Owner
			if err := unix.Fchownat(int(root.Fd()), d, owner, owner, 0); err != nil {
				return err
			}
		}
		for name, target := range map[string]string{"build/old-link": "/usr/absent-old", "build/sub-link": "sub"} {
			if err := unix.Symlinkat(target, int(root.Fd()), name); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(program)
		if err != nil {
			return err
		}
		fd, err := unix.Openat(int(root.Fd()), "build/often", unix.O_CREAT|unix.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "often")
		defer f.Close()
		_, err = f.Write(data)
		return err
	}
	st, err := b.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	o1, err1 := os.ReadFile(out.Name())
	o2, err2 := os.ReadFile(errors.Name())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if st.Code != 0 {
		t.Fatalf("%+v: %s", st, o2)
	}
	return st, string(o1), string(o2)
}

// TestScribe shows that a command whose look-ups are written down by a scribe
// behaves as one whose look-ups all ask, and that the same is told of it.
func TestScribe(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	program := filepath.Join(t.TempDir(), "often")
	gcc := exec.Command("gcc", "-O1", "-w", "-o", program, "-x", "c", "-", "-pthread")
	gcc.Stdin = strings.NewReader(oftenSource)
	if msg, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	own := regexp.MustCompile(`/proc/\d+`)
	open := func(o Options) *Backend {
		b, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	asks, knows := open(Options{NoScribe: true}), open(Options{})
	parts := []string{"all", "signals"}
	for _, stir := range []string{"nothing", "chdir", "fchdir", "rename", "unlink", "unlinkat", "symlink", "link", "rmdir", "child"} {
		parts = append(parts, "still "+stir)
	}
	told := func(st *backends.Status) map[string]bool {
		if !st.Complete {
			t.Error("not complete")
		}
		m := map[string]bool{}
		for _, l := range st.Lookups {
			if strings.HasPrefix(l.Path, "/usr") || strings.HasPrefix(l.Path, "/lib") || strings.HasPrefix(l.Path, "/etc") || strings.HasPrefix(l.Path, "/bin") {
				l.Found = false // only a scribe knows
			}
			m[own.ReplaceAllString(fmt.Sprint(l.Op, " ", l.Path, l.Found, l.Made), "/proc/N")] = true
		}
		return m
	}
	for _, part := range parts {
		asked, want, how := runOften(t, asks, program, part)
		if strings.Contains(how, "1") {
			t.Fatalf("%s without: %q", part, how)
		}
		whole := strings.Contains(how, "opendir asks") // it is a library that we know
		executes := strings.Contains(how, "execve asks")
		still := strings.HasPrefix(part, "still")
		for when, b := range map[string]*Backend{"at first": open(Options{}), "when the slot knows the sites": knows} {
			written, have, how := runOften(t, b, program, part)
			if runtime.GOARCH == "amd64" && !still && !strings.Contains(how, "1") {
				t.Errorf("%s %s: there was no scribe: %q", part, when, how)
			}
			if runtime.GOARCH == "amd64" && whole && strings.Contains(how, "opendir asks") {
				t.Errorf("%s %s: opendir asks: %q", part, when, how)
			}
			if runtime.GOARCH == "amd64" && executes && part != "all" && b == knows && strings.Contains(how, "execve asks") {
				t.Errorf("%s %s: execve asks: %q", part, when, how)
			}
			if have != want {
				t.Errorf("%s %s: it behaves differently:\n%s", part, when, firstDifference(have, want))
			}
			a, b := told(asked), told(written)
			for l := range a {
				if !b[l] {
					t.Errorf("%s %s: only without: %s", part, when, l)
				}
			}
			for l := range b {
				if !a[l] {
					t.Errorf("%s %s: only with: %s", part, when, l)
				}
			}
			if len(a) < 1000 && !still || len(a) < 100 {
				t.Errorf("%s: only %d look-ups", part, len(a))
			}
		}
	}
	testHugePages(t, asks, knows, program)
	// What is not known must not be taken for complete.
	asked, _, _ := runOften(t, asks, program, "overlap")
	written, _, _ := runOften(t, knows, program, "overlap")
	if !asked.Complete || written.Complete && runtime.GOARCH == "amd64" {
		t.Errorf("the kernel wrote over a path: complete %v, and %v with a scribe", asked.Complete, written.Complete)
	}
	written, have, _ := runOften(t, knows, program, "moved")
	if strings.Contains(have, "removed 0") && written.Complete && runtime.GOARCH == "amd64" {
		t.Error("a link that others led through was removed, and nobody noticed")
	}
}

// testHugePages shows which memory a scribe asks huge pages for: that which comes in
// pieces of 2 to 8 MiB, and no other.
func testHugePages(t *testing.T, asks, knows *Backend, program string) {
	_, want, without := runOften(t, asks, program, "memory")
	runOften(t, knows, program, "memory") // now the place in the library is known
	_, have, with := runOften(t, knows, program, "memory")
	if have != want {
		t.Errorf("memory: it behaves differently:\n%s", firstDifference(have, want))
	}
	if strings.Contains(without, "huge") {
		t.Errorf("without a scribe: %q", without)
	}
	_, err := os.Stat("/sys/kernel/mm/transparent_hugepage")
	for l := range strings.SplitSeq(strings.TrimSpace(with), "\n") {
		name := l[:strings.LastIndex(l, " ")]
		huge := err == nil && runtime.GOARCH == "amd64" && slices.Contains([]string{"first", "second", "third", "8 MiB"}, name)
		if huge != strings.HasSuffix(l, " huge") {
			t.Errorf("huge pages asked for %v: %q", huge, l)
		}
	}
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return fmt.Sprintf("line %d: %q, want %q", i+1, h[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(h), len(w))
}
