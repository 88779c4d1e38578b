package component

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// An Output says as what a system is written, and where.
type Output struct {
	Kind OutputKind
	Path string
}

// An OutputKind is a form of a system.
type OutputKind string

// The kinds of outputs.
const (
	DirOutput      OutputKind = "dir"      // a directory; owners and devices only as root
	TarOutput      OutputKind = "tar"      // a tar archive
	OCIOutput      OutputKind = "oci"      // an OCI image layout, a directory
	Ext4Output     OutputKind = "ext4"     // a file system image, by mke2fs
	SquashfsOutput OutputKind = "squashfs" // a file system image, by sqfstar
	CpioOutput     OutputKind = "cpio"     // an archive for the kernel (newc)
)

var outputKinds = []OutputKind{DirOutput, TarOutput, OCIOutput, Ext4Output, SquashfsOutput, CpioOutput}

// ParseOutput parses KIND:PATH.
func ParseOutput(s string) (Output, error) {
	kind, path, ok := strings.Cut(s, ":")
	for _, k := range outputKinds {
		if ok && string(k) == kind && path != "" {
			return Output{k, path}, nil
		}
	}
	return Output{}, fmt.Errorf("%q: want KIND:PATH, where KIND is dir, tar, oci, ext4, squashfs or cpio", s)
}

// An Image is a tree with what a tree cannot hold: what is written.
type Image struct {
	Name   string
	Tree   action.Digest
	Owners staging.Owners
	Arch   string // as OCI spells it
}

// A Writer writes images. Equal images give equal bytes, where owners and
// devices can be kept.
type Writer struct {
	Blobs    action.Blobs
	Function action.Function
	Say      func(string, ...any)
}

// Write writes an image. What was at the path before is replaced when all is
// written, and not before; a directory is replaced only if it is empty or holds
// what Write has written.
func (w *Writer) Write(ctx context.Context, im *Image, o Output) error {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".sbx-output-")
	if err != nil {
		return err
	}
	defer removeAll(tmp)
	made := filepath.Join(tmp, "made")
	switch o.Kind {
	case DirOutput:
		err = w.dir(ctx, im, made)
	case TarOutput:
		err = writeFile(made, func(f io.Writer) error { return staging.ExportTar(ctx, w.Blobs, im.Tree, im.Owners, f) })
	case OCIOutput:
		err = w.oci(ctx, im, tmp, made)
	case Ext4Output:
		err = w.ext4(ctx, im, tmp, made)
	case SquashfsOutput:
		err = w.squashfs(ctx, im, made)
	case CpioOutput:
		err = writeFile(made, func(f io.Writer) error { return w.cpio(ctx, im, f) })
	default:
		err = fmt.Errorf("unknown kind of output %q", o.Kind)
	}
	if err != nil {
		return fmt.Errorf("output %s:%s: %w", o.Kind, o.Path, err)
	}
	return replace(made, path, o.Kind == DirOutput || o.Kind == OCIOutput)
}

// replace gives made its name.
func replace(made, path string, dir bool) error {
	if dir {
		info, err := os.Lstat(path)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is there, and is no directory", path)
		}
		if err == nil {
			marker := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".sbx-output")
			_, ours := os.Stat(marker)
			list, err := os.ReadDir(path)
			if err != nil {
				return err
			}
			if len(list) > 0 && ours != nil {
				return fmt.Errorf("%s is there, is not empty, and was not written by sbx-action: remove it, or give another", path)
			}
			if err := removeAll(path); err != nil {
				return err
			}
		}
		marker := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".sbx-output")
		if err := os.WriteFile(marker, []byte("the directory beside this file was written by sbx-action build --output, which may replace it\n"), 0o644); err != nil {
			return err
		}
	} else if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is there, and is no regular file: give another", path)
	}
	return os.Rename(made, path)
}

// removeAll removes a directory in which some may not be written.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	// By name, not through links: WalkDir does not follow them.
	_ = filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return cmp.Or(write(f), f.Sync(), f.Close())
}

// squashfs writes a tar to sqfstar, which makes the image.
func (w *Writer) squashfs(ctx context.Context, im *Image, made string) error {
	root, ok := im.Owners["."] // sqfstar takes nothing of it from the tar
	if !ok {
		root.Mode = 0o755
	}
	now := fmt.Sprint(staging.MTime)
	cmd := exec.CommandContext(ctx, "sqfstar", "-quiet", "-no-progress", "-reproducible", "-mkfs-time", now, "-all-time", now,
		"-root-mode", fmt.Sprintf("%o", root.Mode), made)
	beUser(cmd, root.UID, root.GID)      // the root belongs to who calls; -root-uid is not looked at (4.5.1)
	cmd.Env = withoutEpoch(os.Environ()) // it must not be there beside -mkfs-time
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return tool(err, "sqfstar", "squashfs-tools")
	}
	err1 := staging.ExportTar(ctx, w.Blobs, im.Tree, im.Owners, in)
	err2 := in.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("sqfstar: %w: %s", err, lastLine(said.String()))
	}
	if errors.Is(err1, syscall.EPIPE) {
		err1 = nil // it ends well at the end of the archive, and leaves the zeros behind that unread
	}
	return cmp.Or(err1, err2)
}

func withoutEpoch(env []string) (out []string) {
	for _, v := range env {
		if !strings.HasPrefix(v, "SOURCE_DATE_EPOCH=") {
			out = append(out, v)
		}
	}
	return out
}

func tool(err error, name, pkg string) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed: on Debian it is in the package %s", name, pkg)
	}
	return err
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
