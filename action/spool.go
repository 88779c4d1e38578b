package action

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sbx-action/sbx-action/backends"
)

// inlineMax is the largest output, in bytes, that a Result carries inside, so
// that a hit reads one file less.
const inlineMax = 4 << 10

// spoolMax is how much of an output is kept in memory; more goes to a file.
const spoolMax = 1 << 20

// A spool takes what a command writes to one descriptor: it passes it on while
// the command runs, and keeps it.
type spool struct {
	to   io.Writer
	r, w *os.File   // w is the command's end
	done chan error // nil: nobody reads yet
	buf  bytes.Buffer
	file *os.File // holds everything once buf is full
}

func newSpool(to io.Writer) *spool { return &spool{to: to} }

// open makes the pipe. If it drains, somebody calls begin when there is something to
// read.
func (s *spool) open(drains bool) (err error) {
	if s.r, s.w, err = pipe(drains); err != nil {
		return fmt.Errorf("make a pipe for the command: %w", err)
	}
	if !drains {
		s.begin()
	}
	return nil
}

// begin reads, beside whatever else happens.
func (s *spool) begin() {
	done := make(chan error, 1)
	s.done = done
	go func() {
		defer s.r.Close()
		done <- s.copy(s.r)
	}()
}

func (s *spool) drain() backends.Drain {
	return backends.Drain{Fd: int(s.r.Fd()), Begin: s.begin}
}

// copy reads to the end whatever happens, so that the command never blocks or
// dies of a reader that is gone.
func (s *spool) copy(r io.Reader) error {
	block := make([]byte, 1<<10) // most commands say little
	var kept, passed error
	for {
		n, err := r.Read(block)
		if n > 0 && kept == nil {
			kept = s.keep(block[:n])
		}
		if n > 0 && s.to != nil && passed == nil {
			_, passed = s.to.Write(block[:n])
		}
		if n == len(block) && n < 32<<10 {
			block = make([]byte, 32<<10)
		}
		if err == io.EOF {
			return kept
		}
		if err != nil {
			return err
		}
	}
}

func (s *spool) keep(p []byte) error {
	if s.file == nil && s.buf.Len()+len(p) <= spoolMax {
		s.buf.Write(p)
		return nil
	}
	if err := s.spill(p); err != nil {
		return fmt.Errorf("%w; TMPDIR says where output goes that is larger than %d KiB", err, spoolMax>>10)
	}
	return nil
}

// spill adds p to the file, which it makes of what is in memory.
func (s *spool) spill(p []byte) error {
	if s.file == nil {
		f, err := os.CreateTemp("", "sbx-output-")
		if err != nil {
			return err
		}
		s.file = f
		os.Remove(f.Name())
		if _, err := f.Write(s.buf.Bytes()); err != nil {
			return err
		}
	}
	_, err := s.file.Write(p)
	return err
}

// wait closes our copy of the command's end and waits for the rest.
func (s *spool) wait() error {
	s.w.Close()
	s.w = nil
	if s.done != nil {
		return <-s.done
	}
	defer s.r.Close()
	return s.copy(s.r)
}

// store returns what was written: inline if it is small, else as a blob.
func (s *spool) store(ctx context.Context, blobs Blobs, f Function) ([]byte, Digest, error) {
	if s.file != nil {
		d, err := blobs.PutFile(ctx, f, s.file)
		return nil, d, err
	}
	if s.buf.Len() == 0 {
		return nil, Digest{}, nil
	}
	d := Sum(f, s.buf.Bytes())
	if s.buf.Len() <= inlineMax {
		return s.buf.Bytes(), Digest{}, nil
	}
	_, err := blobs.PutBytes(ctx, f, s.buf.Bytes())
	return nil, d, err
}

func (s *spool) remove() {
	if s.w != nil { // it was never waited for
		s.w.Close()
		if s.done == nil {
			s.r.Close()
		}
	}
	if s.file != nil {
		s.file.Close()
	}
}
