package staging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A largeTest is a host with one large file, which the command read.
type largeTest struct {
	*hostTest
	file string
}

func newLargeTest(t *testing.T) *largeTest {
	h := &largeTest{hostTest: newHostTest(t)}
	h.witness.Large = filepath.Join(h.dir, "usr/lib")
	h.file = filepath.Join(h.witness.Large, "large.so")
	h.make(h.file, "1")
	h.status.Lookups = append(h.status.Lookups, backends.Lookup{Path: "/usr/lib/large.so", Op: backends.Open, Found: true})
	return h
}

// make makes a large file that begins with text.
func (h *largeTest) make(name, text string) {
	h.Helper()
	h.check(os.WriteFile(name, []byte(text), 0o644))
	h.check(os.Truncate(name, largeMin))
}

// edit writes into the file, and puts its time back.
func (h *largeTest) edit(text string) {
	h.Helper()
	info, err := os.Stat(h.file)
	h.check(err)
	f, err := os.OpenFile(h.file, os.O_WRONLY, 0)
	h.check(err)
	defer f.Close()
	_, err = f.WriteAt([]byte(text), 0)
	h.check(err)
	h.check(os.Chtimes(h.file, info.ModTime(), info.ModTime()))
}

// settle waits until the file's times prove something.
func (h *largeTest) settle() StatID {
	h.Helper()
	id, err := StatPath(h.file, KeepLinks)
	h.check(err)
	for !settled(id.CTime, Now(), trustMargin) {
		time.Sleep(10 * time.Millisecond)
	}
	return id
}

// word is what the key says of the file: "large" or "file".
func (h *largeTest) word() string {
	h.Helper()
	sealed, err := h.witness.Seal(h.Context(), h.action, h.status, time.Now().Add(time.Hour))
	h.check(err)
	seen, err := h.witness.Seen(h.Context(), h.action, sealed)
	h.check(err)
	for line := range strings.Lines(string(seen)) {
		if kind, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, `"/usr/lib/large.so"`) {
			return kind
		}
	}
	h.Fatalf("nothing was seen of the file: %s", seen)
	return ""
}

// age makes the name of the file so old that the next one who comes reads it.
func (h *largeTest) age() {
	h.Helper()
	id := h.settle()
	d, ok := h.witness.Hash.large(h.file, h.witness.Large, &id, Now())
	if !ok {
		h.Fatal("it has no name")
	}
	if d.given != 0 {
		d.given -= largeWait + 1
		h.witness.Hash.rememberName(&d)
	}
}

// TestLargeFiles: what is a change, before and after the file was read.
func TestLargeFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		return // no file of ours is of the system; it is tested as root
	}
	const hit, miss = true, false
	for name, c := range map[string]struct {
		change        func(h *largeTest)
		unread, known bool
	}{
		"nothing":                               {func(*largeTest) {}, hit, hit},
		"only touched":                          {func(h *largeTest) { h.check(os.Chtimes(h.file, time.Unix(1, 1), time.Unix(1, 1))) }, miss, hit},
		"another content of that size and time": {func(h *largeTest) { h.edit("2") }, miss, miss},
		"and back":                              {func(h *largeTest) { h.edit("2"); h.edit("1") }, miss, hit},
		"another length":                        {func(h *largeTest) { h.check(os.Truncate(h.file, largeMin+1)) }, miss, miss},
		"installed again": {func(h *largeTest) {
			h.make(h.file+".new", "1")
			h.check(os.Rename(h.file+".new", h.file))
		}, miss, hit},
		"another one in its place": {func(h *largeTest) {
			info, err := os.Stat(h.file)
			h.check(err)
			h.make(h.file+".new", "2")
			h.check(os.Chtimes(h.file+".new", info.ModTime(), info.ModTime()))
			h.check(os.Rename(h.file+".new", h.file))
		}, miss, miss},
		"renamed away and back": {func(h *largeTest) {
			h.check(os.Rename(h.file, h.file+".old"))
			h.check(os.Rename(h.file+".old", h.file))
		}, miss, hit},
		"on another file system, by a link": {func(h *largeTest) {
			there, err := os.MkdirTemp("/dev/shm", "sbx-large-")
			h.check(err)
			h.Cleanup(func() { os.RemoveAll(there) })
			h.make(filepath.Join(there, "large.so"), "1")
			h.check(os.Remove(h.file))
			h.check(os.Symlink(filepath.Join(there, "large.so"), h.file))
		}, miss, miss},
		"permissions": {func(h *largeTest) { h.check(os.Chmod(h.file, 0o755)) }, miss, miss},
		"a directory": {func(h *largeTest) { h.check(os.Remove(h.file)); h.check(os.Mkdir(h.file, 0o755)) }, miss, miss},
		"it is gone":  {func(h *largeTest) { h.check(os.Remove(h.file)) }, miss, miss},
		"touched, and no table": {func(h *largeTest) {
			h.check(os.Chtimes(h.file, time.Unix(1, 1), time.Unix(1, 1)))
			h.check(os.Truncate(filepath.Join(h.witness.Hash.dir, tableName+action.BLAKE3.String()), 0))
		}, miss, miss},
	} {
		for what, want := range map[string]bool{"not read": c.unread, "read": c.known} {
			t.Run(strings.ReplaceAll(name+", "+what, " ", "-"), func(t *testing.T) {
				t.Parallel()
				h := newLargeTest(t)
				id := h.settle()
				if word := h.word(); word != "large" {
					t.Fatalf("the key has a %s, want a large one", word)
				}
				if what == "read" {
					h.age()
					if word := h.word(); word != "large" {
						t.Fatalf("once it was read, the key has a %s", word)
					}
				}
				if _, ok := h.witness.Hash.recall(&id, Now()); ok != (what == "read") {
					t.Fatalf("control: its content is known: %v", ok)
				}
				key := h.seal()
				if got, err := h.recall(); err != nil || got != key {
					t.Fatalf("unchanged: %v, %v", got, err)
				}
				c.change(h)
				got, err := h.recall()
				if want && (err != nil || got != key) {
					t.Errorf("changed: %v, want a hit", err)
				}
				if !want && (err == nil || !strings.Contains(err.Error(), "/usr/lib/large.so")) {
					t.Errorf("changed: %v, want a miss that says so", err)
				}
			})
		}
	}
}

// TestLargeAfterAMiss: a file that was only touched, and missed, is known by its content
// from then on.
func TestLargeAfterAMiss(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	h := newLargeTest(t)
	h.settle()
	h.seal()
	for i := range 3 {
		h.check(os.Chtimes(h.file, time.Unix(1, 1), time.Unix(1, 1)))
		h.settle()
		switch _, err := h.recall(); {
		case i > 0 && err != nil:
			t.Errorf("touched again: %v", err)
		case i == 0 && err == nil:
			t.Error("touched: a hit")
		case i == 0:
			if word := h.word(); word != "file" {
				t.Errorf("touched: the key has a %s", word)
			}
		}
	}
}

// TestLargeNames: a file that has changed gets another name, whoever asks; and what is
// damaged in the table says nothing.
func TestLargeNames(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	h := newLargeTest(t)
	names := map[action.Digest]bool{}
	table := filepath.Join(h.witness.Hash.dir, tableName+action.BLAKE3.String())
	for i, text := range []string{"1", "2", "1"} {
		if i > 0 {
			h.edit(text)
		}
		id := h.settle()
		other := id
		other.Ino++ // as if it had been replaced since
		if _, ok := h.witness.Hash.large(h.file, h.witness.Large, &other, Now()); ok {
			t.Error("a file that is another one has a name")
		}
		h.witness.Hash.learn(h.file, &FileDigest{Digest: h.witness.Hash.nameOf(&other), ID: other, Named: true}, Now())
		if h.known(&other) || h.known(&id) {
			t.Error("it is known what a name stands for that was given just now, or to another file")
		}
		h.check(os.Truncate(table, 0))
		if word := h.word(); word != "large" {
			t.Fatalf("the key has a %s", word)
		}
		key := h.seal()
		if names[key] {
			t.Errorf("edit %d: the key is one that was there before", i)
		}
		names[key] = true
		h.damage(table)
		if again := h.seal(); again != key {
			t.Errorf("edit %d: with a damaged table the key is another one", i)
		}
		h.age()
		h.word()
		h.age()
		if !h.known(&id) {
			t.Fatal("control: what the name stands for is not known")
		}
		if h.damage(table); h.known(&id) {
			t.Error("from a damaged table it is known what a name stands for")
		}
	}
}

// damage changes a hash in each slot of the table.
func (h *largeTest) damage(table string) {
	h.Helper()
	data, err := os.ReadFile(table)
	h.check(err)
	for at := 0; at < len(data); at += slotSize {
		if s := data[at : at+slotSize]; le.Uint64(s) != 0 {
			s[56] ^= 1
		}
	}
	h.check(os.WriteFile(table, data, 0o600))
}

func (h *largeTest) known(id *StatID) bool {
	_, ok := h.witness.Hash.meant(h.witness.Hash.nameOf(id))
	return ok
}

// TestLargeIsRead: what is read at once, as a smaller file would be.
func TestLargeIsRead(t *testing.T) {
	writer := func(h *largeTest) *os.File {
		f, err := os.OpenFile(h.file, os.O_RDWR, 0)
		h.check(err)
		h.Cleanup(func() { f.Close() })
		return f
	}
	for name, c := range map[string]struct {
		root bool // it would be large otherwise
		make func(h *largeTest)
	}{
		"of a user": {false, func(h *largeTest) {
			if os.Geteuid() == 0 { // else it is
				h.check(os.Chown(h.file, 1, -1))
			}
		}},
		"of the group":  {true, func(h *largeTest) { h.check(os.Chmod(h.file, 0o664)) }},
		"a program":     {true, func(h *largeTest) { h.check(os.Chmod(h.file, 0o755)) }},
		"not so large":  {true, func(h *largeTest) { h.check(os.Truncate(h.file, largeMin-1)) }},
		"elsewhere":     {true, func(h *largeTest) { h.witness.Large = h.dir + "/usr/li" }},
		"for others":    {true, func(h *largeTest) { h.witness.Large = "" }},
		"without store": {true, func(h *largeTest) { h.witness.Hash = NewFileHasher("", action.BLAKE3) }},
		"open":          {true, func(h *largeTest) { writer(h) }},
		"mapped": {true, func(h *largeTest) {
			f := writer(h)
			m, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			h.check(err)
			f.Close()
			h.Cleanup(func() { _ = unix.Munmap(m) })
		}},
		"times prove nothing": {true, func(h *largeTest) {
			id, err := StatPath(h.file, KeepLinks)
			h.check(err)
			h.witness.Hash.trust.devs = map[uint64]deviceTrust{id.Dev: noTrust}
		}},
		"known": {true, func(h *largeTest) {
			h.settle()
			_, err := h.witness.Hash.Digest(h.file)
			h.check(err)
		}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			if c.root && os.Geteuid() != 0 {
				return
			}
			h := newLargeTest(t)
			c.make(h)
			h.settle()
			if word := h.word(); word != "file" {
				t.Errorf("the key has a %s", word)
			}
		})
	}
	t.Run("young", func(t *testing.T) {
		h := newLargeTest(t)
		for tries := 0; ; tries++ {
			h.edit("2")
			id, err := StatPath(h.file, KeepLinks)
			h.check(err)
			for Now() <= Moment(id.CTime) {
				time.Sleep(time.Millisecond)
			}
			_, ok := h.witness.Hash.large(h.file, h.witness.Large, &id, Now())
			if settled(id.CTime, Now(), trustMargin) && tries < 100 { // that took long
				continue
			}
			if ok {
				t.Error("it has a name")
			}
			return
		}
	})
}

// TestLargeWhileTheCommandRan: what the command read is not known then.
func TestLargeWhileTheCommandRan(t *testing.T) {
	h := newLargeTest(t)
	h.settle()
	start := h.witness.Clock()
	h.edit("2")
	h.settle()
	if _, err := h.witness.Seal(t.Context(), h.action, h.status, start); err == nil || !strings.Contains(err.Error(), "large.so of the host changed while the command ran") {
		t.Errorf("sealed: %v", err)
	}
}

// TestLargeStaysHere: a list with a name is for this machine.
func TestLargeStaysHere(t *testing.T) {
	list := func(k seenKind) []byte {
		seen := []seen{{path: "/usr/lib/a", kind: k, perm: 0o644, digest: action.Sum(action.BLAKE3, []byte("a")), id: StatID{Ino: 1}, stable: true}}
		return encodeVariants(nil, []variant{{action.Sum(action.BLAKE3, canonical(nil, seen)), seen}})
	}
	for k, want := range map[seenKind]bool{seenFile: true, seenLarge: false} {
		merged, more, err := MergeNotes(nil, list(k))
		if err != nil || more != want || (len(merged) > 0) != want {
			t.Errorf("%s: %d bytes, more %v, %v", k.word(), len(merged), more, err)
		}
	}
	variants, err := decodeVariants(list(seenLarge), 1)
	if err != nil || len(variants) != 1 || variants[0].seen[0].kind != seenLarge || variants[0].seen[0].perm != 0o644 {
		t.Errorf("read again: %+v, %v", variants, err)
	}
}
