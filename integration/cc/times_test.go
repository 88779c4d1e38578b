package cc

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// TestHasTimes writes archives with times in them, and without.
func TestHasTimes(t *testing.T) {
	now := time.Now()
	tarOf := func(times ...time.Time) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i, at := range times {
			text := bytes.Repeat([]byte("x"), 700*i)
			if err := w.WriteHeader(&tar.Header{Name: "a", Mode: 0o644, Size: int64(len(text)), ModTime: at}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	zipOf := func(times ...time.Time) []byte {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, at := range times {
			if _, err := w.CreateHeader(&zip.FileHeader{Name: "a", Modified: at}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	packed := func(data []byte, at time.Time) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.ModTime = at
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	none, dos := time.Unix(0, 0), time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	damaged := tarOf(none, none)
	copy(damaged[124:], "no number")
	for _, c := range []struct {
		name string
		data []byte
		want dating
	}{
		{"a.tar", tarOf(none, none, none), timeless},
		{"a.tar", tarOf(none, none, now), dated},
		{"a.tar", tarOf(now), dated},
		{"a.tar", damaged, dated},
		{"a.tar", tarOf(none)[:700], timeless},
		{"a.jar", zipOf(dos, dos), timeless},
		{"a.jar", zipOf(dos, now), dated},
		{"a.jar", zipOf(), undated},
		{"a.jar", []byte("PK\x03\x04 and PK\x01\x02"), dated},
		{"a.gz", packed([]byte("x"), none), undated},
		{"a.gz", packed([]byte("x"), now), dated},
		{"a.tgz", packed(tarOf(none, now), none), dated},
		{"a.tgz", packed(tarOf(none), none), timeless},
		{"a.gz", []byte("\x1f\x8b\x08"), undated},
		{"a.a", []byte("!<arch>\na.o/            1700000000  0     0     644     2         `\nxx"), dated},
		{"a.a", []byte("!<arch>\na.o/            0           0     0     644     2         `\nxx"), timeless},
		{"a.ali", []byte("V \"GNAT\"\n"), dated},
		{"a.o", []byte("\x7fELF"), undated},
		{"empty", nil, undated},
	} {
		name := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(name, c.data, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := datingOf(f, name); err != nil || got != c.want {
			t.Errorf("%s, %.40q: %v, %v, want %v", c.name, c.data, got, err, c.want)
		}
		f.Close()
	}
}

// TestSaysDay looks for days and seconds in what programs write.
func TestSaysDay(t *testing.T) {
	from := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	s := &Session{call: &Call{Kind: Any, Args: []string{"x", "-Dv=12:00:00"}}, command: &action.Command{}}
	h := &hand{s: s, from: from, to: from.Add(time.Second), known: map[string]bool{}}
	h.days, h.seconds = daysSaid(h.from, h.to), true
	for text, want := range map[string]bool{
		"made on 2026-03-05":        true,
		"POT: 2026-03-05 11:59+0":   true,
		"20260305":                  true,
		"5 March 2026":              true,
		"March 2026":                true,
		"Thu Mar  5 12:00 UTC 2026": true,
		"12:00:01":                  true,
		"12:00:00":                  false, // an argument
		"1772712000":                true,
		"1772712001.5":              true,
		"x1772712001":               true,
		"1772712002":                false, // when it has ended
		"1772711999":                false,
		"91772712001":               false,
		"177271":                    false,
		"2026-03-04":                false,
		"February 2026":             false,
		"":                          false,
	} {
		if got := h.in([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// TestTooWide wants diagnostics to be shown as they are where compilers write them so.
func TestTooWide(t *testing.T) {
	gcc, clang := &Call{Kind: Compile}, &Call{Kind: Compile, Clang: true}
	const said = "a.c:1:30: warning: a text that is wider than some terminals are, and is not broken [\x1b]8;;https://example.org/a/long/place/that/nobody/sees\a-Wx\x1b]8;;\a]\n" +
		"    1 | int a_line_of_the_source_that_is_as_wide_as_that, too; int a;\n" +
		"      |                              \x1b[01;35m\x1b[K^\x1b[m\x1b[K\n"
	const right = "a.c:1:70: warning: w\n" + // as GCC 12 writes it for widths from 87 on
		"    1 | int f(void) { /* so that what is marked is far to the right */ int unused_a; }\n" +
		"      |                                                                    ^~~~~~~~\n"
	const bare = "a.c:1:70: warning: w\n" +
		" int f(void) { /* so that what is marked is far to the right */ int unused_a; }\n" +
		"                                                                    ^~~~~~~~\n"
	for _, c := range []struct {
		call  *Call
		width int
		want  bool
	}{{gcc, 0, false}, {gcc, 60, false}, {gcc, 54, false}, {gcc, 50, true}, {gcc, 20, true}, {clang, 0, false}, {clang, 80, true}, {clang, 100, false}} {
		if got := c.call.tooWide([]byte(said), c.width); got != c.want {
			t.Errorf("clang %v, width %d: %v, want %v", c.call.Clang, c.width, got, c.want)
		}
	}
	double := strings.Replace(strings.Replace(right, "far", "長長長", 1), "^", "   ^", 1)
	for _, c := range []struct {
		text  string
		width int
		want  bool
	}{{double, 87, true}, {double, 97, false}, {right, 87, false}, {right, 86, true}, {right + said, 87, false}, {right + bare, 87, true}, {bare, 87, true}, {bare, 100, false}} {
		if got := gcc.tooWide([]byte(c.text), c.width); got != c.want {
			t.Errorf("%q, width %d: %v, want %v", c.text, c.width, got, c.want)
		}
	}
	for width, at := range map[string]int{"": 0, "40": 40, " 41 ": 41, "x": 0, "-3": 0, "0": 0} {
		if columns(0) > 0 || columns(2) > 0 {
			break // somebody looks at this
		}
		if got := terminalWidth(func(string) string { return width }); got != at {
			t.Errorf("COLUMNS=%q: %d, want %d", width, got, at)
		}
	}
}

// TestStampedNow has the time in the headers of objects and programs.
func TestStampedNow(t *testing.T) {
	now := time.Now()
	s := &Session{began: now}
	file := func(at, size int, made time.Time) []byte {
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b[at:], uint32(made.Unix()))
		return b
	}
	program := func(made time.Time) []byte {
		b := file(0x80+8, 512, made)
		copy(b, "MZ")
		b[60] = 0x80
		return b
	}
	for _, c := range []struct {
		name string
		data []byte
		want bool
	}{
		{"object", file(4, 100, now), true},
		{"short object", file(4, 20, now), true},
		{"large object", file(8, 100, now), true},
		{"program", program(now), true},
		{"control: old object", file(4, 100, now.Add(-time.Hour)), false},
		{"control: old program", program(now.Add(-time.Hour)), false},
		{"control: elsewhere", file(12, 100, now), false},
		{"control: a program cut short", program(now)[:0x88], false},
		{"control: empty", nil, false},
	} {
		if have := s.stampedNow(bytes.NewReader(c.data)); have != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
}
