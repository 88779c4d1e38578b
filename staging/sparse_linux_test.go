package staging

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCopySparse copies files with holes: what is copied has the same bytes, and takes
// no more on the disk.
func TestCopySparse(t *testing.T) {
	for name, c := range map[string]struct {
		size int64
		at   []int64 // where there is something
	}{
		"nothing": {size: 8 << 20},
		"odd":     {size: 8<<20 + 12345},
		"begin":   {size: 8 << 20, at: []int64{0}},
		"end":     {size: 8<<20 + 3, at: []int64{8 << 20}},
		"across":  {size: 32 << 20, at: []int64{64<<10 - 2, 5<<20 + 1, 31 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			src, err := os.Create(filepath.Join(dir, "src"))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			if err := src.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			for _, at := range c.at {
				if _, err := src.WriteAt([]byte("xyz"), at); err != nil {
					t.Fatal(err)
				}
			}
			dst, err := os.Create(filepath.Join(dir, "dst"))
			if err != nil {
				t.Fatal(err)
			}
			defer dst.Close()
			if err := copySparse(int(dst.Fd()), int(src.Fd()), c.size); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(src.Name())
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(dst.Name())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, which are others than the %d of the source", len(got), len(want))
			}
			var of, on unix.Stat_t
			if err := errors.Join(unix.Stat(src.Name(), &of), unix.Stat(dst.Name(), &on)); err != nil {
				t.Fatal(err)
			}
			if on.Blocks > of.Blocks+2048 {
				t.Errorf("the copy takes %d blocks on the disk, the source %d", on.Blocks, of.Blocks)
			}
			again, err := os.Create(filepath.Join(dir, "again"))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if err := copySparse(int(again.Fd()), int(src.Fd()), c.size+1); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a source that is too short: %v", err)
			}
		})
	}
}
