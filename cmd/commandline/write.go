package commandline

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// WriteWhole lets write write a file that others may read: whole or not at all,
// because it is made beside the file and takes its place in the end. "-" is
// standard output. What is there and no regular file, such as a pipe or
// /dev/full, is written to, never replaced or removed.
func WriteWhole(name string, write func(io.Writer) error) error {
	if name == "-" {
		return buffered(os.Stdout, write)
	}
	if real, err := filepath.EvalSymlinks(name); err == nil { // else the link would be replaced
		name = real
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(buffered(f, write), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if at, ok := errors.AsType[*os.PathError](err); ok {
		at.Path = name // the other name is ours
	}
	if err != nil {
		return err
	}
	err = errors.Join(buffered(f, write), f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func buffered(to io.Writer, write func(io.Writer) error) error {
	w := bufio.NewWriterSize(to, 64<<10)
	if err := write(w); err != nil { // of which Flush would tell again
		return err
	}
	return w.Flush()
}
