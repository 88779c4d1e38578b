//go:build !amd64 || purego

package blake3

import "testing"

func each(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Run("portable", test)
}
