package component

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// image is one with everything that an output must keep.
func image(t *testing.T, m *memory) *Image {
	t.Helper()
	tr := files(t, m, map[string]string{
		"bin/tool": "a tool", "etc/secret": "s", "link": "-> bin/tool", "a b/c \"d\"": "odd", "empty": "", "dev": "", "big": strings.Repeat("x", 100_000),
	})
	return &Image{Name: "test", Tree: tr.seal(&sealer{}), Arch: "amd64", Owners: staging.Owners{
		".":           {Type: staging.TypeDir, Mode: 0o750, UID: 3, GID: 4},
		"bin/tool":    {Type: staging.TypeFile, Mode: 0o4755},
		"etc/secret":  {Type: staging.TypeFile, Mode: 0o640, GID: 42},
		"empty":       {Type: staging.TypeDir, Mode: 0o1777},
		"dev/console": {Type: staging.TypeChar, Mode: 0o600, Major: 5, Minor: 1},
		"dev/sda":     {Type: staging.TypeBlock, Mode: 0o660, GID: 6, Major: 8},
	}}
}

// have wants each of these lines in what a program prints.
func have(t *testing.T, lines []string, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	text := strings.Join(strings.Fields(string(out)), " ")
	for _, l := range lines {
		if !strings.Contains(text, l) {
			t.Errorf("%s: no %q in\n%s", name, l, out)
		}
	}
}

// TestOutputs writes an image in each form, twice, reads it with the programs
// that others use, and wants the same bytes both times.
func TestOutputs(t *testing.T) {
	m := newMemory(t)
	w := &Writer{Blobs: m, Function: action.BLAKE3, Say: t.Logf}
	dir := t.TempDir()
	for kind, check := range map[OutputKind]func(string){
		TarOutput: func(p string) {
			have(t, []string{
				"-rwsr-xr-x 0/0 6 2011-11-11 11:11 bin/tool", "-rw-r----- 0/42 1 2011-11-11 11:11 etc/secret", "crw------- 0/0 5,1",
				"brw-rw---- 0/6 8,0", "drwxrwxrwt 0/0 0 2011-11-11 11:11 empty/", "link -> bin/tool",
			}, "tar", "--utc", "-tvf", p)
		},
		CpioOutput: func(p string) {
			have(t, []string{"-rwsr-xr-x 1 root root 6 Nov 11 2011 bin/tool", "5, 1 Nov 11 2011 dev/console", "8, 0 Nov 11 2011 dev/sda", "link -> bin/tool", "drwxrwxrwt"},
				"sh", "-c", "TZ=UTC cpio -itv <"+p)
		},
		SquashfsOutput: func(p string) {
			have(t, []string{"-rwsr-xr-x 0/0 6 2011-11-11 11:11 squashfs-root/bin/tool", "-rw-r----- 0/42", "crw------- 0/0 5, 1", "drwxrwxrwt 0/0", "drwxr-x--- 3/4 95 2011-11-11 11:11 squashfs-root "}, "unsquashfs", "-UTC", "-lln", p)
		},
		Ext4Output: func(p string) {
			have(t, nil, "/sbin/e2fsck", "-fn", p)
			have(t, []string{"Mode: 04755", "User: 0 Group: 0"}, "/sbin/debugfs", "-R", "stat /bin/tool", p)
			have(t, []string{"Mode: 0640", "Group: 42", "mtime: 0x4ebd02cf"}, "/sbin/debugfs", "-R", "stat /etc/secret", p)
			have(t, []string{"Type: character special Mode: 0600", "05:01"}, "/sbin/debugfs", "-R", "stat /dev/console", p)
			have(t, []string{"Type: block special Mode: 0660", "Group: 6"}, "/sbin/debugfs", "-R", "stat /dev/sda", p)
			have(t, []string{"odd"}, "/sbin/debugfs", "-R", `cat "/a b/c ""d"""`, p)
		},
		OCIOutput: func(p string) {
			have(t, []string{`"Architecture": "amd64"`, `"Os": "linux"`}, "skopeo", "inspect", "oci:"+p+":latest")
			bundle := filepath.Join(dir, "bundle")
			args := []string{"unpack", "--image", p + ":latest", bundle}
			if os.Geteuid() != 0 {
				args = append(args, "--rootless")
			}
			have(t, nil, "umoci", args...)
			have(t, []string{"a tool"}, "cat", bundle+"/rootfs/bin/tool")
			if err := removeAll(bundle); err != nil {
				t.Error(err)
			}
		},
		DirOutput: func(p string) {
			lines := []string{"-rwsr-xr-x", "drwxrwxrwt"}
			if os.Geteuid() == 0 {
				lines = append(lines, "crw-------", " 42 ")
			}
			have(t, lines, "ls", "-lRn", p)
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			var first string
			for range 2 {
				path := filepath.Join(dir, string(kind))
				if err := w.Write(t.Context(), image(t, m), Output{kind, path}); err != nil {
					t.Fatal(err)
				}
				check(path)
				out, err := exec.Command("sh", "-c", "cd "+dir+" && find "+string(kind)+" -type f -readable -exec sha256sum {} + | sort").Output()
				if err != nil || len(out) == 0 || first != "" && string(out) != first {
					t.Errorf("%v: the second time it is\n%s, and was\n%s", err, out, first)
				}
				first = string(out)
			}
		})
	}
	left, err := filepath.Glob(dir + "/.sbx-output-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestOutputKeeps wants a directory that is somebody's to stay, and nothing to be
// left of an output that fails.
func TestOutputKeeps(t *testing.T) {
	m := newMemory(t)
	w := &Writer{Blobs: m, Function: action.BLAKE3, Say: t.Logf}
	dir := t.TempDir()
	write(t, dir+"/mine/file", "mine")
	im := image(t, m)
	if err := w.Write(t.Context(), im, Output{DirOutput, dir + "/mine"}); err == nil {
		t.Error("a directory with files was replaced")
	}
	write(t, dir+"/tar", "before")
	clear(m.blobs)
	if err := w.Write(t.Context(), im, Output{TarOutput, dir + "/tar"}); err == nil {
		t.Error("written without its blobs")
	}
	for name, want := range map[string]string{"mine/file": "mine", "tar": "before"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 2 {
		t.Errorf("left behind: %v", list)
	}
}

// TestDevicesOfArtifacts wants a device where the artifact is that it is of.
func TestDevicesOfArtifacts(t *testing.T) {
	m := newMemory(t)
	c := &Component{Name: "c", Split: func(string) string { return "misc" }, Devices: []Device{{Path: "dev/x", Type: 'c'}}}
	for _, x := range []struct {
		content Content
		want    int
	}{{Content{Component: c, All: true}, 1}, {Content{Component: c, Artifacts: []string{"misc"}}, 1}, {Content{Component: c, Artifacts: []string{"doc"}}, 0}} {
		tr := newTree(m, action.BLAKE3, action.Digest{})
		tr.origin, tr.owners = map[string]string{}, staging.Owners{}
		if err := tr.addDevices(t.Context(), x.content); err != nil || len(tr.owners) != x.want {
			t.Errorf("%+v: %v, %v", x.content, tr.owners, err)
		}
	}
}
