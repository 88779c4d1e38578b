package promise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

func outputPromises() []Promise {
	return []Promise{
		own(Promise{Name: "output/root", Says: "what the command made, changed and removed is in Status.Root, and stays readable while other commands run", check: checkKeptRoot}),
		own(Promise{Name: "output/only-scratch", Says: "Status.Root has nothing of /proc, /dev, /tmp and of the host's files that were shown", check: checkKeptRootOnly}),
		own(Promise{Name: "output/names", Says: "outputs may have any name", check: checkKeptNames}),
		{Name: "output/failed", Says: "Status.Root is there when the command failed, and when its time was over", check: checkKeptAfterFailure},
		{Name: "output/not-asked", Says: "Status.Root is not there when nobody asked for it", check: checkNoRoot},
		own(Promise{Name: "output/scratch-dir", Says: "the scratch may be a directory of the host", check: checkScratchDir}),
	}
}

// keep runs a spec whose command succeeds, and returns the root that it left as
// a path.
func (t *trial) keep(spec *backends.Spec) (string, error) {
	spec.KeepRoot = true
	o, err := t.run(spec)
	if err != nil {
		return "", err
	}
	if o.Root == nil {
		return "", fmt.Errorf("no Status.Root: %v", o)
	}
	t.later(func() { o.Root.Close() })
	if o.Code != 0 {
		return "", fmt.Errorf("ended with %v", o)
	}
	return fmt.Sprintf("/proc/self/fd/%d", o.Root.Fd()), nil
}

func checkKeptRoot(t *trial) error {
	spec := t.spec("put", "/build/made", "made", "/build/dir/deep/er", "deep", "/build/link", "->/absent", "/build/changed", "new")
	spec.Root.Fill = t.fill(
		file{path: "/build/kept", text: "kept"},
		file{path: "/build/changed", text: "old and longer"},
		file{path: "/build/gone", text: "gone"},
	)
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	spec.Args = probe("remove", "/build/gone")
	other, err := t.keep(spec)
	if err != nil {
		return err
	}
	for range 3 { // nothing that comes later disturbs it
		if _, err := t.inside("put", "/build/made", "by another"); err != nil {
			return err
		}
	}
	for name, want := range map[string]string{"made": "made", "dir/deep/er": "deep", "changed": "new", "kept": "kept", "gone": "gone"} {
		got, err := os.ReadFile(root + "/build/" + name)
		if err != nil {
			return err
		}
		if err := equal(name, string(got), want); err != nil {
			return err
		}
	}
	if link, err := os.Readlink(root + "/build/link"); err != nil || link != "/absent" {
		return fmt.Errorf("the link: %q, error %v", link, err)
	}
	if _, err := os.Lstat(other + "/build/gone"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the removed file: error %v", err)
	}
	return nil
}

// checkKeptRootOnly allows mount points, which a backend has to make somewhere,
// but only empty ones.
func checkKeptRootOnly(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1"})
	if err != nil {
		return err
	}
	temporary, shared := "/tmp/"+t.mark(), "/dev/shm/"+t.mark()
	t.later(func() { // where there is no sandbox, they are the host's
		os.Remove(temporary)
		os.Remove(shared)
	})
	spec := t.spec("put", temporary, "x", shared, "x", "/build/output", "x")
	spec.Root.Binds = append(spec.Root.Binds,
		backends.Bind{Source: dir, Target: "/build/bound"},
		backends.Bind{Source: dir + "/one", Target: "/build/bound-file"})
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	found := false
	err = filepath.WalkDir(root+"/", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name := strings.TrimPrefix(p, root)
		if name == "/build/output" {
			found = true
			return nil
		}
		if info, err := e.Info(); err != nil || info.Size() > 0 || !info.Mode().IsRegular() {
			return fmt.Errorf("%s is in Status.Root: %v, error %v", name, info, err)
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("/build/output is not in Status.Root")
	}
	return err
}

func checkKeptNames(t *trial) error {
	args := []string{"put"}
	for _, n := range oddNames {
		args = append(args, "/build/"+n, n)
	}
	root, err := t.keep(t.spec(args...))
	if err != nil {
		return err
	}
	for _, n := range oddNames {
		got, err := os.ReadFile(root + "/build/" + n)
		if err != nil {
			return err
		}
		if err := equal("contents", string(got), n); err != nil {
			return err
		}
	}
	return nil
}

func checkKeptAfterFailure(t *trial) error {
	for _, args := range [][]string{{"exit", "3"}, {"die", "9"}, {"sleep", t.lifetime()}} {
		spec := t.spec(args...)
		spec.Root.Fill = t.fill(file{path: "/build/kept", text: "kept"})
		spec.KeepRoot = true
		if args[0] == "sleep" {
			spec.Limits.Wall = 50 * time.Millisecond
		}
		o, err := t.run(spec)
		if err != nil {
			return err
		}
		if o.Code == 0 || o.Root == nil {
			return fmt.Errorf("%q: %v, root %v", args, o, o.Root)
		}
		got, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/build/kept", o.Root.Fd()))
		o.Root.Close()
		if err != nil {
			return err
		}
		if err := equal("contents", string(got), "kept"); err != nil {
			return err
		}
	}
	return nil
}

func checkNoRoot(t *trial) error {
	o, err := t.run(t.spec("exit", "0"))
	if err != nil {
		return err
	}
	if o.Root != nil {
		o.Root.Close()
		return errors.New("there is a Status.Root, which nobody will close")
	}
	return nil
}

func checkScratchDir(t *trial) error {
	dir, err := os.MkdirTemp(t.Dir, "scratch-")
	if err != nil {
		return err
	}
	t.later(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // it becomes the root, where there are no layers
		return err
	}
	spec := t.spec("put", "/build/made", "made")
	spec.Root.ScratchDir = dir
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	got, err := os.ReadFile(root + "/build/made")
	if err != nil {
		return err
	}
	return equal("contents", string(got), "made")
}
