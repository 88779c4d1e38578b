package promise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/backends"
)

// overPromises are of directories of the host below a fresh layer.
func overPromises() []Promise {
	over := func(p Promise) Promise {
		p.needs = func(c backends.Capabilities) bool { return c.OverBinds }
		p.asks = func(s *backends.Spec) {
			s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: os.TempDir(), Target: "/over", Over: true})
		}
		return p
	}
	return []Promise{
		over(Promise{Name: "over/layer", Says: "what is written to a directory of the host below a fresh layer is in that layer alone", check: checkOverLayer}),
		over(Promise{Name: "over/vandal", Says: "nothing that a command does to a directory below a fresh layer changes the directory", check: checkOverVandal}),
		over(Promise{Name: "over/observe", Says: "look-ups through links that the command makes there are told as where they lead", check: checkOverObserved}),
	}
}

func (t *trial) over(files map[string]string, args ...string) (*backends.Spec, string, error) {
	dir, err := t.tree(files)
	if err != nil {
		return nil, "", err
	}
	spec := t.spec(args...)
	spec.Root.Binds = append(
		spec.Root.Binds,
		backends.Bind{Source: filepath.Dir(dir), Target: "/above"},
		backends.Bind{Source: dir, Target: "/above/over", Over: true},
	)
	return spec, dir, os.MkdirAll(filepath.Dir(dir)+"/over", 0o755)
}

func checkOverLayer(t *trial) error {
	spec, dir, err := t.over(map[string]string{"one": "1", "sub/two": "2", "sub/gone": "x"})
	if err != nil {
		return err
	}
	spec.Args = probe("content", "/above/over/one", "/above/over/sub/two")
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("contents", got, "12"); err != nil {
		return err
	}
	before, err := snapshot(dir)
	if err != nil {
		return err
	}
	spec.Args = probe("put", "/above/over/one", "changed", "/above/over/sub/new", "new", "/above/over/link", "->/absent")
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	number := len(spec.Root.Binds) - 1
	for name, want := range map[string]string{"one": "changed", "sub/new": "new"} {
		got, err := os.ReadFile(fmt.Sprintf("%s/%d/%s", root, number, name))
		if err != nil {
			return err
		}
		if err := equal(name, string(got), want); err != nil {
			return err
		}
	}
	if target, err := os.Readlink(fmt.Sprintf("%s/%d/link", root, number)); err != nil || target != "/absent" {
		return fmt.Errorf("the link leads to %q, %v", target, err)
	}
	if _, err := os.Lstat(fmt.Sprintf("%s/%d/sub/two", root, number)); err == nil {
		return errors.New("what was not written is in the layer, too")
	}
	after, err := snapshot(dir)
	if err != nil {
		return err
	}
	return equal("the directory", after, before)
}

func checkOverVandal(t *trial) error {
	spec, dir, err := t.over(map[string]string{"one": "1", "sub/two": "2"}, "vandal", "/above/over/one", "/above/over/sub")
	if err != nil {
		return err
	}
	return t.unchanged(spec, dir)
}

func checkOverObserved(t *trial) error {
	spec, _, err := t.over(map[string]string{"one": "1", "sub/two": "2"})
	if err != nil {
		return err
	}
	t.hostRoot(spec)
	spec.Args = []string{"/bin/sh", "-c", "cd /above/over && ln -s sub/two link && : <link && rm link && : <one"}
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Code != 0 {
		return fmt.Errorf("ended with %v", o)
	}
	return saw(
		o,
		backends.Lookup{Path: "/above/over/link", Op: backends.Open},
		backends.Lookup{Path: "/above/over/sub/two", Op: backends.Open},
		backends.Lookup{Path: "/above/over/one", Op: backends.Open},
	)
}
