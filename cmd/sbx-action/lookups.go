package main

import (
	"errors"
	"io/fs"
	"slices"
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

// exists says whether something is at path. What was absent a moment ago
// stays so for this call.
func (l *lookups) exists(path string) bool {
	if slices.Contains(l.absent, path) {
		return false
	}
	_, err := staging.StatPath(path, staging.KeepLinks)
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

// read reads a file of so many bytes at most. Nothing is there if nothing is at path, not
// even a link, or if nobody can know.
func (l *lookups) read(path string, most int64) (data []byte, there bool, err error) {
	id, err := staging.StatPath(path, staging.KeepLinks)
	if isAbsent(err) {
		l.absent = append(l.absent, path)
		return nil, false, err
	}
	data, rerr := readRegular(path, most)
	if err != nil || rerr != nil || id.Mode&syscall.S_IFMT != syscall.S_IFREG || l.file != "" {
		l.odd = true
	}
	l.file, l.id = path, id
	if there = err == nil; isAbsent(rerr) { // it has just gone, or is a link that leads nowhere
		_, err = staging.StatPath(path, staging.KeepLinks)
		there = err == nil
	}
	return data, there, rerr
}

func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
