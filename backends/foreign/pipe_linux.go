package foreign

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sbx-action/sbx-action/backends"
)

// piped returns spec with pipes in the place of regular files that the command
// writes its output to, and a function that waits until all of it is in the files.
// Descriptors that share a file, and so a place in it, share a pipe.
func piped(spec *backends.Spec) (*backends.Spec, func() error, error) {
	s := *spec
	var ends []*os.File
	var copies []chan error
	for _, out := range []**os.File{&s.Stdout, &s.Stderr} {
		if !regular(*out) {
			continue
		}
		if out == &s.Stderr && sameFile(spec.Stdout, spec.Stderr) {
			s.Stderr = s.Stdout
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			closeFiles(ends)
			return nil, nil, fmt.Errorf("make a pipe: %w", err)
		}
		file, copied := *out, make(chan error, 1)
		go func() {
			_, err := io.Copy(file, r)
			if err != nil {
				_, _ = io.Copy(io.Discard, r) // or the command would wait for ever
			}
			r.Close()
			copied <- err
		}()
		*out = w
		ends, copies = append(ends, w), append(copies, copied)
	}
	return &s, func() error {
		closeFiles(ends)
		var all error
		for _, copied := range copies {
			all = errors.Join(all, <-copied)
		}
		return all
	}, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func regular(f *os.File) bool {
	if f == nil {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

func sameFile(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	first, err1 := a.Stat()
	second, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(first, second)
}
