package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/internal/helper"
)

// wanted are the modules that the machine needs, unless they are in the kernel.
var wanted = []string{"virtio_pci", "virtio_console", "virtiofs"}

// A kernel is one that the machine can boot.
type kernel struct {
	image   string
	modules []string // files, in the order in which they have to be loaded
}

// findKernel finds a kernel of this machine that can be used.
func findKernel(o Options) (*kernel, error) {
	if o.Kernel != "" {
		modules, err := findModules(o.Modules)
		return &kernel{o.Kernel, modules}, err
	}
	images, _ := filepath.Glob("/boot/vmlinuz-*")
	slices.Sort(images)
	slices.Reverse(images) // the newest is tried first
	slices.SortStableFunc(images, func(a, b string) int { return cloud(a) - cloud(b) })
	errs := []error{errors.New("no kernel for the machine: run: apt-get install linux-image-cloud-amd64 (or your system's like)")}
	for _, image := range images {
		f, err := os.Open(image) // some systems hide theirs from users
		if err == nil {
			f.Close()
			var modules []string
			if modules, err = findModules("/lib/modules/" + strings.TrimPrefix(image, "/boot/vmlinuz-")); err == nil {
				return &kernel{image, modules}, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func cloud(image string) int {
	if strings.Contains(image, "-cloud-") {
		return 0
	}
	return 1
}

// findModules finds the modules that are wanted below dir, with what they need
// themselves before them: modules.dep has, for each module, what it needs, the last
// to be loaded first.
func findModules(dir string) ([]string, error) {
	dep, err := os.ReadFile(dir + "/modules.dep")
	if err != nil {
		return nil, err
	}
	builtin, err := os.ReadFile(dir + "/modules.builtin")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range wanted {
		if strings.Contains(string(builtin), "/"+name+".ko") {
			continue
		}
		found := false
		for line := range strings.Lines(string(dep)) {
			module, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			base, _, _ := strings.Cut(filepath.Base(module), ".")
			if base != name {
				continue
			}
			found = true
			list := append([]string{module}, strings.Fields(needs)...)
			slices.Reverse(list)
			for _, m := range list {
				if f := filepath.Join(dir, m); !slices.Contains(files, f) {
					files = append(files, f)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("%s has no module %s", dir, name)
		}
	}
	return files, nil
}

// initramfs is the first root of the machine: our helper and the modules, as a cpio
// archive in the format "newc" (Linux, Documentation/driver-api/early-userspace).
func (k *kernel) initramfs() ([]byte, error) {
	program, err := helper.Binary()
	if err != nil {
		return nil, err
	}
	init, err := io.ReadAll(io.NewSectionReader(program, 0, 1<<30))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, dir := range []string{"dev", "proc", "root", "modules"} {
		entry(&b, dir, 0o40755, 0, nil)
	}
	entry(&b, "dev/console", 0o20600, 5<<8|1, nil)
	entry(&b, "init", 0o100755, 0, init)
	for i, name := range k.modules {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		entry(&b, fmt.Sprintf("modules/%02d", i), 0o100644, 0, data)
	}
	entry(&b, "TRAILER!!!", 0, 0, nil)
	return b.Bytes(), nil
}

func entry(b *bytes.Buffer, name string, mode, device int, data []byte) {
	b.WriteString("070701")
	for _, v := range []int{0, mode, 0, 0, 1, 0, len(data), 0, 0, device >> 8, device & 0xff, len(name) + 1, 0} {
		fmt.Fprintf(b, "%08x", v)
	}
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	b.WriteString(name)
	b.WriteByte(0)
	pad()
	b.Write(data)
	pad()
}
