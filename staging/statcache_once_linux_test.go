package staging

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// large makes a file that is read once, which is old enough for the table.
func large(t *testing.T) (name string, id StatID) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(name, make([]byte, onceMin), 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := StatPath(name, KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	for !settled(id.CTime, Now(), trustMargin) {
		time.Sleep(10 * time.Millisecond)
	}
	return name, id
}

// TestHashedOnce: who comes while another process reads a large file takes what that
// finds; and reads it itself if the other one finds nothing, or does not go on.
func TestHashedOnce(t *testing.T) {
	name, id := large(t)
	cache := t.TempDir()
	first, second := NewFileHasher(cache, action.BLAKE3), NewFileHasher(cache, action.BLAKE3)
	defer first.Close()
	defer second.Close()
	const ever = 10 * time.Minute
	_, found, done := first.turn(first.openTable(), &id, Now(), ever)
	if found {
		t.Fatal("an empty table has it")
	}

	if _, found, then := second.turn(second.openTable(), &id, Now(), 0); found { // who has the lock is stopped
		t.Error("it was found where nothing is")
	} else {
		then() // nothing of the other one's
	}
	if d, err := second.Digest(name); err != nil || d.Digest != action.Sum(action.BLAKE3, make([]byte, onceMin)) {
		t.Errorf("with the lock of somebody who does not go on: %v, %v", d.Digest, err)
	}

	other := id
	other.Ino++ // of which nothing is known
	if _, found, then := second.turn(second.openTable(), &other, Now(), ever); found {
		t.Error("another file was found")
	} else {
		then()
	}

	third := NewFileHasher(filepath.Join(cache, "third"), action.BLAKE3)
	fourth := NewFileHasher(filepath.Join(cache, "third"), action.BLAKE3)
	defer third.Close()
	defer fourth.Close()
	_, _, finish := third.turn(third.openTable(), &id, Now(), ever)
	said := action.Sum(action.BLAKE3, bytes.Repeat([]byte("a"), onceMin))
	got := make(chan FileDigest)
	go func() {
		d, _, then := fourth.turn(fourth.openTable(), &id, Now(), ever)
		then()
		got <- d
	}()
	third.remember(&FileDigest{Digest: said, ID: id, Stable: true})
	if d := <-got; d.Digest != said { // although the lock is still there
		t.Errorf("it was found to be %v, want what the first one found", d.Digest)
	}
	finish()

	done()
	_, found, then := second.turn(second.openTable(), &other, Now(), ever) // and the lock has gone
	then()
	if found {
		t.Error("found")
	}
	if d, err := first.Digest(name); err != nil || d.Digest != action.Sum(action.BLAKE3, make([]byte, onceMin)) {
		t.Errorf("then: %v, %v", d.Digest, err)
	}
}

// TestHashedByNobody: when the lock ends and nothing was found, the next one reads.
func TestHashedByNobody(t *testing.T) {
	_, id := large(t)
	cache := t.TempDir()
	first, second := NewFileHasher(cache, action.BLAKE3), NewFileHasher(cache, action.BLAKE3)
	defer second.Close()
	_, _, done := first.turn(first.openTable(), &id, Now(), 0)
	got := make(chan bool)
	go func() {
		_, found, then := second.turn(second.openTable(), &id, Now(), 10*time.Minute)
		then()
		got <- found
	}()
	done()
	if <-got {
		t.Error("it was found where nothing is")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestHashedOnceOfNew: of a file that was written just now, which no table keeps, nobody
// waits for another's.
func TestHashedOnceOfNew(t *testing.T) {
	name, id := large(t)
	cache := t.TempDir()
	h := NewFileHasher(cache, action.BLAKE3)
	defer h.Close()
	_, _, done := h.turn(h.openTable(), &id, Now(), 0)
	defer done()
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(name, future, future); err != nil { // which changes it now
		t.Fatal(err)
	}
	d, err := h.Digest(name)
	if err != nil || d.Digest != action.Sum(action.BLAKE3, make([]byte, onceMin)) {
		t.Errorf("%v, %v", d, err)
	}
}
