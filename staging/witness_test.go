package staging

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// notes keeps notes in a map.
type notes map[action.Digest][]byte

func (n notes) Note(_ context.Context, key action.Digest) ([]byte, error) {
	data, ok := n[key]
	if !ok {
		return nil, action.ErrMiss
	}
	return data, nil
}

func (n notes) PutNote(_ context.Context, key action.Digest, data []byte) error {
	n[key] = data
	return nil
}

// A hostTest is a directory that plays the host: what the root shows at /usr.
type hostTest struct {
	*testing.T
	dir     string
	witness *HostWitness
	action  *action.Action
	status  *backends.Status
}

func newHostTest(t *testing.T) *hostTest {
	dir := t.TempDir()
	h := &hostTest{T: t, dir: dir}
	for name, text := range map[string]string{
		"usr/include/a.h": "a", "usr/include/sub/b.h": "b", "usr/bin/tool-1": "tool", "usr/bin/other": "other",
		"usr/share/list/x": "x", "usr/lib/looked-at": "look",
	} {
		h.write(name, text)
	}
	h.check(os.Chmod(filepath.Join(dir, "usr/bin/tool-1"), 0o755))
	h.check(os.Mkdir(filepath.Join(dir, "usr/local"), 0o755))
	h.check(os.Symlink("tool-1", filepath.Join(dir, "usr/bin/tool")))
	hasher := NewFileHasher(filepath.Join(t.TempDir(), "stat"), action.BLAKE3)
	t.Cleanup(func() { hasher.Close() })
	h.witness = &HostWitness{
		Notes: notes{}, Hash: hasher, Log: slog.New(slog.DiscardHandler),
		Host: func(p string) (string, bool) {
			return filepath.Join(dir, p), p == "/usr" || strings.HasPrefix(p, "/usr/")
		},
	}
	h.action = &action.Action{
		Command: action.Sum(action.BLAKE3, []byte("c")), InputRoot: action.Sum(action.BLAKE3, nil),
		Platform: []action.Property{{Name: RootfsProperty, Value: "host/2"}},
	}
	h.status = &backends.Status{Complete: true, Lookups: []backends.Lookup{
		{Path: "/usr/bin/tool", Op: backends.Exec},
		{Path: "/usr/include/a.h", Op: backends.Open},
		{Path: "/usr/include/../include/./sub//b.h", Op: backends.Open},
		{Path: "/usr/local/include/a.h", Op: backends.Open}, // in vain: no such directory
		{Path: "/usr/include/sub/a.h", Op: backends.Stat},   // in vain
		{Path: "/usr/share/list", Op: backends.Open},
		{Path: "/usr/lib/looked-at", Op: backends.Stat},
		{Path: "/usr/share", Op: backends.Stat},
		{Path: "/build/in", Op: backends.Open}, // not of the host
		{Path: "/tmp/x", Op: backends.Open},
	}}
	return h
}

func (h *hostTest) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *hostTest) write(name, text string) {
	h.Helper()
	p := filepath.Join(h.dir, name)
	h.check(os.MkdirAll(filepath.Dir(p), 0o755))
	h.check(os.WriteFile(p, []byte(text), 0o644))
}

// seal runs the command, as far as the witness can tell.
func (h *hostTest) seal() action.Digest {
	h.Helper()
	sealed, err := h.witness.Seal(h.Context(), h.action, h.status, time.Now().Add(time.Hour))
	h.check(err)
	return sealed.Digest(action.BLAKE3)
}

func (h *hostTest) recall() (action.Digest, error) {
	sealed, err := h.witness.Recall(h.Context(), h.action)
	if err != nil {
		return action.Digest{}, err
	}
	return sealed.Digest(action.BLAKE3), nil
}

// TestEveryChangeOfTheHostIsAMiss changes one thing that the command saw,
// demands a miss that names it, changes it back, and demands a hit.
func TestEveryChangeOfTheHostIsAMiss(t *testing.T) {
	in := func(h *hostTest, name string) string { return filepath.Join(h.dir, name) }
	for name, c := range map[string]struct {
		names    string // what the reason must name
		do, undo func(h *hostTest)
	}{
		"content": {
			"/usr/include/a.h", func(h *hostTest) { h.write("usr/include/a.h", "A") },
			func(h *hostTest) { h.write("usr/include/a.h", "a") },
		},
		"content behind dots": {
			"/usr/include/sub/b.h", func(h *hostTest) { h.write("usr/include/sub/b.h", "B") },
			func(h *hostTest) { h.write("usr/include/sub/b.h", "b") },
		},
		"content, with the old time": {"/usr/include/a.h", func(h *hostTest) {
			info, err := os.Stat(in(h, "usr/include/a.h"))
			h.check(err)
			h.write("usr/include/a.h", "A")
			h.check(os.Chtimes(in(h, "usr/include/a.h"), info.ModTime(), info.ModTime()))
		}, func(h *hostTest) { h.write("usr/include/a.h", "a") }},
		"replaced by rename": {"/usr/include/a.h", func(h *hostTest) {
			h.write("usr/include/new", "n")
			h.check(os.Rename(in(h, "usr/include/new"), in(h, "usr/include/a.h")))
		}, func(h *hostTest) { h.write("usr/include/a.h", "a") }},
		"gone": {
			"/usr/include/a.h", func(h *hostTest) { h.check(os.Remove(in(h, "usr/include/a.h"))) },
			func(h *hostTest) { h.write("usr/include/a.h", "a") },
		},
		"link retargeted": {"/usr/bin/tool", func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/bin/tool")))
			h.check(os.Symlink("other", in(h, "usr/bin/tool")))
		}, func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/bin/tool")))
			h.check(os.Symlink("tool-1", in(h, "usr/bin/tool")))
		}},
		"link becomes a file": {"/usr/bin/tool", func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/bin/tool")))
			h.write("usr/bin/tool", "tool")
		}, func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/bin/tool")))
			h.check(os.Symlink("tool-1", in(h, "usr/bin/tool")))
		}},
		"program changed behind its link": {"/usr/bin/tool-1", func(h *hostTest) {
			h.check(os.WriteFile(in(h, "usr/bin/tool-1"), []byte("TOOL"), 0o755))
		}, func(h *hostTest) { h.check(os.WriteFile(in(h, "usr/bin/tool-1"), []byte("tool"), 0o755)) }},
		"not executable any more": {
			"/usr/bin/tool-1", func(h *hostTest) { h.check(os.Chmod(in(h, "usr/bin/tool-1"), 0o644)) },
			func(h *hostTest) { h.check(os.Chmod(in(h, "usr/bin/tool-1"), 0o755)) },
		},
		"permissions of what was read": {
			"/usr/include/a.h", func(h *hostTest) { h.check(os.Chmod(in(h, "usr/include/a.h"), 0o664)) },
			func(h *hostTest) { h.check(os.Chmod(in(h, "usr/include/a.h"), 0o644)) },
		},
		"directory on the way is closed": {
			"/usr/include", func(h *hostTest) { h.check(os.Chmod(in(h, "usr/include"), 0o711)) },
			func(h *hostTest) { h.check(os.Chmod(in(h, "usr/include"), 0o755)) },
		},
		"permissions of a directory that was looked at": {
			"/usr/share", func(h *hostTest) { h.check(os.Chmod(in(h, "usr/share"), 0o750)) },
			func(h *hostTest) { h.check(os.Chmod(in(h, "usr/share"), 0o755)) },
		},
		"permissions of a directory that was listed": {
			"/usr/share/list", func(h *hostTest) { h.check(os.Chmod(in(h, "usr/share/list"), 0o711)) },
			func(h *hostTest) { h.check(os.Chmod(in(h, "usr/share/list"), 0o755)) },
		},
		"appears where it was looked for": {
			"/usr/include/sub/a.h", func(h *hostTest) { h.write("usr/include/sub/a.h", "") },
			func(h *hostTest) { h.check(os.Remove(in(h, "usr/include/sub/a.h"))) },
		},
		"directory appears where a file was looked for": {
			"/usr/local/include", func(h *hostTest) { h.write("usr/local/include/z", "") },
			func(h *hostTest) { h.check(os.RemoveAll(in(h, "usr/local/include"))) },
		},
		"listed directory gains a name": {
			"/usr/share/list", func(h *hostTest) { h.write("usr/share/list/y", "") },
			func(h *hostTest) { h.check(os.Remove(in(h, "usr/share/list/y"))) },
		},
		"name becomes a directory in a listed one": {"/usr/share/list", func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/share/list/x")))
			h.check(os.Mkdir(in(h, "usr/share/list/x"), 0o755))
		}, func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/share/list/x")))
			h.write("usr/share/list/x", "")
		}},
		"size of what was looked at": {
			"/usr/lib/looked-at", func(h *hostTest) { h.write("usr/lib/looked-at", "longer") },
			func(h *hostTest) { h.write("usr/lib/looked-at", "kool") },
		},
		"file becomes a directory": {"/usr/include/a.h", func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/include/a.h")))
			h.check(os.Mkdir(in(h, "usr/include/a.h"), 0o755))
		}, func(h *hostTest) {
			h.check(os.Remove(in(h, "usr/include/a.h")))
			h.write("usr/include/a.h", "a")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostTest(t)
			key := h.seal()
			if got, err := h.recall(); err != nil || got != key {
				t.Fatalf("control: unchanged: %v, %v; want %v", got, err, key)
			}
			c.do(h)
			_, err := h.recall()
			if !errors.Is(err, action.ErrMiss) {
				t.Fatalf("changed: %v, want a miss", err)
			}
			if !strings.Contains(err.Error(), c.names) {
				t.Errorf("the reason is %q, want it to name %s", err, c.names)
			}
			if other := h.seal(); other == key {
				t.Error("the key of the changed host is the same")
			}
			c.undo(h)
			if got, err := h.recall(); err != nil || got != key {
				t.Errorf("changed back: %v, %v; want %v", got, err, key)
			}
		})
	}
}

// TestWhatIsNotSeenDoesNotMiss changes what the command did not look at.
func TestWhatIsNotSeenDoesNotMiss(t *testing.T) {
	h := newHostTest(t)
	key := h.seal()
	h.write("usr/bin/other", "changed")
	h.write("usr/include/new.h", "new")
	h.write("usr/lib/new", "new")
	old := time.Unix(1e9, 0)
	h.check(os.Chtimes(filepath.Join(h.dir, "usr/include/a.h"), old, old))
	if got, err := h.recall(); err != nil || got != key {
		t.Errorf("%v, %v; want %v", got, err, key)
	}
}

// TestAnEqualStatProvesTheFact trusts the stat data of a host that was at rest,
// and must see what changes later, through that data.
func TestAnEqualStatProvesTheFact(t *testing.T) {
	h := newHostTest(t)
	key := h.seal()
	time.Sleep(20 * time.Millisecond) // more than the step of the clock that stamps files
	note := h.action.Digest(action.BLAKE3)
	variants, err := h.witness.variants(t.Context(), note, maxShared)
	h.check(err)
	for i := range variants[0].seen {
		s := &variants[0].seen[i]
		path := s.path
		if s.kind == seenAbsent {
			path = filepath.Dir(path)
		}
		s.id, err = StatPath(filepath.Join(h.dir, path), KeepLinks)
		h.check(err)
		s.stable = s.kind != seenMeta && s.kind != seenDir
	}
	h.witness.keep(t.Context(), note, variants, 0, nil)
	if got, err := h.recall(); err != nil || got != key {
		t.Fatalf("at rest: %v, %v", got, err)
	}
	for _, name := range []string{"usr/include/a.h", "usr/bin/tool-1"} {
		was, err := os.ReadFile(filepath.Join(h.dir, name))
		h.check(err)
		h.write(name, strings.Repeat("x", len(was)))
		if _, err := h.recall(); !errors.Is(err, action.ErrMiss) {
			t.Errorf("%s changed: %v, want a miss", name, err)
		}
		h.write(name, string(was))
	}
	h.write("usr/include/sub/a.h", "")
	if _, err := h.recall(); !errors.Is(err, action.ErrMiss) {
		t.Errorf("a name appeared: %v, want a miss", err)
	}
}

// TestRenamedMeanwhile has another directory stand in the place of one, or of one above it,
// while the command runs, and then has everything as it was.
func TestRenamedMeanwhile(t *testing.T) {
	for _, c := range []struct {
		dir     string
		refused bool
	}{{"usr/include/sub", true}, {"usr/include", true}, {"usr/bin", false}} {
		h := newHostTest(t)
		h.status.Lookups = []backends.Lookup{{Path: "/usr/include/sub/b.h", Op: backends.Open}}
		h.write("usr/other/sub/b.h", "another")
		tick := func() { // more than a step of the clock that stamps files
			for was := h.witness.Clock(); h.witness.Clock().Before(was.Add(20 * time.Millisecond)); {
				time.Sleep(time.Millisecond)
			}
		}
		tick()
		start := h.witness.Clock()
		tick()
		dir := filepath.Join(h.dir, c.dir)
		h.check(os.Rename(dir, dir+"-away"))
		h.check(os.Rename(filepath.Join(h.dir, "usr/other"), dir))
		h.check(os.Rename(dir, filepath.Join(h.dir, "usr/other")))
		h.check(os.Rename(dir+"-away", dir))
		h.write("usr/include/appears.h", "") // as in any build
		if c.dir == "usr/include" {
			tick()
			h.check(os.Rename(dir, dir+"-away")) // otherwise what appeared hides it
			h.check(os.Rename(dir+"-away", dir))
		}
		_, err := h.witness.Seal(t.Context(), h.action, h.status, start)
		if c.refused != errors.Is(err, action.ErrUnsealed) || c.refused && !strings.Contains(err.Error(), c.dir+" of the host changed") {
			t.Errorf("%s: %v", c.dir, err)
		}
	}
}

// TestWholeSeconds has a file change in the second in which the command began, on a file
// system that has whole seconds only.
func TestWholeSeconds(t *testing.T) {
	h := newHostTest(t)
	const start = 1_000_000*1e9 + 3e8
	for _, c := range []struct {
		ctime int64
		trust deviceTrust
		moved bool
	}{
		{start - 3e8, fullTrust, true},
		{start - 3e8 - 1, fullTrust, false},
		{start - 3e8 - 1e9, exactOnly, true},
		{start - 3e8 - 3e9, exactOnly, false},
		{start - 2e9, noTrust, true},
		{start - 4e9, noTrust, false},
		{start, exactOnly, true},
		{start - 1, exactOnly, false},
	} {
		h.witness.Hash.trust.devs = map[uint64]deviceTrust{1: c.trust}
		list := []seen{{path: "/usr/a", kind: seenFile, id: StatID{Dev: 1, CTime: c.ctime}}}
		if got := h.witness.moved(list, time.Unix(0, start)); (got != "") != c.moved {
			t.Errorf("changed at start%+d, trust %d: moved %q", c.ctime-start, c.trust, got)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	h := newHostTest(t)
	_, err := h.witness.Seal(t.Context(), h.action, h.status, time.Unix(1e9, 0))
	if !errors.Is(err, action.ErrUnsealed) || !strings.Contains(err.Error(), "/usr/") {
		t.Errorf("a host that changed during the run: %v", err)
	}
	h.check(unix.Mkfifo(filepath.Join(h.dir, "usr/share/fifo"), 0o666))
	lookups := h.status.Lookups
	h.status.Lookups = append(lookups, backends.Lookup{Path: "/usr/share/fifo", Op: backends.Open})
	_, err = h.witness.Seal(t.Context(), h.action, h.status, time.Now().Add(time.Hour))
	if !errors.Is(err, action.ErrUnsealed) || !strings.Contains(err.Error(), "/usr/share/fifo") {
		t.Errorf("a FIFO of the host that was opened: %v", err)
	}
	h.status.Lookups = append(lookups, backends.Lookup{Path: "/usr/share/fifo", Op: backends.Stat})
	if _, err := h.witness.Seal(t.Context(), h.action, h.status, time.Now().Add(time.Hour)); err != nil {
		t.Errorf("control: a FIFO that was looked at: %v", err)
	}
	h.status.Lookups = lookups
	h.status.Complete = false
	if _, err := h.witness.Seal(t.Context(), h.action, h.status, time.Now().Add(time.Hour)); !errors.Is(err, action.ErrUnsealed) {
		t.Errorf("look-ups that are not complete: %v", err)
	}
}

func TestSealedTreesAreLeftAlone(t *testing.T) {
	h := newHostTest(t)
	h.action.Platform[0].Value = action.Sum(action.BLAKE3, nil).String()
	key := h.action.Digest(action.BLAKE3)
	if got := h.seal(); got != key {
		t.Errorf("Seal: %v, want %v", got, key)
	}
	if got, err := h.recall(); err != nil || got != key {
		t.Errorf("Recall: %v, %v, want %v", got, err, key)
	}
}

func FuzzVariants(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeVariants(nil, []variant{{seal: action.Sum(action.BLAKE3, nil), seen: []seen{
		{path: "/usr/a", kind: seenFile, perm: 0o755, digest: action.Sum(action.BLAKE3, nil), id: StatID{Ino: 1}, stable: true},
		{path: "/usr/b", kind: seenAbsent, id: StatID{Ino: 2}, stable: true},
		{path: "/usr/c", kind: seenAbsent, id: StatID{Ino: 2}, stable: true},
		{path: "/usr/d", kind: seenLink, text: "x"},
	}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		variants, err := decodeVariants(data, maxShared)
		if err != nil {
			return
		}
		again, err := decodeVariants(encodeVariants(nil, variants), maxShared)
		if err != nil || len(again) != len(variants) {
			t.Fatalf("%v: %d variants, then %d", err, len(variants), len(again))
		}
		for i := range again {
			if string(canonical(nil, again[i].seen)) != string(canonical(nil, variants[i].seen)) {
				t.Errorf("variant %d differs", i)
			}
		}
	})
}
