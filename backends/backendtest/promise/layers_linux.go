package promise

import (
	"fmt"
	"os"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func layerPromises() []Promise {
	overlay := func(p Promise) Promise {
		p.needs = func(c backends.Capabilities) bool { return c.Overlay }
		p.asks = func(s *backends.Spec) { s.Root.Lowers = []backends.Layer{{Dir: os.TempDir()}} }
		return p
	}
	return []Promise{
		overlay(Promise{Name: "layers/order", Says: "files of all layers are merged, and the first layer is the topmost", check: checkLayerOrder}),
		overlay(Promise{Name: "layers/vandal", Says: "nothing that a command does to files of layers changes the layers", check: checkLayerVandal}),
		overlay(Promise{Name: "layers/copy-up", Says: "files of layers can be changed, and the changes are in Status.Root", check: checkCopyUp}),
		{
			Name: "layers/data", Says: "a file of a layer may take its contents from the data directory, which nothing changes",
			needs: func(c backends.Capabilities) bool { return c.DataLayers },
			asks: func(s *backends.Spec) {
				s.Root.Lowers = []backends.Layer{{Dir: os.TempDir()}}
				s.Root.Data = os.TempDir()
			},
			check: checkData,
		},
		{
			Name: "layers/image", Says: "a layer may be an image; a backend without them says so",
			needs: func(c backends.Capabilities) bool { return c.Images },
			asks:  func(s *backends.Spec) { s.Root.Lowers = []backends.Layer{{Image: os.DevNull}} },
			check: checkImage,
		},
	}
}

func (t *trial) layered(layers ...map[string]string) (*backends.Spec, []string, error) {
	spec := t.spec()
	var dirs []string
	for _, files := range layers {
		dir, err := t.tree(files)
		if err != nil {
			return nil, nil, err
		}
		dirs = append(dirs, dir)
		spec.Root.Lowers = append(spec.Root.Lowers, backends.Layer{Dir: dir})
	}
	return spec, dirs, nil
}

func checkLayerOrder(t *trial) error {
	spec, _, err := t.layered(
		map[string]string{"build/one": "top", "build/dir/a": "a"},
		map[string]string{"build/one": "middle", "build/two": "middle", "build/dir/b": "b"},
		map[string]string{"build/one": "bottom", "build/two": "bottom", "build/three": "bottom", "build/filled": "bottom"},
	)
	if err != nil {
		return err
	}
	spec.Root.Fill = t.fill(file{path: "/build/filled", text: "scratch"})
	spec.Args = probe("content", "one", "two", "three", "dir/a", "dir/b", "filled")
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	return equal("contents", got, "topmiddlebottomabscratch")
}

func checkLayerVandal(t *trial) error {
	spec, dirs, err := t.layered(
		map[string]string{"build/one": "1", "build/dir/two": "2"},
		map[string]string{"build/one": "1", "build/three": "3", "build/dir/four": "4"},
	)
	if err != nil {
		return err
	}
	spec.Args = probe("vandal", "/build/dir", "/build/one", "/build/three")
	return t.unchanged(spec, dirs...)
}

func checkCopyUp(t *trial) error {
	spec, _, err := t.layered(map[string]string{"build/one": "1", "build/gone": "x", "build/dir/two": "2"})
	if err != nil {
		return err
	}
	spec.Args = probe("put", "/build/one", "changed", "/build/dir/new", "new")
	root, err := t.keep(spec)
	if err != nil {
		return err
	}
	for name, want := range map[string]string{"one": "changed", "dir/new": "new", "dir/two": "2", "gone": "x"} {
		got, err := os.ReadFile(root + "/build/" + name)
		if err != nil {
			return err
		}
		if err := equal(name, string(got), want); err != nil {
			return err
		}
	}
	return nil
}

func checkData(t *trial) error {
	data, err := t.tree(map[string]string{"ab/blob": "from the data directory", "cd/other": "other"})
	if err != nil {
		return err
	}
	spec, dirs, err := t.layered(map[string]string{"build/plain": "plain"})
	if err != nil {
		return err
	}
	stub := dirs[0] + "/build/stub"
	if err := os.WriteFile(stub, make([]byte, len("from the data directory")), 0o644); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(stub, t.caps.Owner, t.caps.Owner); err != nil {
			return err
		}
	}
	for _, space := range []string{"user.", "trusted."} {
		err := unix.Setxattr(stub, space+"overlay.metacopy", nil, 0)
		if err == nil {
			err = unix.Setxattr(stub, space+"overlay.redirect", []byte("/ab/blob"), 0)
		}
		if err != nil && space == "user." {
			return fmt.Errorf("%w: the file system of %s: %w", errUnproven, stub, err)
		}
	}
	spec.Root.Data = data
	spec.Args = probe("content", "stub", "plain")
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("contents", got, "from the data directoryplain"); err != nil {
		return err
	}
	spec.Args = probe("vandal", "/build/stub", "/build/plain")
	return t.unchanged(spec, append(dirs, data)...)
}

// checkImage needs no good image: one that is none is an error, not a root
// without that layer.
func checkImage(t *trial) error {
	f, err := os.CreateTemp(t.Dir, "image-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	f.Write(make([]byte, 8192))
	f.Close()
	spec := t.spec("say", "I ran")
	spec.Root.Lowers = []backends.Layer{{Image: f.Name()}}
	if o, err := t.run(spec); err == nil {
		return fmt.Errorf("a root with an image that is none: %v", o)
	}
	return nil
}
