package share

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

func TestFrames(t *testing.T) {
	for _, fields := range [][]string{nil, {""}, {"a"}, {"", "b", strings.Repeat("c", 70_000), "\x00"}} {
		var b bytes.Buffer
		if err := WriteFrame(&b, Note, fields...); err != nil {
			t.Fatal(err)
		}
		kind, got, err := ReadFrame(&b)
		if err != nil || kind != Note || !slices.Equal(got, fields) || b.Len() > 0 {
			t.Errorf("%d fields came back as %d of kind %q, %v", len(fields), len(got), kind, err)
		}
	}
	if err := WriteFrame(io.Discard, Note, strings.Repeat("x", frameMax+1)); err == nil {
		t.Error("a frame that is too long was written")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 'n', 0})
	f.Add([]byte{5, 0, 0, 0, 'n', 3, 'a', 'b', 'c'})
	f.Add([]byte{5, 0, 0, 0, 'n', 9, 'a', 'b', 'c'})
	f.Add([]byte{255, 255, 255, 255, 'n'})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, fields, err := ReadFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteFrame(&b, kind, fields...); err != nil {
			t.Fatal(err)
		}
		k, again, err := ReadFrame(&b)
		if err != nil || k != kind || !slices.Equal(again, fields) {
			t.Errorf("%q became %q, %v", fields, again, err)
		}
	})
}

func TestTargets(t *testing.T) {
	want := Target{"/s", "grpc://h/i", "/ca", "/c", "/k", "/h", time.Second}
	if got, err := ParseTarget(want.Fields()); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]string{nil, {"sbx-share 2"}, want.Fields()[:3], append(want.Fields()[:7:7], "x"), append(want.Fields()[:7:7], "0s")} {
		if _, err := ParseTarget(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAnswers(t *testing.T) {
	if err := asked(Yes, nil); err != nil {
		t.Error(err)
	}
	if err := asked(Miss, []string{"x"}); !errors.Is(err, action.ErrMiss) {
		t.Error(err)
	}
	if d, ok := errors.AsType[*DownError](asked(Down, []string{"why", "1"})); !ok || !d.Say || d.Why != "why" {
		t.Error(d)
	}
	if err := asked(Error, nil); err == nil {
		t.Error("no error")
	}
	if err := asked('?', nil); err == nil {
		t.Error("an unknown kind is no error")
	}
}

func TestAddresses(t *testing.T) {
	for s, why := range map[string]string{
		"grpc://h": "", "grpcs://h:443/a/b": "", "grpc://[::1]:80/x": "", "grpc://[::1]": "",
		"http://h": "want grpc", "grpc://": "want grpc", "grpc://:80": "want grpc", "grpc://h:x": "port", "grpc://h:0": "port",
		"grpc://h:99999": "port", "grpc://u:secret@h": "header", "grpc://h/a/blobs": "blobs", "grpc://h/x?y": "want grpc", "": "want grpc",
	} {
		err := CheckAddress(s)
		if (err == nil) != (why == "") || err != nil && (!strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v, want %q", s, err, why)
		}
	}
}

// TestSocketPlace: what others can enter is no place for a socket.
func TestSocketPlace(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		mode os.FileMode
		ok   bool
	}{{0o700, true}, {0o750, false}, {0o777, false}} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SBX_REMOTE_SOCKET", filepath.Join(dir, "s"))
		if _, err := SocketPath(); (err == nil) != c.ok {
			t.Errorf("mode %v: %v", c.mode, err)
		}
	}
	os.Chmod(dir, 0o700)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SBX_REMOTE_SOCKET", filepath.Join(link, "s"))
	if _, err := SocketPath(); err == nil {
		t.Error("a link was taken")
	}
	t.Setenv("SBX_REMOTE_SOCKET", filepath.Join(dir, strings.Repeat("x", 120)))
	if _, err := SocketPath(); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("a long path: %v", err)
	}
	t.Setenv("SBX_REMOTE_SOCKET", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if p, err := SocketPath(); err != nil || !strings.HasPrefix(p, dir) {
		t.Errorf("XDG_RUNTIME_DIR: %q, %v", p, err)
	}
}
