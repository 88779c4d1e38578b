package images

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// dockerArchive is what 'docker save' wrote until version 25: directories with
// layer.tar, equal layers as links.
func dockerArchive(t *testing.T, tags ...string) string {
	t.Helper()
	layers := [][]byte{entries(t, "a/", "a/x=1", "4755:su=x"), entries(t, "a/.wh.x", "a/y=2")}
	var ids []string
	for _, l := range layers {
		sum := sha256.Sum256(l)
		ids = append(ids, `"sha256:`+hex.EncodeToString(sum[:])+`"`)
	}
	ids = append(ids, ids[1])
	dirs := []string{strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"],"User":"7"},"rootfs":{"type":"layers","diff_ids":[%s]}}`, strings.Join(ids, ","))
	var images []string
	for _, tag := range tags {
		images = append(images, fmt.Sprintf(`{"Config":"c.json","RepoTags":[%q],"Layers":["%s/layer.tar","%s/layer.tar","%s/layer.tar"]}`, tag, dirs[0], dirs[1], dirs[2]))
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	data := entries(t, dirs[0]+"/", dirs[0]+"/layer.tar="+string(layers[0]), dirs[1]+"/layer.tar="+string(layers[1]), dirs[2]+"/layer.tar->../"+dirs[1]+"/layer.tar",
		"c.json="+config, "manifest.json=["+strings.Join(images, ",")+"]")
	if err := os.WriteFile(file, gzipped(t, data), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDocker(t *testing.T) {
	s := store(t)
	im, err := Import(t.Context(), s, dockerArchive(t, "x:1"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := "5 755 0:0 ./ \n0 4755 0:0 su x\n5 755 0:0 a/ \n0 644 0:0 a/y 2\n"
	if got := paths(t, s, im); got != want || im.Config.Args[0] != "/bin/sh" || im.Config.User != "7" {
		t.Errorf("%s%+v, want\n%s", got, im.Config, want)
	}
	two := dockerArchive(t, "x:1", "x:2")
	if _, err := Import(t.Context(), s, two, Options{}); err == nil || !strings.Contains(err.Error(), "x:2") {
		t.Errorf("two images: %v", err)
	}
	if _, err := Import(t.Context(), s, two, Options{Tag: "x:2"}); err != nil {
		t.Error(err)
	}
	if _, err := Import(t.Context(), s, two, Options{Tag: "x:1", Platform: "linux/arm64"}); err == nil {
		t.Error("an image of another platform was taken")
	}
}

func TestACI(t *testing.T) {
	manifest := `{"acKind":"ImageManifest","acVersion":"0.8.0","name":"example.com/x","app":{"exec":["/bin/x","-v"],
		"user":"7","group":"8","workingDirectory":"/w","environment":[{"name":"A","value":"1"}]}%s}`
	tree := []string{"rootfs/", "rootfs/bin/", "755:rootfs/bin/x=x", "rootfs/hard=>rootfs/bin/x", "rootfs/l->../../etc"}
	pack := func(extra string, more ...string) string {
		file := filepath.Join(t.TempDir(), "x.aci")
		data := entries(t, append(append([]string{"manifest=" + fmt.Sprintf(manifest, extra)}, tree...), more...)...)
		if err := os.WriteFile(file, gzipped(t, data), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	s := store(t)
	im, err := Import(t.Context(), s, pack(""), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := "5 755 0:0 ./ \n0 755 0:0 hard x\n2 777 0:0 l ../../etc\n5 755 0:0 bin/ \n0 755 0:0 bin/x x\n"
	got := paths(t, s, im)
	config := Config{[]string{"/bin/x", "-v"}, []string{"A=1"}, "/w", "7", "8"}
	if got != want || fmt.Sprint(*im.Config) != fmt.Sprint(config) {
		t.Errorf("%s%+v, want\n%s", got, im.Config, want)
	}
	for why, file := range map[string]string{
		"builds upon":   pack(`,"dependencies":[{"imageName":"example.com/base"}]`),
		"pathWhitelist": pack(`,"pathWhitelist":["/bin"]`),
		"inside":        pack("", "rootfs/../../x=1"),
		"hard link":     pack("", "rootfs/h=>/etc/shadow"),
	} {
		if _, err := Import(t.Context(), s, file, Options{}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestArchives(t *testing.T) {
	plain := entries(t, "./", "./etc/", "./etc/motd=hello")
	s := store(t)
	var first action.Digest
	for name, data := range map[string][]byte{"plain": plain, "gz": gzipped(t, plain), "xz": xzed(t, plain), "zst": zstded(t, plain)} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		im, err := Import(t.Context(), s, file, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if first.IsZero() {
			first = im.Tree
		}
		if im.Tree != first || im.Files != 1 || im.Kind != "tar" {
			t.Errorf("%s: %+v, want tree %v", name, im, first)
		}
	}
}
