package native

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

//go:embed testdata/random.c
var randomSource string

// randomRoot makes a root directory with a few links and directories, in which
// testdata/random.c is /build/random, and may change what it wants.
func randomRoot(program []byte, owner int) func(root *os.File) error {
	return func(root *os.File) error {
		at := int(root.Fd())
		for _, d := range []string{"build", "build/a", "build/sub", "build/sub/a", "build/o"} {
			if err := unix.Mkdirat(at, d, 0o777); err != nil {
				return err
			}
			if err := unix.Fchownat(at, d, owner, owner, 0); err != nil {
				return err
			}
		}
		for _, l := range []string{
			"usr/bin bin", "usr/lib lib", "usr/lib64 lib64", "build/sub l", "a build/l", "/tmp build/m", "absent build/n", "../b build/sub/l",
			".. build/up", "/usr/absent build/a/m", "/build/c build/a/n", "n build/sub/n",
		} {
			target, name, _ := strings.Cut(l, " ")
			if err := unix.Symlinkat(target, at, name); err != nil {
				return err
			}
		}
		for name, data := range map[string][]byte{"build/random": program, "build/f": nil, "build/sub/f": nil} {
			fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_WRONLY, 0o755)
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fd), name)
			_, err1 := f.Write(data)
			err2 := f.Chmod(0o777)
			f.Close()
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
		}
		return nil
	}
}

// randomly runs testdata/random.c with a number, and returns what it printed and what
// is told of it.
func randomly(t *testing.T, b *Backend, program []byte, n int) (string, map[string]bool, bool) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	st, err := b.Run(t.Context(), &backends.Spec{
		Root: backends.Root{
			Binds: []backends.Bind{{Source: "/usr", Target: "/usr"}},
			Fill:  randomRoot(program, b.Capabilities().Owner),
		},
		Args: []string{"/build/random", strconv.Itoa(n)}, Dir: []string{"/build", "/build/sub", "/build/l", "/build"}[n%4],
		Observe: true, Stdout: out, Stderr: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	printed, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, l := range st.Lookups {
		if strings.HasPrefix(l.Path, "/usr") || strings.HasPrefix(l.Path, "/lib") || strings.Contains(l.Path, " (deleted)") {
			l.Found = false // only a scribe knows
		}
		told[fmt.Sprint(l.Op, " ", ownProc.ReplaceAllString(l.Path, "/proc/N"), " ", l.Found, l.Made, l.Anew)] = true
	}
	return fmt.Sprintf("%s%d %d", printed, st.Code, st.Signal), told, st.Complete
}

var ownProc = regexp.MustCompile(`^/proc/\d+`)

// TestScribeRandom shows that the same is told with and without scribes of commands
// that make, move and remove links and directories, change theirs, and look things up
// meanwhile, at random.
func TestScribeRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	file := filepath.Join(t.TempDir(), "random")
	gcc := exec.Command("gcc", "-O1", "-w", "-o", file, "-x", "c", "-", "-pthread")
	gcc.Stdin = strings.NewReader(randomSource)
	if msg, err := gcc.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	program, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	asking, err1 := Open(Options{NoScribe: true})
	writing, err2 := Open(Options{})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	defer asking.Close()
	defer writing.Close()
	first, last := 0, 300                           // some tell of each call that later.c forgets to ask about
	if s := os.Getenv("SBX_TEST_RANDOM"); s != "" { // FIRST-LAST, for more
		if _, err := fmt.Sscanf(s, "%d-%d", &first, &last); err != nil {
			t.Fatal(err)
		}
	}
	for n := first; n <= last; n++ {
		want, a, complete := randomly(t, asking, program, n)
		have, b, still := randomly(t, writing, program, n)
		if have != want {
			t.Errorf("%d: it behaves differently: %s", n, firstDifference(have, want))
		}
		if !complete || !still {
			t.Errorf("%d: complete %v, and %v with", n, complete, still)
		}
		for _, l := range slices.Sorted(maps.Keys(a)) {
			if !b[l] {
				t.Errorf("%d: only without: %s", n, l)
			}
		}
		for _, l := range slices.Sorted(maps.Keys(b)) {
			if !a[l] {
				t.Errorf("%d: only with: %s", n, l)
			}
		}
	}
}
