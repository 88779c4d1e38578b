package action

import (
	"fmt"
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

// BenchmarkHash shows the speed of the functions, on data that is in no cache of
// the processor.
func BenchmarkHash(b *testing.B) {
	data := make([]byte, 256<<20)
	for _, fn := range []Function{SHA256, BLAKE3} {
		b.Run(fn.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				h := fn.New()
				h.Write(data)
			}
		})
	}
}
