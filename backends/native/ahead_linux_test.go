package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// An aheadTest counts how roots are made.
type aheadTest struct {
	t     *testing.T
	b     *Backend
	owner int
	// How often each was called; First may still be running, but not before Run.
	fill, rest int
}

func newAheadTest(t *testing.T) *aheadTest {
	b, err := Open(Options{Prepared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return &aheadTest{t: t, b: b, owner: b.Basics().Owner}
}

// spec runs a script in a root that shows the host's programs and binds, and has a
// directory /key, and /build with a file, which are made in advance where that is
// possible.
func (a *aheadTest) spec(script, key, text string, binds ...backends.Bind) *backends.Spec {
	spec := shell(script)
	spec.Root.Binds = append(spec.Root.Binds, binds...)
	mkdir := func(dir *os.File, name string) error {
		if err := unix.Mkdirat(int(dir.Fd()), name, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		if err := unix.Fchmodat(int(dir.Fd()), name, 0o777, 0); err != nil {
			return err
		}
		return unix.UtimesNanoAt(int(dir.Fd()), name, make([]unix.Timespec, 2), 0)
	}
	first := func(dir *os.File) error {
		if err := mkdir(dir, key); err != nil {
			return err
		}
		return mkdir(dir, "build")
	}
	rest := func(dir *os.File) error {
		fd, err := unix.Openat(int(dir.Fd()), "build/own", unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "own")
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			return err
		}
		if err := unix.Fchown(fd, a.owner, a.owner); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(int(dir.Fd()), "build/own", make([]unix.Timespec, 2), 0); err != nil {
			return err
		}
		return mkdir(dir, "build")
	}
	spec.Root.Fill = func(dir *os.File) error {
		a.fill++
		if err := first(dir); err != nil {
			return err
		}
		return rest(dir)
	}
	spec.Root.Ahead = &backends.Ahead{
		Key: key, First: first, Binds: spec.Root.Binds,
		Rest: func(dir *os.File) error { a.rest++; return rest(dir) },
	}
	return spec
}

// run runs spec, and then prepares the next. It wants that to have used what was made
// in advance, or not to.
func (a *aheadTest) run(what string, spec *backends.Spec, used bool) string {
	a.t.Helper()
	fill, rest := a.fill, a.rest
	out, st := output(a.t, a.b, spec)
	if st.Code != 0 || st.Start != nil {
		a.t.Errorf("%s: exit %d, %v: %s", what, st.Code, st.Start, out)
	}
	want := [2]int{fill + 1, rest}
	if used {
		want = [2]int{fill, rest + 1}
	}
	if got := [2]int{a.fill, a.rest}; got != want {
		a.t.Errorf("%s: roots made whole and rests made: %d, want %d", what, got, want)
	}
	a.prepare()
	return out
}

// prepare prepares the next root, and waits until that is done.
func (a *aheadTest) prepare() {
	a.b.Prepare()
	for _, slots := range a.b.idle {
		for _, s := range slots {
			s.ahead.wait()
		}
	}
}

// everything tells what a command can know of its root, but for inode numbers,
// and what /proc and mounts have of the time. A column of ls is as wide as the number of
// links of /proc, which is that of all processes of the machine.
const everything = `ls -lAU --time-style=full-iso / /key* /build /tmp /shown 2>&1 | sed -e 's/  */ /g' -e '/ \(dev\|tmp\)$/s/20.*0000//' -e '/ proc$/s/.*/proc/'
sed 's/^[0-9]* [0-9]* [0-9:]* //' /proc/self/mountinfo | sort
touch /usr/x /shown/x 2>&1; cat /build/own /shown/* 2>&1; touch /build/new /new && rm /new && echo made`

// TestAhead shows that a root that was begun in advance is as one that was not.
func TestAhead(t *testing.T) {
	a := newAheadTest(t)
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	bind := backends.Bind{Source: dir, Target: "/shown"}
	want := a.run("anew", a.spec(everything, "key", "text", bind), false)
	if !strings.Contains(want, "made\n") || !strings.Contains(want, " /shown ") || !strings.Contains(want, "text") {
		t.Fatal(want)
	}
	for range 3 {
		if got := a.run("in advance", a.spec(everything, "key", "text", bind), true); got != want {
			t.Errorf("begun in advance it is\n%s\n%s", got, firstDifference(got, want))
		}
	}
	os.WriteFile(filepath.Join(dir, "new file"), []byte("new text"), 0o644)
	if got := a.run("a new file", a.spec(everything, "key", "text", bind), true); !strings.Contains(got, "new text") {
		t.Errorf("without a file that is new:\n%s", got)
	}
	os.Remove(filepath.Join(dir, "new file"))
	os.Chtimes(dir, time.Unix(1, 0), time.Unix(1, 0))
	if got := a.run("no new file", a.spec(everything, "key", "text", bind), true); got != want {
		t.Errorf("a run later it is\n%s\n%s", got, firstDifference(got, want))
	}

	// What is wanted is another thing.
	b := newAheadTest(t)
	want = b.run("anew", b.spec(everything, "key2", "text"), false)
	if got := a.run("another key", a.spec(everything, "key2", "text"), false); got != want {
		t.Errorf("after another root it is\n%s\n%s", got, firstDifference(got, want))
	}
	a.run("the same again", a.spec(everything, "key2", "text"), true)
	limited := a.spec(everything, "key2", "text")
	limited.Limits.Scratch = 1 << 20
	a.run("a limit", limited, false)
	lower := filepath.Join(dir, "lower")
	os.MkdirAll(filepath.Join(lower, "build"), 0o755)
	layered := a.spec("test ! -e /key2 && test ! -e /shown && cat /build/own", "key3", "in a layer")
	if layered.Root.Lowers = []backends.Layer{{Dir: lower}}; a.b.overlay() {
		if got := a.run("a layer", layered, false); got != "in a layer" {
			t.Errorf("with a layer: %q", got)
		}
	}
}

// TestAheadIsStale changes what a root that was begun shows.
func TestAheadIsStale(t *testing.T) {
	a := newAheadTest(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	shown := filepath.Join(dir, "shown")
	make := func(text string) {
		t.Helper()
		if err := os.Mkdir(shown, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shown, "f"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	look := func(what, want string, used bool, binds ...backends.Bind) {
		t.Helper()
		if got := a.run(what, a.spec("cat /shown/f", "key", "", binds...), used); got != want {
			t.Errorf("%s: it sees %q, want %q", what, got, want)
		}
	}
	bind := backends.Bind{Source: shown, Target: "/shown"}
	make("one")
	look("the first", "one", false, bind)
	look("the same", "one", true, bind)
	for i := range 20 { // an inode number would soon be given out again
		if err := os.RemoveAll(shown); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("another ", i)
		make(text)
		look("another in its place", text, false, bind)
	}
	if err := os.Rename(shown, shown+".old"); err != nil {
		t.Fatal(err)
	}
	make("new")
	look("one that was put in its place", "new", false, bind)
	look("the same", "new", true, bind)
	if err := os.RemoveAll(shown); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(shown+".old", shown); err != nil {
		t.Fatal(err)
	}
	look("a link", "another 19", false, bind)
	look("the same", "another 19", true, bind)
	other := backends.Bind{Source: dir, Target: "/other"}
	look("one more", "another 19", false, bind, other)
	look("the same", "another 19", true, bind, other)
	look("one less", "another 19", false, bind)
	a.b.Renew()
	look("after Renew", "another 19", false, bind)
	look("the same", "another 19", true, bind)

	// One that has gone: the command is told, and the next one finds what is there.
	os.Remove(shown)
	if _, err := a.b.Run(t.Context(), a.spec("cat /shown/f", "key", "", bind)); err == nil || !strings.Contains(err.Error(), shown) {
		t.Errorf("what is to be shown has gone: %v", err)
	}
	make("back")
	a.prepare()
	look("back again", "back", true, bind)
	os.RemoveAll(shown)
	a.prepare() // begins what cannot be begun
	make("back")
	if got, _ := output(t, a.b, a.spec("cat /shown/f", "key", "", bind)); got != "back" {
		t.Errorf("what could not be begun: %q", got)
	}
	if !slices.Contains([]int{0, 1}, len(a.b.idle[backends.NetworkNone])) {
		t.Errorf("%d slots are idle", len(a.b.idle[backends.NetworkNone]))
	}
}
