package staging

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A fooled asks both caches for the digest of the file "f" of a workspace.
type fooled struct {
	ws     string
	cfg    ScanConfig
	hasher *FileHasher
}

func newFooled(t *testing.T) *fooled { return newFooledIn(t, t.TempDir()) }

func newFooledIn(t *testing.T, dir string) *fooled {
	f := &fooled{ws: filepath.Join(dir, "ws")}
	makeTree(t, f.ws, "d/", "d/l->a")
	for i := range treeMinFiles {
		makeTree(t, f.ws, fmt.Sprintf("more%d", i))
	}
	f.cfg = ScanConfig{Workspace: f.ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: filepath.Join(dir, "cache")}
	f.hasher = NewFileHasher(filepath.Join(dir, "cache"), action.BLAKE3)
	t.Cleanup(func() { f.hasher.Close() })
	return f
}

func (f *fooled) file() string { return filepath.Join(f.ws, "d/f") }

// check compares what the caches say with what is there.
func (f *fooled) check(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(f.file())
	if err != nil {
		t.Fatal(err)
	}
	want := action.Sum(action.BLAKE3, data)
	if e, ok := mustScan(t, f.cfg).Find("d/f"); !ok || e.Digest != want {
		t.Fatalf("Scan was fooled: %v, want %v", e.Digest, want)
	}
	if d, err := f.hasher.Digest(f.file()); err != nil || d.Digest != want {
		t.Fatalf("FileHasher was fooled: %v, want %v: %v", d.Digest, want, err)
	}
}

// nextTick waits for the clock's next step.
func (f *fooled) nextTick() {
	for was := Now(); Now() == was; {
		time.Sleep(50 * time.Microsecond)
	}
}

// checkAll compares the whole tree.
func (f *fooled) checkAll(t *testing.T) {
	t.Helper()
	if got, want := mustScan(t, f.cfg).Root, naiveTree(t, f.ws, action.BLAKE3); got != want {
		t.Fatalf("Scan was fooled: %v, want %v", got, want)
	}
}

// trusted waits until the caches believe what they know of the file, and
// proves it: that is the control of every test here.
func (f *fooled) trusted(t *testing.T) {
	t.Helper()
	f.check(t)
	for range 200 {
		f.check(t)
		d, err := f.hasher.Digest(f.file())
		if err != nil {
			t.Fatal(err)
		}
		if d.Stable && f.recorded(t) {
			return
		}
		time.Sleep(20 * time.Millisecond) // the file system's clock has to move on
	}
	t.Fatal("the caches never trust the file")
}

// recorded says whether the cache of the tree has a stat that it believes.
func (f *fooled) recorded(t *testing.T) bool {
	t.Helper()
	r := openTreeCache(f.cfg.StatCache, f.ws, "", action.BLAKE3).lookup("d")
	if r == nil {
		return false
	}
	i, ok := r.find("f")
	return ok && r.entry(i).flag(entStable)
}

var content = strings.Repeat("0123456789abcdef", tableMin/16+1)

func (f *fooled) write(t *testing.T, s string) {
	t.Helper()
	// Not os.WriteFile: truncation would be a second change.
	file, err := os.OpenFile(f.file(), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(s), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// Edits that follow each other within a tick of the clock.
func TestSameTick(t *testing.T) {
	f := newFooled(t)
	for i := range 400 {
		f.write(t, fmt.Sprintf("%08d%s", i, content)) // of one size
		f.check(t)
	}
}

// The same on a file system that always stamps with the coarse clock, as all
// did before Linux 6.13. The control shows that there a stat does not tell two
// contents apart.
func TestSameTickCoarse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount a ramfs; the suite runs as root too")
	}
	dir := t.TempDir()
	if err := unix.Mount("ramfs", dir, "ramfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	// The caches are there too: a write to another file system would lend this
	// one its finer time.
	f := newFooledIn(t, dir)
	defer f.hasher.Close() // before the unmount
	same, last := 0, StatID{}
	for i := range 1000 {
		f.write(t, fmt.Sprintf("%08d%s", i, content))
		id, err := StatPath(f.file(), KeepLinks)
		if err != nil {
			t.Fatal(err)
		}
		if id == last {
			same++
		}
		last = id
	}
	if same == 0 {
		t.Error("control: every edit changed the stat, so this test proves nothing")
	}
	for i := range 1000 {
		f.write(t, fmt.Sprintf("%08d%s", i, content))
		f.check(t)
	}
	makeTree(t, f.ws, "d/n0")
	for i := range 200 { // and the same for names; two edits in one tick, with a scan between
		f.nextTick()
		for j := range 2 {
			if err := os.Rename(fmt.Sprint(f.ws, "/d/n", i+j), fmt.Sprint(f.ws, "/d/n", i+j+1)); err != nil {
				t.Fatal(err)
			}
			if j == 1 {
				f.nextTick()
			}
			f.checkAll(t)
		}
		if err := os.Rename(fmt.Sprint(f.ws, "/d/n", i+2), fmt.Sprint(f.ws, "/d/n", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	f.trusted(t)
	for i := range 100 {
		f.write(t, fmt.Sprintf("%08d%s", i, content))
		f.check(t)
	}
}

func TestNotFooled(t *testing.T) {
	restoreTime := func(f *fooled, change func() error) error {
		info, err := os.Stat(f.file())
		if err != nil {
			return err
		}
		return errors.Join(change(), os.Chtimes(f.file(), info.ModTime(), info.ModTime()))
	}
	edited := strings.ToUpper(content)
	tests := []struct {
		name   string
		change func(t *testing.T, f *fooled) error
	}{
		{"edit", func(t *testing.T, f *fooled) error { f.write(t, edited); return nil }},
		{"restored time", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error { f.write(t, edited); return nil })
		}},
		{"renamed over", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error {
				return errors.Join(os.WriteFile(f.ws+"/d/g", []byte(edited), 0o644), os.Rename(f.ws+"/d/g", f.file()))
			})
		}},
		{"renamed over by an old file", func(t *testing.T, f *fooled) error {
			old := filepath.Join(filepath.Dir(f.ws), "old")
			info, err := os.Stat(f.file())
			return errors.Join(err, os.WriteFile(old, []byte(edited), 0o644), os.Chtimes(old, info.ModTime(), info.ModTime()), os.Rename(old, f.file()))
		}},
		{"removed and made again", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error { return errors.Join(os.Remove(f.file()), os.WriteFile(f.file(), []byte(edited), 0o644)) })
		}},
		{"through a hard link", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error {
				link := filepath.Join(filepath.Dir(f.ws), "link")
				return errors.Join(os.Link(f.file(), link), os.WriteFile(link, []byte(edited), 0o644))
			})
		}},
		{"truncated and written", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error {
				return errors.Join(os.Truncate(f.file(), 0), os.WriteFile(f.file(), []byte(edited), 0o644))
			})
		}},
		{"directory swapped", func(t *testing.T, f *fooled) error {
			d := f.ws + "/d"
			return errors.Join(os.Rename(d, f.ws+"/e"), os.Mkdir(d, 0o755), os.WriteFile(f.file(), []byte(edited), 0o644))
		}},
		{"mapped", func(t *testing.T, f *fooled) error {
			return restoreTime(f, func() error { return writeMapped(f.file(), edited) })
		}},
		{"punched", func(t *testing.T, f *fooled) error {
			file, err := os.OpenFile(f.file(), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer file.Close()
			return unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		}},
		{"name added, directory's time restored", func(_ *testing.T, f *fooled) error {
			return restoreDirTime(f, func() error { return os.WriteFile(f.ws+"/d/g", nil, 0o644) })
		}},
		{"link changed, directory's time restored", func(_ *testing.T, f *fooled) error {
			return restoreDirTime(f, func() error {
				return errors.Join(os.Remove(f.ws+"/d/l"), os.Symlink("b", f.ws+"/d/l"))
			})
		}},
		{"became executable", func(t *testing.T, f *fooled) error { return os.Chmod(f.file(), 0o755) }},
		{"another inode under an old time", func(t *testing.T, f *fooled) error {
			return errors.Join(os.Rename(f.file(), f.ws+"/d/was"), os.WriteFile(f.file(), []byte(edited), 0o644))
		}},
	}
	for _, tt := range tests {
		// At once the change time is too new to be believed; later it is not.
		for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
			t.Run(fmt.Sprint(tt.name, wait), func(t *testing.T) {
				t.Parallel() // each waits for the clock
				f := newFooled(t)
				f.write(t, content)
				f.trusted(t)
				if err := tt.change(t, f); err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait)
				f.check(t)
				f.checkAll(t)
			})
		}
	}
}

func restoreDirTime(f *fooled, change func() error) error {
	info, err := os.Stat(f.ws + "/d")
	if err != nil {
		return err
	}
	return errors.Join(change(), os.Chtimes(f.ws+"/d", info.ModTime(), info.ModTime()))
}

func TestSettled(t *testing.T) {
	const now = 1_000_000*1e9 + 5
	for _, tt := range []struct {
		ctime int64
		want  bool
	}{
		{now - 2*trustMargin, true},
		{now - trustMargin, false},
		{now, false},
		{now + 1e9, false},     // the clock went back
		{now - 1e9 - 5, false}, // a clock of seconds, or a made up time
	} {
		if got := settled(tt.ctime, now, trustMargin); got != tt.want {
			t.Errorf("settled(now%+d) = %v", tt.ctime-now, got)
		}
	}
}

// A clock that went back makes the recorded times lie in the future.
func TestClockWentBack(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	f.trusted(t)
	id, err := StatPath(f.file(), KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := f.hasher.recall(&id, Now()); !ok {
		t.Fatal("control: the file is not in the table")
	}
	if _, ok := f.hasher.recall(&id, Moment(id.CTime-1)); ok {
		t.Error("a change time in the future is believed")
	}
}

// Another file system at the same place has another device.
func TestOtherDevice(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	f.trusted(t)
	r := openTreeCache(f.cfg.StatCache, f.ws, "", action.BLAKE3).lookup("d")
	i, _ := r.find("f")
	id := r.entry(i).statID()
	if !r.entry(i).sameFile(&id) {
		t.Fatal("control: not the same file")
	}
	for _, change := range []func(*StatID){
		func(id *StatID) { id.Dev++ }, func(id *StatID) { id.Ino++ }, func(id *StatID) { id.Size++ },
		func(id *StatID) { id.MTime++ }, func(id *StatID) { id.CTime++ },
	} {
		other := id
		change(&other)
		if r.entry(i).sameFile(&other) {
			t.Errorf("%+v is taken for %+v", other, id)
		}
		if _, ok := f.hasher.recall(&other, Now()); ok {
			t.Errorf("%+v is found as %+v", other, id)
		}
	}
}

func TestStable(t *testing.T) {
	h := NewFileHasher("", action.BLAKE3)
	dir := t.TempDir()
	makeTree(t, dir, "d/f", "l->x")
	for _, name := range []string{"d", "l", "d/f"} {
		path := filepath.Join(dir, name)
		id, err := StatPath(path, KeepLinks)
		if err != nil {
			t.Fatal(err)
		}
		if h.Stable(path, id, Now()) {
			t.Errorf("%s is stable at once", name)
		}
		if !h.Stable(path, id, Now()+3e9) {
			t.Errorf("%s is not stable later", name)
		}
	}
	id, err := StatPath("/proc/self/status", KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	if h.Stable("/proc/self/status", id, Now()+3e9) {
		t.Error("a file of proc is stable")
	}
}

// TestMadeUpTimes has times in whole seconds, as in images of disks: what they prove ends
// where another image can be in the place of one.
func TestMadeUpTimes(t *testing.T) {
	h := NewFileHasher(t.TempDir(), action.BLAKE3)
	defer h.Close()
	const whole, exact = 1_000_000 * 1e9, 1_000_000*1e9 + 1
	for _, c := range []struct {
		trust deviceTrust
		ctime int64
		want  bool
	}{{fullTrust, whole, true}, {exactOnly, whole, false}, {exactOnly, exact, true}, {noTrust, exact, false}} {
		h.trust.devs = map[uint64]deviceTrust{1: c.trust}
		if got := h.Stable("/", StatID{Dev: 1, CTime: c.ctime, Mode: modeDir}, Now()); got != c.want {
			t.Errorf("trust %d, time %d: stable is %v", c.trust, c.ctime, got)
		}
	}
	if h.seedOf(whole) == h.seedOf(exact) || h.seedOf(exact) != h.seed {
		t.Error("the table does not tell boots apart, or for all files")
	}
	root, err := StatPath("/", FollowLinks)
	if err != nil {
		t.Fatal(err)
	}
	if unix.Major(root.Dev) > 7 && !lasts(root.Dev) || lasts(root.Dev+1) || lasts(unix.Mkdev(7, 0)) || lasts(unix.Mkdev(0, 40)) {
		t.Error("the disk of / is taken for another one, or another one for it")
	}
	list := []seen{{path: "/a", kind: seenFile, stable: true, id: StatID{CTime: whole}}, {path: "/b", kind: seenFile, stable: true, id: StatID{CTime: exact}}}
	note := encodeVariants(nil, []variant{{action.Sum(action.BLAKE3, nil), list}})
	for _, boot := range []string{durable.BootID(), "00000000-0000-4000-8000-000000000000"} {
		note = bytes.Replace(note, []byte(durable.BootID()), []byte(boot), 1)
		got, err := decodeVariants(note, 1)
		if err != nil || got[0].seen[0].stable != (boot == durable.BootID()) || !got[0].seen[1].stable {
			t.Errorf("boot %s: %+v, %v", boot, got, err)
		}
	}
}

func TestUntrustedFileSystem(t *testing.T) {
	h := NewFileHasher(t.TempDir(), action.BLAKE3)
	defer h.Close()
	for range 2 {
		d, err := h.Digest("/proc/sys/kernel/ostype")
		if err == nil && d.Stable {
			t.Errorf("a file of proc is stable: %+v", d)
		}
	}
}
