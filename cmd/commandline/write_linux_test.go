package commandline

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

// TestWriteWhole writes to what is there already, whatever it is, and lets it
// fail.
func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	file, link, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink("file", link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0) // both ends: nobody waits
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	check := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("the file has %q, want %q: %v", got, want, err)
		}
		for name, kind := range map[string]fs.FileMode{file: 0, link: fs.ModeSymlink, pipe: fs.ModeNamedPipe} {
			if info, err := os.Lstat(name); err != nil || info.Mode().Type() != kind {
				t.Errorf("%s is another kind of file: %v, %v", name, info, err)
			}
		}
		if list, _ := os.ReadDir(dir); len(list) != 3 {
			t.Errorf("the directory has %v", list)
		}
	}
	for _, c := range []struct{ name, want string }{{file, "1"}, {link, "2"}} {
		if err := WriteWhole(c.name, text(c.want)); err != nil {
			t.Error(err)
		}
		check(c.want)
	}
	if err := WriteWhole(pipe, text("3")); err != nil {
		t.Error(err)
	}
	var b [8]byte
	if n, err := reader.Read(b[:]); err != nil || string(b[:n]) != "3" {
		t.Errorf("the pipe had %q: %v", b[:n], err)
	}
	full := errors.New("full")
	for _, name := range []string{file, link, pipe} {
		if err := WriteWhole(name, func(io.Writer) error { return full }); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
		check("2")
	}
	if err := WriteWhole(filepath.Join(dir, "no", "such"), text("")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := WriteWhole(dir, text("")); err == nil {
		t.Error("a directory was written to")
	}
	check("2")
}
