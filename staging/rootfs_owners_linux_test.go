package staging

import (
	"archive/tar"
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// odd is an archive with everything that a tree cannot hold.
func odd(t *testing.T) []byte {
	return archive(
		t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 5},
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, Gid: 42},
		tar.Header{Name: "d/plain", Mode: 0o644},
		tar.Header{Name: "d/run", Mode: 0o755},
		tar.Header{Name: "d/su do\n#=", Mode: 0o4755, Uid: 1 << 20, Gid: 3},
		tar.Header{Name: "d/\u00fc", Mode: 0o600},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d", Mode: 0o777, Uid: 7},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "sda", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 8},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600},
		tar.Header{Name: "x", Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.a b": "\n\xff", "SCHILY.xattr.security.capability": "c"}},
		tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "x"},
	)
}

// TestExportTar: what comes out is what went in, and goes in again as the same.
func TestExportTar(t *testing.T) {
	store := newTestStore(t)
	first, err := ImportTar(t.Context(), store, bytes.NewReader(odd(t)), ImportOptions{Function: action.BLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	owners, err := ReadOwners(t.Context(), store, first.Owners)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ExportTar(t.Context(), store, first.Tree, owners, &out); err != nil {
		t.Fatal(err)
	}
	again, err := ImportTar(t.Context(), store, bytes.NewReader(out.Bytes()), ImportOptions{Function: action.BLAKE3})
	if err != nil || again.Tree != first.Tree || again.Owners != first.Owners {
		t.Errorf("%+v, %v, want %+v", again, err, first)
	}
	in, want := headers(t, odd(t)), headers(t, out.Bytes())
	delete(in, "h") // is a file of its own
	delete(want, "h")
	if !reflect.DeepEqual(in, want) {
		t.Errorf("out %+v\nin  %+v", want, in)
	}
}

func headers(t *testing.T, data []byte) map[string]Owner {
	list := map[string]Owner{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list[strings.Trim(h.Name, "./")] = Owner{NodeType(h.Typeflag), h.Uid, h.Gid, uint32(h.Mode), h.Devmajor, h.Devminor, tarXattrs(h)}
	}
}

// TestLayers: whiteouts hide what is below, in any order, and nothing else.
func TestLayers(t *testing.T) {
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
	for name, c := range map[string]struct {
		layers [][]tar.Header
		want   spec
	}{
		"file":               {[][]tar.Header{{{Name: "a"}, {Name: "b"}}, {{Name: ".wh.a"}}}, spec{"b": "b"}},
		"directory":          {[][]tar.Header{{{Name: "d/a"}, {Name: "b"}}, {{Name: ".wh.d"}}}, spec{"b": "b"}},
		"put back":           {[][]tar.Header{{{Name: "d/a"}}, {{Name: ".wh.d"}, {Name: "d/b"}}}, spec{"d/b": "d/b"}},
		"put back before":    {[][]tar.Header{{{Name: "d/a"}}, {{Name: "d/b"}, {Name: ".wh.d"}}}, spec{"d/b": "d/b"}},
		"opaque":             {[][]tar.Header{{{Name: "d/a"}, {Name: "d/e/a"}}, {{Name: "d/b"}, {Name: "d/.wh..wh..opq"}}}, spec{"d/b": "d/b"}},
		"opaque and empty":   {[][]tar.Header{{{Name: "d/a"}}, {dir("d/"), {Name: "d/.wh..wh..opq"}}}, spec{"d/": ""}},
		"own layer stays":    {[][]tar.Header{{{Name: "a"}, {Name: ".wh.a"}}}, spec{"a": "a"}},
		"nothing there":      {[][]tar.Header{{{Name: "a"}}, {{Name: ".wh.b"}, {Name: "c/.wh.x"}}}, spec{"a": "a", "c/": ""}},
		"aufs":               {[][]tar.Header{{{Name: "a"}}, {{Name: ".wh..wh.plnk"}, {Name: ".wh..wh.aufs"}}}, spec{"a": "a"}},
		"third":              {[][]tar.Header{{{Name: "a"}}, {{Name: ".wh.a"}}, {{Name: "a"}}}, spec{"a": "a"}},
		"through a link":     {[][]tar.Header{{dir("usr/lib/"), link("lib", "usr/lib")}, {{Name: "lib/x"}}}, spec{"usr/lib/x": "lib/x", "lib": "-> usr/lib"}},
		"link out stays in":  {[][]tar.Header{{link("l", "../../../../e")}, {{Name: "l/x"}}}, spec{"e/x": "l/x", "l": "-> ../../../../e"}},
		"absolute link":      {[][]tar.Header{{link("d/l", "/e/f")}, {{Name: "d/l/x"}}}, spec{"e/f/x": "d/l/x", "d/l": "-> /e/f"}},
		"link becomes a dir": {[][]tar.Header{{link("l", "e")}, {dir("l/"), {Name: "l/x"}}}, spec{"l/x": "l/x"}},
	} {
		store := newTestStore(t)
		im := NewImporter(t.Context(), store, ImportOptions{Function: action.SHA256})
		for _, l := range c.layers {
			if err := im.Layer(bytes.NewReader(archive(t, l...))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		out, err := im.Finish()
		if want := c.want.add(t, store, action.SHA256); err != nil || out.Tree != want {
			t.Errorf("%s: %+v, %v, want %v", name, out, err, want)
		}
	}
	for name, layers := range map[string][][]tar.Header{
		"loop":             {{link("l", "l")}, {{Name: "l/x"}}},
		"link of its own":  {{link("l", "d"), {Name: "l/x"}}},
		"through a file":   {{{Name: "f"}}, {{Name: "f/x"}}},
		"whiteout of .":    {{{Name: "d/.wh.."}}},
		"whiteout of ..":   {{{Name: "d/.wh..."}}},
		"whiteout of none": {{{Name: ".wh."}}},
	} {
		im := NewImporter(t.Context(), newTestStore(t), ImportOptions{})
		var err error
		for _, l := range layers {
			if err = im.Layer(bytes.NewReader(archive(t, l...))); err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func FuzzParseOwners(f *testing.F) {
	f.Add([]byte("#mtree\n/set uid=0 gid=0\n. type=dir mode=1777\n./a\\040b type=char mode=0666 device=linux,1,3\n./x type=file mode=4755 uid=1 xattr.user.a\\075b=AP8=\n"))
	f.Add([]byte("./a type=link mode=0644"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseOwners(data)
		if err != nil {
			return
		}
		again, err := ParseOwners(list.Marshal())
		if err != nil {
			t.Fatalf("%v, of\n%s", err, list.Marshal())
		}
		if !bytes.Equal(list.Marshal(), again.Marshal()) {
			t.Errorf("%q, then %q", list.Marshal(), again.Marshal())
		}
	})
}
