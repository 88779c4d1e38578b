package ownerstate

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// many are entries that fill several levels of pages.
func many(n int) []Entry {
	var list []Entry
	for i := range n {
		e := Entry{
			Path: fmt.Sprintf("/root/%0*d", 1+i%3000, i), Dev: 65024, Ino: uint64(i) + 1<<40, Mode: 0o100644, UID: uint32(i), GID: 1<<32 - 1,
			Rdev: uint64(i % 300),
		}
		if i%5 == 0 {
			e.Xattrs = map[string]string{"user.x": strings.Repeat("v", i%9000), "security.capability": "\x01\x00\xff"}
		}
		list = append(list, e)
	}
	return list
}

// TestPseudoFile: what is written is read again as it was, and SQLite finds nothing
// wrong with it.
func TestPseudoFile(t *testing.T) {
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("this test needs sqlite3: apt-get install sqlite3")
	}
	for _, n := range []int{0, 1, 5, 400, 5000} {
		want := many(n)
		data, err := WritePseudo(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadPseudo(data)
		if err != nil || len(got) != n {
			t.Fatalf("%d: %d entries, %v", n, len(got), err)
		}
		for i := range got {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("%d: entry %d is %+v, not %+v", n, i, got[i], want[i])
			}
		}
		name := filepath.Join(t.TempDir(), "files.db")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(sqlite, name, "PRAGMA integrity_check; SELECT count(*), coalesce(max(length(path)), 0), coalesce(sum(uid), 0) FROM files; SELECT version FROM migrations").CombinedOutput()
		longest, sum := 0, 0
		for i, e := range want {
			longest, sum = max(longest, len(e.Path)), sum+i
		}
		if text := fmt.Sprintf("ok\n%d|%d|%d\n8\n", n, longest, sum); err != nil || string(out) != text {
			t.Errorf("%d: %v\n%s\nwant\n%s", n, err, out, text)
		}
		// As SQLite writes it itself, with small pages: rows go on in other pages.
		if out, err := exec.Command(sqlite, name, "PRAGMA page_size=512; VACUUM").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if data, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		again, err := ReadPseudo(data)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%d: after VACUUM there are %d entries, %v", n, len(again), err)
		}
	}
	if _, err := WritePseudo([]Entry{{Path: strings.Repeat("x", 20000)}}); err == nil {
		t.Error("a row that does not fit was written")
	}
}

// TestFakeroot: what is written is read again as it was.
func TestFakeroot(t *testing.T) {
	want := []Entry{
		{Dev: 0xfe00, Ino: 10700532, Mode: 0o40755, UID: 11, GID: 12, Nlink: 2},
		{Dev: 1, Ino: 1<<64 - 1, Mode: 0o60644, UID: 1<<32 - 1, Nlink: 1, Rdev: 2049},
	}
	var b bytes.Buffer
	if err := WriteFakeroot(&b, append(want, want[0])); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFakeroot(&b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"dev=zz", "dev=1,ino=2,mode=9,uid=0,gid=0,nlink=1,rdev=0", "#mtree", "dev=1,ino=2"} {
		if list, err := ReadFakeroot(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: %+v", bad, list)
		}
	}
}

// FuzzReadPseudo: whatever is in a file, reading it ends.
func FuzzReadPseudo(f *testing.F) {
	for _, n := range []int{1, 60} {
		data, err := WritePseudo(many(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(sqliteMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ReadPseudo(data)
		if err != nil {
			return
		}
		if _, err := WritePseudo(list); err != nil {
			return // too long
		}
		if data, err = WritePseudo(list); err != nil {
			t.Fatal(err)
		}
		again, err := ReadPseudo(data)
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d entries, then %d, %v", len(list), len(again), err)
		}
		for i := range list {
			if again[i].Path != list[i].Path || again[i].Ino != list[i].Ino || again[i].Mode != list[i].Mode {
				t.Fatalf("%+v, then %+v", list[i], again[i])
			}
		}
	})
}

func TestVarint(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1 << 31, 1<<56 - 1, 1 << 56, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		b := appendVarint(nil, v)
		if got, n := varint(b); got != v || n != len(b) {
			t.Errorf("%d: %d of %d bytes, in % x", v, got, n, b)
		}
	}
}
