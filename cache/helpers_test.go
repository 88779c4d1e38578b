package cache

import (
	"testing"

	"github.com/sbx-action/sbx-action/internal/durable"
)

func statFile(t *testing.T, path string) durable.FileInfo {
	t.Helper()
	fi, err := durable.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}
