package staging

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// ExportTar writes a tree as a tar archive, with what owners says of it: device
// nodes and pipes, too. Equal arguments give equal bytes: entries are sorted,
// times are [MTime].
func ExportTar(ctx context.Context, blobs action.Blobs, tree action.Digest, owners Owners, w io.Writer) error {
	e := &exporter{ctx: ctx, blobs: blobs, owners: owners, load: newTreeLoader(blobs), out: tar.NewWriter(w)}
	if err := e.directory(tree, "."); err != nil {
		return err
	}
	for _, p := range slices.Sorted(maps.Keys(owners)) { // what the tree does not have
		if o := owners[p]; !o.InTree() {
			if err := e.entry(p, o, o.Type, &tar.Header{}); err != nil {
				return err
			}
		}
	}
	return e.out.Close()
}

type exporter struct {
	ctx    context.Context
	blobs  action.Blobs
	owners Owners
	load   *treeLoader
	out    *tar.Writer
}

// entry writes the header of a path.
func (e *exporter) entry(p string, o Owner, t NodeType, h *tar.Header) error {
	h.Typeflag = map[NodeType]byte{
		TypeFile: tar.TypeReg, TypeDir: tar.TypeDir, TypeLink: tar.TypeSymlink,
		TypeChar: tar.TypeChar, TypeBlock: tar.TypeBlock, TypeFIFO: tar.TypeFifo,
	}[t]
	h.Name, h.Mode, h.ModTime, h.Format = p, int64(o.Mode), time.Unix(MTime, 0), tar.FormatPAX
	if t == TypeDir {
		h.Name += "/"
	}
	h.Uid, h.Gid, h.Devmajor, h.Devminor = o.UID, o.GID, o.Major, o.Minor
	for k, v := range o.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	return e.out.WriteHeader(h)
}

// owner is what is known of p, which is a t in the tree.
func (e *exporter) owner(p string, t NodeType, usual uint32) Owner {
	if o, ok := e.owners[p]; ok && o.Type == t {
		return o
	}
	return Owner{Type: t, Mode: usual}
}

func (e *exporter) directory(d action.Digest, p string) error {
	if e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	m, err := e.load.directory(e.ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := e.entry(p, e.owner(p, TypeDir, 0o755), TypeDir, &tar.Header{}); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := e.file(path.Join(p, f.Name), f); err != nil {
			return err
		}
	}
	for _, l := range m.Symlinks {
		at := path.Join(p, l.Name)
		if err := e.entry(at, e.owner(at, TypeLink, 0o777), TypeLink, &tar.Header{Linkname: l.Target}); err != nil {
			return err
		}
	}
	for _, sub := range m.Directories {
		if err := e.directory(sub.Digest, path.Join(p, sub.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) file(p string, f action.FileNode) error {
	usual := uint32(0o644)
	if f.Executable {
		usual = 0o755
	}
	content, err := e.blobs.Open(e.ctx, f.Digest)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	defer content.Close()
	if err := e.entry(p, e.owner(p, TypeFile, usual), TypeFile, &tar.Header{Size: f.Digest.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(e.out, content)
	return err
}

// KeepTree marks every blob of a tree as used. The error says what is missing.
func KeepTree(ctx context.Context, blobs action.Blobs, tree action.Digest) error {
	load, done := newTreeLoader(blobs), map[action.Digest]bool{}
	var keep func(d action.Digest, p string) error
	keep = func(d action.Digest, p string) error {
		if done[d] {
			return nil
		}
		done[d] = true
		m, err := load.directory(ctx, d)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		blobs.Has(ctx, d)
		for _, f := range m.Files {
			if !done[f.Digest] && !blobs.Has(ctx, f.Digest) {
				return fmt.Errorf("%s: %w", path.Join(p, f.Name), action.ErrMiss)
			}
			done[f.Digest] = true
		}
		for _, sub := range m.Directories {
			if err := keep(sub.Digest, path.Join(p, sub.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	return keep(tree, "/")
}

// ReadOwners returns the owners' list with digest d; nil for a zero d.
func ReadOwners(ctx context.Context, blobs action.Blobs, d action.Digest) (Owners, error) {
	if d.IsZero() {
		return nil, nil
	}
	data, err := readBlob(ctx, blobs, d, nil)
	if err != nil {
		return nil, fmt.Errorf("owners %v: %w", d, err)
	}
	return ParseOwners(data)
}
