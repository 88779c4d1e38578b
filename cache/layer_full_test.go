package cache

import (
	"errors"
	"syscall"
	"testing"
)

// TestLayerFull: a disk that is full while a layer is built is the store's
// failure, which its users can do without; any other failure is not.
func TestLayerFull(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for cause, want := range map[error]bool{syscall.ENOSPC: true, syscall.EIO: false} {
		_, err := s.PutLayer(t.Context(), "x", nil, func(string) error { return cause })
		if !errors.Is(err, cause) || errors.Is(err, ErrUnwritable) != want {
			t.Errorf("%v: %v, unwritable: want %v", cause, err, want)
		}
	}
}
