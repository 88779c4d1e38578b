package erofs

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var testOptions = Options{UID: 65000, GID: 65000, MTime: 1321009871, Header: []byte("header of the caller")}

// dir makes a directory of nodes in any order.
func dir(name string, nodes ...Node) Node {
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return Node{Name: name, Kind: Directory, Nodes: nodes}
}

// many makes n nodes of one kind.
func many(n int, kind Kind, format string) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i] = Node{Name: fmt.Sprintf(format, i), Kind: kind, Target: "t"}
	}
	return nodes
}

// awkward is a tree with everything that has a border somewhere.
func awkward() Node {
	links := make([]Node, 0, 40)
	for _, n := range []int{1, 59, 60, 4000, 4063, 4064, 4065, 4095} {
		links = append(links, Node{Name: fmt.Sprintf("link%d", n), Kind: Symlink, Target: strings.Repeat("x", n)})
	}
	files := make([]Node, 0, 10)
	for _, n := range []int64{0, 1, 4096, 1 << 31, 1<<32 - 1, 1 << 32, 1<<40 + 1, maxFile} {
		files = append(files, Node{Name: fmt.Sprintf("file%d", n), Kind: File, Size: n, Redirect: "/ab/abcd", Executable: n%2 == 1})
	}
	var sizes []Node // directories whose last block ends near each border
	for n := 1; n < 340; n += 7 {
		sizes = append(sizes, dir(fmt.Sprintf("d%03d", n), many(n, File, "%05d")...))
	}
	var long []Node
	for i := range 40 {
		long = append(long, Node{Name: fmt.Sprintf("%02d", i) + strings.Repeat("n", 253), Kind: File})
	}
	odd := []Node{
		{Name: "-", Kind: File},
		{Name: "+x", Kind: File},
		{Name: " ", Kind: File},
		{Name: "a\nb", Kind: File},
		{Name: "...", Kind: File},
		{Name: ".a", Kind: File},
		{Name: "\xff\x01", Kind: File},
		{Name: "ä", Kind: Symlink, Target: "/"},
	}
	return dir(
		"",
		dir("links", links...), dir("files", files...), dir("sizes", sizes...), dir("long", long...), dir("odd", odd...),
		dir("wide", many(70_000, File, "f%d")...),
		dir("subdirs", many(66_000, Directory, "sub%d")...),
		dir("deep", dir("a", dir("b", dir("c", dir("d", Node{Name: "e", Kind: File}))))),
		dir("empty"),
		Node{Name: "gone", Kind: Whiteout},
		Node{Name: "hiding", Kind: Directory, Opaque: true, Nodes: []Node{{Name: "x", Kind: File}}},
	)
}

// inMounts runs f on a thread with mounts of its own, which end with it.
func inMounts(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting an image needs root; the tests are also run as root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends, and its mounts
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Errorf("make private: %v", err)
			return
		}
		f()
	}()
	<-done
}

func mountImage(t *testing.T, image []byte) (file, point string, err error) {
	t.Helper()
	file, point = filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(file, image, 0o600); err != nil {
		return "", "", err
	}
	return file, point, unix.Mount(file, point, "erofs", unix.MS_RDONLY, "")
}

func TestMounted(t *testing.T) {
	root := awkward()
	image, err := Build(&root, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	if len(image)%blockSize != 0 || !bytes.HasPrefix(image, testOptions.Header) {
		t.Errorf("image of %d bytes begins with %q", len(image), image[:30])
	}
	inMounts(t, func() {
		_, point, err := mountImage(t, image)
		if err != nil {
			t.Errorf("mount: %v", err)
			return
		}
		if err := equal(point, &root); err != nil {
			t.Error(err)
		}
		// The control: a tree that differs in one place is told apart.
		root.Nodes[0].Nodes = append(root.Nodes[0].Nodes, Node{Name: "zzz", Kind: File})
		if err := equal(point, &root); err == nil {
			t.Error("the comparison does not see a missing file")
		}
	})
}

// equal compares a mounted directory with what it should be.
func equal(path string, want *Node) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	mode := uint32(fileMode[want.Kind])
	if want.Executable {
		mode |= 0o111
	}
	if st.Mode != mode || st.Uid != testOptions.UID || st.Gid != testOptions.GID || st.Mtim.Sec != testOptions.MTime {
		return fmt.Errorf("%s: mode %o, uid %d, gid %d, mtime %d", path, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	switch want.Kind {
	case File:
		if st.Size != want.Size || st.Nlink != 1 {
			return fmt.Errorf("%s: size %d, %d links, want size %d", path, st.Size, st.Nlink, want.Size)
		}
		if want.Size > 0 && (xattr(path, metacopyName) != "" || xattr(path, redirectName) != want.Redirect) {
			return fmt.Errorf("%s: redirect %q", path, xattr(path, redirectName))
		}
	case Symlink:
		if got, err := os.Readlink(path); err != nil || got != want.Target {
			return fmt.Errorf("%s: target of %d bytes (%v), want %d", path, len(got), err, len(want.Target))
		}
	case Whiteout:
		if st.Rdev != 0 {
			return fmt.Errorf("%s: device %x", path, st.Rdev)
		}
	case Directory:
		return equalDir(path, want)
	}
	return nil
}

func equalDir(path string, want *Node) error {
	if want.Opaque != (xattr(path, opaqueName) == "y") {
		return fmt.Errorf("%s: opaque is %q", path, xattr(path, opaqueName))
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	wanted := make([]string, len(want.Nodes))
	for i := range want.Nodes {
		wanted[i] = want.Nodes[i].Name
	}
	if !slices.Equal(names, wanted) {
		return fmt.Errorf("%s: %d names, want %d", path, len(names), len(wanted))
	}
	for i := range want.Nodes {
		if err := equal(path+"/"+want.Nodes[i].Name, &want.Nodes[i]); err != nil {
			return err
		}
	}
	return nil
}

func xattr(path, name string) string {
	buf := make([]byte, 5000)
	n, err := unix.Lgetxattr(path, "trusted."+name, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

// TestFsck holds images against the reference implementation.
func TestFsck(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Fatal("fsck.erofs is missing: apt-get install erofs-utils")
	}
	check := func(image []byte) ([]byte, error) {
		file := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(file, image, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(fsck, file).CombinedOutput()
	}
	r := rand.New(rand.NewPCG(1, 2))
	trees := []Node{dir(""), awkward(), randomTree(r, 0), randomTree(r, 0)}
	for i := range trees {
		shrink(&trees[i]) // fsck reads what it checks: no files of terabytes
		image, err := Build(&trees[i], testOptions)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := check(image); err != nil {
			t.Errorf("tree %d: %v\n%s", i, err, out)
		}
		if i == 0 {
			image[firstInode] = 0xff // the control: a broken root inode
			if out, err := check(image); err == nil {
				t.Errorf("fsck accepts a broken image: %s", out)
			}
		}
	}
}

func shrink(n *Node) {
	if n.Size > 1<<20 {
		n.Size = 1 << 20
	}
	for i := range n.Nodes {
		shrink(&n.Nodes[i])
	}
}

func randomTree(r *rand.Rand, depth int) Node {
	var nodes []Node
	for i := range r.IntN(30) {
		name := fmt.Sprintf("%x-%d", r.Uint64()>>r.IntN(64), i)
		switch k := r.IntN(10); {
		case k < 3 && depth < 5:
			n := randomTree(r, depth+1)
			n.Name = name
			nodes = append(nodes, n)
		case k < 5:
			nodes = append(nodes, Node{Name: name, Kind: Symlink, Target: strings.Repeat("t", 1+r.IntN(200))})
		default:
			nodes = append(nodes, Node{Name: name, Kind: File, Size: r.Int64N(1 << 20), Redirect: "/aa/bb" + name})
		}
	}
	return dir("", nodes...)
}

// TestOverlay shows files whose content is elsewhere, as a command sees them.
func TestOverlay(t *testing.T) {
	root := dir(
		"",
		Node{Name: "hello", Kind: File, Size: 6, Redirect: "/ab/abc"},
		Node{Name: "gone", Kind: Whiteout},
		Node{Name: "hiding", Kind: Directory, Opaque: true},
	)
	image, err := Build(&root, testOptions)
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	for path, content := range map[string]string{"data/ab/abc": "hello\n", "low/gone": "", "low/hiding/x": "", "low/stays": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tmp, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tmp, path), []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	inMounts(t, func() {
		_, point, err := mountImage(t, image)
		if err != nil {
			t.Errorf("mount: %v", err)
			return
		}
		all := t.TempDir()
		o := fmt.Sprintf("metacopy=on,redirect_dir=on,lowerdir=%s:%s/low::%s/data", point, tmp, tmp)
		if err := unix.Mount("overlay", all, "overlay", unix.MS_RDONLY, o); err != nil {
			t.Errorf("overlay: %v", err)
			return
		}
		var got []string
		err = fs.WalkDir(os.DirFS(all), ".", func(path string, _ fs.DirEntry, err error) error {
			got = append(got, path)
			return err
		})
		if want := []string{".", "hello", "hiding", "stays"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("tree %q, %v; want %q", got, err, want)
		}
		content, err := os.ReadFile(all + "/hello")
		if err != nil || string(content) != "hello\n" {
			t.Errorf("content %q, %v", content, err)
		}
		info, err := os.Stat(all + "/hello")
		if err != nil || info.Mode() != 0o644 || info.Sys().(*syscall.Stat_t).Uid != 65000 || !info.ModTime().Equal(time.Unix(1321009871, 0)) {
			t.Errorf("hello is %v, %v", info, err)
		}
	})
}

func TestRefused(t *testing.T) {
	for name, n := range map[string]Node{
		"order":    {Kind: Directory, Nodes: []Node{{Name: "b", Kind: File}, {Name: "a", Kind: File}}},
		"twice":    {Kind: Directory, Nodes: []Node{{Name: "a", Kind: File}, {Name: "a", Kind: File}}},
		"slash":    dir("", Node{Name: "a/b", Kind: File}),
		"dots":     dir("", Node{Name: "..", Kind: Directory}),
		"empty":    dir("", Node{Kind: File}),
		"nul":      dir("", Node{Name: "a\x00", Kind: File}),
		"long":     dir("", Node{Name: strings.Repeat("n", 256), Kind: File}),
		"target":   dir("", Node{Name: "a", Kind: Symlink}),
		"far":      dir("", Node{Name: "a", Kind: Symlink, Target: strings.Repeat("n", 4096)}),
		"redirect": dir("", Node{Name: "a", Kind: File, Size: 1, Redirect: "rel"}),
		"huge":     dir("", Node{Name: "a", Kind: File, Size: maxFile + 1, Redirect: "/a"}),
		"root":     {Kind: File},
	} {
		if _, err := Build(&n, testOptions); err == nil {
			t.Errorf("%s: Build accepts it", name)
		}
	}
}

func BenchmarkBuild100k(b *testing.B) {
	var dirs []Node
	for i := range 6250 {
		files := make([]Node, 16)
		for j := range files {
			files[j] = Node{Name: fmt.Sprintf("file%d.c", 10+j), Kind: File, Size: 4096, Redirect: fmt.Sprintf("/%02x/%064d", j, i*16+j)}
		}
		dirs = append(dirs, dir(fmt.Sprintf("dir%d", i), files...))
	}
	root := dir("", dirs...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Build(&root, testOptions); err != nil {
			b.Fatal(err)
		}
	}
}
