package reproduce

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/action"
)

// A Place is where two contents begin to differ.
type Place struct {
	Offset  int64 // of the first byte that differs, or the length of the shorter one
	Size    int64 // of the first content, and
	NewSize int64 // of the second
	Line    int   // from 1, if both are text

	// Parts says, from the outside to the inside, in what of the content that
	// is: "member a.o, at byte 7", "section .rodata".
	Parts []string
}

// String is "at byte 12 of 40, in member a.o at byte 3, section .text".
func (p *Place) String() string {
	s := fmt.Sprintf("at byte %d of %d", p.Offset, p.Size)
	if p.Size != p.NewSize {
		s += fmt.Sprintf(" (now %d)", p.NewSize)
	}
	if p.Line > 0 {
		s += fmt.Sprintf(", line %d", p.Line)
	}
	if len(p.Parts) > 0 {
		s += ", in " + strings.Join(p.Parts, ", ")
	}
	return s
}

// A readable is a content that a place can be found in.
type readable interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

type blob struct {
	*os.File
	size int64
}

func (b blob) Size() int64 { return b.size }

type text struct{ *strings.Reader }

func (text) Close() error { return nil }

type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

func part(r readable, at, size int64) readable {
	return section{io.NewSectionReader(r, at, max(0, min(size, r.Size()-at)))}
}

func content(ctx context.Context, blobs action.Blobs, x item) (readable, error) {
	if x.raw != "" || x.digest.IsZero() {
		return text{strings.NewReader(x.raw)}, nil
	}
	f, err := blobs.Open(ctx, x.digest)
	if err != nil {
		return nil, err
	}
	return blob{f, x.digest.Size()}, nil
}

// Compare finds the first difference between a and b, and in what it is.
func Compare(a, b readable) (*Place, error) {
	offset, line, err := firstDifference(a, b)
	if err != nil {
		return nil, err
	}
	p := &Place{Offset: offset, Size: a.Size(), NewSize: b.Size(), Line: line}
	p.Parts = parts(a, b, offset, 0)
	return p, nil
}

// firstDifference is the offset of the first byte in which a and b differ, and
// the line, if there is no NUL before it.
func firstDifference(a, b io.ReaderAt) (at int64, line int, err error) {
	const block = 64 << 10
	x, y := make([]byte, block), make([]byte, block)
	line = 1
	for {
		n, err1 := a.ReadAt(x, at)
		m, err2 := b.ReadAt(y, at)
		for _, err := range []error{err1, err2} {
			if err != nil && err != io.EOF {
				return 0, 0, err
			}
		}
		same := 0
		for same < min(n, m) && x[same] == y[same] {
			same++
		}
		if line > 0 {
			line += bytes.Count(x[:same], []byte("\n"))
		}
		if bytes.IndexByte(x[:min(n, same+1)], 0) >= 0 || bytes.IndexByte(y[:min(m, same+1)], 0) >= 0 {
			line = 0
		}
		at += int64(same)
		if same < block {
			return at, line, nil
		}
	}
}

// depthMax is how many archives in archives are looked into.
const depthMax = 6

// parts says in what of a the byte at offset is.
func parts(a, b readable, offset int64, depth int) []string {
	head := make([]byte, 512)
	n, _ := a.ReadAt(head, 0)
	head = head[:n]
	if depth == depthMax {
		return nil
	}
	var find func(a, b readable, offset int64, depth int) []string
	switch {
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		find = elfParts
	case bytes.HasPrefix(head, []byte("!<arch>\n")):
		find = members(arMembers)
	case len(head) > 262 && string(head[257:262]) == "ustar":
		find = members(tarMembers)
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		find = members(zipMembers)
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		find = gzipParts
	case bytes.HasPrefix(head, []byte("BZh")):
		find = func(a, b readable, _ int64, depth int) []string {
			return inside("the bzip2 data", a, b, depth, func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil })
		}
	default:
		return nil
	}
	return find(a, b, offset, depth)
}

// A member is a part of an archive.
type member struct {
	name       string
	what       string // of what is no member, instead of a name
	head, body int64  // offsets
	size       int64
}

// members finds the member at the offset, and looks into it. A header mostly
// differs because what follows does: then that is said, too.
func members(list func(readable) ([]member, error)) func(a, b readable, offset int64, depth int) []string {
	return func(a, b readable, offset int64, depth int) []string {
		all, _ := list(a) // an archive that is damaged further on is one up to there
		others, _ := list(b)
		for i, m := range all {
			switch {
			case offset < m.head || offset >= m.body+m.size:
				continue
			case m.what != "":
				return []string{m.what}
			}
			if m.name != symbolTable {
				return memberParts(a, b, all[i:], others[min(i, len(others)):], offset, depth)
			}
			// It differs because what follows does.
			out := []string{"the symbol table"}
			for k := i + 1; k < min(len(all), len(others)); k++ {
				x, y := part(a, all[k].head, all[k].body+all[k].size-all[k].head), part(b, others[k].head, others[k].body+others[k].size-others[k].head)
				if at, _, err := firstDifference(x, y); err == nil && (at < x.Size() || at < y.Size()) {
					return append(out, memberParts(a, b, all[k:], others[k:], all[k].head+at, depth)...)
				}
			}
			return out
		}
		return nil
	}
}

// memberParts says where in the first of the members of a, which the first of
// the others in b corresponds to, the byte at offset is.
func memberParts(a, b readable, members, others []member, offset int64, depth int) (out []string) {
	m := members[0]
	if offset < m.body {
		out = append(out, "the header of member "+m.name)
	}
	if len(others) == 0 || others[0].name != m.name {
		return append(out, fmt.Sprintf("member %s, where the other has another member", m.name))
	}
	x, y := part(a, m.body, m.size), part(b, others[0].body, others[0].size)
	if at, _, err := firstDifference(x, y); err == nil && (at < x.Size() || at < y.Size()) {
		out = append(out, fmt.Sprintf("member %s at byte %d", m.name, at))
		out = append(out, parts(x, y, at, depth+1)...)
	}
	return out
}

// gzipParts looks at the header, and then at what is compressed.
func gzipParts(a, b readable, offset int64, depth int) []string {
	if offset >= 4 && offset < 8 {
		return []string{"the time in the gzip header"}
	}
	if offset < 10 {
		return []string{"the gzip header"}
	}
	return inside("the gzip data", a, b, depth, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) })
}

// insideMax is how much is uncompressed to look for a difference.
const insideMax = 1 << 30

// inside looks for the first difference in what is compressed.
func inside(what string, a, b readable, depth int, open func(io.Reader) (io.Reader, error)) []string {
	x, err := uncompress(a, open)
	if err != nil {
		return []string{what}
	}
	defer x.Close()
	y, err := uncompress(b, open)
	if err != nil {
		return []string{what}
	}
	defer y.Close()
	offset, _, err := firstDifference(x, y)
	if err != nil || offset == x.Size() && offset == y.Size() { // it is compressed in another way
		return []string{what}
	}
	name := fmt.Sprintf("%s at byte %d when uncompressed", what, offset)
	return append([]string{name}, parts(x, y, offset, depth+1)...)
}

func uncompress(r readable, open func(io.Reader) (io.Reader, error)) (readable, error) {
	in, err := open(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp("", "sbx-compare-")
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(tmp, io.LimitReader(in, insideMax))
	if err := errors.Join(err, os.Remove(tmp.Name())); err != nil {
		tmp.Close()
		return nil, err
	}
	return blob{tmp, n}, nil
}
