package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// BenchmarkSeal notes what a compile saw: 120 headers in 6 directories, for which it
// looked in 4 others first, a name of a precompiled one beside each, the directories,
// and a third of it by way of "..".
func BenchmarkSeal(b *testing.B) {
	dir := b.TempDir()
	var lookups []backends.Lookup
	for i := range 120 {
		name := fmt.Sprintf("lib%d/bits/header-%d.h", i%6, i)
		at := filepath.Join(dir, "include", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(name), 0o644)); err != nil {
			b.Fatal(err)
		}
		for j := range 4 {
			first := fmt.Sprintf("%s/local%d", dir, j)
			if err := os.MkdirAll(first, 0o755); err != nil {
				b.Fatal(err)
			}
			lookups = append(lookups, backends.Lookup{Path: first + "/" + name, Op: backends.Open})
		}
		named := at
		if i%3 == 0 {
			named = dir + "/local0/../include/" + name
		}
		lookups = append(lookups, backends.Lookup{Path: named + ".gch"}, backends.Lookup{Path: named},
			backends.Lookup{Path: named, Op: backends.Open}, backends.Lookup{Path: filepath.Dir(at)})
	}
	hasher := NewFileHasher(filepath.Join(b.TempDir(), "stat"), action.BLAKE3)
	defer hasher.Close()
	w := &HostWitness{Notes: notes{}, Hash: hasher, Host: func(p string) (string, bool) { return p, p != "/" }}
	a := &action.Action{
		Command: action.Sum(action.BLAKE3, []byte("c")), InputRoot: action.Sum(action.BLAKE3, nil),
		Platform: []action.Property{{Name: RootfsProperty, Value: "host/2"}},
	}
	status := &backends.Status{Complete: true, Lookups: lookups}
	start := time.Now().Add(time.Hour) // what was just made is believed
	for range 100 {                    // and until then read each time
		if d, err := hasher.Digest(lookups[len(lookups)-2].Path); err != nil || d.Stable {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Notes = notes{}
		if _, err := w.Seal(b.Context(), a, status, start); err != nil {
			b.Fatal(err)
		}
	}
}
