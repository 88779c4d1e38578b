package action

import (
	"bytes"
	"strings"
	"testing"
)

// TestFunctionVectors holds every function against values that others publish:
// FIPS 180 and RFC 1321 for "abc", the BLAKE3 team's test_vectors.json for the
// bytes 0, 1 and 2, and what git calls its two best known blobs. SHA256TREE has
// its own in internal/sha256tree.
func TestFunctionVectors(t *testing.T) {
	for _, v := range []struct {
		f         Function
		data, sum string
	}{
		{SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{SHA256Tree, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{SHA384, "abc", "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"},
		{SHA512, "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
		{BLAKE3, "\x00\x01\x02", "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"},
		{GitSHA1, "", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"},
		{GitSHA1, "hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"},
	} {
		d := Sum(v.f, []byte(v.data))
		if d.Hash() != v.sum {
			t.Errorf("%v of %q is %s, want %s", v.f, v.data, d.Hash(), v.sum)
		}
		h := v.f.NewSized(int64(len(v.data)))
		for i := range v.data {
			h.Write([]byte(v.data[i : i+1]))
		}
		if got, err := DigestOf(v.f, h.Sum(nil), d.Size()); err != nil || got != d {
			t.Errorf("%v of %q in pieces is %v, %v", v.f, v.data, got, err)
		}
	}
}

func TestEveryFunctionRoundTrips(t *testing.T) {
	for _, f := range Functions() {
		d := Sum(f, []byte("some text"))
		if got, err := ParseDigest(d.String()); err != nil || got != d {
			t.Errorf("ParseDigest(%v) = %v, %v", d, got, err)
		}
		if n := len(d.Hash()); n != 2*f.Size() {
			t.Errorf("%v has %d digits, want %d", d, n, 2*f.Size())
		}
		tree := &Tree{Root: Directory{Files: []FileNode{{Name: "a", Digest: d}}}}
		back, err := ParseTree(tree.Marshal(), f)
		if err != nil || back.Root.Files[0].Digest != d {
			t.Errorf("%v: a tree gives back %v, %v", f, back, err)
		}
		if _, err := ParseHash(f, strings.Repeat("0", 2*f.Size()-1), 1); err == nil {
			t.Errorf("%v: a hash that is too short was taken", f)
		}
		short, err := Shortened(f, d.Bytes(), d.Size())
		if err != nil || short.Bytes() != d.Bytes() {
			t.Errorf("Shortened(%v) = %v, %v", d, short, err)
		}
		if got := d.AppendHash(nil); f.Size() <= 32 && !bytes.Equal(got, d.sum[:f.Size()]) {
			t.Errorf("%v: AppendHash gives %x", d, got)
		}
	}
}
