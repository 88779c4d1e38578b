package cache_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
)

func openStore(tb testing.TB, dir string, opts cache.Options) *cache.Store {
	tb.Helper()
	s, err := cache.Open(dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func newStore(tb testing.TB) *cache.Store {
	tb.Helper()
	return openStore(tb, cache.TempStoreDir(tb), cache.Options{})
}

// exampleResult is a result with its output in it and one file, as of a small
// compile.
func exampleResult(tb testing.TB, s *cache.Store) (action.Digest, *action.Result) {
	tb.Helper()
	d, err := s.PutBytes(tb.Context(), action.BLAKE3, make([]byte, 5000))
	if err != nil {
		tb.Fatal(err)
	}
	return action.Sum(action.BLAKE3, []byte("key")), &action.Result{
		Files:     []action.OutputFile{{Path: "hello.o", Digest: d}},
		StdoutRaw: []byte("hello\n"),
	}
}

func BenchmarkPutBytes(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := newStore(b)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			var n uint64
			for b.Loop() {
				n++
				binary.LittleEndian.PutUint64(data, n)
				if _, err := s.PutBytes(b.Context(), action.BLAKE3, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPutBytesPresent(b *testing.B) {
	s := newStore(b)
	data := make([]byte, 4<<10)
	for b.Loop() {
		if _, err := s.PutBytes(b.Context(), action.BLAKE3, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenRead(b *testing.B) {
	s := newStore(b)
	d, err := s.PutBytes(b.Context(), action.BLAKE3, make([]byte, 4<<10))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 4<<10)
	for b.Loop() {
		f, err := s.Open(b.Context(), d)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(f, buf); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func BenchmarkResultHit(b *testing.B) {
	s := newStore(b)
	key, res := exampleResult(b, s)
	if err := s.PutResult(b.Context(), key, res); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Result(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenAndHit is what a short-lived process does.
func BenchmarkOpenAndHit(b *testing.B) {
	first := newStore(b)
	key, res := exampleResult(b, first)
	if err := first.PutResult(b.Context(), key, res); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := cache.Open(first.Dir(), cache.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Result(b.Context(), key); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResultMiss(b *testing.B) {
	s := newStore(b)
	key, _ := exampleResult(b, s)
	for b.Loop() {
		if _, err := s.Result(b.Context(), key); err == nil {
			b.Fatal("a result that nobody has put")
		}
	}
}

func BenchmarkPutResult(b *testing.B) {
	s := newStore(b)
	key, res := exampleResult(b, s)
	for b.Loop() {
		if err := s.PutResult(b.Context(), key, res); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLock(b *testing.B) {
	s := newStore(b)
	key := action.Sum(action.BLAKE3, []byte("key"))
	for b.Loop() {
		unlock, err := s.Lock(b.Context(), key)
		if err != nil {
			b.Fatal(err)
		}
		unlock()
	}
}
