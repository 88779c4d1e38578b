package cc

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Of two equal files of which one is read once, the compiler tells of one only: see
// twins.go. The other one is looked for by the names that sources include.

// twins are what sources include, and which of them are to be read once.
type twins struct {
	once     []string // the files
	names    []string // that are included
	computed string   // a source that includes what a macro says
}

// read reads a source.
func (w *twins) read(name, text string) {
	if strings.Contains(text, "once") {
		w.once = append(w.once, name)
	}
	for line := range strings.Lines(text) {
		file, imports, ok := includes(line)
		if !ok {
			continue
		}
		if imports {
			w.once = append(w.once, name)
		}
		if file == "" {
			w.computed = name
		} else {
			w.names = append(w.names, file)
		}
	}
}

// includes returns what a line includes, or "" where that does not stand there, and
// whether it does so once.
func includes(line string) (file string, imports, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeft(line, " \t"), "#")
	if !ok {
		return "", false, false
	}
	rest = strings.TrimLeft(rest, " \t")
	switch {
	case strings.HasPrefix(rest, "include"):
		rest = strings.TrimPrefix(rest[len("include"):], "_next")
	case strings.HasPrefix(rest, "import"):
		rest, imports = rest[len("import"):], true
	default:
		return "", false, false
	}
	rest = strings.TrimSpace(rest)
	for _, quotes := range []string{`""`, "<>"} {
		if inner, ok := strings.CutPrefix(rest, quotes[:1]); ok {
			file, _, _ = strings.Cut(inner, quotes[1:])
		}
	}
	return file, imports, true
}

// unread returns an error if there is a file that may have been included, and is equal
// to one that is read once.
func (w *twins) unread(t *teller, dirs []string) error {
	if len(w.once) == 0 {
		return nil
	}
	if w.computed != "" {
		return fmt.Errorf("%s includes what a macro names, and %s is read once: only observation tells what that depends on", w.computed, w.once[0])
	}
	read := map[string]string{} // by real name, as it was read
	for _, f := range t.a.files {
		if real, err := filepath.EvalSymlinks(t.s.call.abs(f)); err == nil {
			read[real] = f
		}
	}
	for _, n := range w.names {
		for _, d := range dirs {
			if path.IsAbs(n) {
				d = "/"
			}
			real, err := filepath.EvalSymlinks(t.s.call.abs(filepath.Join(d, n)))
			if _, known := read[real]; err != nil || known {
				continue
			}
			if err := equalToOne(real, read); err != nil {
				return err
			}
		}
	}
	return nil
}

// equalToOne returns an error if the file has the content of one of those that were read.
func equalToOne(name string, read map[string]string) error {
	fi, err := os.Stat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	for real, as := range read {
		other, err := os.Stat(real)
		if err != nil || other.Size() != fi.Size() {
			continue
		}
		a, errA := readText(name)
		b, errB := readText(real)
		if errA != nil || errB != nil || a == b {
			return fmt.Errorf("%s and %s %w", name, as, errTwins)
		}
	}
	return nil
}
