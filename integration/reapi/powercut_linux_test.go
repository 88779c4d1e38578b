package reapi_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// damages are what a power cut leaves of a file whose contents had not reached
// the disk yet, though its name and size may have.
var damages = map[string]func(path string, size int64) error{
	"empty": func(path string, _ int64) error { return os.Truncate(path, 0) },
	"half":  func(path string, size int64) error { return os.Truncate(path, size/2) },
	"zeros": func(path string, size int64) error { return errors.Join(os.Truncate(path, 0), os.Truncate(path, size)) },
	"garbage": func(path string, size int64) error {
		return os.WriteFile(path, []byte(strings.Repeat("?", int(size))), 0)
	},
	"gone": func(path string, _ int64) error { return os.Remove(path) },
}

// cut damages every file below the store that is not in spare, and what was added
// to those that are. Times stay.
func (s *server) cut(t *testing.T, spare map[string]int64, damage func(string, int64) error) (n int) {
	t.Helper()
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		size, safe := spare[path]
		if err != nil || info.Size() == size {
			return err
		}
		n++
		if safe && info.Size() > size {
			return damageEnd(t, path, size, damage)
		}
		if err := errors.Join(os.Chmod(path, 0o600), damage(path, info.Size())); err != nil {
			return err
		}
		if err := errors.Join(os.Chmod(path, info.Mode()), os.Chtimes(path, info.ModTime(), info.ModTime())); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// damageEnd damages what follows the first size bytes of a file.
func damageEnd(t *testing.T, path string, size int64, damage func(string, int64) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	end := filepath.Join(t.TempDir(), "end")
	if err := errors.Join(os.WriteFile(end, data[size:], 0o600), damage(end, int64(len(data))-size)); err != nil {
		return err
	}
	rest, err := os.ReadFile(end)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, append(data[:size:size], rest...), 0)
}

// files are all files below the store, and their sizes.
func (s *server) files(t *testing.T) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				all[path] = info.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPowerCut: what was there at the last sync, which a server does each second,
// is there after a power cut. What came later may be lost, but clients never get
// anything that is wrong, and all is well when they send it again.
func TestPowerCut(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			s := startOnBoot(t, dir, "one")
			content := func(when string, i int) []byte {
				return fmt.Appendf(nil, "%s %d %s", when, i, strings.Repeat("x", 300*i))
			}
			result := func(when string) (key *repb.Digest, m *repb.ActionResult) {
				m = &repb.ActionResult{}
				for i := range 10 {
					m.OutputFiles = append(m.OutputFiles, &repb.OutputFile{Path: fmt.Sprint(i), Digest: reapi.ToDigest(action.Sum(action.SHA256, content(when, i)))})
				}
				return reapi.ToDigest(action.Sum(action.SHA256, []byte(when))), m
			}
			put := func(s *server, when string) {
				t.Helper()
				for i := range 10 {
					s.put(action.SHA256, content(when, i))
				}
				key, m := result(when)
				if _, err := s.ac.UpdateActionResult(t.Context(), &repb.UpdateActionResultRequest{ActionDigest: key, ActionResult: m}); err != nil {
					t.Fatal(err)
				}
			}
			made := call{script: "echo made in the sandbox > out", command: outputs("out")}
			put(s, "before")
			if err := s.store.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			safe := s.files(t)
			put(s, "after")
			s.succeed(s.action(made))
			s.stop()
			if n := s.cut(t, safe, damage); n < 15 {
				t.Fatalf("only %d files were damaged: the test would prove nothing", n)
			}

			s = startOnBoot(t, dir, "two")
			for _, when := range []string{"before", "after"} {
				lost := 0
				for i := range 10 {
					d := action.Sum(action.SHA256, content(when, i))
					res, err := s.cas.FindMissingBlobs(t.Context(), &repb.FindMissingBlobsRequest{BlobDigests: []*repb.Digest{reapi.ToDigest(d)}})
					if err != nil {
						t.Fatal(err)
					}
					data, err := s.readAll(&bytestream.ReadRequest{ResourceName: reapi.BlobName(d)})
					switch {
					case err == nil && string(data) != string(content(when, i)):
						t.Errorf("%s %d: it has %d bytes that are wrong", when, i, len(data))
					case status.Code(err) == codes.NotFound && len(res.MissingBlobDigests) == 1:
						lost++
					case err != nil || len(res.MissingBlobDigests) > 0:
						t.Errorf("%s %d: missing %v, then %v", when, i, res.MissingBlobDigests, err)
					}
				}
				if when == "before" && lost > 0 {
					t.Errorf("%d blobs are lost that were there at the last sync", lost)
				}
				if when == "after" && lost == 0 {
					t.Error("nothing is lost of what was damaged: the test proves nothing")
				}
				key, m := result(when)
				got, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: key})
				if lost == 0 && (err != nil || len(got.OutputFiles) != len(m.OutputFiles)) {
					t.Errorf("the result from %s: %v, %v", when, got, err)
				}
				if lost > 0 && status.Code(err) != codes.NotFound {
					t.Errorf("the result from %s, of which %d blobs are lost: %v, %v", when, lost, got, err)
				}
			}
			res := s.succeed(s.action(made))
			if f := output(res.Result, "out"); f == nil || s.read(action.SHA256, f.Digest) != "made in the sandbox\n" {
				t.Errorf("an action that ran before: %v", res)
			}
			put(s, "after")
			key, _ := result("after")
			if _, err := s.ac.GetActionResult(t.Context(), &repb.GetActionResultRequest{ActionDigest: key}); err != nil {
				t.Errorf("after everything was sent again: %v", err)
			}
			for i := range 10 {
				if got := s.read(action.SHA256, reapi.ToDigest(action.Sum(action.SHA256, content("after", i)))); got != string(content("after", i)) {
					t.Errorf("after everything was sent again: %d is wrong", i)
				}
			}
		})
	}
}
