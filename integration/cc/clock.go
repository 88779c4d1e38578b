package cc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// clockUsers are the names of macros that stand for the time of day or of the
// source file.
var clockUsers = [][]byte{[]byte("__DATE__"), []byte("__TIME__"), []byte("__TIMESTAMP__")}

// longestClockUser is the length of the longest of them, and of what [comparesTimes]
// looks for with some space in it.
const longestClockUser = 64

var errClock = errors.New("uses the date or time of the compilation")

// compiles says whether the call reads sources.
func (s *Session) compiles() bool {
	return s.call.Kind == Compile || s.call.Kind == Preprocess || s.call.Kind == Link && s.call.Sources > 0
}

// suspect says why precompiled files that were read may make results differ that have
// the same facts, or nil.
func (s *Session) suspect(ctx context.Context, lookups []backends.Lookup) error {
	if !s.compiles() {
		return nil
	}
	once := map[string]bool{}
	for _, l := range lookups {
		if l.Op != backends.Open || !precompiled(l.Path) || once[l.Path] {
			continue
		}
		once[l.Path] = true
		host, ok := s.view.host(filepath.Clean(l.Path))
		if !ok {
			continue
		}
		if _, err := os.Stat(host); err != nil || s.clean(ctx, host) {
			continue
		}
		if s.call.Clang {
			return fmt.Errorf("%s, which was made elsewhere or with times: %s", l.Path, ReasonTimes)
		}
		if strings.HasSuffix(host, ".gch") {
			return fmt.Errorf("%s, a precompiled header that was made elsewhere, perhaps %w", l.Path, errClock)
		}
	}
	return nil
}

// vet says why a file that was read may make results differ that have the same
// facts, or nil.
func (s *Session) vet(host string, d staging.FileDigest) error {
	if s.aside() {
		if err := s.vetName(host); err != nil {
			return err
		}
	}
	if !s.compiles() || precompiled(host) && (s.call.Clang || strings.HasSuffix(host, ".gch")) {
		return nil // see suspect
	}
	s.equals.add(host, d)
	if s.usesClock(host, d) {
		return fmt.Errorf("%s %w", s.view.name(host), errClock)
	}
	return nil
}

const clockMax = 64 << 20

// usesClock looks for the names of the macros in a file. With SOURCE_DATE_EPOCH
// the date and the time are in the key, but not that of the file.
func (s *Session) usesClock(name string, d staging.FileDigest) bool {
	if d.Mark&clockSeen == 0 {
		var err error
		if d.Mark, err = s.clockIn(name, d.Digest.Size()); err != nil {
			return true // who knows
		}
		s.parts.Hash.Mark(d, d.Mark)
	}
	s.named = s.named || d.Mark&usesDate != 0
	return d.Mark&usesTimestamp != 0 || d.Mark&usesDate != 0 && !s.dated()
}

// What is noted of a file, so that the next compile need not read it.
const (
	usesTimestamp = 2 << iota // __TIMESTAMP__ is in it, or it compares times of files
	usesDate                  // __DATE__ or __TIME__ is in it
	clockSeen                 // it has been looked at, for all of these
	elfSeen                   // it is a program, or a part of one
)

// clockIn says which of the macros are in a file.
func (s *Session) clockIn(name string, size int64) (byte, error) {
	fd, err := openRead(name)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	f := descriptor(fd)
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	if isBinary(head[:n]) {
		return clockMark(head[:n]), nil
	}
	if size > clockMax {
		return clockSeen | usesTimestamp, nil
	}
	text, mark := s.piece(), byte(clockSeen)
	for kept, at := 0, int64(0); ; {
		n, err := f.ReadAt(text[kept:], at)
		at += int64(n)
		data := text[:kept+n]
		mark |= clockNames(data)
		if errors.Is(err, io.EOF) {
			return mark, nil
		}
		if err != nil {
			return 0, err
		}
		// A name may be cut in two.
		kept = copy(text, data[len(data)-min(len(data), longestClockUser):])
	}
}

// isBinary says whether it is the beginning of a program or a library, which no
// preprocessor reads.
func isBinary(head []byte) bool {
	return bytes.HasPrefix(head, []byte(elfMagic)) || bytes.HasPrefix(head, []byte("!<arch>"))
}

// clockMark is what usesClock notes of a file with that content.
func clockMark(content []byte) byte {
	if bytes.HasPrefix(content, []byte(elfMagic)) {
		return clockSeen | elfSeen
	}
	if isBinary(content) {
		return clockSeen
	}
	return clockSeen | clockNames(content)
}

// pieces are those of sessions that are done.
var pieces = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// piece is room for a piece of a file, the same for all of them: to touch new memory
// costs more than to read, and on the stack it would be copied and zeroed.
func (s *Session) piece() []byte {
	if s.text == nil {
		s.text = pieces.Get().(*[64 << 10]byte)
	}
	return s.text[:]
}

// leavePiece leaves it to the next session.
func (s *Session) leavePiece() {
	if s.text != nil {
		pieces.Put(s.text)
		s.text = nil
	}
}

// names says whether macro, which begins with two underscores, is in data. Headers
// are full of those, so what is looked for is what comes behind them: that takes a
// fifth of the time.
func names(data, macro []byte) bool {
	for rest := data; ; {
		i := bytes.Index(rest, macro[2:])
		if i < 0 {
			return false
		}
		if at := len(data) - len(rest) + i; at >= 2 && data[at-1] == '_' && data[at-2] == '_' {
			return true
		}
		rest = rest[i+1:]
	}
}

func (s *Session) dated() bool {
	for _, v := range s.command.Environment {
		if v.Name == "SOURCE_DATE_EPOCH" {
			return true
		}
	}
	return false
}

// precompiled says whether a file of that name is a precompiled header or module.
// Those of clang hold the times of what went into them, but for headers made with
// -Xclang -fno-pch-timestamp, and modules that are asked for by name.
func precompiled(name string) bool {
	return strings.HasSuffix(name, ".pch") || strings.HasSuffix(name, ".pcm") || strings.HasSuffix(name, ".gch")
}

// A precompiled header holds the names of all macros, so it cannot be seen
// whether one of those in it uses the clock. When we make one, we have seen all
// that goes into it, and note that.
func cleanKey(d action.Digest) action.Digest {
	return action.Sum(d.Function(), []byte("cc clean\x00"+d.String()))
}

// clean says whether the precompiled header or module does not depend on the clock, or
// on the times of files.
func (s *Session) clean(ctx context.Context, name string) bool {
	d, err := s.parts.Hash.Digest(name)
	if err != nil {
		return false
	}
	_, err = s.parts.Notes.Note(ctx, cleanKey(d.Digest))
	return err == nil
}

// noteClean notes that of the precompiled headers of a run that was kept.
func (s *Session) noteClean(ctx context.Context, res *action.Result) {
	for i := range res.Files {
		if precompiled(res.Files[i].Path) {
			_ = s.parts.Notes.PutNote(ctx, cleanKey(res.Files[i].Digest), []byte("clean"))
		}
	}
}
