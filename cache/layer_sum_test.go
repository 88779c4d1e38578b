package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// TestDeepLayer puts a layer with a file of which no path can be told the kernel at
// once: it is summed, counted and removed like others.
func TestDeepLayer(t *testing.T) {
	below := strings.Repeat(strings.Repeat("d", 200)+"/", 60)
	for name, damage := range map[string]func(*os.Root) error{
		"nothing": func(*os.Root) error { return nil },
		"content": func(r *os.Root) error { return r.WriteFile(below+"f", []byte("F"), 0o644) },
		"more":    func(r *os.Root) error { return r.WriteFile(below+"g", nil, 0o644) },
		"link":    func(r *os.Root) error { return r.Remove(below + "l") },
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.TempDir(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			data, err := s.PutLayer(t.Context(), "x", nil, func(path string) error {
				if err := os.Mkdir(path, 0o755); err != nil {
					return err
				}
				r, err := os.OpenRoot(path)
				if err != nil {
					return err
				}
				defer r.Close()
				return errors.Join(r.MkdirAll(below, 0o755), r.WriteFile(below+"f", []byte("f"), 0o644), r.Symlink("f", below+"l"))
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(data, below)); !errors.Is(err, syscall.ENAMETOOLONG) {
				t.Fatalf("control: a path of %d bytes gives %v", len(below), err)
			}
			r, err := os.OpenRoot(data)
			if err != nil {
				t.Fatal(err)
			}
			err = damage(r)
			r.Close()
			if err != nil {
				t.Fatal(err)
			}
			report, err := s.Verify(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if found := len(report.Damaged) == 1 && report.Damaged[0].Removed; found != (name != "nothing") {
				t.Errorf("Verify found %v", report.Damaged)
			}
			if _, err := os.Lstat(data); errors.Is(err, os.ErrNotExist) != (name != "nothing") {
				t.Errorf("afterwards: %v", err)
			}
			if err := s.disk.RemoveAll(data); err != nil { // before 32 directories the path is too long
				t.Error(err)
			}
		})
	}
}
