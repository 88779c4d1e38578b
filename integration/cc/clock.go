package cc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

// clockUsers are the names of macros that stand for the time of day or of the
// source file.
var clockUsers = [][]byte{[]byte("__DATE__"), []byte("__TIME__"), []byte("__TIMESTAMP__")}

var errClock = errors.New("uses the date or time of the compilation")

// suspect says why what was read may make results differ that have the same
// facts, or nil.
func (s *Session) suspect(lookups []backends.Lookup) error {
	compiles := s.call.Kind == Compile || s.call.Kind == Preprocess || s.call.Kind == Link && s.call.Sources > 0
	once := map[string]bool{}
	for _, l := range lookups {
		if l.Op != backends.Open || once[l.Path] {
			continue
		}
		once[l.Path] = true
		if s.call.Clang && (strings.HasSuffix(l.Path, ".pch") || strings.HasSuffix(l.Path, ".pcm") || strings.HasSuffix(l.Path, ".gch")) {
			if _, err := os.Stat(l.Path); err == nil {
				return fmt.Errorf("%s: %s", l.Path, ReasonTimes)
			}
		}
		if host, ok := s.view.host(filepath.Clean(l.Path)); ok && compiles && text(host) {
			found, err := s.usesClock(host)
			if err != nil {
				return err
			}
			if found {
				return fmt.Errorf("%s %w", l.Path, errClock)
			}
		}
	}
	return nil
}

// text says whether a file of that name may be one that a compiler reads macros
// in.
func text(name string) bool {
	base := filepath.Base(name)
	return !strings.HasSuffix(base, ".o") && !strings.HasSuffix(base, ".a") && !strings.Contains(base, ".so")
}

const clockMax = 64 << 20

// usesClock looks for the names of the macros in a file. With SOURCE_DATE_EPOCH
// the date and the time are in the key, but not that of the file.
func (s *Session) usesClock(name string) (bool, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	if info.Size() > clockMax {
		return true, nil
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return false, nil // nor could the compiler
	}
	for _, u := range clockUsers {
		if bytes.Contains(data, u) {
			if string(u) != "__TIMESTAMP__" && s.dated() {
				continue
			}
			return true, nil
		}
	}
	return false, nil
}

func (s *Session) dated() bool {
	for _, v := range s.command.Environment {
		if v.Name == "SOURCE_DATE_EPOCH" {
			return true
		}
	}
	return false
}
