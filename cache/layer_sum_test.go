package cache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestVerifyLooksIntoLayers changes what is in a layer, in every way that a
// command could see, and wants Verify to remove the layer.
func TestVerifyLooksIntoLayers(t *testing.T) {
	for name, damage := range map[string]func(data string) error{
		"nothing":  func(string) error { return nil },
		"content":  func(data string) error { return os.WriteFile(filepath.Join(data, "d/f"), []byte("F"), 0o644) },
		"shorter":  func(data string) error { return os.Truncate(filepath.Join(data, "d/f"), 0) },
		"gone":     func(data string) error { return os.Remove(filepath.Join(data, "d/f")) },
		"more":     func(data string) error { return os.WriteFile(filepath.Join(data, "g"), nil, 0o644) },
		"mode":     func(data string) error { return os.Chmod(filepath.Join(data, "d/f"), 0o755) },
		"link":     func(data string) error { return os.Remove(filepath.Join(data, "l")) },
		"all gone": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.TempDir(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			data, err := s.PutLayer(t.Context(), "x", nil, func(path string) error {
				return errors.Join(os.MkdirAll(filepath.Join(path, "d"), 0o755),
					os.WriteFile(filepath.Join(path, "d/f"), []byte("f"), 0o644), os.Symlink("d/f", filepath.Join(path, "l")))
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(data); err != nil {
				t.Fatal(err)
			}
			r, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			found := len(r.Damaged) == 1 && r.Damaged[0].Kind == KindLayer && r.Damaged[0].Removed
			if found != (name != "nothing") {
				t.Errorf("Verify found %v", r.Damaged)
			}
			if _, err := s.Layer(t.Context(), "x"); errors.Is(err, action.ErrMiss) != (name != "nothing") {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
