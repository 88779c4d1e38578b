package reapi_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
)

// TestSmallActionsMakeNoFiles: an action with small inputs costs the file system no
// file, neither for what it reads nor for what is remembered of it, and is remembered
// all the same, also by the next server. An input that is no small one has its file.
func TestSmallActionsMakeNoFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s := startIn(t, dir, nil)
	large := strings.Repeat("large ", 1000)
	root := &repb.Directory{Files: []*repb.FileNode{
		{Name: "large", Digest: s.put(action.SHA256, []byte(large))}, {Name: "small", Digest: s.put(action.SHA256, []byte("small"))},
	}}
	d := s.action(call{script: "cat small; wc -c <large", root: root})
	if res := s.succeed(d); res.CachedResult || string(res.Result.StdoutRaw) != "small6000\n" {
		t.Errorf("%v", res)
	}
	data, err := proto.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]struct {
		data []byte
		file bool
	}{"the small input": {[]byte("small"), false}, "the directory": {data, false}, "the large input": {[]byte(large), true}} {
		_, err := os.Lstat(s.store.BlobDir() + s.store.BlobPath(action.Sum(action.SHA256, want.data)))
		if (err == nil) != want.file || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: that it has a file is not %v: %v", what, want.file, err)
		}
	}
	if files, err := filepath.Glob(filepath.Join(dir, "result", "*", "*", "*")); err != nil || len(files) > 0 {
		t.Errorf("results have files: %q, %v", files, err)
	}
	for range 2 {
		if res := s.succeed(d); !res.CachedResult || string(res.Result.StdoutRaw) != "small6000\n" {
			t.Errorf("again: %v", res)
		}
		s.stop()
		s = startIn(t, dir, nil)
	}
}
