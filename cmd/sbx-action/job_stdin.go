package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/action"
)

// A keptStdin is a copy of what --stdin names.
type keptStdin struct {
	file   *os.File // unlinked
	digest action.Digest
}

// openStdin copies the file into an unlinked one, so that what the command
// reads is what was hashed. The command gets it for reading only: it is on the
// host's disk, where no limit holds.
func openStdin(name string, f action.Function) (in keptStdin, err error) {
	src, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && name == "-" {
		return in, errors.New("there is no file \"-\": /dev/stdin is what standard input is called")
	}
	if err != nil {
		return in, err
	}
	defer src.Close()
	switch info, err := src.Stat(); {
	case err != nil:
		return in, err
	case info.IsDir():
		return in, fmt.Errorf("%s is a directory, not a file", name)
	case info.Mode()&fs.ModeCharDevice != 0 && !sameAsNull(info) && !isTTY(src):
		return in, fmt.Errorf("%s is a device, which may have no end: give a file with what the command is to read", name)
	}
	tmp, err := os.CreateTemp("", "sbx-stdin-")
	if err != nil {
		return in, fmt.Errorf("%w; set TMPDIR to a directory that can be written", err)
	}
	defer tmp.Close()
	in.file, err = os.Open(tmp.Name())
	if err := errors.Join(err, os.Remove(tmp.Name()), tmp.Chmod(0o400)); err != nil {
		return in, err
	}
	h := action.NewHasher(f)
	if err := copyBounded(io.MultiWriter(tmp, h), src, stdinBound(filepath.Dir(tmp.Name()))); err != nil {
		return in, errors.Join(fmt.Errorf("copy %s: %w; TMPDIR says where the copy goes", name, err), in.file.Close())
	}
	in.digest = h.Sum()
	return in, nil
}

// sameAsNull says whether info is of the null device, which has an end.
func sameAsNull(info fs.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(info, null)
}

// stdinBound is how many bytes a copy in dir may have: what is free there, but for
// what others need meanwhile. A pipe can be without end.
func stdinBound(dir string) int64 {
	_, free := fileSystem(dir)
	if free == 0 { // full, or it does not tell
		return 1 << 62
	}
	return free - min(free/10, 1<<30)
}

// copyBounded copies all of src, which may be at most so many bytes.
func copyBounded(dst io.Writer, src io.Reader, most int64) error {
	switch n, err := io.Copy(dst, io.LimitReader(src, most+1)); {
	case err != nil:
		return err
	case n > most:
		return fmt.Errorf("it has more than the %d bytes that there is room for", most)
	}
	return nil
}
