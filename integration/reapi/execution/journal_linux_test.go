package execution

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestJournalOfAFullDisk: a record of which only a part could be written takes none of
// those with it that come when there is space again.
func TestJournalOfAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := func(name string) error { return j.begin(operationFor(name)) }
	if err := begin("before"); err != nil {
		t.Fatal(err)
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(j.size) + 30, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	full := begin("while it is full")
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if full == nil {
		t.Fatal("control: all of the record was written")
	}
	if err := begin("after"); err != nil {
		t.Fatal(err)
	}
	again := func(want string) {
		t.Helper()
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		if j, err = openJournal(path); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, op := range j.old {
			names = append(names, op.Name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("after a restart: %s; want %s", got, want)
		}
	}
	again("before, after")

	// The server starts where there is no space to write it anew, and goes on with it.
	if _, err := j.file.WriteString("a part"); err != nil {
		t.Fatal(err)
	}
	noSpace(t, path)
	again("before, after")
	if err := begin("later"); err != nil {
		t.Fatal(err)
	}
	again("before, after, later")
	defer j.close()

	// And where there never was any, it starts without one.
	other := filepath.Join(t.TempDir(), "journal")
	noSpace(t, other)
	if e, err := New(Options{Journal: other}); err != nil || e.journal != nil {
		t.Errorf("a new journal on a full disk: %v", err)
	}
	if e, err := New(Options{Journal: other}); err != nil || e.journal == nil {
		t.Errorf("control: with space again: %v", err)
	} else if err := e.journal.close(); err != nil {
		t.Error(err)
	}
}

// noSpace makes the disk full for the next journal that is written at path.
func noSpace(t *testing.T, path string) {
	t.Helper()
	if err := os.Symlink("/dev/full", path+".new"); err != nil {
		t.Fatal(err)
	}
}
