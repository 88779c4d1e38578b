package staging

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// looked is what a witness sees of paths, and how many of them it did not look at. Of what
// it keeps in r it is as with the next call of a warm session.
func looked(t *testing.T, r *Recalled, mounts bool, paths ...string) (text string, recalled int) {
	t.Helper()
	h := NewFileHasher("", action.BLAKE3)
	if r != nil {
		h.Keep(r)
		r.Begin(mounts)
	}
	w := &HostWitness{Notes: notes{}, Hash: h, Host: func(p string) (string, bool) { return p, p != "/" }}
	c := w.scoutFor(len(paths))
	for _, p := range paths {
		if err := c.look(backends.Lookup{Path: p, Op: backends.Open}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.settle(); err != nil {
		t.Fatal(err)
	}
	c.keepNames()
	for _, n := range c.nodes {
		if n.recalled {
			recalled++
		}
	}
	list, err := h.List(filepath.Dir(paths[0]))
	if err != nil {
		t.Fatal(err)
	}
	text = string(canonical(nil, c.sorted())) + fmt.Sprint(list)
	return text, recalled
}

// TestRecalledNames: names that were absent, and links, are not looked at again as long as
// their directory is as it was; and whatever changes is seen.
func TestRecalledNames(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "dir")
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	settled := func() {
		t.Helper()
		id, err := StatPath(dir, KeepLinks)
		must(err)
		for Now() <= Moment(id.CTime+trustMargin) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	must(os.Mkdir(dir, 0o755))
	must(os.WriteFile(in("file"), []byte("text"), 0o644))
	must(os.WriteFile(in("other"), []byte("another"), 0o644))
	must(os.Symlink("file", in("link")))
	r := &Recalled{}
	paths := []string{in("absent"), in("link"), in("sub/absent"), in("file")}
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"nothing", func() error { return nil }},
		{"a file appears", func() error { return os.WriteFile(in("absent"), []byte("here"), 0o644) }},
		{"it goes", func() error { return os.Remove(in("absent")) }},
		{"the link leads elsewhere", func() error {
			must(os.Symlink("other", in("new")))
			return os.Rename(in("new"), in("link"))
		}},
		{"a file is in its place", func() error {
			must(os.Remove(in("link")))
			return os.WriteFile(in("link"), []byte("no link"), 0o644)
		}},
		{"it is a link again", func() error {
			must(os.Remove(in("link")))
			return os.Symlink("file", in("link"))
		}},
		{"a directory appears", func() error { return os.Mkdir(in("sub"), 0o755) }},
		{"another one is in the place of all", func() error {
			must(os.Rename(dir, dir+".old"))
			must(os.Mkdir(dir, 0o755))
			return os.WriteFile(in("absent"), []byte("text"), 0o644)
		}},
		{"the first one is back", func() error {
			must(os.Rename(dir, dir+".new"))
			return os.Rename(dir+".old", dir)
		}},
		{"what is read changes, and no directory", func() error { return os.WriteFile(in("file"), []byte("TEXT"), 0o644) }},
	} {
		settled()
		looked(t, r, false, paths...)
		before, known := looked(t, r, false, paths...)
		if known == 0 {
			t.Errorf("%s: control: nothing is recalled", c.name)
		}
		must(c.change())
		for range 2 { // also what was kept of a directory that has just changed
			got, _ := looked(t, r, false, paths...)
			want, none := looked(t, nil, false, paths...)
			if got != want || none != 0 {
				t.Errorf("%s:\n%swas seen, want\n%s", c.name, got, want)
			}
			if (want == before) != (c.name == "nothing") {
				t.Errorf("%s: control: it is seen as\n%s", c.name, want)
			}
		}
	}
	settled()
	looked(t, r, false, paths...)
	checkTouched(t, r, in("link"))
	if _, known := looked(t, r, false, paths...); known == 0 || len(r.lists) != 1 {
		t.Errorf("control: %d names and %d lists are kept", known, len(r.lists))
	}
	if _, known := looked(t, r, true, paths...); known != 0 {
		t.Errorf("%d names were recalled although something was mounted", known)
	}
	if r.Begin(true); len(r.dirs)+len(r.lists) > 0 {
		t.Error("after a mount something is kept")
	}
}

// checkTouched: a link that has other times than are kept of it is a fact with these once it
// has been looked at again, and what is found after that has them, too: hits in front of us
// compare them.
func checkTouched(t *testing.T, r *Recalled, link string) {
	t.Helper()
	h := NewFileHasher("", action.BLAKE3)
	h.Keep(r)
	w := &HostWitness{Notes: notes{}, Hash: h, Host: func(p string) (string, bool) { return p, p != "/" }}
	found := func() seen {
		c := w.scoutFor(1)
		if _, err := c.link(c.at(link)); err != nil {
			t.Fatal(err)
		}
		return c.found[0]
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, link, []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	want, err := StatPath(link, KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	for Now() <= Moment(want.CTime+trustMargin) {
		time.Sleep(10 * time.Millisecond)
	}
	s := found()
	if s.id == want {
		t.Error("control: the link is looked at, and not recalled")
	}
	now, err := w.again(s)
	if err != nil || now.id != want || !now.stable {
		t.Errorf("again: %+v, %v, want %+v", now, err, want)
	}
	if s := found(); s.id != want {
		t.Errorf("then it is %+v, want %+v", s.id, want)
	}
}

// TestRoom: a scout is used again by the next call, but not one that has looked at so much
// that to forget it takes longer than to begin anew: of a build, in directories of its root.
func TestRoom(t *testing.T) {
	for n, want := range map[int]bool{100: true, roomMost * 2: false} {
		h, r := NewFileHasher("", action.BLAKE3), &Recalled{}
		h.Keep(r)
		w := &HostWitness{Notes: notes{}, Hash: h, Host: func(string) (string, bool) { return "", false }}
		c := w.scoutFor(n / 8)
		for i := range n {
			if err := c.look(backends.Lookup{Path: fmt.Sprint("/build/", i), Op: backends.Open}); err != nil {
				t.Fatal(err)
			}
		}
		if r.Begin(false); (w.scoutFor(1) == c) != want {
			t.Errorf("after %d paths it is used again: %t, want %t", n, !want, want)
		}
	}
}
