package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// begin makes a Temp of each kind.
func begin(t *testing.T, d *Disk, dir string, named bool) *Temp {
	t.Helper()
	tmp, err := d.Temp(dir)
	if named {
		tmp.Close()
		tmp, err = d.NamedTemp(filepath.Join(t.TempDir(), "named"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return tmp
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.Name() + " ")
	}
	return b.String()
}

func TestTemp(t *testing.T) {
	for _, named := range []bool{false, true} {
		var d Disk
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		tmp := begin(t, &d, dir, named)
		for _, s := range []string{"con", "tents"} {
			if n, err := tmp.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
		}
		stamp := time.Unix(1234567890, 42)
		if err := tmp.Stamp(stamp); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); got != "" {
			t.Errorf("named %v: before Publish there is %s", named, got)
		}
		if got, err := io.ReadAll(tmp.Reader()); err != nil || string(got) != "contents" || tmp.Len() != 8 {
			t.Errorf("Reader gives %q, %v", got, err)
		}
		if err := tmp.Publish(path); err != nil {
			t.Fatal(err)
		}
		tmp.Close()
		fi, err := Stat(path)
		if err != nil || fi.Mode != TempMode || fi.Size != 8 || !fi.MTime.Equal(stamp) || fi.NLink != 1 {
			t.Errorf("named %v: %+v, %v", named, fi, err)
		}
		if got := names(t, dir); got != "file " {
			t.Errorf("named %v: after Publish there is %s", named, got)
		}

		tmp = begin(t, &d, dir, named)
		if err := tmp.Publish(path); !named && !errors.Is(err, fs.ErrExist) {
			t.Errorf("Publish over a file = %v", err)
		}
		tmp.Close()

		tmp = begin(t, &d, dir, named)
		_, err = tmp.Write([]byte("aborted"))
		tmp.Close()
		if got := names(t, dir); err != nil || got != "file " {
			t.Errorf("named %v: after Close there is %s, %v", named, got, err)
		}
	}
}

// TestReplace: readers see one of the contents, whole, and never nothing.
func TestReplace(t *testing.T) {
	for _, named := range []bool{false, true} {
		var d Disk
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		write := func(c byte) error {
			tmp := begin(t, &d, dir, named)
			defer tmp.Close()
			if _, err := tmp.Write(bytes.Repeat([]byte{c}, 1000)); err != nil {
				return err
			}
			return tmp.Replace(path)
		}
		if err := write('0'); err != nil { // in place of nothing
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for range 100 {
					if err := write(byte('a' + g)); err != nil {
						t.Errorf("Replace: %v", err)
						return
					}
					got, err := os.ReadFile(path)
					if err != nil || len(got) != 1000 || bytes.Count(got, got[:1]) != 1000 {
						t.Errorf("read %d bytes, %v", len(got), err)
					}
				}
			})
		}
		all.Wait()
		if got := names(t, dir); got != "file " {
			t.Errorf("named %v: there is %s", named, got)
		}
	}
}

func TestTempKeepsItsModeUnderAnyUmask(t *testing.T) {
	for _, mask := range []int{0, 0o077, 0o777} {
		old := syscall.Umask(mask)
		modeKnown.Store(false)
		var d Disk
		tmp, err := d.Temp(os.TempDir())
		syscall.Umask(old)
		modeKnown.Store(false)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := FStat(tmp.fd, "")
		tmp.Close()
		if err != nil || fi.Mode.Perm() != TempMode {
			t.Errorf("umask %o: mode %v, %v", mask, fi.Mode, err)
		}
	}
}

func TestRemoveAll(t *testing.T) {
	var d Disk
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.MkdirAll(outside+"/keep", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	var deep strings.Builder
	deep.WriteString(dir)
	err := os.Mkdir(dir, 0o755)
	var locked []string
	for range 3*flatten + 5 {
		deep.WriteString("/d")
		locked = append(locked, deep.String())
		err = errors.Join(err, os.Mkdir(deep.String(), 0o755), os.WriteFile(deep.String()+"/f", nil, 0o444),
			os.Symlink(outside, deep.String()+"/link"))
	}
	for i := range 2500 { // more than one list
		err = errors.Join(err, os.WriteFile(dir+"/"+strings.Repeat("x", 1+i%200)+string(rune('a'+i/200)), nil, 0o600))
	}
	for i := len(locked) - 1; i >= 0; i-- {
		err = errors.Join(err, os.Chmod(locked[i], []os.FileMode{0o555, 0o000, 0o111}[i%3]))
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // control: it does resist
		if err := os.RemoveAll(dir); err == nil {
			t.Error("os.RemoveAll removes it too")
		}
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := d.RemoveAll(dir); err != nil {
				t.Errorf("RemoveAll: %v", err)
			}
		})
	}
	all.Wait()
	if _, err := Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := Stat(outside + "/keep"); err != nil {
		t.Errorf("it followed a link: %v", err)
	}
	if err := d.RemoveAll(dir); err != nil {
		t.Errorf("RemoveAll of nothing: %v", err)
	}
	if err := d.RemoveAll("/proc/self/nothing/there"); err != nil {
		t.Errorf("RemoveAll of nothing in nothing: %v", err)
	}
}

func TestLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks")
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(), open()
	try := func(f *os.File, off int64, want bool) {
		t.Helper()
		if got, err := TryLock(f, off, 8); err != nil || got != want {
			t.Errorf("TryLock at %d = %v, %v; want %v", off, got, err, want)
		}
	}
	try(a, 0, true)
	try(a, 1<<61, true)
	try(b, 0, false)
	try(b, 4, false)
	try(b, 1<<61+7, false)
	try(b, 8, true)
	for off, want := range map[int64]bool{0: true, 16: false} {
		if got, err := Locked(b, off, 8); err != nil || got != want {
			t.Errorf("Locked at %d = %v, %v; want %v", off, got, err, want)
		}
	}
	if got, err := Locked(a, 0, 8); err != nil || got {
		t.Errorf("one's own lock counts: %v, %v", got, err)
	}
	if err := Unlock(a, 0, 8); err != nil {
		t.Fatal(err)
	}
	try(b, 0, true)
	c := open() // closing another descriptor of the file frees nothing
	c.Close()
	try(open(), 0, false)
	b.Close()
	try(a, 0, true)
}

func TestBootID(t *testing.T) {
	if a, b := BootID(), BootID(); a != b || len(a) != 36 {
		t.Errorf("BootID = %q, %q", a, b)
	}
}

// TestFault: a change that is lost did not happen, whatever kind it is.
func TestFault(t *testing.T) {
	dir := t.TempDir()
	var seen []string
	d := Disk{Fault: func(op Op, path string, do func() error) error {
		seen = append(seen, string(op))
		return errors.New("lost")
	}}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"Mkdir":       func() error { return d.Mkdir(dir+"/d", 0o755) },
		"CreateEmpty": func() error { return d.CreateEmpty(dir+"/e", 0o644) },
		"Rename":      func() error { return d.Rename(file, dir+"/r") },
		"Remove":      func() error { return d.Remove(file) },
		"RemoveAll":   func() error { return d.RemoveAll(file) },
		"Touch":       func() error { return d.Touch(file, time.Unix(1, 0)) },
		"Stamp":       func() error { return d.Stamp(file, time.Unix(1, 0)) },
		"Append":      func() error { return d.Append(file, []byte("y")) },
		"WriteSynced": func() error { return d.WriteSynced(dir+"/w", dir+"/w.new", nil, 0o644) },
		"SyncFS":      func() error { return d.SyncFS(dir) },
		"Temp":        func() error { _, err := d.Temp(dir); return err },
		"NamedTemp":   func() error { _, err := d.NamedTemp(dir + "/n"); return err },
	} {
		n := len(seen)
		if err := change(); err == nil || len(seen) == n {
			t.Errorf("%s = %v, through the fault %v", name, err, seen[n:])
		}
	}
	if after, err := Stat(file); err != nil || after != before || names(t, dir) != "file " {
		t.Errorf("something happened: %+v, %v; %s", after, err, names(t, dir))
	}
}

// TestWriteParts writes more parts than the system takes at once, after one of
// which some was written before, as after a write that was cut short.
func TestWriteParts(t *testing.T) {
	var d Disk
	tmp := begin(t, &d, t.TempDir(), false)
	defer tmp.Close()
	parts := [][]byte{[]byte("before"), nil}
	want := []byte("ore")
	for i := range 2 * maxParts {
		parts = append(parts, bytes.Repeat([]byte{byte(i)}, i%7))
		if i < maxParts-2 {
			want = append(want, parts[i+2]...)
		}
	}
	if n, err := writeParts(tmp.fd, parts, 3); n != len(want) || err != nil {
		t.Fatalf("%d of %d bytes: %v", n, len(want), err)
	}
	tmp.n = int64(len(want))
	if n, err := tmp.WriteParts(parts); n != len(bytes.Join(parts, nil)) || err != nil {
		t.Fatal(n, err)
	}
	if n, err := tmp.WriteParts(nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	got, err := io.ReadAll(tmp.Reader())
	if want = append(want, bytes.Join(parts, nil)...); err != nil || !bytes.Equal(got, want) || tmp.Len() != int64(len(want)) {
		t.Errorf("%d bytes are not the %d that were written: %v", len(got), len(want), err)
	}
}
