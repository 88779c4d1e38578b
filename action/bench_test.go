package action

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func benchDirectory() *Directory {
	d := new(Directory)
	for i := range 16 {
		name := fmt.Sprintf("module_%03d.c", i)
		d.Files = append(d.Files, FileNode{Name: name, Digest: Sum(BLAKE3, []byte(name)), Executable: i == 7})
	}
	return d
}

func BenchmarkDirectoryMarshal(b *testing.B) {
	d := benchDirectory()
	b.Run("Marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.Marshal()
		}
	})
	b.Run("Append", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = d.AppendMarshal(buf[:0])
		}
	})
	b.Run("Parse", func(b *testing.B) {
		b.ReportAllocs()
		data := d.Marshal()
		for b.Loop() {
			if _, err := ParseDirectory(data, BLAKE3); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkResultParse(b *testing.B) {
	m := &Result{
		Files:     []OutputFile{{Path: "out/hello.o", Digest: Sum(BLAKE3, []byte("hello"))}},
		StdoutRaw: []byte("warning: hello\n"),
		Metadata:  &Metadata{ExecutionStart: &Timestamp{1e9, 1}, ExecutionCompleted: &Timestamp{1e9, 2}},
	}
	data := m.Marshal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseResult(data, BLAKE3); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHash shows what reading costs on top of hashing: "memory" is the
// hash's own speed, on data that is in no cache of the processor.
func BenchmarkHash(b *testing.B) {
	const size = 256 << 20
	name := filepath.Join(b.TempDir(), "big")
	data := make([]byte, size)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, fn := range []Function{SHA256, BLAKE3} {
		b.Run(fn.String()+"/memory", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				h := fn.New()
				h.Write(data)
			}
		})
		b.Run(fn.String()+"/file", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if d, err := SumFile(fn, f); err != nil || d.Size() != size {
					b.Fatal(d, err)
				}
			}
		})
		for _, small := range []int64{0, 100, 4 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/reader%d", fn, small), func(b *testing.B) {
				b.SetBytes(small)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := SumReader(fn, io.NewSectionReader(f, 0, small)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
