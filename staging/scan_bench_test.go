package staging

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
	"golang.org/x/sys/unix"
)

// benchTree makes files in directories of 15, as a source tree has them.
func benchTree(b *testing.B, files int) string {
	b.Helper()
	ws := b.TempDir()
	for i := range files {
		name := filepath.Join(ws, fmt.Sprintf("d%02d/e%03d/file%d.c", i/1500, i/15, i))
		if i%15 == 0 {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n%s", i, strings.Repeat("x", i%4096)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2 * trustMargin)
	return ws
}

func BenchmarkScanOneFile(b *testing.B) {
	ws := b.TempDir()
	for name, size := range map[string]int{"small.c": 2000, "large.c": 50000} {
		if err := os.WriteFile(filepath.Join(ws, name), make([]byte, size), 0o644); err != nil {
			b.Fatal(err)
		}
		time.Sleep(2 * trustMargin)
		b.Run(name, func(b *testing.B) {
			cfg := ScanConfig{Workspace: ws, Inputs: []string{name}, Function: action.BLAKE3, StatCache: filepath.Join(ws, "cache")}
			b.ReportAllocs()
			for b.Loop() {
				mustScan(b, cfg)
			}
		})
	}
}

func BenchmarkScanTwentyFiles(b *testing.B) {
	ws := benchTree(b, 20)
	cfg := ScanConfig{Workspace: ws, Function: action.BLAKE3, StatCache: b.TempDir()}
	for i := range 20 {
		cfg.Inputs = append(cfg.Inputs, fmt.Sprintf("d00/e%03d/file%d.c", i/15, i))
	}
	b.ReportAllocs()
	for b.Loop() {
		mustScan(b, cfg)
	}
}

// The target: a scan without changes costs at most 2.5 times a bare fstatat
// loop over the same files.
func BenchmarkScanNoChange(b *testing.B) {
	for _, files := range []int{1000, 100000} {
		b.Run(fmt.Sprint(files), func(b *testing.B) {
			ws := benchTree(b, files)
			cfg := ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: b.TempDir()}
			start := time.Now()
			first := mustScan(b, cfg)
			cold := time.Since(start)
			paths := statList(b, first, ws)
			var bare, scan time.Duration
			for b.Loop() {
				start := time.Now()
				bareLoop(b, paths)
				bare += time.Since(start)
				start = time.Now()
				if s := mustScan(b, cfg); s.Root != first.Root {
					b.Fatal("another root")
				}
				scan += time.Since(start)
			}
			b.ReportMetric(float64(bare.Microseconds())/float64(b.N)/1e3, "bare-ms")
			b.ReportMetric(float64(scan.Microseconds())/float64(b.N)/1e3, "scan-ms")
			b.ReportMetric(float64(scan)/float64(bare), "scan/bare")
			b.ReportMetric(float64(cold.Microseconds())/1e3, "cold-ms")
		})
	}
}

type statDir struct {
	fd    int
	names [][]byte
}

func statList(b *testing.B, s *Snapshot, ws string) []*statDir {
	b.Helper()
	dirs := map[string]*statDir{}
	var list []*statDir
	err := s.Walk(func(path string, e Entry) error {
		if e.Kind != KindFile {
			return nil
		}
		dir, name := filepath.Split(path)
		d := dirs[dir]
		if d == nil {
			fd, err := unix.Open(filepath.Join(ws, dir), unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			b.Cleanup(func() { unix.Close(fd) })
			d = &statDir{fd: fd}
			dirs[dir] = d
			list = append(list, d)
		}
		d.names = append(d.names, append([]byte(name), 0))
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return list
}

func bareLoop(b *testing.B, list []*statDir) {
	var st unix.Stat_t
	for _, d := range list {
		for _, name := range d.names {
			if err := durable.StatZ(d.fd, name, &st); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// One file of a hundred thousand changes.
func BenchmarkScanOneChange(b *testing.B) {
	ws := benchTree(b, 100000)
	cfg := ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: action.BLAKE3, StatCache: b.TempDir()}
	mustScan(b, cfg)
	i := 0
	for b.Loop() {
		i++
		if err := os.WriteFile(filepath.Join(ws, "d03/e301/file4520.c"), fmt.Append(nil, i), 0o644); err != nil {
			b.Fatal(err)
		}
		mustScan(b, cfg)
	}
}

// The target: 80 % of the speed of the hash alone, which "hash" measures.
func BenchmarkScanGiB(b *testing.B) {
	const size = 1 << 30
	for _, files := range []int{1, 16, 1024} {
		ws := b.TempDir()
		block := make([]byte, size/files)
		for i := range files {
			block[0] = byte(i)
			if err := os.WriteFile(filepath.Join(ws, fmt.Sprint(i)), block, 0o644); err != nil {
				b.Fatal(err)
			}
		}
		for _, f := range []action.Function{action.BLAKE3, action.SHA256} {
			b.Run(fmt.Sprintf("%v/files=%d", f, files), func(b *testing.B) {
				h := action.NewHasher(f)
				var hash, scan time.Duration
				buf := make([]byte, readBlock)
				for b.Loop() {
					start := time.Now()
					for range size / readBlock {
						h.Write(buf)
					}
					hash += time.Since(start)
					start = time.Now()
					mustScan(b, ScanConfig{Workspace: ws, Inputs: []string{"."}, Function: f})
					scan += time.Since(start)
				}
				b.ReportMetric(size*float64(b.N)/hash.Seconds()/1e9, "hash-GB/s")
				b.ReportMetric(size*float64(b.N)/scan.Seconds()/1e9, "scan-GB/s")
				b.ReportMetric(hash.Seconds()/scan.Seconds(), "scan/hash")
			})
		}
		if err := os.RemoveAll(ws); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFileHasher(b *testing.B) {
	h := NewFileHasher(b.TempDir(), action.BLAKE3)
	defer h.Close()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	time.Sleep(2 * trustMargin)
	if d, err := h.Digest(exe); err != nil || !d.Stable {
		b.Fatal(d, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Digest(exe); err != nil {
			b.Fatal(err)
		}
	}
}
