package why

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/history"
	"github.com/sbx-action/sbx-action/staging"
)

// A host is a directory that plays the host's /usr, and a store.
type host struct {
	*testing.T
	dir     string
	store   *cache.Store
	witness *staging.HostWitness
	now     int64
	lookups []backends.Lookup
}

func newHost(t *testing.T) *host {
	t.Helper()
	store, err := cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, dir: t.TempDir(), store: store, now: time.Now().Unix() - 1000}
	hasher := staging.NewFileHasher("", action.BLAKE3)
	t.Cleanup(func() { hasher.Close() })
	h.witness = &staging.HostWitness{
		Notes: store, Hash: hasher, Log: slog.New(slog.DiscardHandler),
		Host: func(p string) (string, bool) {
			return filepath.Join(h.dir, p), p == "/usr" || strings.HasPrefix(p, "/usr/")
		},
	}
	for _, l := range []struct {
		path string
		op   backends.Op
	}{
		{"/usr/bin/tool", backends.Exec},
		{"/usr/include/a.h", backends.Open},
		{"/usr/local/include/a.h", backends.Open},
		{"/usr/share/list", backends.Open},
		{"/usr/lib/looked-at", backends.Stat},
	} {
		h.lookups = append(h.lookups, backends.Lookup{Path: l.path, Op: l.op})
	}
	for name, text := range map[string]string{
		"usr/include/a.h": "a", "usr/bin/tool-1": "tool", "usr/bin/tool-2": "tool", "usr/share/list/x": "x",
		"usr/lib/looked-at": "look", "usr/local/include/other.h": "",
	} {
		h.write(name, text)
	}
	h.do(os.Symlink("tool-1", filepath.Join(h.dir, "usr/bin/tool")))
	return h
}

func (h *host) do(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) write(name, text string) {
	h.Helper()
	p := filepath.Join(h.dir, name)
	h.do(os.MkdirAll(filepath.Dir(p), 0o755))
	h.do(os.WriteFile(p, []byte(text), 0o644))
}

// run is a run of the command, as far as history and witness can tell.
func (h *host) run() {
	h.Helper()
	c := &action.Command{Arguments: []string{"tool"}, OutputPaths: []string{"out"}}
	a := &action.Action{
		Command: c.Digest(action.BLAKE3), InputRoot: action.Sum(action.BLAKE3, nil),
		Platform: []action.Property{{Name: staging.RootfsProperty, Value: "host/2"}},
	}
	req := &action.Request{Action: a, Command: c}
	_, miss := h.witness.Recall(h.Context(), a)
	out := &action.Outcome{Miss: miss, Status: &backends.Status{Complete: true, Lookups: h.lookups}}
	sealed, err := h.witness.Seal(h.Context(), a, out.Status, time.Now().Add(time.Hour))
	h.do(err)
	out.Key = sealed.Digest(action.BLAKE3)
	out.Result = (&action.Result{}).WithOrigin(sealed, c)
	h.do(h.store.PutResult(h.Context(), out.Key, out.Result))
	r := history.Of(req, out, nil)
	h.now++
	r.Time, r.Workspace = time.Unix(h.now, 0), "/w"
	h.do(history.Add(h.Context(), h.store, r))
}

func (h *host) why() *Answer {
	h.Helper()
	book, err := history.Open(h.store)
	h.do(err)
	thing, err := book.Find(h.Context(), "out", "/w")
	h.do(err)
	return (&Teller{Book: book, Limit: 50}).Why(h.Context(), thing.Run)
}

// TestHost: each thing that a command can learn of the host changes, and is
// named, and nothing else is.
func TestHost(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(h *host)
	}{
		{"content", "host /usr/include/a.h changed: its content: 1 bytes became 2", func(h *host) { h.write("usr/include/a.h", "ab") }},
		{"content, same size", "host /usr/include/a.h changed: its content", func(h *host) { h.write("usr/include/a.h", "b") }},
		{"permissions", "host /usr/include/a.h changed: the permissions were 0644 and are 0640", func(h *host) {
			h.do(os.Chmod(filepath.Join(h.dir, "usr/include/a.h"), 0o640))
		}},
		{"appears", "host /usr/local/include/a.h added", func(h *host) { h.write("usr/local/include/a.h", "new") }},
		{"vanishes", "host /usr/include/a.h removed", func(h *host) { h.do(os.Remove(filepath.Join(h.dir, "usr/include/a.h"))) }},
		{"listed", "host /usr/share/list changed: there are other names in it, or of another kind", func(h *host) { h.write("usr/share/list/y", "") }},
		{"looked at", "host /usr/lib/looked-at changed: kind, permissions or size were 100644 4 and are 100644 6", func(h *host) { h.write("usr/lib/looked-at", "looked") }},
		{"link", `host /usr/bin/tool changed: the link led to "tool-1" and leads to "tool-2"`, func(h *host) {
			p := filepath.Join(h.dir, "usr/bin/tool")
			h.do(os.Remove(p))
			h.do(os.Symlink("tool-2", p))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.run()
			if a := h.why(); a.Reason != First {
				t.Fatalf("the first run: %s: %s", a.Reason, a.Text)
			}
			c.change(h)
			h.run()
			a := h.why()
			if a.Reason != HostMoved || len(a.Changes) != 1 || a.Changes[0].String() != c.want {
				t.Errorf("%s: %s\n got %v\nwant %s", a.Reason, a.Text, a.Changes, c.want)
			}
		})
	}
}

// TestNearestHost: of several states of the host, the nearest is compared.
func TestNearestHost(t *testing.T) {
	h := newHost(t)
	h.run()
	h.write("usr/include/a.h", "ab")
	h.run()
	h.write("usr/share/list/y", "")
	h.write("usr/lib/looked-at", "looked")
	h.run()
	h.write("usr/include/a.h", "abc")
	h.run()
	if a := h.why(); len(a.Changes) != 1 || a.Earlier.Time.Unix() != h.now-1 {
		t.Errorf("compared with the run of %v, now is %d: %v", a.Earlier.Time.Unix(), h.now, a.Changes)
	}
}

// TestTrimmedNote: without the note of what was seen, the reason is the trim.
func TestTrimmedNote(t *testing.T) {
	h := newHost(t)
	h.now -= 3 * 24 * 3600
	h.run()
	h.now += 3 * 24 * 3600
	for _, kind := range []string{"note", "result"} {
		h.do(filepath.Walk(filepath.Join(h.store.Dir(), kind), func(p string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				err = os.Chtimes(p, time.Now().Add(-48*time.Hour), time.Time{})
			}
			return err
		}))
	}
	_, err := h.store.Trim(h.Context(), cache.Policy{MaxAge: 24 * time.Hour})
	h.do(err)
	h.now += 2000 // after the trim, as far as the history goes
	h.run()
	if a := h.why(); a.Reason != Trimmed || !strings.HasPrefix(a.Text, "trimmed on ") {
		t.Errorf("%s: %s", a.Reason, a.Text)
	}
}
