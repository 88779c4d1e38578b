package staging

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// bigTree puts a tree of n files of about 4 KiB into a store, 16 in a
// directory. salt changes one file in every step-th directory.
func bigTree(tb testing.TB, store *testStore, n, step int, salt string) action.Digest {
	tb.Helper()
	content := make([]byte, 4096)
	put := func(m *action.Directory) action.Digest {
		d, err := store.PutBytes(context.Background(), action.BLAKE3, m.Marshal())
		if err != nil {
			tb.Fatal(err)
		}
		return d
	}
	var level []action.DirectoryNode
	for i := 0; i < n; i += 16 {
		var m action.Directory
		for j := i; j < min(i+16, n); j++ {
			head := fmt.Sprintf("file %d", j)
			if salt != "" && j == i && i/16%step == 0 {
				head += salt
			}
			d, err := store.PutBytes(context.Background(), action.BLAKE3, append(content[:0:0], append([]byte(head), content...)...))
			if err != nil {
				tb.Fatal(err)
			}
			m.Files = append(m.Files, action.FileNode{Name: fmt.Sprintf("source%06d.c", j), Digest: d})
		}
		level = append(level, action.DirectoryNode{Name: fmt.Sprintf("dir%06d", i), Digest: put(&m)})
	}
	for depth := 0; len(level) > 1; depth++ {
		var up []action.DirectoryNode
		for group := range slices.Chunk(level, 16) {
			up = append(up, action.DirectoryNode{Name: fmt.Sprintf("level%d-%06d", depth, len(up)), Digest: put(&action.Directory{Directories: group})})
		}
		level = up
	}
	return put(&action.Directory{Directories: level})
}

// BenchmarkStage stages trees of which nothing is known, which were staged by
// another process, and of which 1 file in 1000 has changed; and fills the
// scratch, on a tmpfs, as the backend will.
func BenchmarkStage(b *testing.B) {
	for _, m := range modes() {
		for _, n := range []int{10, 128, 1000, 10_000, 100_000} {
			if n > 1000 && m.kind != imageLayer && os.Getenv("SBX_BENCH_ALL") == "" {
				continue // hundreds of thousands of inodes on the disk
			}
			b.Run(fmt.Sprintf("%s/%d", m.name, n), func(b *testing.B) { benchStage(b, m, n) })
		}
	}
}

func benchStage(b *testing.B, m mode, n int) {
	store := newTestStore(b)
	tree := bigTree(b, store, n, 1, "")
	var lists [8]action.Digest
	for i := range lists {
		lists[i] = bigTree(b, store, n, 1000/16, fmt.Sprint(" salt", i))
	}
	scratch := filledBy(b)
	fresh := func() *Stager {
		s := &Stager{Blobs: store, Layers: store, Notes: store, Capabilities: m.caps}
		fmt.Sscan(os.Getenv("SBX_BENCH_SMALL"), &s.small.files, &s.small.bytes)
		return s
	}
	run := func(b *testing.B, s *Stager, d action.Digest) {
		root, err := s.Stage(context.Background(), Input{Tree: d}, Rootfs{})
		if err != nil {
			b.Fatal(err)
		}
		scratch(b, root.Fill)
	}
	forget := func(b *testing.B) {
		b.StopTimer()
		for _, dir := range []string{"/layer", "/note"} {
			if err := os.RemoveAll(store.dir + dir); err != nil {
				b.Fatal(err)
			}
			if err := os.Mkdir(store.dir+dir, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			forget(b)
			run(b, fresh(), tree)
		}
	})
	b.Run("warm", func(b *testing.B) {
		run(b, fresh(), tree)
		b.ResetTimer()
		for range b.N {
			run(b, fresh(), tree)
		}
	})
	b.Run("changed", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if i%len(lists) == 0 {
				forget(b)
				b.StopTimer()
				run(b, fresh(), tree)
				b.StartTimer()
			}
			run(b, fresh(), lists[i%len(lists)])
		}
	})
}

// filledBy returns a function that calls a Fill with a fresh directory.
func filledBy(b *testing.B) func(*testing.B, func(*os.File) error) {
	top, err := os.MkdirTemp("/dev/shm", "sbx-bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(top) })
	i := 0
	return func(b *testing.B, fill func(*os.File) error) {
		i++
		dir := fmt.Sprintf("%s/%d", top, i)
		if err := unix.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		f, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		if err := fill(f); err != nil {
			b.Fatal(err)
		}
		f.Close()
		if i%64 == 0 {
			b.StopTimer()
			os.RemoveAll(top)
			os.Mkdir(top, 0o755)
			b.StartTimer()
		}
	}
}

func BenchmarkCollect(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			files, paths := spec{}, []string{}
			for i := range n {
				p := fmt.Sprintf("out/f%d.o", i)
				files["build/"+p], paths = fmt.Sprintf("%0*d", 4096, i), append(paths, p)
			}
			root := fakeRoot(b, files)
			store := newTestStore(b)
			b.ResetTimer()
			for range b.N {
				if _, _, err := collect(b, store, root, Outputs{Paths: paths}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDeliver(b *testing.B) {
	store := newTestStore(b)
	one := result(b, store, spec{"a.o": fmt.Sprintf("%04096d", 1)}, "a.o")
	other := result(b, store, spec{"a.o": fmt.Sprintf("%04096d", 2)}, "a.o")
	for _, c := range []struct {
		name    string
		results []*action.Result
		remove  bool
	}{{"fresh", []*action.Result{one}, true}, {"replace", []*action.Result{one, other}, false}, {"same", []*action.Result{one}, false}} {
		b.Run(c.name, func(b *testing.B) {
			root := b.TempDir()
			for i := range b.N {
				if err := Deliver(context.Background(), store, c.results[i%len(c.results)], Workspace{Root: root}); err != nil {
					b.Fatal(err)
				}
				if c.remove {
					b.StopTimer()
					os.Remove(root + "/a.o")
					b.StartTimer()
				}
			}
		})
	}
}
