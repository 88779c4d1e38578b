package reproduce

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func compare(t *testing.T, a, b string) string {
	t.Helper()
	p, err := Compare(text{strings.NewReader(a)}, text{strings.NewReader(b)})
	if err != nil {
		t.Fatal(err)
	}
	return p.String()
}

func TestPlain(t *testing.T) {
	for _, x := range []struct{ a, b, want string }{
		{"abc", "abd", "at byte 2 of 3, line 1"},
		{"a\nb\nc", "a\nb\nd", "at byte 4 of 5, line 3"},
		{"a", "ab", "at byte 1 of 1 (now 2), line 1"},
		{"", "x", "at byte 0 of 0 (now 1), line 1"},
		{"\x00a", "\x00b", "at byte 1 of 2"},
		{strings.Repeat("x", 1<<17) + "a", strings.Repeat("x", 1<<17) + "b", "at byte 131072 of 131073, line 1"},
	} {
		if got := compare(t, x.a, x.b); got != x.want {
			t.Errorf("%.10q and %.10q: %s, want %s", x.a, x.b, got, x.want)
		}
	}
}

// makeTar makes a tar with these members; the content of each is its name
// reversed, unless other is its name.
func makeTar(t *testing.T, format tar.Format, mtime int64, other string, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		data := strings.Repeat("content of "+n, 100)
		if n == other {
			data += "!"
		}
		h := &tar.Header{Name: n, Size: int64(len(data)), Mode: 0o644, ModTime: time.Unix(mtime, 0), Format: format}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTar(t *testing.T) {
	long := strings.Repeat("long/", 60) + "name"
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		names := []string{"a", "b/c", "d"}
		if format != tar.FormatUSTAR {
			names[1] = long
		}
		a := makeTar(t, format, 1, "", names...)
		want := "in the header of member " + names[1] + ", member " + names[1] + " at byte " + fmt.Sprint(100*len("content of "+names[1]))
		if got := compare(t, a, makeTar(t, format, 1, names[1], names...)); !strings.HasSuffix(got, want) {
			t.Errorf("%v, content: %s, want …%s", format, got, want)
		}
		if got := compare(t, a, makeTar(t, format, 2, "", names...)); !strings.HasSuffix(got, "in the header of member a") {
			t.Errorf("%v, time: %s", format, got)
		}
		if got := compare(t, a, makeTar(t, format, 1, "", "a", "x", "d")); !strings.Contains(got, "where the other has another member") {
			t.Errorf("%v, names: %s", format, got)
		}
	}
}

func TestZip(t *testing.T) {
	make := func(other, comment string) string {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, n := range []string{"one", "two"} {
			f, err := w.CreateHeader(&zip.FileHeader{Name: n, Comment: comment})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(f, "content of %s%s", n, map[bool]string{true: "!"}[n == other])
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := compare(t, make("", ""), make("two", "")); !strings.Contains(got, "in member two at byte 14") {
		t.Error(got)
	}
	if got := compare(t, make("", "x"), make("", "y")); !strings.Contains(got, "in the central directory's entry of one") {
		t.Error(got)
	}
}

func TestGzip(t *testing.T) {
	make := func(content string, mtime int64) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.ModTime = time.Unix(mtime, 0)
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := compare(t, make("x", 1), make("x", 2)); !strings.HasSuffix(got, "in the time in the gzip header") {
		t.Error(got)
	}
	a, b := makeTar(t, tar.FormatUSTAR, 1, "", "a", "b"), makeTar(t, tar.FormatUSTAR, 1, "b", "a", "b")
	if got := compare(t, make(a, 1), make(b, 1)); !strings.Contains(got, "when uncompressed, the header of member b, member b at byte 1200") {
		t.Error(got)
	}
}

// TestCompiled compares what real tools make.
func TestCompiled(t *testing.T) {
	dir := t.TempDir()
	run := func(script string) string {
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		data, err := os.ReadFile(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	build := func(x, then string) string {
		return run("rm -rf out; echo 'const char a[] = \"" + x + "\"; int main(void) { return 0; }' >a.c; echo 'int f;' >a-file-with-a-long-name.c; gcc -g -c a.c a-file-with-a-long-name.c; " + then)
	}
	for _, x := range []struct{ then, x, y, want string }{
		{"mv a.o out", "1", "2", "in section .rodata at byte 0"},
		{"mv a.o out", "1", strings.Repeat("1", 99), "in the ELF header, section .rodata at byte 1"},
		{"ar rc out a-file-with-a-long-name.o a.o", "1", "2", "in member a.o at byte"},
		{"ar rc out a.o a-file-with-a-long-name.o", "1", strings.Repeat("1", 99), "in the symbol table, the header of member a.o, member a.o at byte 40, the ELF header, section .rodata at byte 1"},
		{"mv a-file-with-a-long-name.o b.o; cp a.o a-file-with-a-long-name.o; ar rc out a.o a-file-with-a-long-name.o; ar d out a.o", "1", "2", "in member a-file-with-a-long-name.o at byte"},
		{"gcc -Wl,--build-id=none -o out a.o; strip out", "1", "2", "in section .rodata at byte"},
		{"ar rc out a.o; truncate -s 200 out", "1", "1234567", "in the header of member a.o"},
	} {
		if got := compare(t, build(x.x, x.then), build(x.y, x.then)); !strings.Contains(got, x.want) {
			t.Errorf("%s: %s, want …%s…", x.then, got, x.want)
		}
	}
}

// FuzzCompare looks for content that it does not survive. Whatever it says of
// what is inside, the first difference is where it says.
func FuzzCompare(f *testing.F) {
	f.Add([]byte("!<arch>\nname/           0           0     0     644     4         `\nabcd"), []byte("!<arch>\n"))
	f.Add([]byte("PK\x03\x04"), []byte("PK\x05\x06"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"), []byte("BZh9"))
	f.Add([]byte("\x7fELF\x02\x01\x01"), []byte("\x7fELF"))
	self, err := os.ReadFile("/bin/true")
	if err == nil {
		f.Add(self[:4096], self[:4000])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if bytes.Equal(a, b) {
			return
		}
		p, err := Compare(text{strings.NewReader(string(a))}, text{strings.NewReader(string(b))})
		if err != nil {
			t.Fatal(err)
		}
		n := int(p.Offset)
		if !bytes.Equal(a[:n], b[:n]) || n < len(a) && n < len(b) && a[n] == b[n] {
			t.Errorf("%s, which is not the first difference", p)
		}
	})
}
