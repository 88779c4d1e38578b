package cc

import (
	"slices"
	"testing"
)

// TestWritable has directories, on the way to where a call writes, that cannot be copied
// into a layer: they are somebody else's.
func TestWritable(t *testing.T) {
	for _, c := range []struct {
		name         string
		dirs, others []string
		want         []string
	}{
		{"control: all are ours", []string{"/tmp/a/b/c", "/tmp/a/b/d"}, nil, []string{"/tmp/a"}},
		{"the zone is somebody else's", []string{"/tmp/a/b/c"}, []string{"/tmp/a"}, []string{"/tmp/a"}},
		{"one between", []string{"/tmp/a/b/c"}, []string{"/tmp/a/b"}, []string{"/tmp/a/b"}},
		{"an output around the project", []string{"/tmp/a/b/c", "/tmp"}, nil, []string{"/tmp"}},
		{"an output around the project, one between", []string{"/tmp/a/b/c", "/tmp"}, []string{"/tmp/a"}, []string{"/tmp", "/tmp/a"}},
		{"two between", []string{"/tmp/a/b/c", "/tmp/a/x", "/tmp"}, []string{"/tmp/a", "/tmp/a/b"}, []string{"/tmp", "/tmp/a", "/tmp/a/b"}},
	} {
		v := &view{dirs: c.dirs}
		have := v.writable(func(dir string) bool { return !slices.Contains(c.others, dir) })
		if !slices.Equal(have, c.want) {
			t.Errorf("%s: %q, want %q", c.name, have, c.want)
		}
	}
}
