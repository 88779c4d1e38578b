package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/sbx-action/sbx-action/staging"
)

// lookups are what this program has looked for, for the settings of a project, before
// it knew what to do: facts for a memo. See internal/front.
type lookups struct {
	began         staging.Moment // before the first
	there, absent []string
	file          string // that was read
	id            staging.StatID
	odd           bool // something that cannot be a fact
}

// exists says whether something is at path.
func (l *lookups) exists(path string) bool {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		l.there = append(l.there, path)
	case isAbsent(err):
		l.absent = append(l.absent, path)
	default:
		l.odd = true
	}
	return err == nil
}

// read reads a file of so many bytes at most.
func (l *lookups) read(path string, most int64) ([]byte, error) {
	id, err := staging.StatPath(path, staging.KeepLinks)
	if isAbsent(err) {
		l.absent = append(l.absent, path)
		return nil, err
	}
	data, rerr := readRegular(path, most)
	if err != nil || rerr != nil || id.Mode&syscall.S_IFMT != syscall.S_IFREG || l.file != "" {
		l.odd = true
	}
	l.file, l.id = path, id
	return data, rerr
}

func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
