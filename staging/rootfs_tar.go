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

	"github.com/sbx-action/sbx-action/action"
)

// ImportTar stores the tree of files in a tar archive, which may be compressed
// by gzip or bzip2. It treats entries as [ImportDir] treats files, and when a
// path occurs twice, the last one wins, as with tar. It refuses archives with
// absolute paths or "..", with paths that lead through links, or that hold
// more than o allows; what it has stored by then is left for the next trim.
func ImportTar(ctx context.Context, blobs action.Blobs, r io.Reader, o ImportOptions) (*Import, error) {
	im := newImporter(ctx, blobs, o)
	plain, err := decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("import archive: %w", err)
	}
	// What is left out counts too: a bomb may be in anything.
	t := tar.NewReader(&boundedReader{plain, im.MaxBytes + int64(im.MaxFiles)*4096})
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = im.tarEntry(t, h)
		}
		if err != nil {
			return nil, fmt.Errorf("import archive: %w", err)
		}
	}
	out, err := im.finish()
	if err != nil {
		return nil, fmt.Errorf("import archive: %w", err)
	}
	return out, nil
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
		return nil, errors.New(`compressed by xz, which is not supported yet: use "xz -dc FILE | …"`)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return nil, errors.New(`compressed by zstd, which is not supported yet: use "zstd -dc FILE | …"`)
	}
	return r, nil
}

// tarEntry imports one entry.
func (im *importer) tarEntry(r io.Reader, h *tar.Header) error {
	if err := im.count(); err != nil {
		return err
	}
	name, err := cleanEntry(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%q: the root is not a directory", h.Name)
		}
		return nil
	}
	dir, base, err := im.at(name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if old := dir.kids[base]; old == nil || old.kids == nil {
			dir.kids[base] = newImportDir()
		}
		return nil
	case tar.TypeReg, tar.TypeGNUSparse:
		im.noteBits(name, h.FileInfo().Mode())
		d, err := im.store(r, h.Size, name)
		dir.kids[base] = &importNode{file: action.FileNode{Digest: d, Executable: h.Mode&0o111 != 0}}
		return err
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return fmt.Errorf("%q: a link without a target", name)
		}
		dir.kids[base] = &importNode{target: h.Linkname}
		return nil
	case tar.TypeLink:
		n, err := im.linked(name, h.Linkname)
		if err == nil {
			dir.kids[base] = n
		}
		return err
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		im.note("%s: a device or pipe left out", name)
		delete(dir.kids, base) // the last entry wins
		return nil
	case tar.TypeXGlobalHeader:
		return nil
	}
	im.note("%s: an entry of unknown type %q left out", name, h.Typeflag)
	return nil
}

// linked returns a copy of what a hard link names: an earlier entry.
func (im *importer) linked(name, target string) (*importNode, error) {
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
		return nil, fmt.Errorf("%q: more than %d bytes in all files together", name, im.MaxBytes)
	}
	c := *n
	return &c, nil
}
