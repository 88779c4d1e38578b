package promise

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func filePromises() []Promise {
	return inOwnRoot([]Promise{
		{Name: "files/root", Says: "the root has the files that were asked for, /proc, /dev and /tmp, and nothing else", needs: underHost(nil), check: checkRootEntries},
		{Name: "files/calls", Says: "no system call, old or new, finds a file of the host by its path", check: checkCalls},
		{Name: "files/fill", Says: "files that were put into the scratch belong to the command, which may change them", check: checkFill},
		{Name: "files/bind", Says: "directories and files of the host are shown where they were asked for, in order", check: checkBind},
		{Name: "files/bind-read-only", Says: "no file of the host that is shown can be changed, even by its owner", check: checkBindVandal},
		{Name: "files/bind-remount", Says: "what is shown read-only cannot be made writable by mounting", check: checkRemount},
		{Name: "files/bind-device", Says: "devices among the files that are shown cannot be opened", check: checkBindDevice},
		{Name: "files/bind-mounts", Says: "what is mounted below a directory that is shown, by whomever, is shown too, and read-only", check: checkBindMounts},
		{Name: "files/tmp", Says: "/tmp is empty at the start, anybody may write there, and it is not the host's", check: checkTmp},
		{Name: "files/dev", Says: "/dev has the devices that programs expect, which work, and no others", needs: underHost(nil), check: checkDev},
		{Name: "files/fresh", Says: "nothing that one command wrote is seen by the next one", check: checkFresh},
	}...)
}

// entries are the names that "ls" printed.
func entries(out string) string {
	var names []string
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, "\" ")
		names = append(names, strings.TrimPrefix(name, "\""))
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func checkRootEntries(t *trial) error {
	got, err := t.inside("ls", "/")
	if err != nil {
		return err
	}
	return all(
		func() error { return equal("entries of /", entries(got), "build dev proc "+ProbeName+" tmp") },
		func() error {
			got, err := t.inside("ls", workDir)
			if err != nil {
				return err
			}
			return equal("entries of "+workDir, got, "")
		},
	)
}

func checkFill(t *trial) error {
	spec := t.spec("ls", workDir)
	spec.Root.Fill = t.fill(
		file{path: "/build/file", text: "text"},
		file{path: "/build/program", mode: 0o755},
		file{path: "/build/dir/"},
		file{path: "/build/link", link: "/absent"},
	)
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	want := `"dir" 040755 65000:65000 0:0
"file" 100644 65000:65000 0:0
"link" 120777 65000:65000 0:0
"program" 100755 65000:65000 0:0
`
	if err := equal("files", got, want); err != nil {
		return err
	}
	spec.Args = probe("put", "/build/file", "changed", "/build/dir/new/", "", "/build/new", "->x")
	_, err = t.succeed(spec)
	return err
}

func checkBind(t *trial) error {
	dir, err := t.tree(map[string]string{"a/one": "1", "a/sub/two": "2", "b/three": "3"})
	if err != nil {
		return err
	}
	spec := t.spec("content", "/deep/er/a/one", "/deep/er/a/sub/two", "/file name", "/build/b/three", "/deep/er/a/sub/one")
	spec.Root.Binds = append(
		spec.Root.Binds,
		backends.Bind{Source: dir + "/a", Target: "/deep/er/a"},
		backends.Bind{Source: dir + "/b", Target: "/build/b"},
		backends.Bind{Source: dir + "/b/three", Target: "/file name"},
	)
	spec.Args = probe("content", "/deep/er/a/one", "/deep/er/a/sub/two", "/file name", "/build/b/three")
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("contents", got, "1233"); err != nil {
		return err
	}
	// One that is mounted over an earlier one is what is seen.
	spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: dir + "/b", Target: "/deep/er/a/sub"})
	spec.Args = probe("content", "/deep/er/a/one", "/deep/er/a/sub/three")
	if got, err = t.succeed(spec); err != nil {
		return err
	}
	return equal("contents", got, "13")
}

// tree makes files of the host, which everybody may write, with a file that is
// nobody's and one that is the command's where we are root.
func (t *trial) tree(files map[string]string) (string, error) {
	dir, err := os.MkdirTemp(t.Dir, "tree-")
	if err != nil {
		return "", err
	}
	t.later(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		return "", err
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		for p := filepath.Dir(path); p != dir; p = filepath.Dir(p) {
			if err := os.Chmod(p, 0o777); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return "", err
		}
		if os.Geteuid() == 0 {
			if err := os.Lchown(path, t.caps.Owner, t.caps.Owner); err != nil {
				return "", err
			}
		}
	}
	return dir, nil
}

// snapshot says everything about a tree, so that any change shows.
func snapshot(dir string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q ino %d mode %o owner %d:%d links %d size %d mtime %d.%d ctime %d.%d rdev %d", p, st.Ino, st.Mode, st.Uid, st.Gid,
			st.Nlink, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, st.Rdev)
		if e.Type().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " sum %x", sha256.Sum256(data))
		}
		names := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, names); err == nil {
			fmt.Fprintf(&b, " attributes %q", names[:n])
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String(), err
}

// unchanged checks that a vandal in a sandbox changes nothing of the host's
// tree at dir. Outside, it does change a tree like it.
func (t *trial) unchanged(spec *backends.Spec, dirs ...string) error {
	var before []string
	for _, dir := range dirs {
		s, err := snapshot(dir)
		if err != nil {
			return err
		}
		before = append(before, s)
	}
	did, err := t.succeed(spec)
	if err != nil {
		return err
	}
	for i, dir := range dirs {
		after, err := snapshot(dir)
		if err != nil {
			return err
		}
		if after != before[i] {
			return fmt.Errorf("%s was changed; the command could do: %.500s\nbefore:\n%.1000s\nafter:\n%.1000s", dir, did, before[i], after)
		}
	}
	copied, err := t.tree(map[string]string{"one": "1", "sub/two": "2"})
	if err != nil {
		return err
	}
	untouched, err := snapshot(copied)
	if err != nil {
		return err
	}
	if _, err := t.outside("vandal", copied+"/one", copied+"/sub"); err != nil {
		return err
	}
	if after, err := snapshot(copied); err == nil && after == untouched {
		return fmt.Errorf("%w: the vandal does nothing outside either", errUnproven)
	}
	return nil
}

func checkBindVandal(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1", "sub/two": "2", "sub/sub/three": "3"})
	if err != nil {
		return err
	}
	spec := t.spec("vandal", "/build/bound", "/bound-file")
	spec.Root.Binds = append(
		spec.Root.Binds,
		backends.Bind{Source: dir, Target: "/build/bound"},
		backends.Bind{Source: dir + "/one", Target: "/bound-file"},
	)
	return t.unchanged(spec, dir)
}

func checkRemount(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1"})
	if err != nil {
		return err
	}
	bound := func(s *backends.Spec) {
		s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: dir, Target: "/bound"})
	}
	for _, how := range []string{"remount", "remount-new"} {
		if err := t.defeats(attempt{args: []string{how, "/bound", "/bound/one"}, control: []string{"remount-new", dir, dir + "/one"}, root: true, spec: bound}); err != nil {
			return err
		}
	}
	return nil
}

// checkBindDevice shows the host's /dev, or so much of it as we may show.
func checkBindDevice(t *trial) error {
	return t.defeats(attempt{args: []string{"open-read", "/host-dev/null", "/host-dev/zero"}, control: []string{"open-read", "/dev/null"}, spec: func(s *backends.Spec) {
		s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: "/dev", Target: "/host-dev"})
	}})
}

// checkBindMounts shows /dev, because something is mounted below it that is not
// ours: in a user namespace, the kernel refuses to show one without the other.
func checkBindMounts(t *trial) error {
	bound := func(s *backends.Spec) {
		s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: "/dev", Target: "/host-dev"})
	}
	spec := t.spec("ls", "/host-dev/pts")
	bound(spec)
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	want, err := t.outside("ls", "/dev/pts")
	if err != nil || !strings.Contains(want, "ptmx") {
		return fmt.Errorf("%w: nothing is mounted at /dev/pts: %q, %w", errUnproven, want, err)
	}
	if !strings.Contains(got, "ptmx") {
		return fmt.Errorf("a directory that is mounted is shown as %q, want %q", got, want)
	}
	name := "/shm/" + t.mark()
	if err := os.WriteFile("/dev"+name, []byte("below"), 0o666); err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	defer os.Remove("/dev" + name)
	if err := os.Chmod("/dev"+name, 0o666); err != nil { // whatever our umask is
		return err
	}
	return all(
		func() error {
			spec := t.spec("content", "/host-dev"+name)
			bound(spec)
			got, err := t.succeed(spec)
			return errors.Join(err, equal("a file below a mount", got, "below"))
		},
		func() error {
			return t.defeats(attempt{args: []string{"open-write", "/host-dev" + name}, control: []string{"open-write", "/dev" + name}, spec: bound})
		},
	)
}

func checkTmp(t *trial) error {
	got, err := t.inside("ls", "/tmp")
	if err != nil {
		return err
	}
	if err := equal("entries of /tmp", got, ""); err != nil {
		return err
	}
	if got, err = t.inside("ls", "/"); err != nil {
		return err
	}
	if !strings.Contains(got, "\"tmp\" 041777 ") {
		return fmt.Errorf("/tmp does not have mode 1777: %s", got)
	}
	name := "/tmp/" + t.mark()
	if _, err = t.inside("put", name, "text"); err != nil {
		return err
	}
	if _, err := os.Lstat(name); err == nil {
		os.Remove(name)
		return fmt.Errorf("a file that the command made is the host's %s", name)
	}
	return nil
}

// Every entry of /dev is one of these, and those of the first group are there.
const (
	devExpected = "fd full null ptmx pts random shm stderr stdin stdout urandom zero"
	devAllowed  = devExpected + " console core mqueue tty"
)

func checkDev(t *trial) error {
	got, err := t.inside("devices")
	if err != nil {
		return err
	}
	if err := equal("complaints", got, ""); err != nil {
		return err
	}
	if got, err = t.inside("ls", "/dev"); err != nil {
		return err
	}
	names := " " + entries(got) + " "
	for name := range strings.FieldsSeq(devExpected) {
		if !strings.Contains(names, " "+name+" ") {
			return fmt.Errorf("/dev/%s is missing", name)
		}
	}
	for name := range strings.FieldsSeq(names) {
		if !strings.Contains(" "+devAllowed+" ", " "+name+" ") {
			return fmt.Errorf("/dev/%s is there", name)
		}
	}
	if outside, err := t.outside("ls", "/dev"); err == nil && entries(outside) == entries(got) {
		return fmt.Errorf("%w: /dev of the host is no larger", errUnproven)
	}
	return nil
}

func checkFresh(t *trial) error {
	for _, dir := range []string{"/build", "/tmp", "/dev/shm", "/"} {
		name := filepath.Join(dir, "left-by-the-first")
		o, err := t.run(t.spec("put", name, "x"))
		if err != nil {
			return err
		}
		if o.Code != 0 && dir != "/" { // the command does not own the root
			return fmt.Errorf("%s cannot be written: %v", dir, o)
		}
		if err := t.unreachable("exists", name); err != nil {
			os.Remove(name)
			return err
		}
	}
	return nil
}

// checkCalls looks for a program that every host has, where sandboxes that are
// made of paths may fail to look.
func checkCalls(t *trial) error {
	return t.defeats(attempt{args: []string{"see", "/bin/sh", "/usr/bin/env", t.Probe}})
}
