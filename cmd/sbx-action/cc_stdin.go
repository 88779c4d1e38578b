package main

import (
	"errors"
	"io"
	"os"
)

// takeStdin returns what comes on standard input. A program of --any may leave some, or
// all, of a file to who comes next, so that of a file nothing is taken away: see leaveStdin.
func (j *ccJob) takeStdin() ([]byte, error) {
	if j.call.Stdin {
		serving.takesStdin()
		return io.ReadAll(os.Stdin)
	}
	at, err := os.Stdin.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	j.stdinAt = at
	data, err := io.ReadAll(io.NewSectionReader(os.Stdin, at, stdinMost+1))
	if len(data) > stdinMost {
		return nil, errors.New("it is too large")
	}
	return data, err
}

// stdinMost is how much of a file on standard input is taken into the key, in bytes.
const stdinMost = 64 << 20

// leaveStdin leaves a file on standard input where the program would leave it.
func (j *ccJob) leaveStdin(n int64) error {
	_, err := os.Stdin.Seek(j.stdinAt+n, io.SeekStart)
	return err
}
