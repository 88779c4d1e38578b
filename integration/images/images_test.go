package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/staging"
)

// entries makes a tar archive. An entry is NAME=CONTENT, NAME/, NAME->TARGET or
// NAME=>TARGET for a hard link; a number in front and a colon is the mode.
func entries(t *testing.T, list ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Name: e, Format: tar.FormatPAX}
		if mode, rest, ok := strings.Cut(e, ":"); ok && strings.Trim(mode, "01234567") == "" {
			fmt.Sscanf(mode, "%o", &h.Mode)
			h.Name = rest
		}
		content := ""
		if name, target, ok := strings.Cut(h.Name, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, target
		} else if name, target, ok := strings.Cut(h.Name, "->"); ok {
			h.Typeflag, h.Mode, h.Name, h.Linkname = tar.TypeSymlink, 0o777, name, target
		} else if strings.HasSuffix(h.Name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else if name, text, ok := strings.Cut(h.Name, "="); ok {
			h.Name, content = name, text
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func store(t *testing.T) *cache.Store {
	t.Helper()
	s, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// paths lists a tree: what [staging.ExportTar] writes of it, an entry a line.
func paths(t *testing.T, s *cache.Store, im *Image) string {
	t.Helper()
	owners, err := staging.ReadOwners(t.Context(), s, im.Owners)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := staging.ExportTar(t.Context(), s, im.Tree, owners, &b); err != nil {
		t.Fatal(err)
	}
	return list(t, &b)
}

func list(t *testing.T, r io.Reader) string {
	t.Helper()
	var out strings.Builder
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%c %o %d:%d %s %s%s\n", h.Typeflag, h.Mode, h.Uid, h.Gid, h.Name, content, h.Linkname)
	}
}

func layer(data []byte, kind types.MediaType) v1.Layer { return static.NewLayer(data, kind) }

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func zstded(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

// twoLayers is an image whose second layer hides and adds things.
func twoLayers(t *testing.T, arch string) v1.Image {
	t.Helper()
	first := entries(t, "d/", "d/gone=1", "d/kept=1", "opaque/", "opaque/old=1", "opaque/sub/", "opaque/sub/old=1",
		"usr/", "usr/lib/", "lib->usr/lib", "4755:su=x", "replaced/", "replaced/x=1", "arch="+arch)
	second := entries(t, "d/.wh.gone", "opaque/new=2", "opaque/.wh..wh..opq", "opaque/sub/", "opaque/sub/new=2",
		"lib/added=2", "replaced=now a file", "hard=>/d/kept")
	img, err := mutate.Append(empty.Image,
		mutate.Addendum{Layer: layer(gzipped(t, first), types.OCILayer)},
		mutate.Addendum{Layer: layer(zstded(t, second), types.OCILayerZStd)},
	)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	config.Config = v1.Config{Entrypoint: []string{"/init"}, Cmd: []string{"-x"}, Env: []string{"A=1"}, WorkingDir: "/w", User: "7:8"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

const twoLayersWant = `5 755 0:0 ./ 
0 644 0:0 arch %s
0 644 0:0 hard 1
0 644 0:0 replaced now a file
0 4755 0:0 su x
2 777 0:0 lib usr/lib
5 755 0:0 d/ 
0 644 0:0 d/kept 1
5 755 0:0 opaque/ 
0 644 0:0 opaque/new 2
5 755 0:0 opaque/sub/ 
0 644 0:0 opaque/sub/new 2
5 755 0:0 usr/ 
5 755 0:0 usr/lib/ 
0 644 0:0 usr/lib/added 2
`

// ociLayout writes an index of two platforms below an index, and one more image
// with a tag.
func ociLayout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	both := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: twoLayers(t, "amd64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: twoLayers(t, "arm64"), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
	)
	if err := p.AppendIndex(both, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "both"})); err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(twoLayers(t, "riscv64"), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "one"})); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOCI(t *testing.T) {
	dir := ociLayout(t)
	archive := filepath.Join(t.TempDir(), "image")
	// As skopeo does: the blobs come first.
	cmd := exec.Command("tar", "-C", dir, "-cf", archive, "blobs", "oci-layout", "index.json")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	packed := archive + ".xz"
	if err := os.WriteFile(packed, xzed(t, data), 0o600); err != nil {
		t.Fatal(err)
	}
	s := store(t)
	trees := map[action.Digest]bool{}
	for _, source := range []string{dir, archive, packed} {
		for _, c := range []struct{ platform, tag, arch, refused string }{
			{"linux/arm64", "", "arm64", ""},
			{"", "one", "riscv64", ""}, // there is no other of that name
			{"linux/amd64", "both", "amd64", ""},
			{"linux/s390x", "", "", `for linux/arm64, sha256:`}, // the error says what there is
			{"", "none", "", `tag "both"`},
			{"windows", "", "", "OS/ARCHITECTURE"},
			{"linux/arm64", "one", "", "no image for the platform linux/arm64"},
		} {
			im, err := Import(t.Context(), s, source, Options{Platform: c.platform, Tag: c.tag})
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s %+v: %v", source, c, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s %+v: %v", source, c, err)
				continue
			}
			if got, want := paths(t, s, im), fmt.Sprintf(twoLayersWant, c.arch); got != want {
				t.Errorf("%s %+v:\n%swant\n%s", source, c, got, want)
			}
			want := Config{[]string{"/init", "-x"}, []string{"A=1"}, "/w", "7", "8"}
			if fmt.Sprint(*im.Config) != fmt.Sprint(want) {
				t.Errorf("config %+v, want %+v", *im.Config, want)
			}
			trees[im.Tree] = true
		}
	}
	if len(trees) != 3 {
		t.Errorf("%d trees, want one for each platform, however it was packed", len(trees))
	}
}

func xzed(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDamagedOCI changes one byte of each blob in turn: nothing is imported.
func TestDamagedOCI(t *testing.T) {
	dir := ociLayout(t)
	blobs, err := filepath.Glob(dir + "/blobs/sha256/*")
	if err != nil || len(blobs) < 8 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	refused := 0
	for _, file := range blobs {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(data)
		bad[len(bad)-1] ^= 1
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{Platform: "linux/arm64"}, {Platform: "linux/amd64"}, {Tag: "one"}} {
			im, err := Import(t.Context(), store(t), dir, o)
			if err != nil {
				refused++
			} else if n := im.Files; n != 9 {
				t.Errorf("%s damaged, %+v: %d files", file, o, n)
			}
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if refused < len(blobs) { // each blob belongs to at least one image
		t.Errorf("%d blobs, but only %d imports were refused", len(blobs), refused)
	}
}

// TestOCILinks: a layout whose blobs are links to what is outside.
func TestOCILinks(t *testing.T) {
	dir := ociLayout(t)
	blobs, _ := filepath.Glob(dir + "/blobs/sha256/*")
	outside := t.TempDir()
	for _, file := range blobs {
		if err := os.Rename(file, filepath.Join(outside, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, filepath.Base(file)), file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Import(t.Context(), store(t), dir, Options{Tag: "one"}); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestBadSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	bomb := gzipped(t, entries(t, "x="+strings.Repeat("0", 1<<20)))
	imageBomb := gzipped(t, entries(t, "blobs/", "x="+strings.Repeat("0", 1<<20)))
	for name, c := range map[string]struct{ source, want string }{
		"nothing":      {dir + "/nowhere", "no such file"},
		"a device":     {"/dev/null", "neither a directory nor a file"},
		"text":         {write("text", []byte("hello, this is text and no archive at all")), "neither a directory nor a tar archive"},
		"empty":        {write("empty", nil), "empty archive"},
		"cut gzip":     {write("cut", bomb[:len(bomb)/2]), "unexpected EOF"},
		"bomb":         {write("bomb", bomb), "more than"},
		"image bomb":   {write("bomb2", imageBomb), "more than"},
		"up":           {write("up", entries(t, "../x=1")), "inside"},
		"absolute":     {write("abs", entries(t, "/etc/passwd=1")), "inside"},
		"no schroot":   {"schroot:nowhere", "no schroot of that name"},
		"empty layout": {write("layout", entries(t, "oci-layout={}", `index.json={"schemaVersion":2,"manifests":[]}`)), "no image in it"},
		"bad digest": {write("digest", entries(t, "oci-layout={}",
			`index.json={"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:../../../../etc/passwd"}]}`)), "index.json"},
		"loop": {write("loop", entries(t, "oci-layout={}", "index.json->index.json")), "too many links"},
	} {
		s := store(t)
		_, err := Import(t.Context(), s, c.source, Options{ImportOptions: staging.ImportOptions{MaxBytes: 500 << 10}})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.source) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if much := c.want == "more than"; errors.Is(err, staging.ErrTooMuch) != much || much && strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: %v: is it said to be too much, or bad?", name, err)
		}
	}
	if _, err := Import(t.Context(), store(t), dir, Options{Platform: "linux/amd64"}); err == nil {
		t.Error("a directory has no platforms, but none was missed")
	}
}

func TestSchroot(t *testing.T) {
	etc := t.TempDir()
	if err := os.Mkdir(etc+"/chroot.d", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"schroot.conf":   "# none here\n",
		"chroot.d/a":     "[sid]\ntype=directory\naliases=unstable,default\ndirectory=/srv/sid\n\n[packed]\ntype = file\nfile = /srv/sid.tar.gz\n",
		"chroot.d/other": "[lv]\ntype=lvm-snapshot\ndevice=/dev/x\n[rel]\ndirectory=srv\n",
	} {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"sid": "/srv/sid", "default": "/srv/sid", "packed": "/srv/sid.tar.gz", "lv": "lvm-snapshot", "rel": "absolute", "x": "sid"} {
		got, err := schrootSource(etc, name)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if err := os.WriteFile(etc+"/schroot.conf", []byte("key=value\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := schrootSource(etc, "sid"); err == nil || !strings.Contains(err.Error(), "schroot.conf:1") {
		t.Errorf("bad definition: %v", err)
	}
}

// TestAsUmociDoes compares with what umoci unpacks from the same layout.
func TestAsUmociDoes(t *testing.T) {
	if _, err := exec.LookPath("umoci"); err != nil {
		t.Fatalf("%v: apt-get install umoci", err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	img := empty.Image
	for _, data := range [][]byte{
		entries(t, "a/", "a/1=1", "a/2=2", "b/", "b/c/", "b/c/1=1", "l->a", "755:x=x"),
		entries(t, "a/.wh.1", "b/c/.wh..wh..opq", "b/c/2=2", "a/3=3", "h=>a/3"),
	} {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		l, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "x"})); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "bundle")
	cmd := exec.Command("umoci", "unpack", "--rootless", "--image", dir+":x", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	s := store(t)
	im, err := Import(t.Context(), s, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Import(t.Context(), s, filepath.Join(out, "rootfs"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if im.Tree != theirs.Tree {
		t.Errorf("ours\n%stheirs\n%s", paths(t, s, im), paths(t, s, theirs))
	}
}
