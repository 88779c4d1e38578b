// Package cachetest holds the promises of a cache as tests. Every
// implementation of action.Cache and action.Blobs passes [Test]; where it also
// implements action.Notes and action.Layers, their promises are tested too.
package cachetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// A Store is what [Test] tests.
type Store interface {
	action.Cache
	action.Blobs
}

// Test runs the suite. Each call of open returns a new, empty store.
func Test(t *testing.T, open func(t *testing.T) Store) {
	tests := []struct {
		name string
		test func(t *testing.T, s Store, f action.Function)
	}{
		{"PutAndOpen", testPutAndOpen},
		{"WrongContent", testWrongContent},
		{"AbsentBlob", testAbsentBlob},
		{"EmptyBlob", testEmptyBlob},
		{"FailedReader", testFailedReader},
		{"Canceled", testCanceled},
		{"Result", testResult},
		{"ResultReplaced", testResultReplaced},
		{"ResultOfAbsentBlobs", testResultOfAbsentBlobs},
		{"BlobThatIsLost", testBlobThatIsLost},
		{"BlobOfWrongSize", testBlobOfWrongSize},
		{"Notes", testNotes},
		{"Layers", testLayers},
		{"Concurrent", testConcurrent},
	}
	for _, f := range []action.Function{action.SHA256, action.BLAKE3, action.SHA512, action.GitSHA1} {
		for _, tt := range tests {
			t.Run(f.String()+"/"+tt.name, func(t *testing.T) { tt.test(t, open(t), f) })
		}
	}
	t.Run("BothFunctions", func(t *testing.T) { testBothFunctions(t, open(t)) })
}

// sizes are those where a store may change its ways.
var sizes = []int{1, 100, 4095, 4096, 4097, 256<<10 - 1, 256 << 10, 256<<10 + 1, 3<<20 + 7}

// content returns n bytes that no other seed gives.
func content(seed string, n int) []byte {
	return bytes.Repeat([]byte(seed+"\x00\n"), n/(len(seed)+2)+1)[:n]
}

func put(t *testing.T, s Store, f action.Function, data []byte) action.Digest {
	t.Helper()
	d, err := s.PutBytes(t.Context(), f, data)
	if err != nil {
		t.Fatalf("PutBytes of %d bytes: %v", len(data), err)
	}
	if want := action.Sum(f, data); d != want {
		t.Fatalf("PutBytes of %d bytes = %v, want %v", len(data), d, want)
	}
	return d
}

func checkBlob(t *testing.T, s Store, d action.Digest, want []byte) {
	t.Helper()
	if !s.Has(t.Context(), d) {
		t.Errorf("Has(%v) = false", d)
	}
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Errorf("Open(%v): %v", d, err)
		return
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Open(%v) gives %d bytes, %v; want the %d that were put", d, len(got), err, len(want))
	}
}

func checkMiss(t *testing.T, err error, reasons ...string) {
	t.Helper()
	if !errors.Is(err, action.ErrMiss) {
		t.Errorf("error %v; want a miss", err)
		return
	}
	for _, r := range reasons {
		if !strings.Contains(err.Error(), r) {
			t.Errorf("miss %q does not say %q", err, r)
		}
	}
}

func testPutAndOpen(t *testing.T, s Store, f action.Function) {
	for _, n := range sizes {
		a, b, c := content("bytes", n), content("stream", n), content("file", n)
		checkBlob(t, s, put(t, s, f, a), a)
		checkBlob(t, s, put(t, s, f, a), a) // again

		d := action.Sum(f, b)
		for range 2 {
			// One byte at a time now and then: no reader has to fill a buffer.
			if err := s.Put(t.Context(), d, io.MultiReader(bytes.NewReader(b[:n/2]), bytes.NewReader(b[n/2:]))); err != nil {
				t.Fatalf("Put of %d bytes: %v", n, err)
			}
			checkBlob(t, s, d, b)
		}

		file := tempFile(t, c)
		if _, err := file.Seek(int64(n/2), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			d, err := s.PutFile(t.Context(), f, file)
			if err != nil || d != action.Sum(f, c) {
				t.Fatalf("PutFile of %d bytes = %v, %v; want %v", n, d, err, action.Sum(f, c))
			}
			checkBlob(t, s, d, c)
		}
		if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != int64(n/2) {
			t.Errorf("PutFile moved the offset to %d, %v", at, err)
		}
	}
}

func tempFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func testWrongContent(t *testing.T, s Store, f action.Function) {
	for _, n := range sizes {
		right := content("right", n)
		d := action.Sum(f, right)
		wrong := map[string][]byte{
			"other":   content("wrong", n),
			"shorter": right[:n-1],
			"longer":  append(bytes.Clone(right), 'x'),
		}
		for name, data := range wrong {
			err := s.Put(t.Context(), d, bytes.NewReader(data))
			if err == nil || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("Put of %s content, %d bytes: %v; want an error that names %v", name, n, err, d)
			}
			if name != "longer" && f != action.GitSHA1 && err != nil && !strings.Contains(err.Error(), action.Sum(f, data).String()) {
				t.Errorf("Put of %s content: %v; want an error that names its digest", name, err)
			}
			if s.Has(t.Context(), d) {
				t.Fatalf("after Put of %s content the blob is there", name)
			}
		}
		if err := s.Put(t.Context(), d, bytes.NewReader(right)); err != nil {
			t.Errorf("Put of the right content: %v", err)
		}
		checkBlob(t, s, d, right)
	}
}

func testAbsentBlob(t *testing.T, s Store, f action.Function) {
	d := action.Sum(f, []byte("nobody has put this"))
	if s.Has(t.Context(), d) {
		t.Error("Has = true")
	}
	_, err := s.Open(t.Context(), d)
	checkMiss(t, err, d.String())
	_, err = s.Result(t.Context(), d)
	checkMiss(t, err, d.String())
	if s.Has(t.Context(), action.Digest{}) {
		t.Error("Has of the zero digest = true")
	}
}

func testEmptyBlob(t *testing.T, s Store, f action.Function) {
	d := action.Sum(f, nil)
	checkBlob(t, s, d, nil)
	put(t, s, f, nil)
	if err := s.Put(t.Context(), d, strings.NewReader("")); err != nil {
		t.Errorf("Put: %v", err)
	}
	if err := s.Put(t.Context(), d, strings.NewReader("x")); err == nil {
		t.Error("Put of a byte as the empty blob was accepted")
	}
	if got, err := s.PutFile(t.Context(), f, tempFile(t, nil)); err != nil || got != d {
		t.Errorf("PutFile = %v, %v", got, err)
	}
	checkBlob(t, s, d, nil)
	if l, ok := s.(action.Layers); ok {
		if fi, err := os.Stat(l.BlobDir() + l.BlobPath(d)); err != nil || fi.Size() != 0 {
			t.Errorf("the empty blob on the disk: %v", err)
		}
	}
}

// A brokenReader gives data, and then an error.
type brokenReader struct {
	data []byte
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	n := copy(p, r.data)
	r.data = r.data[n:]
	if n == 0 {
		return 0, r.err
	}
	return n, nil
}

func testFailedReader(t *testing.T, s Store, f action.Function) {
	for _, n := range sizes {
		data := content("broken", n)
		d, broken := action.Sum(f, data), errors.New("the reader is broken")
		if err := s.Put(t.Context(), d, &brokenReader{data[:n/2], broken}); !errors.Is(err, broken) {
			t.Errorf("Put = %v, want %v", err, broken)
		}
		if s.Has(t.Context(), d) {
			t.Errorf("half of a blob of %d bytes is there", n)
		}
	}
}

func testCanceled(t *testing.T, s Store, f action.Function) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, n := range sizes {
		data := content("canceled", n)
		if _, err := s.PutBytes(ctx, f, data); !errors.Is(err, context.Canceled) {
			t.Errorf("PutBytes = %v", err)
		}
		if _, err := s.PutFile(ctx, f, tempFile(t, data)); !errors.Is(err, context.Canceled) {
			t.Errorf("PutFile = %v", err)
		}
		if s.Has(t.Context(), action.Sum(f, data)) {
			t.Errorf("a blob of %d bytes is there", n)
		}
	}
}

// example stores what a result with everything in it names, and returns it
// and its blobs.
func example(t *testing.T, s Store, f action.Function, seed string) (*action.Result, []action.Digest) {
	t.Helper()
	blob := func(name string) action.Digest { return put(t, s, f, []byte(seed+" "+name)) }
	inTree, inChild, inSub := blob("in tree"), blob("in child"), blob("in sub")
	child := action.Directory{Files: []action.FileNode{{Name: "c", Digest: inChild}}}
	tree := action.Tree{
		Root: action.Directory{
			Files:       []action.FileNode{{Name: "t", Digest: inTree, Executable: true}},
			Directories: []action.DirectoryNode{{Name: "child", Digest: child.Digest(f)}},
		},
		Children: []action.Directory{child},
	}
	sub := action.Directory{Files: []action.FileNode{{Name: "s", Digest: inSub}}}
	root := action.Directory{Directories: []action.DirectoryNode{{Name: "sub", Digest: sub.Digest(f)}}}
	res := &action.Result{
		Files: []action.OutputFile{{Path: "out", Digest: blob("out"), Executable: true}},
		Directories: []action.OutputDirectory{
			{Path: "dir", Tree: put(t, s, f, tree.Marshal()), Root: put(t, s, f, root.Marshal())},
		},
		Symlinks:  []action.OutputSymlink{{Path: "link", Target: "out"}},
		ExitCode:  3,
		StdoutRaw: []byte("hello\n"),
		Stderr:    blob("stderr"),
	}
	return res, []action.Digest{
		res.Files[0].Digest, res.Stderr, res.Directories[0].Tree, res.Directories[0].Root,
		inTree, inChild, inSub, put(t, s, f, sub.Marshal()),
	}
}

func testResult(t *testing.T, s Store, f action.Function) {
	key := action.Sum(f, []byte("action"))
	res, _ := example(t, s, f, "a")
	if err := s.PutResult(t.Context(), key, res); err != nil {
		t.Fatal(err)
	}
	got, err := s.Result(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, res) {
		t.Errorf("Result = %+v, want %+v", got, res)
	}
	_, err = s.Result(t.Context(), action.Sum(f, []byte("another action")))
	checkMiss(t, err)
	// A result is not a blob.
	if s.Has(t.Context(), key) {
		t.Error("Has of an action's digest = true")
	}
}

func testResultReplaced(t *testing.T, s Store, f action.Function) {
	key := action.Sum(f, []byte("action"))
	for i := range 3 {
		res := &action.Result{ExitCode: int32(i)}
		if err := s.PutResult(t.Context(), key, res); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Result(t.Context(), key); err != nil || got.ExitCode != int32(i) {
			t.Errorf("Result = %+v, %v; want exit code %d", got, err, i)
		}
	}
}

func testResultOfAbsentBlobs(t *testing.T, s Store, f action.Function) {
	key, absent := action.Sum(f, []byte("action")), action.Sum(f, []byte("absent"))
	tree := put(t, s, f, (&action.Tree{Root: action.Directory{Files: []action.FileNode{{Name: "x", Digest: absent}}}}).Marshal())
	noTree := put(t, s, f, []byte("this is no tree"))
	for name, res := range map[string]*action.Result{
		"file":      {Files: []action.OutputFile{{Path: "x", Digest: absent}}},
		"inlined":   {Files: []action.OutputFile{{Path: "x", Digest: absent, Contents: []byte("absent")}}},
		"stdout":    {Stdout: absent},
		"stderr":    {Stderr: absent},
		"tree":      {Directories: []action.OutputDirectory{{Path: "x", Tree: absent}}},
		"in a tree": {Directories: []action.OutputDirectory{{Path: "x", Tree: tree}}},
		"root":      {Directories: []action.OutputDirectory{{Path: "x", Root: absent}}},
		"no tree":   {Directories: []action.OutputDirectory{{Path: "x", Tree: noTree}}},
	} {
		if err := s.PutResult(t.Context(), key, res); err == nil {
			t.Errorf("%s: PutResult accepted a result that names what is absent", name)
		}
		_, err := s.Result(t.Context(), key)
		checkMiss(t, err)
	}
}

func testBothFunctions(t *testing.T, s Store) {
	data := []byte("the same bytes")
	a, b := put(t, s, action.SHA256, data), put(t, s, action.BLAKE3, data)
	checkBlob(t, s, a, data)
	checkBlob(t, s, b, data)
	key := action.Sum(action.SHA256, []byte("action"))
	res := &action.Result{Files: []action.OutputFile{{Path: "x", Digest: b}}}
	if err := s.PutResult(t.Context(), key, res); err == nil {
		t.Error("PutResult accepted a result whose digests are not of its action's function")
	}
}

func testConcurrent(t *testing.T, s Store, f action.Function) {
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 40 {
				// Each blob by four goroutines, half of them as a stream.
				data := content(fmt.Sprintf("%d-%d", g%2, i), 1+i*i*400)
				d := action.Sum(f, data)
				var err error
				if g%4 < 2 {
					_, err = s.PutBytes(t.Context(), f, data)
				} else {
					err = s.Put(t.Context(), d, bytes.NewReader(data))
				}
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				checkBlob(t, s, d, data)
				key := action.Sum(f, fmt.Appendf(nil, "key %d", i))
				res := &action.Result{Files: []action.OutputFile{{Path: "x", Digest: d}}, ExitCode: int32(i)}
				if err := s.PutResult(t.Context(), key, res); err != nil {
					t.Errorf("PutResult: %v", err)
				}
				if got, err := s.Result(t.Context(), key); err != nil || got.ExitCode != int32(i) {
					t.Errorf("Result = %v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}
