package openat

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpen(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/secret", []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, target := range map[string]string{"abs": "/sub", "out": outside, "up": "../../../../../../../.." + outside, "in": "sub", "magic": "/proc/self/root" + outside} {
		if err := os.Symlink(target, root+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(root+"/sub", 0o755), os.WriteFile(root+"/sub/secret", []byte("inside"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{"out", "up"} { // the control: they do lead out
		if data, err := os.ReadFile(root + "/" + link + "/secret"); err != nil || string(data) != "outside" {
			t.Fatalf("%s: %q, %v", link, data, err)
		}
	}
	dir, err := unix.Open(root, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for _, c := range []struct {
		path  string
		scope Scope
		want  error
	}{
		{"sub/secret", InRoot, nil},
		{"abs/secret", InRoot, nil},
		{"in/secret", InRoot, nil},
		{"../../sub/secret", InRoot, nil},
		{"out/secret", InRoot, unix.ENOENT},
		{"up/secret", InRoot, unix.ENOENT},
		{"sub/secret", Beneath, nil},
		{"in/secret", Beneath, nil},
		{"abs/secret", Beneath, unix.EXDEV},
		{"out/secret", Beneath, unix.EXDEV},
		{"up/secret", Beneath, unix.EXDEV},
		{"../secret", Beneath, unix.EXDEV},
		{"magic/secret", Beneath, unix.EXDEV},
	} {
		fd, err := Open(dir, c.path, unix.O_RDONLY, 0, c.scope)
		if err == nil {
			f := os.NewFile(uintptr(fd), c.path)
			buf := make([]byte, 20)
			n, _ := f.Read(buf)
			f.Close()
			if string(buf[:n]) != "inside" {
				t.Errorf("%s, scope %d: read %q", c.path, c.scope, buf[:n])
			}
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s, scope %d: %v, want %v", c.path, c.scope, err, c.want)
		}
	}
}
