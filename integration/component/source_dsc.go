package component

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/sbx-action/sbx-action/action"
)

// A dsc is what we need of a .dsc file: the archives of the upstream source.
type dsc struct{ tars []archive }

var (
	origTar   = regexp.MustCompile(`\.orig\.tar\.(gz|bz2|xz|zst)$`)
	moreTar   = regexp.MustCompile(`\.orig-([a-zA-Z0-9-]+)\.tar\.(gz|bz2|xz|zst)$`)
	debianTar = regexp.MustCompile(`\.debian\.tar\.(gz|bz2|xz|zst)$`)
	nativeTar = regexp.MustCompile(`\.tar\.(gz|bz2|xz|zst)$`)
)

// readDsc reads the list of checksums of a .dsc file. Signatures are not looked
// at: what the file says is believed, as the file itself is.
//
// The source is the archive that ends in .orig.tar.*, with each .orig-NAME.tar.*
// in its directory NAME; of a package that has none, its only archive. What
// Debian adds to it, and its patches, are left out.
func readDsc(name string) (*dsc, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var d dsc
	var native []archive
	inside := false
	lines := bufio.NewScanner(io.LimitReader(file, 1<<20))
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, " ") {
			inside = strings.HasPrefix(line, "Checksums-Sha256:")
			continue
		}
		fields := strings.Fields(line)
		if !inside || len(fields) != 3 {
			continue
		}
		base := fields[2]
		if filepath.Base(base) != base || checkSum(fields[0]) != nil {
			return nil, fmt.Errorf("%s: malformed checksum of %q", name, base)
		}
		a := archive{path: filepath.Join(filepath.Dir(name), base), sum: fields[0]}
		switch more := moreTar.FindStringSubmatch(base); {
		case origTar.MatchString(base):
			d.tars = append([]archive{a}, d.tars...)
		case more != nil:
			a.into = more[1]
			d.tars = append(d.tars, a)
		case !debianTar.MatchString(base) && nativeTar.MatchString(base):
			native = append(native, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(d.tars) == 0 && len(native) == 1 {
		d.tars = native
	}
	if len(d.tars) == 0 || d.tars[0].into != "" {
		return nil, fmt.Errorf("%s names no archive with a SHA-256: is it a .dsc of a Debian source package?", name)
	}
	return &d, nil
}

func (f *Fetcher) dsc(ctx context.Context, s *Source) (*Fetched, error) {
	d, err := readDsc(s.At)
	if err != nil {
		return nil, err
	}
	for _, a := range d.tars {
		if err := f.verify(a.path, a.sum); err != nil {
			return nil, err
		}
	}
	d.tars[0].strip = s.Strip
	return f.archives(ctx, d.tars)
}

// decompress looks how a file is compressed.
func decompress(file io.Reader) (io.Reader, error) {
	r := bufio.NewReaderSize(file, 64<<10)
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
		return xz.NewReader(r)
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	}
	return r, nil
}

// copyBoth copies at most n bytes, and fails if there are more.
func copyBoth(to io.Writer, h *action.Hasher, from io.Reader, n int64) (int64, error) {
	copied, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(from, n+1))
	if err == nil && copied > n {
		err = fmt.Errorf("larger than %d bytes", n)
	}
	return copied, err
}
