package staging

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// BenchmarkRecall checks what a compile saw of this machine's host.
func BenchmarkRecall(b *testing.B) {
	hasher := NewFileHasher(filepath.Join(b.TempDir(), "stat"), action.BLAKE3)
	defer hasher.Close()
	w := &HostWitness{Notes: notes{}, Hash: hasher, Host: HostRootfs(HostOptions{}).HostPath}
	a := &action.Action{
		Command: action.Sum(action.BLAKE3, []byte("c")), InputRoot: action.Sum(action.BLAKE3, nil),
		Platform: []action.Property{{Name: RootfsProperty, Value: "host/2"}},
	}
	status := &backends.Status{Complete: true}
	headers, _ := filepath.Glob("/usr/include/*.h")
	for _, h := range headers[:min(len(headers), 100)] {
		status.Lookups = append(status.Lookups, backends.Lookup{Path: h, Op: backends.Open},
			backends.Lookup{Path: "/usr/local/include/" + filepath.Base(h), Op: backends.Open},
			backends.Lookup{Path: h + ".gch", Op: backends.Stat})
	}
	if _, err := w.Seal(b.Context(), a, status, w.Clock()); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Recall(b.Context(), a); err != nil {
		b.Fatal(err)
	}
	b.Run("recall", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Recall(b.Context(), a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stats", func(b *testing.B) {
		for b.Loop() {
			for _, h := range headers[:min(len(headers), 100)] {
				if _, err := os.Lstat(h); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
