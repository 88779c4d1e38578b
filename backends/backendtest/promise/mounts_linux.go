package promise

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/backends"
)

// mountPromises are of roots of which some can be written to and some cannot.
func mountPromises() []Promise {
	mounts := func(p Promise) Promise {
		p.needs = func(c backends.Capabilities) bool { return c.Mounts }
		p.asks = func(s *backends.Spec) { s.Root.ReadOnly = true }
		return own(p)
	}
	return []Promise{
		mounts(Promise{Name: "mounts/read-only", Says: "of a root that is read-only nothing can be written, but to /tmp and /dev/shm", check: checkReadOnly}),
		mounts(Promise{Name: "mounts/remount", Says: "a root that is read-only cannot be made writable by mounting", check: checkReadOnlyRemount}),
		mounts(Promise{Name: "mounts/writable", Says: "what is to stay writable in a root that is read-only can be written, with what is in it, and nothing beside it", check: checkWritable}),
		mounts(Promise{Name: "mounts/bind", Says: "a bind that is writable changes the directory of the host, and no other bind does", check: checkWritableBind}),
		mounts(Promise{Name: "mounts/tmpfs", Says: "a directory in memory is empty, can be written, and leaves nothing in the root", check: checkTmpfs}),
	}
}

// try runs an attempt inside and says whether it succeeded.
func (t *trial) try(spec *backends.Spec, args ...string) (bool, error) {
	spec.Args = probe(args...)
	answer, err := t.succeed(spec)
	if err != nil {
		return false, err
	}
	return said(answer)
}

// want checks that attempts succeed inside, or that they do not.
func (t *trial) want(spec *backends.Spec, yes bool, verb string, paths ...string) error {
	for _, p := range paths {
		did, err := t.try(spec, verb, p)
		if err != nil {
			return err
		}
		if did != yes {
			return fmt.Errorf("%s %s: %v, want %v", verb, p, did, yes)
		}
	}
	return nil
}

// dataRoot has files in two directories.
func (t *trial) dataRoot() *backends.Spec {
	spec := t.spec()
	spec.Root.Fill = t.fill(file{path: "data/1/canary", text: "1", mode: 0o666}, file{path: "data/2/canary", text: "2", mode: 0o666})
	return spec
}

func checkReadOnly(t *trial) error {
	spec := t.dataRoot()
	if err := t.want(spec, true, "write", "/data/1/canary"); err != nil {
		return fmt.Errorf("control: a root that is not read-only: %w", err)
	}
	spec.Root.ReadOnly = true
	if err := t.want(spec, false, "write", "/data/1/canary", "/data/2/canary"); err != nil {
		return err
	}
	spec.Args = probe("put", "/tmp/new", "text", "/dev/shm/new", "text")
	if _, err := t.succeed(spec); err != nil {
		return err
	}
	for _, p := range []string{"/new", workDir + "/new", "/data/new"} {
		spec.Args = probe("put", p, "text")
		if o, err := t.run(spec); err != nil || o.Code == 0 {
			return fmt.Errorf("put %s: %v, %v", p, o, err)
		}
	}
	return nil
}

func checkReadOnlyRemount(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1"})
	if err != nil {
		return err
	}
	readOnly := func(s *backends.Spec) {
		s.Root = t.dataRoot().Root
		s.Root.ReadOnly = true
	}
	for _, how := range []string{"remount", "remount-new"} {
		a := attempt{args: []string{how, "/", "/data/1/canary"}, control: []string{"remount-new", dir, dir + "/one"}, root: true, spec: readOnly}
		if err := t.defeats(a); err != nil {
			return err
		}
	}
	return nil
}

func checkWritable(t *trial) error {
	spec := t.dataRoot()
	spec.Root.ReadOnly, spec.Root.Writable = true, []string{"/data/1"}
	if err := t.want(spec, true, "write", "/data/1/canary"); err != nil {
		return err
	}
	if err := t.want(spec, false, "write", "/data/2/canary"); err != nil {
		return err
	}
	spec.Args = probe("put", "/data/1/new", "text")
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "data/1/new"))
	if err != nil {
		return err
	}
	if err := equal("what was written, in the root", string(text), "text"); err != nil {
		return err
	}
	spec.Root.Writable = []string{"/data"} // the directory above
	return t.want(spec, true, "write", "/data/1/canary", "/data/2/canary")
}

func checkWritableBind(t *trial) error {
	dir, err := t.tree(map[string]string{"one": "1"})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "one")
	for _, p := range []string{dir, file} { // the command is another user
		if err := os.Chmod(p, 0o777); err != nil {
			return err
		}
	}
	spec := t.spec()
	spec.Root.ReadOnly = true
	spec.Root.Binds = append(
		spec.Root.Binds,
		backends.Bind{Source: dir, Target: "/kept"},
		backends.Bind{Source: dir, Target: "/deep/er/shared", Writable: true},
	)
	if err := t.want(spec, false, "write", "/kept/one"); err != nil {
		return err
	}
	spec.Args = probe("put", "/deep/er/shared/one", "changed", "/deep/er/shared/sub/new", "new")
	if _, err := t.succeed(spec); err != nil {
		return err
	}
	for name, want := range map[string]string{"one": "changed", "sub/new": "new"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := equal(name, string(text), want); err != nil {
			return err
		}
	}
	return nil
}

func checkTmpfs(t *trial) error {
	spec := t.dataRoot()
	spec.Root.ReadOnly = true
	spec.Root.Tmpfs = []string{"/data/1", "/not/there"} // the latter in two levels
	spec.Args = probe("ls", "/data/1")
	out, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("entries of a directory in memory", out, ""); err != nil {
		return err
	}
	spec.Args = probe("put", "/data/1/new", "text", "/not/there/new", "text")
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(root, "data/1/new")); err == nil {
		return fmt.Errorf("what was written to memory is in the root")
	}
	_, err = os.Lstat(filepath.Join(root, "data/1/canary"))
	return err
}
