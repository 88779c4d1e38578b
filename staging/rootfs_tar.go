package staging

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// ImportTar stores the tree of files in a tar archive, which may be compressed
// by gzip or bzip2. It treats entries as [ImportDir] treats files, and when a
// path occurs twice, the last one wins, as with tar. It refuses archives with
// absolute paths or "..", with paths that lead through links, or that hold
// more than o allows; what it has stored by then is left for the next trim.
func ImportTar(ctx context.Context, blobs action.Blobs, r io.Reader, o ImportOptions) (*Import, error) {
	im := NewImporter(ctx, blobs, o)
	plain, err := decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("import archive: %w", err)
	}
	if err := im.Tar(plain); err != nil {
		return nil, fmt.Errorf("import archive: %w", err)
	}
	out, err := im.Finish()
	if err != nil {
		return nil, fmt.Errorf("import archive: %w", err)
	}
	return out, nil
}

// Layer puts the next layer of an image upon what is there: a plain tar archive
// in which whiteouts remove files of earlier layers (OCI image specification,
// layer.md).
func (im *Importer) Layer(r io.Reader) error {
	im.layer++
	_, err := im.readTar(im.bounded(r))
	return err
}

// errCut is the error of an archive that does not end as every tar archive does.
var errCut = errors.New("it has no end mark, so a part of it is missing: get it once more")

// Tar adds the entries of a plain tar archive. It must be whole, and so must what r
// makes it from: nobody knows its digest.
func (im *Importer) Tar(r io.Reader) error {
	b := im.bounded(r)
	marked, err := im.readTar(b)
	if err != nil {
		return err
	}
	if !marked {
		return errCut
	}
	// What compresses has its checksum at the end. Bytes that follow it are no part
	// of the archive.
	if _, err := io.Copy(io.Discard, b); err != nil && !errors.Is(err, gzip.ErrHeader) {
		return err
	}
	return nil
}

// bounded counts what is left out too: a bomb may be in anything.
func (im *Importer) bounded(r io.Reader) *boundedReader {
	return &boundedReader{r, im.MaxBytes + int64(im.MaxFiles)*4096}
}

// readTar adds the entries of an archive, and says whether a mark is at its end.
func (im *Importer) readTar(b *boundedReader) (marked bool, err error) {
	const block = 512
	t := tar.NewReader(b)
	for {
		left := b.n
		h, err := t.Next()
		if err == io.EOF {
			// A mark is a block of zeros. Without it, no more than the padding of
			// the last entry was read.
			return left-b.n >= block, nil
		}
		if err == nil {
			err = im.tarEntry(t, h)
		}
		if err != nil {
			return false, err
		}
	}
}

// A boundedReader fails after n bytes.
type boundedReader struct {
	r io.Reader
	n int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.n <= 0 {
		return 0, errors.New("the archive is larger than allowed")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.n)])
	b.n -= int64(n)
	return n, err
}

// decompress looks how r is compressed.
func decompress(r *bufio.Reader) (io.Reader, error) {
	head, err := r.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzip.NewReader(r)
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(r), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return nil, errors.New(`compressed by xz, which only 'sbx-action rootfs import NAME FILE' reads`)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return nil, errors.New(`compressed by zstd, which only 'sbx-action rootfs import NAME FILE' reads`)
	}
	return r, nil
}

// tarEntry imports one entry.
func (im *Importer) tarEntry(r io.Reader, h *tar.Header) error {
	if err := im.count(); err != nil {
		return err
	}
	name, err := cleanEntry(h.Name)
	if err != nil {
		return err
	}
	owner := Owner{UID: h.Uid, GID: h.Gid, Mode: uint32(h.Mode & 0o7777), Xattrs: tarXattrs(h)}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%q: the root is not a directory", h.Name)
		}
		owner.Type = TypeDir
		im.root.owner = owner
		return nil
	}
	dir, base, err := im.at(name)
	if err != nil {
		return err
	}
	if hidden, ok := strings.CutPrefix(base, hidePrefix); ok && im.layer > 0 {
		return im.remove(dir, hidden, name)
	}
	n, err := im.tarNode(r, h, name, owner, dir.kids[base])
	if n != nil {
		dir.kids[base] = n
	}
	return err
}

// tarNode makes what an entry says, in the place of old, or of nothing. It is nil
// where that is none.
func (im *Importer) tarNode(r io.Reader, h *tar.Header, name string, owner Owner, old *importNode) (*importNode, error) {
	n := &importNode{owner: owner, layer: im.layer}
	switch h.Typeflag {
	case tar.TypeDir:
		n.owner.Type, n.kids = TypeDir, map[string]*importNode{}
		if old != nil && old.kids != nil {
			n.kids = old.kids
		}
	case tar.TypeReg, tar.TypeGNUSparse:
		n.owner.Type = TypeFile
		d, err := im.store(r, h.Size, name)
		if err != nil {
			return nil, err
		}
		n.file = action.FileNode{Digest: d, Executable: h.Mode&0o111 != 0}
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return nil, fmt.Errorf("%q: a link without a target", name)
		}
		if len(h.Linkname) > 4095 {
			return nil, fmt.Errorf("%q: a link with a target of %d bytes: Linux allows 4095", name, len(h.Linkname))
		}
		n.owner.Type, n.target = TypeLink, h.Linkname
	case tar.TypeLink:
		return im.linked(name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		n.owner.Type = map[byte]NodeType{tar.TypeChar: TypeChar, tar.TypeBlock: TypeBlock, tar.TypeFifo: TypeFIFO}[h.Typeflag]
		n.owner.Major, n.owner.Minor = h.Devmajor, h.Devminor
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		im.note("%s: an entry of unknown type %q left out", name, h.Typeflag)
		return nil, nil
	}
	return n, nil
}

// tarXattrs are the extended attributes of an entry, in the way of star, GNU
// tar, libarchive and Go.
func tarXattrs(h *tar.Header) map[string]string {
	var list map[string]string
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && name != "" {
			if list == nil {
				list = map[string]string{}
			}
			list[name] = v
		}
	}
	return list
}

// A name with this prefix in a layer is not a file: it says what to remove.
const (
	hidePrefix = ".wh."
	opaqueMark = ".wh..opq" // after the prefix: all that earlier layers have in this directory
)

// remove removes from dir what earlier layers have called hidden.
func (im *Importer) remove(dir *importNode, hidden, show string) error {
	if hidden == opaqueMark {
		for name, kid := range dir.kids {
			im.hide(dir, name, kid)
		}
		return nil
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("%q: a whiteout of nothing", show)
	}
	if strings.HasPrefix(hidden, hidePrefix) { // .wh..wh.plnk and the like, of AUFS
		return nil
	}
	if kid := dir.kids[hidden]; kid != nil {
		im.hide(dir, hidden, kid)
	}
	return nil
}

// hide removes kid, but for what this layer has put there: the order of a
// layer's entries has no meaning.
func (im *Importer) hide(dir *importNode, name string, kid *importNode) {
	for sub, k := range kid.kids {
		im.hide(kid, sub, k)
	}
	if kid.layer < im.layer && len(kid.kids) == 0 {
		delete(dir.kids, name)
	}
}

// linked returns a copy of what a hard link names: an earlier entry.
func (im *Importer) linked(name, target string) (*importNode, error) {
	if im.layer > 0 {
		target = strings.TrimPrefix(target, "/") // as docker's layers have it
	}
	clean, err := cleanEntry(target)
	if err != nil || clean == "." {
		return nil, fmt.Errorf("%q: a hard link to %q: %w", name, target, errNotRelative)
	}
	dir, base, err := im.at(clean)
	if err != nil {
		return nil, fmt.Errorf("%q: a hard link to %w", name, err)
	}
	n := dir.kids[base]
	if n == nil || n.kids != nil {
		return nil, fmt.Errorf("%q: a hard link to %q, which is not a file before it", name, target)
	}
	if im.out.Bytes += n.file.Digest.Size(); im.out.Bytes > im.MaxBytes {
		return nil, im.tooLarge(name)
	}
	c := *n
	c.layer = im.layer
	return &c, nil
}
