package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

// settingsFile is the name of a project's file: lines NAME = VALUE, where NAME is that of
// a flag, which is there once. Lines that are empty or begin with "#" say nothing.
// Anything else than text, and more than settingsMost bytes, is refused, as is a file that
// cannot be read: who asked for --inputs, say, is not to get results without. One that
// somebody else has put where he may, such as in /tmp, is passed over: see foreign.
const settingsFile = ".sbx-cc"

const settingsMost = 64 << 10

// fromProject takes settings from the project's file that have not been said elsewhere.
func (f *ccFlags) fromProject(dir string, said map[string]bool, set func(from, name, value string)) error {
	name, data, err := f.projectFile(dir)
	if err != nil {
		return err
	}
	others, limited := f.cache != "", f.max.given // by somebody else than the file
	here := map[string]bool{}
	for line := range strings.Lines(data) {
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case key == "" && !ok, strings.HasPrefix(key, "#"):
			continue
		case !ok && !commandline.Within(name, filepath.Dir(name)): // what is there is not to be quoted in somebody's log
			return fmt.Errorf("%s is a link out of the project, to what is no file of settings: remove it", name)
		case !ok || f.flags.Lookup(key) == nil || !isSetting(key):
			return fmt.Errorf("%s: %q is no setting: want NAME = VALUE, with the name of a flag; 'sbx-action cc --help' lists them", name, strings.TrimSpace(line))
		case here[key]:
			return fmt.Errorf("%s: %s is there twice: want one line, in which lists have spaces", name, key)
		case !said[key]:
			set(name, key, value)
		}
		here[key] = true
	}
	if f.max.given && !limited && (others || f.cache == "") {
		return fmt.Errorf("%s: %s limits a store of other projects, too: set it beside a cache of its own, or as SBX_CACHE_MAX", name, limitName)
	}
	return nil
}

// projectFile returns the name and the text of the file in dir or the nearest directory
// above, "" if there is none.
func (f *ccFlags) projectFile(dir string) (name, text string, err error) {
	for at := dir; ; at = filepath.Dir(at) {
		name := filepath.Join(at, settingsFile)
		data, there, err := f.looked.read(name, settingsMost)
		if err == nil && (!utf8.Valid(data) || strings.ContainsFunc(string(data), func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\r\n", r) })) {
			err = errors.New("it is no text")
		}
		switch {
		case there && foreign(name, dir):
		case err == nil:
			return name, string(data), nil
		case there:
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

// foreign says whether the file, or the link to it, in dir or above belongs to nobody who
// could change what is in dir: not to the user, root, the owner of dir or that of the
// directory in which the file is.
func foreign(name, dir string) bool {
	owner := func(stat func(string) (os.FileInfo, error), name string) int {
		if info, err := stat(name); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				return int(st.Uid)
			}
		}
		return -1
	}
	may := []int{-1, 0, os.Geteuid(), owner(os.Stat, dir), owner(os.Stat, filepath.Dir(name))}
	return !slices.Contains(may, owner(os.Lstat, name)) || !slices.Contains(may, owner(os.Stat, name))
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
