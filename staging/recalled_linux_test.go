package staging

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// digestKept is the digest of a file by a hasher of its own, as each call of a warm
// session has one, that keeps what it reads in r.
func digestKept(t *testing.T, r *Recalled, cache, name string) action.Digest {
	t.Helper()
	h := NewFileHasher(cache, action.BLAKE3)
	h.Keep(r)
	defer h.Close()
	d, err := h.Digest(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest
}

// TestRecalled: what one process has read of a table is about files as they were. One
// that changes is seen, with the same size, modification time and inode.
func TestRecalled(t *testing.T) {
	dir := t.TempDir()
	name, cache := filepath.Join(dir, "file"), filepath.Join(dir, "cache")
	r := &Recalled{}
	old := time.Unix(1234567890, 1)
	for _, text := range []string{"first text", "other text", "first text"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
		want := action.Sum(action.BLAKE3, []byte(text))
		for range 3 {
			if got := digestKept(t, r, cache, name); got != want {
				t.Errorf("the file with %q has the digest %v, want %v", text, got, want)
			}
		}
		// As the table will say it of a file that is old enough.
		h := NewFileHasher(cache, action.BLAKE3)
		h.Keep(r)
		id, err := StatPath(name, FollowLinks)
		if err != nil {
			t.Fatal(err)
		}
		h.remember(&FileDigest{Digest: want, ID: id, Stable: true})
		if _, ok := r.last.get(&id); !ok {
			t.Error("nothing is kept")
		}
		h.Close()
		for Now() <= Moment(id.CTime) { // the clock that stamps files has to move on
			time.Sleep(time.Millisecond)
		}
		if got := digestKept(t, r, cache, name); got != want {
			t.Errorf("then, with %q, it has the digest %v, want %v", text, got, want)
		}
	}
}

// TestRecalledOfOneTable: what the table of one store says, which somebody else may
// write to, is not believed for another store.
func TestRecalledOfOneTable(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := StatPath(name, FollowLinks)
	if err != nil {
		t.Fatal(err)
	}
	for Now() <= Moment(id.CTime) {
		time.Sleep(time.Millisecond)
	}
	r := &Recalled{}
	lie := action.Sum(action.BLAKE3, []byte("liar"))
	h := NewFileHasher(filepath.Join(dir, "theirs"), action.BLAKE3)
	h.Keep(r)
	h.remember(&FileDigest{Digest: lie, ID: id, Stable: true})
	h.Close()
	if got := digestKept(t, r, filepath.Join(dir, "theirs"), name); got != lie {
		t.Fatal("control: the table is not asked")
	}
	if got := digestKept(t, r, filepath.Join(dir, "ours"), name); got != action.Sum(action.BLAKE3, []byte("text")) {
		t.Errorf("another store's table was believed: %v", got)
	}
	if err := os.RemoveAll(filepath.Join(dir, "theirs")); err != nil { // ours was opened last
		t.Fatal(err)
	}
	if got := digestKept(t, r, filepath.Join(dir, "theirs"), name); got != action.Sum(action.BLAKE3, []byte("text")) {
		t.Errorf("a table that is not there any more was believed: %v", got)
	}
}

// TestLacks: what a process has found to be missing in a file is of that content, of that
// text, and of files that the table knows.
func TestLacks(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	r := &Recalled{}
	h := NewFileHasher(filepath.Join(dir, "cache"), action.BLAKE3)
	h.Keep(r)
	defer h.Close()
	write := func(text string) StatID {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		id, err := StatPath(name, KeepLinks)
		if err != nil {
			t.Fatal(err)
		}
		for Now() <= Moment(id.CTime) {
			time.Sleep(time.Millisecond)
		}
		return id
	}
	id := write("text")
	if h.NoteLack(id, Now(), "/base"); h.Lacks(id, Now(), "/base") {
		t.Error("something is known of a file that the table does not know")
	}
	d := FileDigest{Digest: action.Sum(action.BLAKE3, []byte("text")), ID: id, Stable: true}
	h.remember(&d)
	if h.Lacks(id, Now(), "/base") {
		t.Error("something is known that nobody has noted")
	}
	h.NoteLack(id, Now(), "/base")
	h.Mark(d, 4)
	if !h.Lacks(id, Now(), "/base") {
		t.Fatal("control: what was noted is not known")
	}
	if h.Lacks(id, Now(), "/other") || h.Lacks(id, Now(), "") || h.Lacks(id, Moment(id.CTime), "/base") {
		t.Error("it is believed of another text, or of a file that may change in the same tick")
	}
	again := NewFileHasher(filepath.Join(dir, "cache"), action.BLAKE3)
	again.Keep(r)
	defer again.Close()
	other := NewFileHasher(filepath.Join(dir, "other"), action.BLAKE3)
	defer other.Close()
	if !again.Lacks(id, Now(), "/base") || other.Lacks(id, Now(), "/base") {
		t.Error("it is to be known by who keeps it, of the same table, and by nobody else")
	}
	if now := write("/bas"); now.Size != id.Size || h.Lacks(now, Now(), "/base") {
		t.Error("it is believed of a file that was written since")
	}
	h.remember(&FileDigest{Digest: action.Sum(action.BLAKE3, []byte("liar")), ID: id, Stable: true})
	if h.Lacks(id, Now(), "/base") {
		t.Error("it is believed of another content")
	}
}
