package execution

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
)

func operationFor(name string) *Operation {
	hash := strings.Repeat("a", 64)
	return &Operation{Name: name, begun: time.Now(), Request: &repb.ExecuteRequest{ActionDigest: &repb.Digest{Hash: hash, SizeBytes: 1}}}
}

// TestJournalCutAnywhere cuts a journal at every byte: what was whole is read.
func TestJournalCutAnywhere(t *testing.T) {
	b := []byte(journalHead)
	var ends []int
	for _, name := range []string{"one", "two", "three"} {
		var err error
		if b, err = appendRecord(b, 'b', time.Now(), name, operationFor(name).Request); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, len(b))
	}
	for cut := range len(b) + 1 {
		whole := 0
		for _, end := range ends {
			if end <= cut {
				whole++
			}
		}
		if got, _ := readJournal(bytes.NewReader(b[:cut])); len(got) != whole {
			t.Fatalf("cut at byte %d of %d: %d operations, want %d", cut, len(b), len(got), whole)
		}
	}
	for at := len(journalHead); at < len(b); at++ {
		damaged := bytes.Clone(b)
		damaged[at] ^= 1
		got, _ := readJournal(bytes.NewReader(damaged))
		for _, op := range got {
			if op.Name != "one" && op.Name != "two" && op.Name != "three" {
				t.Fatalf("damage at byte %d made operation %q", at, op.Name)
			}
		}
	}
}

func TestJournalForgets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "journal")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"open", "done", "dropped", "old"} {
		op := operationFor(name)
		if err := j.begin(op); err != nil {
			t.Fatal(err)
		}
		op.response = &repb.ExecuteResponse{Message: name}
		switch name {
		case "done", "dropped":
			err = j.end(op)
		case "old":
			err = j.add('e', time.Now().Add(-2*keepDone), name, op.response)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := j.drop("dropped"); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it was written, and as it was written anew
		if j, err = openJournal(path); err != nil {
			t.Fatal(err)
		}
		if len(j.old) != 2 || j.old[0].Name != "open" || j.old[0].response != nil || j.old[1].Name != "done" || !proto.Equal(j.old[1].response, &repb.ExecuteResponse{Message: "done"}) {
			t.Errorf("%d operations: %+v", len(j.old), j.old)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzJournal holds: no file makes us panic, or take more memory than it has.
func FuzzJournal(f *testing.F) {
	b, err := appendRecord([]byte(journalHead), 'b', time.Unix(1, 0), "name", operationFor("name").Request)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(journalHead))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, good := readJournal(bytes.NewReader(data))
		if n := len(got); n*journalRecord > len(data) || good > int64(len(data)) {
			t.Errorf("%d operations in %d good bytes of %d", n, good, len(data))
		}
	})
}
