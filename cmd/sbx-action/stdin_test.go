package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestCopyBounded(t *testing.T) {
	var b bytes.Buffer
	if err := copyBounded(&b, strings.NewReader("12345"), 5); err != nil || b.String() != "12345" {
		t.Errorf("as much as there may be: %q, %v", &b, err)
	}
	endless := iotest.OneByteReader(zeros{})
	if err := copyBounded(io.Discard, endless, 1000); err == nil || !strings.Contains(err.Error(), "more than the 1000 bytes") {
		t.Errorf("without end: %v", err)
	}
	broken := errors.New("broken")
	if err := copyBounded(io.Discard, iotest.ErrReader(broken), 10); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
	if n := stdinBound(t.TempDir()); n <= 0 {
		t.Errorf("%d bytes may be copied", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
