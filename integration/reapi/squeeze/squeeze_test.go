package squeeze

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// TestThereAndBack: squeezed and stored, of sizes where blocks end.
func TestThereAndBack(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 1000, 13, 16<<10 - 67, 16<<10 - 64, 128 << 10, 128<<10 + 1, 1 << 20} {
		for name, data := range map[string][]byte{"noise": noise(size), "zeros": make([]byte, size)} {
			for _, buf := range []int{16, 16<<10 - 64, 1 << 20} {
				var frame bytes.Buffer
				if err := Store(&frame, bytes.NewReader(data), make([]byte, buf)); err != nil {
					t.Fatal(err)
				}
				if got, err := Expand(frame.Bytes(), int64(size)); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes of %s stored in blocks of %d: %v", size, name, buf, err)
				}
			}
			var frame bytes.Buffer
			if n, err := Copy(&frame, bytes.NewReader(data)); err != nil || n != int64(size) {
				t.Fatalf("%d bytes of %s: %d, %v", size, name, n, err)
			}
			r, err := NewReader(&frame)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			r.Close()
			r.Close()
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %s: %v", size, name, err)
			}
			if out, ok := Shrink(data); ok {
				if got, err := Expand(out, int64(size)); err != nil || !bytes.Equal(got, data) || len(out) >= size {
					t.Errorf("%d bytes of %s in one piece: %v", size, name, err)
				}
				if _, err := Expand(out, int64(size)-1); err == nil {
					t.Errorf("%d bytes of %s: more than was asked for", size, name)
				}
				if _, err := Expand(out, int64(size)+1); err == nil {
					t.Errorf("%d bytes of %s: less than was asked for", size, name)
				}
			} else if name == "zeros" && size >= smallest {
				t.Errorf("%d zeros do not get smaller", size)
			}
		}
	}
}

func TestPays(t *testing.T) {
	for name, want := range map[string]bool{"noise": false, "zeros": true, "nothing": false} {
		data := map[string][]byte{"noise": noise(1 << 20), "zeros": make([]byte, 5000)}[name]
		if got := Pays(data); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
