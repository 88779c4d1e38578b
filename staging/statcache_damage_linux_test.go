package staging

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// Damage costs time, and never gives a wrong digest.
func TestDamagedCaches(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	f.trusted(t)
	files, err := filepath.Glob(f.cfg.StatCache + "/*")
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, name := range files {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 40 {
			data := slices.Clone(good)
			switch round % 4 {
			case 0:
				data = data[:rnd.IntN(len(data))]
			case 1:
				for range 1 + rnd.IntN(200) {
					data[rnd.IntN(min(len(data), 8192))] ^= 1 << rnd.IntN(8)
				}
			case 2:
				data = append(data, make([]byte, rnd.IntN(100))...)
			case 3:
				at := rnd.IntN(len(data))
				clear(data[at:min(at+rnd.IntN(4096), len(data))])
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f.check(t)
		}
	}
	f.write(t, strings.ToUpper(content))
	f.trusted(t) // and the caches heal
}

// A cache that cannot be written costs time only, and says so.
func TestUnwritableCache(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	makeTree(t, filepath.Dir(f.ws), "file")
	f.cfg.StatCache = filepath.Join(filepath.Dir(f.ws), "file", "cache")
	s, err := Scan(t.Context(), f.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.StatCacheErr == nil || !errors.Is(s.StatCacheErr, syscall.ENOTDIR) {
		t.Errorf("StatCacheErr = %v", s.StatCacheErr)
	}
	h := NewFileHasher(f.cfg.StatCache, action.BLAKE3)
	defer h.Close()
	if d, err := h.Digest(f.file()); err != nil || d.Digest != action.Sum(action.BLAKE3, []byte(content)) {
		t.Errorf("%v, %v", d, err)
	}
}

// What changes little is appended, and the file does not grow for ever.
func TestTreeCacheGrowth(t *testing.T) {
	f := newFooled(t)
	for i := range 100 {
		makeTree(t, f.ws, fmt.Sprintf("big/f%d", i))
	}
	f.write(t, content)
	f.trusted(t)
	name := openTreeCache(f.cfg.StatCache, f.ws, "", action.BLAKE3).file
	first, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	appended, rewritten := 0, 0
	for i := range 40 {
		was, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		f.write(t, fmt.Sprint(i))
		f.check(t)
		is, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(was, is) && is.Size() > was.Size() {
			appended++
		}
		if !os.SameFile(was, is) {
			rewritten++
		}
		if is.Size() > 3*first.Size()+8192 {
			t.Fatalf("the cache grew from %d to %d bytes", first.Size(), is.Size())
		}
	}
	if appended < 10 || rewritten < 1 {
		t.Errorf("%d times appended, %d times rewritten", appended, rewritten)
	}
	was, _ := os.Stat(name)
	for range 50 {
		time.Sleep(trustMargin / 4)
		mustScan(t, f.cfg)
	}
	settled, _ := os.Stat(name)
	mustScan(t, f.cfg)
	is, _ := os.Stat(name)
	if !os.SameFile(settled, is) || !is.ModTime().Equal(settled.ModTime()) {
		t.Errorf("a scan without news wrote the cache (%d, %d bytes)", was.Size(), is.Size())
	}
	// Directories that are gone do not stay.
	if err := os.RemoveAll(f.ws + "/big"); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		f.write(t, fmt.Sprint(i))
		f.check(t)
	}
	if r := openTreeCache(f.cfg.StatCache, f.ws, "", action.BLAKE3).lookup("big"); r != nil {
		t.Error("the record of a removed directory stays")
	}
}

// A selection that leaves directories out keeps what is known of them.
func TestSelectionsShareCache(t *testing.T) {
	f := newFooled(t)
	for i := range 100 {
		makeTree(t, f.ws, fmt.Sprintf("big/f%d", i), fmt.Sprintf("d/g%d", i))
	}
	f.write(t, content)
	f.trusted(t)
	f.cfg.Inputs = []string{".", "!big"}
	for i := range 40 {
		f.write(t, fmt.Sprint(i))
		f.check(t)
	}
	if r := openTreeCache(f.cfg.StatCache, f.ws, "", action.BLAKE3).lookup("big"); r == nil {
		t.Error("the record of a directory that was left out is gone")
	}
}

func TestFileHasher(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, "f="+content, "small", "empty=", "link->f", "d/")
	h := NewFileHasher(dir+"/cache", action.SHA256)
	defer h.Close()
	for name, want := range map[string]string{"f": content, "small": "small", "empty": "", "link": content} {
		if d, err := h.Digest(dir + "/" + name); err != nil || d.Digest != action.Sum(action.SHA256, []byte(want)) || d.ID.Size != int64(len(want)) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	file, err := os.Open(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if d, err := h.DigestFile(file); err != nil || d.Digest != action.Sum(action.SHA256, []byte(content)) {
		t.Errorf("DigestFile: %+v, %v", d, err)
	}
	if _, err := h.Digest(dir + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if _, err := h.Digest(dir + "/d"); err == nil || !strings.Contains(err.Error(), "a directory, not a file") {
		t.Errorf("d: %v", err)
	}
	// The functions do not mix.
	other := NewFileHasher(dir+"/cache", action.BLAKE3)
	defer other.Close()
	if d, err := other.Digest(dir + "/f"); err != nil || d.Digest != action.Sum(action.BLAKE3, []byte(content)) {
		t.Errorf("f: %+v, %v", d, err)
	}
}

// A full bucket forgets, and stays right.
func TestTableFull(t *testing.T) {
	dir := t.TempDir()
	h := NewFileHasher(dir, action.BLAKE3)
	defer h.Close()
	found := 0
	var all []FileDigest
	for i := range 100 {
		d := FileDigest{
			Digest: action.Sum(action.BLAKE3, fmt.Append(nil, i)),
			ID:     StatID{Dev: 1, Size: int64(len(fmt.Append(nil, i))), MTime: 1, CTime: int64(i)*4 + 1},
			Stable: true,
		}
		for n := uint64(1); bucket(&d.ID) != 0; n++ {
			d.ID.Ino = uint64(i)<<32 + n
		}
		h.remember(&d)
		all = append(all, d)
	}
	for _, d := range all {
		got, ok := h.recall(&d.ID, Now())
		if ok && got != d {
			t.Fatalf("%+v, want %+v", got, d)
		}
		if ok {
			found++
		}
	}
	if found < 16 || found > bucketSize/slotSize {
		t.Errorf("%d of 100 found", found)
	}
}

func FuzzDirRecord(f *testing.F) {
	list := []listEntry{{name: "a", kind: kindFile}, {name: "b", kind: kindDir}, {name: "l", kind: kindLink, target: "x"}, {name: "s", kind: kindOther}}
	r := newDirRecord("some/path", list, nil)
	r.seal()
	f.Add([]byte(r))
	f.Add(append(bytes.Clone(r), r...))
	f.Add([]byte(newDirRecord("", nil, nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		recs, _ := splitRecords(data)
		for path, r := range recs {
			le.PutUint64(r[4:], r.checksum()) // as an enemy would
			if r.verify() != nil || string(r.path()) != path {
				continue
			}
			names := r.names()
			for i := range r.count() {
				e := r.entry(i)
				name := string(e.name(names))
				if j, ok := r.find(name); !ok || j != i {
					t.Fatalf("entry %d: %q is found at %d, %v", i, name, j, ok)
				}
				if e.kind() == kindLink {
					_ = e.target(names)
				}
				_ = e.digest(action.BLAKE3)
			}
			// Nothing that reads it afterwards goes out of bounds.
			d := &scanDir{rec: r}
			if err := d.message(action.BLAKE3).Check(); err == nil {
				d.seal0()
			}
			newDirRecord("p", list, r)
		}
	})
}

// seal0 is what the end of a scan reads of a record.
func (d *scanDir) seal0() {
	for i := range d.rec.count() {
		_ = d.refuse(d.rec.entry(i))
	}
}

// Every flipped bit and every cut is seen.
func TestStatChecksum(t *testing.T) {
	data := []byte(content[:1003])
	want := statChecksum(1, data)
	for i := range len(data) * 8 {
		data[i/8] ^= 1 << (i % 8)
		if statChecksum(1, data) == want {
			t.Errorf("bit %d does not matter", i)
		}
		data[i/8] ^= 1 << (i % 8)
	}
	for n := range data {
		if statChecksum(1, data[:n]) == want {
			t.Errorf("cutting to %d bytes does not matter", n)
		}
	}
	if statChecksum(2, data) == want {
		t.Error("the seed does not matter")
	}
}
