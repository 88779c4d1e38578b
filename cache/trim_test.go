package cache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// age says that the file path was last used that long ago.
func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	if err := os.Chtimes(path, time.Now().Add(-by), time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// blobs puts n blobs of 8 KiB; the first was last used n hours and 2 ago, the
// last one 3 hours ago.
func blobs(t *testing.T, s *Store, n int) []action.Digest {
	t.Helper()
	var list []action.Digest
	for i := range n {
		data := make([]byte, 8192)
		copy(data, fmt.Sprint(i))
		d, err := s.PutBytes(t.Context(), action.BLAKE3, data)
		if err != nil {
			t.Fatal(err)
		}
		age(t, s.shard("blob", d), time.Duration(n-i+2)*time.Hour)
		list = append(list, d)
	}
	return list
}

// present says which of the blobs are there, and leaves no trace.
func present(s *Store, list []action.Digest) string {
	b := make([]byte, len(list))
	for i, d := range list {
		b[i] = '-'
		if _, err := os.Lstat(s.shard("blob", d)); err == nil {
			b[i] = '+'
		}
	}
	return string(b)
}

func trim(t *testing.T, s *Store, p Policy) *TrimReport {
	t.Helper()
	r, err := s.Trim(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Stat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *u != r.After {
		t.Errorf("Stat = %+v after Trim said %+v", *u, r.After)
	}
	return r
}

func TestTrim(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"no limit", Policy{}, "++++++++++"},
		{"not reached", Policy{MaxSize: 1 << 20, MaxCount: 100, MaxAge: 99 * time.Hour}, "++++++++++"},
		{"size", Policy{MaxSize: 5 * 8192, LowWater: 1}, "-----+++++"},
		{"size, low water", Policy{MaxSize: 8 * 8192, LowWater: 0.5}, "------++++"},
		{"size, default", Policy{MaxSize: 9 * 8192}, "--++++++++"},
		{"count", Policy{MaxCount: 6, LowWater: 1}, "------++++"}, // of 12: two are empty
		{"age", Policy{MaxAge: 6*time.Hour + 30*time.Minute}, "------++++"},
		{"all", Policy{MaxSize: 1}, "----------"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openIn(t, TempStoreDir(t), Options{Warn: func(err error) { t.Error(err) }})
			list := blobs(t, s, 10)
			before := trim(t, s, Policy{}) // makes the index
			if got := present(s, list); got != "++++++++++" || before.Removed.Total().N != 0 {
				t.Fatalf("control: %s, %+v", got, before)
			}
			trim(t, s, tt.policy)
			if got := present(s, list); got != tt.want {
				t.Errorf("left are %s, want %s", got, tt.want)
			}
			if f, err := s.Open(t.Context(), action.Sum(action.BLAKE3, nil)); err != nil {
				t.Errorf("the empty blob: %v", err)
			} else {
				f.Close()
			}
		})
	}
}

// TestTrimAsksTheFile: what the index says of last use may be too old.
func TestTrimAsksTheFile(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 10)
	trim(t, s, Policy{})
	age(t, s.shard("blob", list[0]), 2*time.Hour)    // now the youngest
	age(t, s.shard("blob", list[1]), 30*time.Minute) // within the hour
	r := trim(t, s, Policy{MaxSize: 8192, LowWater: 1})
	if got := present(s, list); got != "-+--------" {
		t.Errorf("left are %s", got)
	}
	if r.Spared.N != 0 {
		t.Errorf("spared: %+v", r.Spared)
	}
	s2 := openIn(t, TempStoreDir(t), Options{})
	list = blobs(t, s2, 10)
	trim(t, s2, Policy{})
	age(t, s2.shard("blob", list[0]), 2*time.Hour)
	trim(t, s2, Policy{MaxSize: 8192, LowWater: 1})
	if got := present(s2, list); got != "+---------" {
		t.Errorf("left are %s", got)
	}
}

func TestTrimSparesWhatIsUsed(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 4)
	age(t, s.shard("blob", list[0]), 59*time.Minute)
	age(t, s.shard("blob", list[1]), 72*time.Minute)
	s.Has(t.Context(), list[2])
	// Its result may have been used five minutes ago less than an hour.
	age(t, s.shard("blob", list[3]), 65*time.Minute)
	r := trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "+-++" || r.Spared.N != 3 {
		t.Errorf("left are %s, spared %+v", got, r.Spared)
	}

	// An action that began long ago, in another process. What follows turns
	// times back, which the index does not expect.
	list = blobs(t, s, 4)
	os.Remove(filepath.Join(s.dir, indexName))
	other := openIn(t, s.dir, Options{})
	other.now = func() time.Time { return time.Now().Add(-5 * time.Hour) }
	unlock, err := other.Lock(t.Context(), list[0])
	if err != nil {
		t.Fatal(err)
	}
	trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "-+++" { // 6, 5, 4, 3 hours, and ten minutes of grace
		t.Errorf("left while an action of 5 hours is in flight: %s", got)
	}
	unlock()
	trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "----" {
		t.Errorf("left afterwards: %s", got)
	}
}

// TestTrimKeepsResultsWhole: at no limit is there a result without its blobs.
func TestTrimKeepsResultsWhole(t *testing.T) {
	for limit := int64(1); limit < 30; limit++ {
		s := openIn(t, TempStoreDir(t), Options{})
		list := blobs(t, s, 10)
		for i, d := range list {
			key := action.Sum(action.BLAKE3, fmt.Append(nil, i))
			res := &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}, {Path: "y", Digest: list[max(i-1, 0)]}}}
			if err := s.PutResult(t.Context(), key, res); err != nil {
				t.Fatal(err)
			}
		}
		for i, d := range list { // PutResult has marked the blobs
			age(t, s.shard("blob", d), time.Duration(12-i)*time.Hour)
			// A hit may leave blobs up to ten minutes older than the result.
			age(t, s.shard("result", action.Sum(action.BLAKE3, fmt.Append(nil, i))), time.Duration(12-i)*time.Hour-9*time.Minute)
		}
		// The youngest user of a blob marks it.
		for i := range list[1:] {
			age(t, s.shard("blob", list[i]), time.Duration(11-i)*time.Hour)
		}
		trim(t, s, Policy{MaxCount: limit, LowWater: 1})
		report, err := s.Verify(t.Context(), nil)
		if err != nil || len(report.Damaged) > 0 {
			t.Errorf("limit %d: Verify = %+v, %v", limit, report.Damaged, err)
		}
	}
}

func TestTrimLayers(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 6)
	for i, name := range []string{"old", "young"} {
		_, err := s.PutLayer(t.Context(), name, list[2*i:2*i+2], func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/f", make([]byte, 8192), 0o444), os.Chmod(path, 0o555))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range list {
		age(t, s.shard("blob", d), time.Duration(20-i)*time.Hour)
	}
	age(t, filepath.Join(s.layerDir("old"), "refs"), 10*time.Hour)
	age(t, filepath.Join(s.layerDir("young"), "refs"), 2*time.Minute)
	trim(t, s, Policy{MaxAge: 12 * time.Hour})
	if got := present(s, list); got != "++++--" {
		t.Errorf("left are %s; want those of layers", got)
	}
	r := trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "--++--" || r.Removed.Layers.N != 1 || r.After.Layers.N != 1 {
		t.Errorf("left are %s, %+v; want those of the layer in use", got, r)
	}
	if _, err := s.Layer(t.Context(), "young"); err != nil {
		t.Error(err)
	}
}

// TestTrimRace uses a blob between trim's look at it and its removal.
func TestTrimRace(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 3)
	user := openIn(t, s.dir, Options{})
	removals, used := 0, false
	s.disk.Fault = func(op durable.Op, path string, do func() error) error {
		if op == durable.OpRename && strings.Contains(path, "/tmp/") {
			removals++
		}
		if removals == 2 && !used { // the oldest is gone, and this one is next
			if used = user.Has(t.Context(), list[1]); !used {
				t.Error("the blob is gone before trim removes it")
			}
		}
		return do()
	}
	if _, err := s.Trim(t.Context(), Policy{MaxSize: 1}); err != nil {
		t.Fatal(err)
	}
	if got := present(s, list); got != "-+-" || !used {
		t.Errorf("left are %s, want the one that was used", got)
	}
}

func TestTrimClockWentBack(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 3)
	age(t, s.shard("blob", list[1]), -1000*time.Hour)
	trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "-+-" {
		t.Errorf("left are %s; what is of the future was used now", got)
	}
	// An hour and a bit later it is old as any.
	s.now = func() time.Time { return time.Now().Add(80 * time.Minute) }
	trim(t, s, Policy{MaxSize: 1})
	if got := present(s, list); got != "---" {
		t.Errorf("left are %s; a file of the future stays for ever", got)
	}
	// Using it sets it right as well.
	s.now = time.Now
	list = blobs(t, s, 1)
	age(t, s.shard("blob", list[0]), -1000*time.Hour)
	s.Has(t.Context(), list[0])
	if fi := statFile(t, s.shard("blob", list[0])); fi.ATime.After(time.Now().Add(time.Minute)) {
		t.Errorf("after use it is of %v", fi.ATime)
	}
}

func TestTrimOnce(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	blobs(t, s, 1)
	unlock, err := s.lockOnly(trimOffset)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openIn(t, s.dir, Options{}).Trim(t.Context(), Policy{}); !errors.Is(err, ErrBusy) {
		t.Errorf("Trim while another trims = %v", err)
	}
	unlock()
	trim(t, s, Policy{})
}

func TestTrimSweeps(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	blobs(t, s, 1)
	live := openIn(t, s.dir, Options{})
	mine, err := live.tmp.name(live)
	if err == nil {
		err = os.WriteFile(mine, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	dead := openIn(t, s.dir, Options{})
	left, err := dead.tmp.name(dead)
	if err == nil {
		err = errors.Join(os.MkdirAll(left+"/a/b", 0o700), os.Chmod(left+"/a", 0o500), dead.tmp.lock.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	dead.tmp.path = ""
	age := time.Now().Add(-1000 * time.Hour) // however old the living are
	if err := os.Chtimes(filepath.Dir(mine), age, age); err != nil {
		t.Fatal(err)
	}
	trim(t, s, Policy{})
	if _, err := os.Lstat(mine); err != nil {
		t.Errorf("a draft of a live process: %v", err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a dead process left: %v", err)
	}
	draft := topDraft(filepath.Join(s.dir, historyOldName))
	if err := os.WriteFile(draft, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	trim(t, s, Policy{})
	if _, err := os.Lstat(draft); err != nil {
		t.Errorf("a draft that is being written: %v", err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * draftMax) }
	trim(t, s, Policy{})
	if _, err := os.Lstat(draft); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a draft of the dead: %v", err)
	}
}

func TestIndex(t *testing.T) {
	s := openIn(t, TempStoreDir(t), Options{})
	list := blobs(t, s, 20)
	want := trim(t, s, Policy{}).After
	path := filepath.Join(s.dir, indexName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no index: %v", err)
	}
	check := func(what string) {
		t.Helper()
		got, err := s.Stat(t.Context())
		if err != nil || *got != want {
			t.Errorf("%s: Stat = %+v, %v; want %+v", what, got, err, want)
		}
	}
	check("control")
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < len(whole); n += 1000 {
		write(whole[:n])
		check(fmt.Sprintf("cut to %d bytes", n))
		bad := append([]byte(nil), whole...)
		for i := n; i < min(n+50, len(bad)); i++ {
			bad[i] ^= 0x55
		}
		write(bad)
		check(fmt.Sprintf("damaged at %d", n))
	}
	os.Remove(path)
	check("missing")
	for what, put := range map[string]func() error{
		"a link to what never ends": func() error { return os.Symlink("/dev/zero", path) },
		"a directory":               func() error { return os.MkdirAll(path+"/d", 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(path), put()); err != nil {
			t.Fatal(err)
		}
		check(what)
		if !statFile(t, path).Mode.IsRegular() {
			t.Errorf("%s stays", what)
		}
	}

	// Bytes that bbolt has no reason to doubt: how large a blob is.
	if whole, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	sum := list[0].Bytes()
	i := bytes.Index(whole, sum[:])
	if i < 0 {
		t.Fatal("the index does not hold a blob's hash")
	}
	lie := bytes.Clone(whole)
	lie[i+len(sum)+5] ^= 1
	write(lie)
	check("with a lie")

	// Of another version.
	x, err := s.openIndex(false)
	if err == nil {
		x.dirty = true
		err = x.db.Update(func(tx *bolt.Tx) error {
			return errors.Join(tx.Bucket(bucketMeta).Put(keyVersion, []byte("0")), tx.Bucket(bucketEntry).Put([]byte("x"), nil))
		})
		s.closeIndex(x)
	}
	if err != nil {
		t.Fatal(err)
	}
	check("of another version")

	// In the hands of another process.
	if x, err = openIn(t, s.dir, Options{}).openIndex(false); err != nil {
		t.Fatal(err)
	}
	check("in use")
	s.closeIndex(x)

	// The log brings it up to date; with a damaged log it is made again.
	for _, damage := range []string{"", "garbage"} {
		d, err := s.PutBytes(t.Context(), action.SHA256, []byte("new"+damage))
		if err == nil {
			err = errors.Join(s.logbook.flush(s), s.disk.Append(filepath.Join(s.dir, logName), []byte(damage)))
		}
		if err != nil {
			t.Fatal(err)
		}
		want.Blobs.add(1, statFile(t, s.shard("blob", d)).Blocks)
		check("after a Put, " + damage)
	}

	// A file that a killed process has not told of is found in time.
	d := action.Sum(action.SHA256, []byte("untold"))
	if err := os.WriteFile(s.shard("blob", list[0])+".x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutBytes(t.Context(), action.SHA256, []byte("untold")); err != nil {
		t.Fatal(err)
	}
	s.logbook.buf = nil
	check("before the index is old")
	s.now = func() time.Time { return time.Now().Add(2 * indexMaxAge) }
	want.Blobs.add(1, statFile(t, s.shard("blob", d)).Blocks)
	check("once the index is old")
}
