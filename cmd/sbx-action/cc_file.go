package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode/utf8"
)

// settingsFile is the name of a project's file: lines NAME = VALUE, where NAME is that of
// a flag, which is there once. Lines that are empty or begin with "#" say nothing.
// Anything else than text, and more than settingsMost bytes, is refused, as is a file that
// cannot be read: who asked for --inputs, say, is not to get results without. So is one
// that somebody else has put where he may, such as in /tmp: see ours.
const settingsFile = ".sbx-cc"

const settingsMost = 64 << 10

// fromProject takes settings from the project's file that have not been said elsewhere.
func (f *ccFlags) fromProject(dir string, said map[string]bool, set func(from, name, value string)) error {
	name, data, err := f.projectFile(dir)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for line := range strings.Lines(data) {
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case key == "" && !ok, strings.HasPrefix(key, "#"):
			continue
		case !ok || f.flags.Lookup(key) == nil || !isSetting(key):
			return fmt.Errorf("%s: %q is no setting: want NAME = VALUE, with the name of a flag; 'sbx-action cc --help' lists them", name, strings.TrimSpace(line))
		case here[key]:
			return fmt.Errorf("%s: %s is there twice: want one line, in which lists have spaces", name, key)
		case !said[key]:
			set(name, key, value)
		}
		here[key] = true
	}
	return nil
}

// projectFile returns the name and the text of the file in dir or the nearest directory
// above, "" if there is none.
func (f *ccFlags) projectFile(dir string) (name, text string, err error) {
	for at := dir; ; at = filepath.Dir(at) {
		name := filepath.Join(at, settingsFile)
		data, err := f.looked.read(name, settingsMost)
		if err == nil {
			err = ours(name, dir)
		}
		if err == nil && (!utf8.Valid(data) || strings.ContainsFunc(string(data), func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\r\n", r) })) {
			err = errors.New("it is no text")
		}
		if err == nil {
			return name, string(data), nil
		}
		if _, there := os.Lstat(name); there == nil { // else nobody can know
			if perr := (*os.PathError)(nil); errors.As(err, &perr) {
				err = perr.Err
			}
			return "", "", fmt.Errorf("%s, which would have settings for this call, cannot be used: %w: mend or remove it", name, err)
		}
		if at == "/" || at == "" {
			return "", "", nil
		}
	}
}

// ours returns an error if a file in dir or above belongs to nobody who could change
// what is in dir: not to the user, root, the owner of dir or that of the directory in
// which the file is.
func ours(name, dir string) error {
	owner := func(name string) int {
		if info, err := os.Stat(name); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				return int(st.Uid)
			}
		}
		return -1
	}
	o := owner(name)
	if o == 0 || o == os.Geteuid() || o == owner(dir) || o == owner(filepath.Dir(name)) {
		return nil
	}
	return fmt.Errorf("it belongs to user %d, and the directory does not", o)
}

// readRegular reads a file of so many bytes at most, and waits for no writer of a FIFO.
func readRegular(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("it is larger than %d bytes", most)
	}
	return data, err
}
