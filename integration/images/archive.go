package images

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
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A container is what an image is packed in: files by clean relative name.
type container interface {
	open(name string) (io.ReadCloser, error)
}

// folder is an image that lies unpacked in a directory.
type folder struct{ root *os.Root }

func (f folder) open(name string) (io.ReadCloser, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", name))
	}
	return file, nil
}

// A bundle is an image packed in a plain tar archive: where each file is in it.
type bundle struct {
	file   *os.File
	parts  map[string]part
	rootfs bool // there is something below rootfs/, which is not in parts
}

func (b *bundle) has(name string) bool {
	_, ok := b.parts[name]
	return ok
}

// A part is a file of a bundle, or a link to another one.
type part struct {
	offset, size int64
	link         string
}

// maxMembers bounds the members of an archive that holds an image: an image has
// a few files for each layer.
const maxMembers = 10_000

func (b *bundle) open(name string) (io.ReadCloser, error) {
	for range 5 { // docker saved equal layers as links
		p, ok := b.parts[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if p.link == "" {
			return io.NopCloser(io.NewSectionReader(b.file, p.offset, p.size)), nil
		}
		name = p.link
	}
	return nil, fmt.Errorf("%s: too many links", name)
}

// importArchive finds out what an archive holds, and imports it.
func importArchive(ctx context.Context, blobs action.Blobs, source string, o Options) (*Image, error) {
	file, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	maybe, err := looksLikeImage(file)
	if err != nil {
		return nil, err
	}
	if !maybe { // by far the most archives: they are read once
		return importTree(ctx, blobs, file, o)
	}
	plain, err := unpacked(file, o)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	b, err := index(plain)
	if err != nil {
		return nil, err
	}
	switch {
	case b.has("oci-layout") && b.has("index.json"):
		return importOCI(ctx, blobs, b, o)
	case b.has("manifest.json"):
		return importDocker(ctx, blobs, b, o)
	case b.has("manifest") && b.rootfs:
		return importACI(ctx, blobs, b, o)
	}
	return importTree(ctx, blobs, plain, o)
}

// importTree imports an archive of the tree itself.
func importTree(ctx context.Context, blobs action.Blobs, file *os.File, o Options) (*Image, error) {
	if err := o.none("a tar archive"); err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	plain, err := decompress(file)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	im := staging.NewImporter(ctx, blobs, o.ImportOptions)
	if err := im.Tar(plain); errors.Is(err, staging.ErrTooMuch) || errors.Is(err, syscall.ENOSPC) || ctx.Err() != nil {
		return nil, err // the archive may be good
	} else if err != nil {
		return nil, fmt.Errorf("not a whole tar archive, or a bad one: %w", err)
	}
	out, err := im.Finish()
	if err != nil {
		return nil, err
	}
	return &Image{Import: *out, Kind: "tar"}, nil
}

// looksLikeImage says whether the first member of the archive may be that of an
// image, not of a tree.
func looksLikeImage(file *os.File) (bool, error) {
	plain, err := decompress(file)
	if err != nil {
		return false, err
	}
	defer plain.Close()
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if err == io.EOF {
			return false, errors.New("an empty archive")
		}
		if err != nil {
			return false, fmt.Errorf("neither a directory nor a tar archive: %w", err)
		}
		name, _, _ := strings.Cut(path.Clean(strings.TrimPrefix(h.Name, "./")), "/")
		if name == "." {
			continue
		}
		switch name {
		case "blobs", "oci-layout", "index.json", "manifest", "rootfs", "repositories":
			return true, nil
		}
		hash := len(name) >= 64 && strings.Trim(name[:64], "0123456789abcdef") == ""
		return hash || strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".tar"), nil
	}
}

// index finds the members of a plain tar archive.
func index(file *os.File) (*bundle, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b := &bundle{file: file, parts: map[string]part{}}
	at := &counter{r: file}
	for t := tar.NewReader(at); ; {
		h, err := t.Next()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		if strings.HasPrefix(name, "rootfs/") || name == "rootfs" { // of an App Container image: see importACI
			b.rootfs = true
			continue
		}
		switch h.Typeflag {
		case tar.TypeReg:
			b.parts[name] = part{offset: at.n, size: h.Size}
		case tar.TypeSymlink:
			b.parts[name] = part{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			b.parts[name] = part{link: path.Clean(h.Linkname)}
		}
		if len(b.parts) > maxMembers {
			return nil, fmt.Errorf("more than %d members: no image has so many", maxMembers)
		}
	}
}

// A counter counts what is read, so that we know where in the file a member's
// content begins. It can be sought, so that what is skipped need not be read.
type counter struct {
	r *os.File
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) Seek(offset int64, whence int) (int64, error) {
	n, err := c.r.Seek(offset, whence)
	if err == nil {
		c.n = n
	}
	return n, err
}

// unpacked returns file if it is not compressed, else a temporary file with
// what is in it. The caller closes it.
func unpacked(file *os.File, o Options) (*os.File, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	plain, err := decompress(file)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	if plain.kind == "" {
		return os.Open(file.Name())
	}
	tmp, err := os.CreateTemp("", "sbx-image-")
	if err != nil {
		return nil, err
	}
	limit := o.Bounds().MaxBytes
	n, err := io.Copy(tmp, io.LimitReader(plain, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w: more than %d bytes when unpacked", staging.ErrTooMuch, limit)
	}
	if err := errors.Join(err, os.Remove(tmp.Name())); err != nil {
		tmp.Close()
		return nil, err
	}
	return tmp, nil
}

// A plain is a stream without its compression.
type plain struct {
	io.Reader
	kind  string // "" if it had none
	close func()
}

func (p *plain) Close() error {
	if p.close != nil {
		p.close()
	}
	return nil
}

// decompress looks how r is compressed: by its first bytes, because names and
// media types are wrong often enough.
func decompress(r io.Reader) (*plain, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		z, err := gzip.NewReader(b)
		return &plain{Reader: z, kind: "gzip"}, err
	case bytes.HasPrefix(head, []byte("BZh")):
		return &plain{Reader: bzip2.NewReader(b), kind: "bzip2"}, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		z, err := xz.NewReader(b)
		return &plain{Reader: z, kind: "xz"}, err
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return &plain{Reader: z, kind: "zstd", close: z.Close}, nil
	}
	return &plain{Reader: b}, nil
}
