package reapi

import (
	"strings"
	"testing"
)

// FuzzParseRead holds: what is parsed, written again, is what was parsed.
func FuzzParseRead(f *testing.F) {
	const hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for _, s := range []string{
		"blobs/" + hash + "/3", "a/b/blobs/" + hash + "/3", "blobs/blake3/" + hash + "/3", "compressed-blobs/zstd/" + hash + "/3",
		"uploads/u/blobs/" + hash + "/3", "/blobs/" + hash + "/3", "blobs/" + hash[:40] + "/3", "x/compressed-blobs/zstd/gitsha1/" + hash[:40] + "/3",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRead(s)
		if err != nil {
			return
		}
		name := BlobName(r.Digest)
		if r.Compressor != 0 {
			name = "compressed-" + strings.Replace(name, "blobs/", "blobs/zstd/", 1)
		}
		if r.Instance != "" {
			name = r.Instance + "/" + name
		}
		// A function may be named though it need not be.
		if name != s && name != strings.Replace(s, r.Digest.Function().String()+"/", "", 1) {
			t.Errorf("%q was parsed, and is written as %q", s, name)
		}
		if InstanceOf(s) != r.Instance || CheckInstance(r.Instance) != nil {
			t.Errorf("%q: instance %q for rights, %q for the blob", s, InstanceOf(s), r.Instance)
		}
	})
}

func TestLongNames(t *testing.T) {
	const blob = "/blobs/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad/3"
	longest := "uploads/" + strings.Repeat("u", nameMax-len("uploads/"+blob)) + blob
	if _, err := ParseWrite(longest); err != nil {
		t.Errorf("%d bytes: %v", len(longest), err)
	}
	if _, err := ParseWrite(longest + "/"); err == nil {
		t.Errorf("%d bytes are taken", len(longest)+1)
	}
}

// FuzzParseWrite holds: whoever checks rights sees the same instance as the
// store.
func FuzzParseWrite(f *testing.F) {
	const hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	f.Add("uploads/u/blobs/" + hash + "/3/name.o")
	f.Add("a/uploads/u/compressed-blobs/zstd/blake3/" + hash + "/3")
	f.Add("logstreams/x/uploads/u/blobs/" + hash + "/3")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseWrite(s)
		if err == nil && (InstanceOf(s) != r.Instance || r.Upload == "" || r.Digest.IsZero()) {
			t.Errorf("%q: %+v, instance for rights %q", s, r, InstanceOf(s))
		}
	})
}
