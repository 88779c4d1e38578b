package component

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/sbx-action/sbx-action/staging"
)

// oci writes an image layout with one image of one layer.
func (w *Writer) oci(ctx context.Context, im *Image, tmp, made string) error {
	plain := filepath.Join(tmp, "layer.tar")
	if err := writeFile(plain, func(f io.Writer) error { return staging.ExportTar(ctx, w.Blobs, im.Tree, im.Owners, f) }); err != nil {
		return err
	}
	defer os.Remove(plain)
	layer, err := tarball.LayerFromFile(plain, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(6))
	if err != nil {
		return err
	}
	created := v1.Time{Time: mtime.UTC()}
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: im.Arch, Created: created, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return err
	}
	image, err := mutate.Append(mutate.MediaType(mutate.ConfigMediaType(base, types.OCIConfigJSON), types.OCIManifestSchema1),
		mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "sbx-action build " + im.Name}, MediaType: types.OCILayer})
	if err != nil {
		return err
	}
	to, err := layout.Write(made, empty.Index)
	if err != nil {
		return err
	}
	return to.AppendImage(image, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: im.Arch}))
}

// cpio writes an archive in the form "newc", which the kernel unpacks: a header
// of a magic number and 13 numbers of 8 hex digits, the name, and the content,
// each filled up to 4 bytes.
func (w *Writer) cpio(ctx context.Context, im *Image, to io.Writer) error {
	c := &cpioWriter{w: bufio.NewWriterSize(to, 64<<10)}
	t := newTree(w.Blobs, w.Function, im.Tree)
	owner := func(p string, kind staging.NodeType, usual uint32) staging.Owner {
		if o, ok := im.Owners[p]; ok && o.Type == kind {
			return o
		}
		return staging.Owner{Type: kind, Mode: usual}
	}
	if err := c.entry(".", 0o040000, owner(".", staging.TypeDir, 0o755), 0, nil); err != nil {
		return err
	}
	err := t.visit(ctx, func(p string, n *node) error {
		switch {
		case n.dir != nil:
			return c.entry(p, 0o040000, owner(p, staging.TypeDir, 0o755), 0, nil)
		case n.link != nil:
			return c.entry(p, 0o120000, owner(p, staging.TypeLink, 0o777), int64(len(n.link.Target)), func(to io.Writer) error {
				_, err := io.WriteString(to, n.link.Target)
				return err
			})
		}
		usual := uint32(0o644)
		if n.file.Executable {
			usual = 0o755
		}
		return c.entry(p, 0o100000, owner(p, staging.TypeFile, usual), n.file.Digest.Size(), func(to io.Writer) error {
			return w.copyBlob(ctx, to, n.file.Digest)
		})
	})
	if err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(im.Owners)) {
		if o := im.Owners[p]; !o.InTree() {
			kind := map[staging.NodeType]uint32{staging.TypeChar: 0o020000, staging.TypeBlock: 0o060000, staging.TypeFIFO: 0o010000}[o.Type]
			if err := c.entry(p, kind, o, 0, nil); err != nil {
				return err
			}
		}
	}
	c.inode = -1
	return cmp.Or(c.entry("TRAILER!!!", 0, staging.Owner{}, 0, nil), c.w.Flush())
}

type cpioWriter struct {
	w     *bufio.Writer
	inode int
	n     int64
}

func (c *cpioWriter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.w.Write(p)
}

func (c *cpioWriter) pad() error {
	for c.n%4 != 0 {
		if _, err := c.Write([]byte{0}); err != nil {
			return err
		}
	}
	return nil
}

func (c *cpioWriter) entry(name string, kind uint32, o staging.Owner, size int64, content func(io.Writer) error) error {
	if size >= 1<<32 {
		return fmt.Errorf("%s: larger than 4 GiB, which cpio cannot hold", name)
	}
	c.inode++
	links, when := 1, staging.MTime
	if name == "TRAILER!!!" {
		when = 0
	}
	_, err := fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, kind|o.Mode&0o7777, o.UID, o.GID, links, when, size, 0, 0, o.Major, o.Minor, len(name)+1, 0)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, name+"\x00"); err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	if content == nil {
		return nil
	}
	if err := content(c); err != nil {
		return err
	}
	return c.pad()
}
