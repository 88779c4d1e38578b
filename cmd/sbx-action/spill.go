package main

import (
	"bytes"
	"io"
	"os"
)

// maxHeld is how much of a command's output is held in memory.
const maxHeld = 1 << 20

// A spill holds what is written to it: in memory, or in a file without a name if
// it is much.
type spill struct {
	n    int64
	held bytes.Buffer
	file *os.File
	last byte
}

func (s *spill) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.last = p[len(p)-1]
	s.n += int64(len(p))
	if s.file == nil && s.held.Len()+len(p) > maxHeld {
		f, err := os.CreateTemp("", "sbx-output-")
		if err != nil {
			return 0, err
		}
		s.file = f
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
	}
	if s.file != nil {
		return s.file.Write(p)
	}
	return s.held.Write(p)
}

// copyTo writes all of it to w, and the end of a line if that is missing.
func (s *spill) copyTo(w io.Writer) {
	w.Write(s.held.Bytes())
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err == nil {
			io.Copy(w, s.file)
		}
	}
	if s.n > 0 && s.last != '\n' {
		io.WriteString(w, "\n")
	}
}

func (s *spill) Close() {
	if s.file != nil {
		s.file.Close()
	}
}
