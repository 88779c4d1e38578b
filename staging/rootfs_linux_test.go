package staging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
)

// TestHostRootfs compiles and runs a program on a view of this machine.
func TestHostRootfs(t *testing.T) {
	for _, m := range modes() {
		for _, small := range []bounds{{}, {1, 1}} {
			s, store := newStager(t, m)
			s.small = small
			root, _ := stage(t, s, spec{"a": "1", "b": "2"}.add(t, store, action.SHA256), HostRootfs(HostOptions{}))
			out := inRoot(t, m, root, "ls", "gcc")
			for _, want := range []string{"/build ", "/etc ", "/usr ", "/home ", "/root ", "/etc/passwd ", "/etc/alternatives d", "\nbuild\n", "compiled\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("%s: no %q in\n%s", m.name, want, out)
				}
			}
			for _, never := range []string{"shadow", "machine-id", "hostname", "resolv.conf", "localtime", "/sys ", "/var/log"} {
				if strings.Contains(out, never) {
					t.Errorf("%s: %q is shown", m.name, never)
				}
			}
			again, _ := stage(t, s, spec{"a": "1", "b": "2"}.add(t, store, action.SHA256), HostRootfs(HostOptions{}))
			if !slices.Equal(again.Binds, root.Binds) {
				t.Errorf("%s: /etc was made again", m.name)
			}
		}
	}
}

// TestHostView looks at a machine that we made up.
func TestHostView(t *testing.T) {
	host := fakeRoot(t, spec{
		"usr/bin/": "", "bin": "-> usr/bin", "lib/x": "", "home/user/secret": "", "opt/": "", "var/lib/ghc/status": "", "var/lib/secret/x": "",
		"etc/passwd": "secret", "etc/shadow": "secret", "etc/ld.so.cache": "cache", "etc/os-release": "-> ../usr/lib/os-release",
		"etc/services": "secret", "etc/java-17/conf": "", "etc/ssl/openssl.cnf": "config", "etc/ssl/private/key": "secret",
		"etc/ssl/certs/x.pem": "", "etc/resolv.conf": "nameserver", "etc/protocols": "-> /home/user/secret",
	})
	if err := os.Chmod(host+"/etc/services", 0o600); err != nil { // not for everybody
		t.Fatal(err)
	}
	m := modes()[0]
	for _, network := range []bool{false, true} {
		s, _ := newStager(t, m)
		p, err := s.stageHost(t.Context(), &hostView{root: host, network: network})
		if err != nil {
			t.Fatal(err)
		}
		var targets []string
		for _, b := range p.binds {
			targets = append(targets, b.Target)
		}
		want := []string{"/etc", "/lib", "/opt", "/usr", "/etc/java-17", "/etc/ssl/certs", "/var/lib/ghc"}
		if !network {
			want = slices.Delete(want, 5, 6)
		}
		if !slices.Equal(targets, want) {
			t.Errorf("network %v: binds %q, want %q", network, targets, want)
		}
		etc := readSpec(t, p.binds[0].Source)
		want = []string{"group", "hosts", "java-17/", "ld.so.cache", "nsswitch.conf", "os-release", "passwd", "resolv.conf", "ssl/certs/", "ssl/openssl.cnf"}
		if !network {
			want = slices.DeleteFunc(want, func(n string) bool { return n == "resolv.conf" || n == "ssl/certs/" })
		}
		var got []string
		for name, content := range etc {
			if got = append(got, name); strings.Contains(content, "secret") {
				t.Errorf("%s is shown", name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("network %v: /etc has %q, want %q", network, got, want)
		}
		if p.fill[0].path != "/bin" || p.fill[0].node.target != "usr/bin" {
			t.Errorf("%+v", p.fill[0])
		}
		before := p.binds[0].Source
		if err := os.WriteFile(host+"/etc/ld.so.cache", fmt.Append(nil, "new", network), 0o644); err != nil {
			t.Fatal(err)
		}
		if p, err = s.stageHost(t.Context(), &hostView{root: host, network: network}); err != nil || p.binds[0].Source == before {
			t.Errorf("a new ld.so.cache gives the old /etc, %v", err)
		}
	}
}

// TestNamesAreSorted: they are searched by halves.
func TestNamesAreSorted(t *testing.T) {
	for _, n := range []names{etcFiles, etcDirs} {
		if !slices.IsSorted(n.whole) {
			t.Errorf("not sorted: %q", n.whole)
		}
	}
}

func TestHostPath(t *testing.T) {
	for _, network := range []bool{false, true} {
		r := HostRootfs(HostOptions{Network: network})
		for p, want := range map[string]bool{
			"/usr": true, "/usr/include/x.h": true, "/bin/sh": true, "/lib64": true, "/nix/store": true, "/etc/ld.so.cache": true,
			"/etc/alternatives/cc": true, "/etc/java-99/x": true, "/var/lib/ghc/status": true, "/etc/ssl/openssl.cnf": true,
			"/": false, "/etc": false, "/etc/passwd": false, "/etc/hosts": false, "/etc/shadow": false, "/build/x": false, "/tmp/x": false,
			"/home": false, "/etc/ssl": false, "/etc/ssl/private/key": false, "/etc/localtime": false, "/var/lib": false, "/proc/self": false,
			"/etc/ssl/certs/x.pem": network, "/etc/resolv.conf": network,
			"/usr/../etc/shadow": false, "/usr/": false, "usr": false, "": false, "/usr//x": false,
		} {
			if got, ok := r.HostPath(p); ok != want || ok && got != p {
				t.Errorf("network %v: HostPath(%q) = %q, %v; want %v", network, p, got, ok, want)
			}
		}
	}
	if _, ok := TreeRootfs(action.Sum(action.SHA256, nil)).HostPath("/usr"); ok {
		t.Error("a tree has paths of the host")
	}
}

// TestRootfsID wants IDs that tell root file systems apart: they are in the key.
func TestRootfsID(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []Rootfs{{}, HostRootfs(HostOptions{}), HostRootfs(HostOptions{Network: true}), TreeRootfs(action.Sum(action.BLAKE3, []byte("x"))), TreeRootfs(action.Sum(action.SHA256, []byte("x")))} {
		if id := r.ID(); id == "" || seen[id] {
			t.Errorf("%+v has the ID %q, which is empty or another one's", r, id)
		} else {
			seen[id] = true
		}
	}
}

// TestTreeRootfs runs a program from an imported tree, and shows what of the
// tree is hidden.
func TestTreeRootfs(t *testing.T) {
	files := spec{"bin/hello": "#!/bin/sh\n", "link": "-> bin", "file": "f", "build/old": "hidden", "dev/null": "hidden", "tmp/x": "hidden", "etc/passwd": "root"}
	dir := fakeRoot(t, files)
	for _, m := range modes() {
		s, store := newStager(t, m)
		im, err := ImportDir(t.Context(), store, dir, ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		input := spec{"a": "1"}
		for _, layers := range []action.Layers{store, nil} {
			s.Layers = layers
			if layers == nil && m.kind == imageLayer {
				continue
			}
			root, _ := stage(t, s, input.add(t, store, action.BLAKE3), TreeRootfs(im.Tree))
			out := inRoot(t, m, root, "ls", "dump")
			for _, want := range []string{"/bin d", "/link L", "/file -", "/build d", "/etc/passwd"} {
				if !strings.Contains(out, want) {
					t.Errorf("%s: no %q in\n%s", m.name, want, out)
				}
			}
			for _, never := range []string{"/dev", "/tmp", "old"} {
				if strings.Contains(out, never) {
					t.Errorf("%s: %q is shown", m.name, never)
				}
			}
			if diff := differences(out[strings.Index(out, `"" `):], input.want(m)); diff != "" {
				t.Errorf("%s: %s", m.name, diff)
			}
		}
	}
}

// Who is not root cannot read all of the host.
func TestImportUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := fakeRoot(t, spec{"a/shadow": "secret", "a/b": "12345", "a/shut/": ""})
	for _, name := range []string{"/a/shadow", "/a/shut"} {
		if err := os.Chmod(dir+name, 0); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir+name, 0o755)
	}
	store := newTestStore(t)
	if _, err := ImportDir(t.Context(), store, dir, ImportOptions{}); err == nil || !strings.Contains(err.Error(), "open a/sh") {
		t.Errorf("got %v, want an error with the path", err)
	}
	im, err := ImportDir(t.Context(), store, dir, ImportOptions{Function: action.BLAKE3, Readable: true})
	if want := (spec{"a/b": "12345"}).add(t, store, action.BLAKE3); err != nil || im.Tree != want || len(im.Notes) != 2 {
		t.Errorf("%+v, %v: want tree %v and two notes", im, err, want)
	}
}

func TestImportDir(t *testing.T) {
	dir := fakeRoot(t, spec{"a/b": "12345", "x": "#! run", "l": "-> /etc/shadow", "empty/": "", "setuid": "#! s"})
	if err := os.Link(dir+"/a/b", dir+"/hard"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/setuid", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	store := newTestStore(t)
	im, err := ImportDir(t.Context(), store, dir, ImportOptions{Function: action.BLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	want := spec{"a/b": "12345", "hard": "12345", "x": "#! run", "l": "-> /etc/shadow", "empty/": "", "setuid": "#! s"}.add(t, store, action.BLAKE3)
	if im.Tree != want || im.Files != 5 || im.Bytes != 20 || len(im.Notes) != 1 {
		t.Errorf("%+v, want tree %v", im, want)
	}
	owners, err := ReadOwners(t.Context(), store, im.Owners)
	if err != nil || owners["setuid"].Mode != 0o4755 || owners["pipe"].Type != TypeFIFO || owners["pipe"].Mode != 0o600 {
		t.Errorf("owners %+v, %v", owners, err)
	}
	for _, o := range []ImportOptions{{MaxBytes: 19}, {MaxFiles: 7}} {
		if _, err := ImportDir(t.Context(), store, dir, o); err == nil {
			t.Errorf("%+v: not refused", o)
		}
	}
}

// archive makes a tar archive of headers; the content of a file is its name.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		h := &headers[i]
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestImportTar(t *testing.T) {
	plain := archive(
		t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir},
		tar.Header{Name: "/", Typeflag: tar.TypeDir},
		tar.Header{Name: "./d/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "d/f", Mode: 0o644},
		tar.Header{Name: "implied/x", Mode: 0o4755},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../etc/passwd"},
		tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "./d/f"},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "twice", Mode: 0o755},
		tar.Header{Name: "./twice", Mode: 0o644},
		tar.Header{Name: "was a link", Typeflag: tar.TypeSymlink, Linkname: "x"},
		tar.Header{Name: "was a link"},
	)
	want := spec{"d/f": "d/f", "implied/x": "#", "l": "-> ../../etc/passwd", "hard": "d/f", "twice": "./twice", "was a link": "was a link"}
	packed := map[string][]byte{"plain": plain}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(plain)
	w.Close()
	packed["gzip"] = gz.Bytes()
	bz := exec.Command("bzip2", "-c")
	bz.Stdin = bytes.NewReader(plain)
	var err error
	if packed["bzip2"], err = bz.Output(); err != nil {
		t.Fatalf("bzip2: %v: apt-get install bzip2", err)
	}
	for name, data := range packed {
		store := newTestStore(t)
		im, err := ImportTar(t.Context(), store, bytes.NewReader(data), ImportOptions{Function: action.SHA256})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := &Stager{Blobs: store, Capabilities: modes()[0].caps}
		root, _ := stage(t, s, im.Tree, Rootfs{})
		dir := t.TempDir()
		f, _ := os.Open(dir)
		if err := root.Fill(f); err != nil && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		f.Close()
		got := readSpec(t, dir+"/build")
		if info, err := os.Stat(dir + "/build/implied/x"); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: implied/x: %v, %v", name, info, err)
		}
		got["implied/x"] = "#"
		if fmt.Sprint(got) != fmt.Sprint(want) || len(im.Notes) != 1 || im.Files != 6 {
			t.Errorf("%s: %q, notes %q, want %q", name, got, im.Notes, want)
		}
	}
}

// TestImportTarCut cuts an archive everywhere: a part of it is never taken for the
// whole. Nor is one whose compression says that it is damaged.
func TestImportTarCut(t *testing.T) {
	read := func(data []byte) error {
		_, err := ImportTar(t.Context(), newTestStore(t), bytes.NewReader(data), ImportOptions{})
		return err
	}
	plain := archive(t, tar.Header{Name: "one"}, tar.Header{Name: "two", Mode: 0o755}, tar.Header{Name: "d", Typeflag: tar.TypeDir})
	end := len(plain) - 1024 // two blocks of zeros
	for n := 0; n <= len(plain); n += 64 {
		if err := read(plain[:n]); err == nil != (n == end+512 || n == len(plain)) { // one block of zeros is a mark, too
			t.Errorf("of %d bytes %d: %v", len(plain), n, err)
		}
	}
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(plain)
	w.Close()
	sum := gz.Len() - 8
	for name, c := range map[string]struct {
		data []byte
		fine bool
	}{
		"gzip":                      {gz.Bytes(), true},
		"gzip and zeros":            {append(slices.Clone(gz.Bytes()), make([]byte, 100)...), true},
		"gzip without its end":      {gz.Bytes()[:sum], false},
		"gzip with another's sum":   {slices.Concat(gz.Bytes()[:sum], []byte("\x01\x02\x03\x04"), gz.Bytes()[sum+4:]), false},
		"an archive and more bytes": {append(slices.Clone(plain), "more"...), true},
	} {
		if err := read(c.data); err == nil != c.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImportTarHostile(t *testing.T) {
	many := make([]tar.Header, 30)
	for i := range many {
		many[i].Name = fmt.Sprint("file", i)
	}
	for name, data := range map[string][]byte{
		"up":              archive(t, tar.Header{Name: "a/../../x"}),
		"dots inside":     archive(t, tar.Header{Name: "a/../x"}),
		"absolute":        archive(t, tar.Header{Name: "/etc/passwd"}),
		"through a link":  archive(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "l/passwd"}),
		"through a file":  archive(t, tar.Header{Name: "f"}, tar.Header{Name: "f/x"}),
		"hard link out":   archive(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"}),
		"hard link abs":   archive(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}),
		"hard link ahead": archive(t, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "later"}, tar.Header{Name: "later"}),
		"root":            archive(t, tar.Header{Name: "./", Typeflag: tar.TypeSymlink, Linkname: "/etc"}),
		"root, absolute":  archive(t, tar.Header{Name: "/", Typeflag: tar.TypeSymlink, Linkname: "/etc"}),
		"long target":     archive(t, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("t", 4096)}),
		"deep":            archive(t, tar.Header{Name: strings.Repeat("d/", maxDepth+1) + "f"}),
		"not UTF-8":       archive(t, tar.Header{Name: "\xff", Format: tar.FormatGNU}),
		"many":            archive(t, many...),
		"large":           archive(t, tar.Header{Name: strings.Repeat("n", 90) + "1"}, tar.Header{Name: strings.Repeat("n", 90) + "2"}),
		"cut":             archive(t, many[:5]...)[:1300],
		"xz":              []byte("\xfd7zXZ\x00 and more"),
		"zstd":            []byte("\x28\xb5\x2f\xfd and more"),
	} {
		_, err := ImportTar(t.Context(), newTestStore(t), bytes.NewReader(data), ImportOptions{MaxBytes: 150, MaxFiles: 2*maxDepth + 1})
		if name == "many" {
			_, err = ImportTar(t.Context(), newTestStore(t), bytes.NewReader(data), ImportOptions{MaxFiles: 20})
		}
		if err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
