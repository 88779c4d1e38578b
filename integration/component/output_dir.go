package component

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// mtime is the time of everything that is written.
var mtime = time.Unix(staging.MTime, 0)

// dir writes a directory. A caller who is not root cannot make devices or give
// files away: what could not be done is said.
func (w *Writer) dir(ctx context.Context, im *Image, to string) error {
	left, err := w.extract(ctx, im, to)
	if err == nil && left > 0 {
		w.Say("%s: %d owners or devices could not be made, because you are not root: a tar or an image has them", im.Name, left)
	}
	return err
}

// extract writes the tree, and returns how many owners and devices it could not
// make.
func (w *Writer) extract(ctx context.Context, im *Image, to string) (left int, err error) {
	if err := os.Mkdir(to, 0o755); err != nil {
		return 0, err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	x := &extractor{ctx: ctx, w: w, im: im, root: root, privileged: os.Geteuid() == 0}
	t := newTree(w.Blobs, w.Function, im.Tree)
	if err := t.visit(ctx, x.entry); err != nil {
		return 0, err
	}
	for _, p := range slices.Sorted(maps.Keys(im.Owners)) {
		if o := im.Owners[p]; !o.InTree() {
			if err := x.device(filepath.Join(to, p), o); err != nil {
				return 0, fmt.Errorf("%s: %w", p, err)
			}
		}
	}
	for _, d := range slices.Backward(x.dirs) { // a directory that nobody may write is so in the end
		if err := x.finish(d, staging.TypeDir, 0o755); err != nil {
			return 0, err
		}
	}
	return x.left, x.finish(".", staging.TypeDir, 0o755)
}

type extractor struct {
	ctx        context.Context
	w          *Writer
	im         *Image
	root       *os.Root
	privileged bool
	dirs       []string
	left       int
}

func (x *extractor) entry(p string, n *node) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	switch {
	case n.dir != nil:
		x.dirs = append(x.dirs, p)
		return x.root.Mkdir(p, 0o755)
	case n.link != nil:
		if err := x.root.Symlink(n.link.Target, p); err != nil {
			return err
		}
		return x.finish(p, staging.TypeLink, 0o777)
	}
	mode := uint32(0o644)
	if n.file.Executable {
		mode = 0o755
	}
	f, err := x.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := cmp.Or(x.w.copyBlob(x.ctx, f, n.file.Digest), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	return x.finish(p, staging.TypeFile, mode)
}

func (w *Writer) copyBlob(ctx context.Context, to io.Writer, d action.Digest) error {
	if d.IsEmpty() {
		return nil
	}
	f, err := w.Blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// finish sets owner, mode and time of a path.
func (x *extractor) finish(p string, t staging.NodeType, usual uint32) error {
	o, ok := x.im.Owners[p]
	if !ok || o.Type != t {
		o = staging.Owner{Type: t, Mode: usual}
	}
	if x.privileged {
		if err := x.root.Lchown(p, o.UID, o.GID); err != nil {
			return err
		}
	} else if o.UID != 0 || o.GID != 0 {
		x.left++
	}
	if t == staging.TypeLink {
		return nil
	}
	if err := x.root.Chmod(p, fileMode(o.Mode)); err != nil {
		return err
	}
	return x.root.Chtimes(p, mtime, mtime)
}

// fileMode is a mode of chmod(2) as package os has it.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for _, b := range []struct {
		bit uint32
		as  os.FileMode
	}{{0o4000, os.ModeSetuid}, {0o2000, os.ModeSetgid}, {0o1000, os.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.as
		}
	}
	return m
}

// ext4 lets mke2fs make an image of a directory, and debugfs put into it what
// the directory does not have: owners, devices, and times.
func (w *Writer) ext4(ctx context.Context, im *Image, tmp, made string) error {
	tree := filepath.Join(tmp, "tree")
	// All devices come from debugfs, also where root could make them here, or
	// else the image would be another for root.
	plain := *im
	plain.Owners = maps.Clone(im.Owners)
	maps.DeleteFunc(plain.Owners, func(_ string, o staging.Owner) bool { return !o.InTree() })
	if _, err := w.extract(ctx, &plain, tree); err != nil {
		return err
	}
	var bytes, files int64
	script := w.debugfs(ctx, im, &bytes, &files)
	// Each file wastes half a block; a fifth is for the file system's own use.
	size := (bytes+files*4096+16<<20)*6/5 + 1<<20
	env := append(withoutEpoch(os.Environ()), "E2FSPROGS_FAKE_TIME="+fmt.Sprint(staging.MTime), "LC_ALL=C")
	const uuid = "5b7b0d6e-2011-4111-8111-111111111111"
	if err := runTool(ctx, env, "", "mke2fs", "e2fsprogs", "-q", "-t", "ext4", "-d", tree, "-U", uuid,
		"-E", "hash_seed="+uuid+",root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0", "-N", fmt.Sprint(files*5/4+64), made, fmt.Sprintf("%dk", size/1024)); err != nil {
		return err
	}
	return runTool(ctx, env, script, "debugfs", "e2fsprogs", "-w", "-f", "-", made)
}

// debugfs is what debugfs is to do, and how large the tree is.
func (w *Writer) debugfs(ctx context.Context, im *Image, size, files *int64) string {
	var b strings.Builder
	set := func(p string, o staging.Owner) {
		name := `"/` + strings.ReplaceAll(p, `"`, `""`) + `"`
		fmt.Fprintf(&b, "sif %s uid %d\nsif %s gid %d\n", name, o.UID, name, o.GID)
		for _, field := range []string{"atime", "ctime", "mtime", "crtime"} {
			fmt.Fprintf(&b, "sif %s %s @%d\n", name, field, staging.MTime)
		}
	}
	t := newTree(w.Blobs, w.Function, im.Tree)
	err := t.visit(ctx, func(p string, n *node) error {
		*files++
		if n.file != nil {
			*size += n.file.Digest.Size()
		}
		set(p, im.Owners[p])
		return nil
	})
	if err != nil {
		return "" // extract has read it all just before
	}
	for _, p := range slices.Sorted(maps.Keys(im.Owners)) {
		o := im.Owners[p]
		if o.InTree() {
			continue
		}
		*files++
		kind := map[staging.NodeType]string{staging.TypeChar: "c", staging.TypeBlock: "b", staging.TypeFIFO: "p"}[o.Type]
		bits := map[staging.NodeType]uint32{staging.TypeChar: 0o020000, staging.TypeBlock: 0o060000, staging.TypeFIFO: 0o010000}[o.Type]
		fmt.Fprintf(&b, "cd \"/%s\"\nrm \"%s\"\nmknod \"%s\" %s", path.Dir(p), path.Base(p), path.Base(p), kind)
		if kind != "p" {
			fmt.Fprintf(&b, " %d %d", o.Major, o.Minor)
		}
		fmt.Fprintf(&b, "\ncd /\nsif \"/%s\" mode 0%o\n", p, bits|o.Mode&0o7777)
		set(p, o)
	}
	return b.String()
}

func runTool(ctx context.Context, env []string, stdin, name, pkg string, args ...string) error {
	if _, err := exec.LookPath(name); err != nil {
		for _, dir := range []string{"/usr/sbin/", "/sbin/"} { // which users do not have on PATH
			if _, err := os.Stat(dir + name); err == nil {
				name = dir + name
				break
			}
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return tool(err, name, pkg)
		}
		return fmt.Errorf("%s: %w: %s", name, err, lastLine(said.String()))
	}
	return nil
}
