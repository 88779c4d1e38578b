package durable

import (
	"io"
	"os"
	"syscall"
)

// ReadRecords returns what is in a file that records are appended to. What is no file,
// such as a FIFO, is not waited for: it has no records.
func ReadRecords(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	return io.ReadAll(f)
}
