package cache

import (
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// TempStoreDir returns the path of a store that does not exist yet. What it
// becomes is removed with the test, also where layers deny that.
func TempStoreDir(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "cache")
	tb.Cleanup(func() {
		if err := (&durable.Disk{}).RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

func statFile(t *testing.T, path string) durable.FileInfo {
	t.Helper()
	fi, err := durable.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// OnDisk is how many bytes the file takes there.
func OnDisk(t *testing.T, path string) int64 {
	t.Helper()
	return statFile(t, path).Blocks
}
