package remote_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/integration/reapi/remote/remotetest"
)

func open(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dial(t *testing.T, s *remotetest.Server, o remote.Options) *remote.Client {
	t.Helper()
	c, err := remote.Dial(remote.Address{Host: remotetest.Serve(t, s), Instance: "team/a"}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// noise is n bytes that are the same for the same seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

// put stores blobs of these sizes and returns their digests.
func put(t *testing.T, s *cache.Store, f action.Function, sizes ...int) (list []action.Digest) {
	t.Helper()
	for i, n := range sizes {
		d, err := s.PutBytes(t.Context(), f, noise(uint64(i), n))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

func content(t *testing.T, s *cache.Store, d action.Digest) []byte {
	t.Helper()
	f, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestThereAndBack also is where batches meet their limit and streams begin.
func TestThereAndBack(t *testing.T) {
	for _, f := range []action.Function{action.SHA256, action.BLAKE3} {
		for _, batch := range []int64{0, 1 << 20, 4096} {
			server := &remotetest.Server{BatchMax: batch}
			c := dial(t, server, remote.Options{})
			from, to := open(t), open(t)
			sizes := []int{0, 1, 100, 3000, 4000, 4096, 5000, 1 << 20, 4<<20 - 64<<10 - 160, 4<<20 - 64<<10, 5 << 20}
			for range 300 {
				sizes = append(sizes, 20+len(sizes))
			}
			digests := put(t, from, f, sizes...)
			if err := c.Upload(t.Context(), from, digests); err != nil {
				t.Fatalf("%v, batches of %d: upload: %v", f, batch, err)
			}
			if hash := server.Counted().Twice(); hash != "" {
				t.Errorf("%v, batches of %d: %s was uploaded twice", f, batch, hash)
			}
			if err := c.Download(t.Context(), to, digests); err != nil {
				t.Fatalf("%v, batches of %d: download: %v", f, batch, err)
			}
			for i, d := range digests {
				if got := content(t, to, d); !bytes.Equal(got, noise(uint64(i), sizes[i])) {
					t.Errorf("%v, batches of %d: blob %d came back different", f, batch, i)
				}
			}
		}
	}
}

func TestNothingIsUploadedTwice(t *testing.T) {
	server := &remotetest.Server{}
	c := dial(t, server, remote.Options{})
	from := open(t)
	digests := put(t, from, action.SHA256, 10, 20, 30, 5<<20, 6<<20)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := c.Upload(t.Context(), from, digests); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	counts := server.Counted()
	if hash := counts.Twice(); hash != "" || len(counts.Uploads) != len(digests) {
		t.Errorf("%d blobs were uploaded, want %d; twice: %q", len(counts.Uploads), len(digests), hash)
	}
	finds := counts.Messages["FindMissingBlobs"]
	if err := c.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if n := server.Counted().Messages["FindMissingBlobs"]; n != finds {
		t.Errorf("what is known to be there was asked for again: %d calls, then %d", finds, n)
	}
	c.Forget()
	server.Remove(digests[0])
	if err := c.Upload(t.Context(), from, digests); err != nil {
		t.Fatal(err)
	}
	if _, ok := server.Blob(digests[0]); !ok {
		t.Error("a blob that the server lost was not uploaded again")
	}
}

func TestDownloadsAreShared(t *testing.T) {
	server := &remotetest.Server{}
	c := dial(t, server, remote.Options{})
	to := open(t)
	var digests []action.Digest
	for i := range 50 {
		digests = append(digests, server.Put(action.BLAKE3, noise(uint64(i), 1000)))
	}
	digests = append(digests, server.Put(action.BLAKE3, noise(51, 5<<20)))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := c.Download(t.Context(), to, digests); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for hash, n := range server.Counted().Reads {
		if n > 1 {
			t.Errorf("%s was downloaded %d times", hash, n)
		}
	}
}

func TestMissingBlobsAreNamed(t *testing.T) {
	server := &remotetest.Server{}
	c := dial(t, server, remote.Options{})
	to := open(t)
	there := server.Put(action.SHA256, noise(1, 100))
	small, large := action.Sum(action.SHA256, noise(2, 100)), action.Sum(action.SHA256, noise(3, 5<<20))
	err := c.Download(t.Context(), to, []action.Digest{small, there, large})
	m, ok := errors.AsType[*remote.MissingError](err)
	if !ok || len(m.Digests) != 2 || !errors.Is(err, action.ErrMiss) {
		t.Fatalf("%v, want an error that names two blobs and is a miss", err)
	}
	if !to.Has(t.Context(), there) {
		t.Error("what was there was not downloaded")
	}
}

func TestWrongContentIsRefused(t *testing.T) {
	for _, size := range []int{100, 5 << 20} {
		bad := true
		server := &remotetest.Server{Corrupt: func(action.Digest) bool { return bad }}
		c := dial(t, server, remote.Options{})
		to := open(t)
		d := server.Put(action.BLAKE3, noise(1, size))
		if err := c.Download(t.Context(), to, []action.Digest{d}); err == nil {
			t.Errorf("%d bytes: a blob with another content was taken", size)
		}
		if to.Has(t.Context(), d) {
			t.Errorf("%d bytes: the store has it", size)
		}
		bad = false
		if err := c.Download(t.Context(), to, []action.Digest{d}); err != nil {
			t.Errorf("control: %d bytes: %v", size, err)
		}
	}
}

func TestTreeThereAndBack(t *testing.T) {
	server := &remotetest.Server{BatchMax: 4096}
	c := dial(t, server, remote.Options{})
	from, to := open(t), open(t)
	root := tree(t, from, 4)
	if err := c.UploadTree(t.Context(), from, root); err != nil {
		t.Fatal(err)
	}
	report, err := c.DownloadTree(t.Context(), to, root, remote.TreeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Files != 6 || report.FilesRead != 5 || report.DirectoriesRead != 5 {
		t.Errorf("%+v, want 5 directories and 6 files, but one that is a directory, too, read", *report)
	}
	if report, err = c.DownloadTree(t.Context(), to, root, remote.TreeOptions{}); err != nil || report.FilesRead+report.DirectoriesRead != 0 {
		t.Errorf("the second time: %+v, %v, want nothing read", *report, err)
	}
	refused := errors.New("no room")
	if _, err := c.DownloadTree(t.Context(), open(t), root, remote.TreeOptions{Reserve: func(int64) error { return refused }}); !errors.Is(err, refused) {
		t.Errorf("without room: %v", err)
	}
	server.Remove(root)
	server.Remove(action.Sum(action.SHA256, noise(3, 1002)))
	_, err = c.DownloadTree(t.Context(), open(t), root, remote.TreeOptions{})
	if m, ok := errors.AsType[*remote.MissingError](err); !ok || m.Digests[0] != root {
		t.Errorf("without its root: %v", err)
	}
	server.Put(action.SHA256, content(t, from, root))
	_, err = c.DownloadTree(t.Context(), open(t), root, remote.TreeOptions{})
	if m, ok := errors.AsType[*remote.MissingError](err); !ok || len(m.Digests) != 1 {
		t.Errorf("without a file: %v", err)
	}
}

// tree stores a chain of directories with a file each, and one file whose
// content is the bytes of the deepest directory: equal digests, two meanings.
func tree(t *testing.T, s *cache.Store, depth int) action.Digest {
	t.Helper()
	put := func(data []byte) action.Digest {
		d, err := s.PutBytes(t.Context(), action.SHA256, data)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	dir := &action.Directory{Files: []action.FileNode{{Name: "file", Digest: put(noise(0, 1000))}}}
	deepest := dir.Marshal()
	for i := range depth {
		below := put(dir.Marshal())
		dir = &action.Directory{
			Files:       []action.FileNode{{Name: "file", Digest: put(noise(uint64(i+1), 1000+i))}},
			Directories: []action.DirectoryNode{{Name: "sub", Digest: below}},
		}
		if i == depth-1 {
			dir.Files = slices.Insert(dir.Files, 0, action.FileNode{Name: "a", Digest: put(deepest)})
		}
	}
	return put(dir.Marshal())
}

func TestResult(t *testing.T) {
	server := &remotetest.Server{}
	c := dial(t, server, remote.Options{})
	from, to := open(t), open(t)
	file := put(t, from, action.SHA256, 77)[0]
	dir := action.Directory{Files: []action.FileNode{{Name: "x", Digest: file}}}
	whole := action.Tree{Root: dir}
	treeDigest, _ := from.PutBytes(t.Context(), action.SHA256, whole.Marshal())
	command, _ := from.PutBytes(t.Context(), action.SHA256, (&action.Command{Arguments: []string{"true"}}).Marshal())
	act := (&action.Action{Command: command, InputRoot: action.Sum(action.SHA256, nil)}).Marshal()
	key, _ := from.PutBytes(t.Context(), action.SHA256, act)
	res := &action.Result{
		Files:       []action.OutputFile{{Path: "f", Digest: put(t, from, action.SHA256, 0, 1, 99)[2]}},
		Directories: []action.OutputDirectory{{Path: "d", Tree: treeDigest, Sorted: true}},
		StdoutRaw:   []byte("hello\n"),
	}
	if _, err := c.Result(t.Context(), key); !errors.Is(err, action.ErrMiss) {
		t.Errorf("before: %v, want a miss", err)
	}
	m, err := remote.ToResult(res)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutResult(t.Context(), key, m); err == nil {
		t.Error("control: the server took a result of which it has nothing")
	}
	if err := errors.Join(
		c.UploadResult(t.Context(), from, res), c.Upload(t.Context(), from, []action.Digest{key, command}),
		c.PutResult(t.Context(), key, m),
	); err != nil {
		t.Fatal(err)
	}
	got, err := c.Result(t.Context(), key)
	if err != nil || !bytes.Equal(got.Marshal(), res.Marshal()) {
		t.Fatalf("%+v, %v, want %+v", got, err, res)
	}
	if err := c.DownloadResult(t.Context(), to, got); err != nil {
		t.Fatal(err)
	}
	if err := to.PutResult(t.Context(), key, got); err != nil {
		t.Error("after the download something is missing: ", err)
	}
}

func TestServerWithoutOurFunction(t *testing.T) {
	server := &remotetest.Server{Functions: []rexec.DigestFunction_Value{rexec.DigestFunction_SHA256}}
	c := dial(t, server, remote.Options{})
	if err := c.Check(t.Context(), action.SHA256); err != nil {
		t.Error(err)
	}
	if err := c.Check(t.Context(), action.BLAKE3); !errors.Is(err, remote.ErrFunction) {
		t.Errorf("%v, want %v", err, remote.ErrFunction)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"grpc://h:1/a/b/":    "grpc://h:1/a/b",
		"grpc://h":           "grpc://h:8980",
		"grpcs://h/x":        "grpcs://h:443/x",
		"grpc://[::1]:80":    "grpc://[::1]:80",
		"unix:/run/s":        "unix:/run/s",
		"unix:///run/s":      "unix:/run/s",
		"http://h":           "!grpc://",
		"h:1":                "!grpc://",
		"":                   "!grpc://",
		"grpc://":            "!no host",
		"grpc://u:p@h":       "!header",
		"grpc://h:0":         "!port",
		"grpc://h:99999":     "!port",
		"grpc://h/blobs":     "!blobs",
		"grpc://h/a//b":      "!empty",
		"grpc://h/a?x":       "!?x",
		"grpc://h/uploads/x": "!uploads",
		"unix:":              "!path",
	} {
		a, err := remote.ParseAddress(in)
		if why, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "u:p") {
				t.Errorf("%q: %v, want an error with %q", in, err, why)
			}
			continue
		}
		if err != nil || a.String() != want {
			t.Errorf("%q: %v, %v, want %s", in, a, err, want)
			continue
		}
		if b, err := remote.ParseAddress(want); err != nil || b != a {
			t.Errorf("%q: %+v, %v, want %+v", want, b, err, a)
		}
	}
}
