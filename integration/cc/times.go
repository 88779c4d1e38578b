package cc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// Times of files are in no fact: touch makes no miss. So what is known to write them down,
// or to do something else because of them, is not kept.

// timekeepers are programs that do what they do depending on the times of files.
var timekeepers = []string{"rcc", "gnatmake", "gprbuild"}

// builders do, too, and are told by variables that nobody else reads what to do, and how
// much at once: MAKEFLAGS has what make's user has set.
var builders = []string{"make", "gmake", "ninja", "samu"}

// archivers write down times of files, and of what they write nobody need see that, once it
// is compressed, or when they write a list.
var archivers = []string{"tar", "gtar", "bsdtar", "star", "cpio", "pax", "zip", "7z", "7za", "7zr", "mksquashfs", "mkisofs", "genisoimage", "xorriso"}

// executed returns a program that was executed and is one of these, or "".
func executed(lookups []backends.Lookup, names []string) string {
	for _, l := range lookups {
		if l.Op == backends.Exec && slices.Contains(names, path.Base(l.Path)) {
			return l.Path
		}
	}
	return ""
}

// A dating is what is known of the times of files in an output.
type dating int

const (
	undated  dating = iota // none where its format has them, if it is one that has
	timeless               // it is an archive, and all its members say that nobody asked for their times
	dated
)

// datingOf says whether an output, at that path, has times of files in it: GNAT's lists of
// what it compiled, and archives and compressed files as their formats have them. For an
// archive that says of all its members that they are of 1970 or 1980, none was asked for.
func datingOf(f io.ReaderAt, at string) (dating, error) {
	if path.Ext(at) == ".ali" {
		return dated, nil
	}
	var head [512]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return dated, err
	}
	has, in := false, head[:n]
	switch {
	case bytes.HasPrefix(in, []byte("!<arch>\n")), bytes.HasPrefix(in, []byte("!<thin>\n")):
		has, err = datedArchive(f)
	case bytes.HasPrefix(in, []byte("\x1f\x8b\x08")) && n >= 8: // gzip, RFC 1952: four bytes of time
		if binary.LittleEndian.Uint32(in[4:]) != 0 {
			return dated, nil
		}
		return compressed(f)
	case n == len(head) && bytes.HasPrefix(in[257:], []byte("ustar")):
		has, err = datedTar(f)
	case bytes.HasPrefix(in, []byte("PK\x03\x04")):
		has, err = datedZip(f)
	default:
		return undated, nil
	}
	if has || err != nil && !errors.Is(err, io.EOF) {
		return dated, err
	}
	return timeless, nil
}

// compressed is the dating of a file that gzip compressed: it may be of a tar.
func compressed(f io.ReaderAt) (dating, error) {
	z, err := gzip.NewReader(io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return undated, nil
	}
	text, err := io.ReadAll(io.LimitReader(z, clockMax))
	if err != nil || len(text) == clockMax || len(text) < 512 || !bytes.HasPrefix(text[257:], []byte("ustar")) {
		return undated, nil
	}
	return datingOf(bytes.NewReader(text), "")
}

// stampedNow says whether an output says that it was made since the run began, as objects
// and programs for Windows do in their headers: in four bytes of seconds since 1970.
func (s *Session) stampedNow(f io.ReaderAt) bool {
	const slack = 2 * time.Second
	var head [64]byte
	n, _ := f.ReadAt(head[:], 0)
	near := func(b []byte) bool {
		at := time.Unix(int64(binary.LittleEndian.Uint32(b)), 0)
		return at.After(s.began.Add(-slack)) && at.Before(time.Now().Add(slack))
	}
	if n == len(head) && string(head[:2]) == "MZ" {
		pe := head[:12]
		if _, err := f.ReadAt(pe, int64(binary.LittleEndian.Uint32(head[60:]))); err != nil {
			return false
		}
		return near(pe[8:])
	}
	return n >= 12 && (near(head[4:]) || near(head[8:])) // an object, or a large one
}

// datedTar says whether a member of a tar has a time: twelve octal digits at 136 of each
// header of 512 bytes, which has its member's size at 124.
func datedTar(f io.ReaderAt) (bool, error) {
	var head [512]byte
	for at := int64(0); ; {
		_, err := f.ReadAt(head[:], at)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if head == [512]byte{} {
			return false, nil
		}
		if len(bytes.Trim(head[136:148], "0 \x00")) > 0 {
			return true, nil
		}
		size, ok := octal(head[124:136])
		if !ok {
			return true, nil // who knows
		}
		at += 512 + (size+511)&^511
	}
}

// octal is a number of a tar's header.
func octal(b []byte) (n int64, ok bool) {
	for _, c := range bytes.Trim(b, " \x00") {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0')
	}
	return n, true
}

// datedZip says whether a member of a zip has a date after 1980: two bytes at 14 of each
// entry of the directory at its end, which begins with "PK\1\2". The year is in the upper
// seven bits, from 1980.
func datedZip(f io.ReaderAt) (bool, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, clockMax))
	if err != nil {
		return false, err
	}
	for rest := data; ; {
		i := bytes.Index(rest, []byte("PK\x01\x02"))
		if i < 0 {
			return len(data) == clockMax, nil
		}
		rest = rest[i:]
		if len(rest) < 16 {
			return true, nil
		}
		if binary.LittleEndian.Uint16(rest[14:])>>9 != 0 {
			return true, nil
		}
		rest = rest[4:]
	}
}

// contentMax is the size of a file whose content is looked at although the program did not.
const contentMax = 64 << 20

// withContent are the look-ups, in which what only had its times looked at is read. Where
// Python finds a compiled module that is newer than its source, or javac a class, the source
// is not read; but it would be, were it a later one, of the same size or not.
func (s *Session) withContent(lookups []backends.Lookup) []backends.Lookup {
	list := make([]backends.Lookup, 0, len(lookups))
	read := make(map[string]bool, len(lookups))
	for _, l := range lookups {
		if l.Op == backends.Open {
			read[l.Path] = true
		}
	}
	for _, l := range lookups {
		list = append(list, l)
		p := l.Path
		switch source, compiled := sourceOf(path.Clean(p)); {
		case compiled && l.Op == backends.Open:
			p = source
		case l.Op != backends.Stat || l.Made || ofSystem(path.Clean(p)):
			continue
		}
		if read[p] {
			continue
		}
		read[p] = true
		if host, ok := s.view.host(path.Clean(p)); ok {
			if info, err := os.Stat(host); err == nil && info.Mode().IsRegular() && info.Size() <= contentMax {
				list = append(list, backends.Lookup{Path: p, Op: backends.Open, Found: true})
			}
		}
	}
	return list
}

// sourceOf returns the source of a compiled module of Python: beside "__pycache__", in which
// there are "NAME.cpython-311.pyc" and "NAME.cpython-311.opt-1.pyc", or beside "NAME.pyc".
func sourceOf(compiled string) (string, bool) {
	dir, name := path.Split(compiled)
	if path.Ext(name) != ".pyc" {
		return "", false
	}
	if path.Base(dir) == "__pycache__" {
		name, _, _ = strings.Cut(name, ".")
		return path.Join(path.Dir(path.Clean(dir)), name+".py"), true
	}
	return path.Join(dir, strings.TrimSuffix(name, ".pyc")+".py"), true
}

// staleModule returns one of Python's compiled modules that was read and may be of another
// text of its source than there is, or "". Python compares the time, in seconds, and the
// size of the source with what was noted when it was compiled; so one that was compiled in
// the second in which its source was written may be read for a later text, until somebody
// touches that.
func (s *Session) staleModule(lookups []backends.Lookup) string {
	for _, l := range lookups {
		source, isModule := sourceOf(path.Clean(l.Path))
		if l.Op != backends.Open || !isModule {
			continue
		}
		compiled, ok := s.view.host(path.Clean(l.Path))
		if !ok || !s.isWritable(path.Dir(compiled)) { // of what is installed, the sources stay what they are
			continue
		}
		info, err := os.Stat(compiled)
		if err != nil {
			continue
		}
		if source, ok = s.view.host(source); !ok {
			continue
		}
		text, err := os.Stat(source)
		if err == nil && !info.ModTime().Truncate(time.Second).After(text.ModTime()) {
			return compiled
		}
	}
	return ""
}

// untimely returns an error if the run did something that depends on times of files, or on
// the clock.
func (s *Session) untimely(lookups []backends.Lookup) error {
	if s.call.Kind != Any {
		if s.call.Script {
			return s.stale(lookups)
		}
		return nil
	}
	if p := executed(lookups, timekeepers); p != "" {
		return fmt.Errorf("%s: %s", p, ReasonTimes)
	}
	if p := executed(lookups, archivers); p != "" && !s.onlyTimeless() {
		return fmt.Errorf("%s: %s", p, ReasonTimes)
	}
	if p := isRandom(lookups); p != "" {
		return fmt.Errorf("%s: %w", p, errRandom)
	}
	if executed(lookups, []string{"nasm", "yasm"}) != "" && !s.dated() {
		if p := s.asksNumber(lookups); p != "" {
			return fmt.Errorf("%s %w", p, errClock)
		}
	}
	return s.stale(lookups)
}

func (s *Session) stale(lookups []backends.Lookup) error {
	if p := s.staleModule(lookups); p != "" {
		return fmt.Errorf("%s is of the second in which its source was written: %s", p, ReasonTimes)
	}
	return nil
}

// saysDated says whether a program of whatever kind has said an archive that has times of files.
func (s *Session) saysDated() bool {
	if s.heard == nil || s.call.Kind != Any {
		return false
	}
	d, err := datingOf(bytes.NewReader(s.heard()), "")
	return d == dated || err != nil
}

// onlyTimeless says whether all that the run wrote are archives without times.
func (s *Session) onlyTimeless() bool {
	if s.unproven || s.heard == nil {
		return !s.unproven
	}
	said := s.heard()
	d, err := datingOf(bytes.NewReader(said), "")
	return len(said) == 0 || d == timeless && err == nil
}

// numbers are macros of nasm for the time as a number, which nothing shows in what comes out.
var numbers = []string{"POSIX_TIME", "DATE_NUM", "TIME_NUM"}

// asksNumber returns a source in which one of the numbers stands, or "".
func (s *Session) asksNumber(lookups []backends.Lookup) string {
	for _, l := range lookups {
		p := path.Clean(l.Path)
		if host, ok := s.view.host(p); ok && l.Op == backends.Open && l.Found && !ofSystem(p) &&
			slices.ContainsFunc(numbers, func(n string) bool { return fileHas(host, n) }) {
			return p
		}
	}
	return ""
}
