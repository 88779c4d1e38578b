package cc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// thenHit is how a call ends that was made n times before: a first miss becomes hits.
func thenHit(first cc.Outcome, n int) cc.Outcome {
	if first == cc.Miss && n > 0 {
		return cc.Hit
	}
	return first
}

// TestWritesOutside has programs write to what is not their project's, and go on where they
// cannot: that is what the sandbox made of them.
func TestWritesOutside(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         cc.Outcome
	}{
		{"a new file", "echo a >$OTHER/new", cc.Plain},
		{"an old file", "echo a >>$OTHER/old", cc.Plain},
		{"a directory", "mkdir $OTHER/new", cc.Plain},
		{"another name", "mv $OTHER/old $OTHER/new", cc.Plain},
		{"a link", "ln -s x $OTHER/new", cc.Plain},
		{"by a link", "echo a >link", cc.Plain},
		{"left in /tmp", "t=tmp; echo a >/$t/${OTHER##*/}.x", cc.Plain},
		{"an empty directory in /tmp", "t=tmp; mkdir /$t/${OTHER##*/}.y; mv /$t/${OTHER##*/}.y /$t/${OTHER##*/}.x", cc.Plain},
		{"control: removed from /tmp", "t=tmp; mkdir /$t/${OTHER##*/}.x; rmdir /$t/${OTHER##*/}.x", cc.Miss},
		{"control: a directory that is there", "mkdir -p $OTHER", cc.Miss},
		{"control: where nobody can", "echo a >$OTHER/old/new", cc.Miss},
		{"control: a file that is read", "cat $OTHER/old", cc.Miss},
		{"control: what Go counts", "echo a >$OTHER/go/telemetry/old", cc.Miss},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			other, err := os.MkdirTemp("/var/tmp", "sbx-outside-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(other); os.RemoveAll("/tmp/" + filepath.Base(other) + ".x") })
			w := newWorld(t)
			w.env["OTHER"] = other
			w.link(filepath.Join(other, "old"), "link")
			w.flags = []string{"--any"}
			for i := range 3 {
				w.write(filepath.Join(other, "old"), "old\n")
				w.write(filepath.Join(other, "go/telemetry/old"), "")
				w.remove(filepath.Join(other, "new"))
				left := filepath.Join("/tmp", filepath.Base(other)+".x")
				w.must(os.RemoveAll(left))
				args := []string{"sh", "-c", "{ " + c.script + "; } 2>/dev/null; ls -R $OTHER >list; cat $OTHER/old >>list; echo done >o; exec 2>&-; true"}
				if strings.HasPrefix(c.name, "control") {
					args[2] = "{ " + c.script + "; } 2>/dev/null; echo done >o; true"
				}
				want := w.bare(args)
				w.write(filepath.Join(other, "old"), "old\n")
				w.remove(filepath.Join(other, "new"))
				w.must(os.RemoveAll(left))
				got, outcome, reason := w.wrapped(args)
				if diff := got.differs(want); diff != "" || want.code != 0 {
					t.Errorf("call %d: %s (%s %s)", i+1, diff, outcome, reason)
				}
				ends := thenHit(c.want, i)
				if outcome != ends || ends == cc.Plain && reason != cc.ReasonOutside {
					t.Errorf("call %d: %s (%s), want %s", i+1, outcome, reason, ends)
				}
			}
			// Else what is noted of a call that is executed would never be forgotten.
			err = filepath.WalkDir(filepath.Join(w.cache, "note"), func(p string, e os.DirEntry, err error) error {
				if err != nil || !e.Type().IsRegular() {
					return err
				}
				data, err := os.ReadFile(p)
				if bytes.Contains(data, []byte("an earlier call")) {
					t.Errorf("%s notes what a note has told", p)
				}
				return err
			})
			w.must(err)
		})
	}
}

// TestTimesOfFiles has programs do something that depends on times of files, which are in
// no fact.
func TestTimesOfFiles(t *testing.T) {
	for _, c := range []struct {
		name, call string
		want       cc.Outcome
	}{
		{"in a tar", "tar cf o x", cc.Unkept},
		{"in a compressed file", "sh -c gzip${IFS}-c${IFS}x>o", cc.Unkept},
		{"by make", "make", cc.Unkept},
		{"by make of a script", "sh -c make", cc.Unkept},
		{"control: none in a tar", "tar cf o --mtime=@0 x", cc.Miss},
		{"control: none in a compressed file", "sh -c gzip${IFS}-nc${IFS}x>o", cc.Miss},
		{"control: none in an archive", "ar rcD o x", cc.Miss},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("x", "x")
			w.write("Makefile", "o: x\n\tcp x o\n")
			w.flags = []string{"--any"}
			args := words(c.call)
			for i, at := range []time.Time{timeLongAgo, timeLongAgo.AddDate(1, 0, 0), timeLongAgo} {
				w.must(os.Chtimes(w.path("x"), at, at))
				ends := thenHit(c.want, i)
				w.expect(at.String(), args, w.bare(args), ends, cc.Plain) // who looks for users' names may ask for /run/systemd
			}
		})
	}
}

// TestStaleModule has Python read a module that it compiled earlier. What was compiled in
// the second in which the source was written may be of another text.
func TestStaleModule(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	w := newWorld(t)
	w.env["PYTHONDONTWRITEBYTECODE"] = "" // which is as if it were not there
	w.write("gen.py", "import part\nopen('out.txt', 'w').write(part.text)\n")
	w.write("part.py", "text = 'one'\n")
	w.must(os.Chtimes(w.path("part.py"), timeLongAgo, timeLongAgo))
	w.host("env", "-u", "PYTHONDONTWRITEBYTECODE", "-u", "PYTHONPYCACHEPREFIX", "python3", "-c", "import part")
	compiled, err := filepath.Glob(w.path("__pycache__/part.*.pyc"))
	if err != nil || len(compiled) != 1 {
		t.Fatalf("control: %q, %v", compiled, err)
	}
	w.flags = []string{"--any"}
	args := words("python3 gen.py")
	text := func(want string) effect {
		e := w.bare(args)
		if got := e.files["out.txt"].data; got != want {
			t.Fatalf("control: %q, want %q", got, want)
		}
		return e
	}
	w.expect("compiled long after", args, text("one"), cc.Miss)
	w.expect("again", args, text("one"), cc.Hit)

	// Another one, of the same size, is not read until its time is looked at.
	w.write("part.py", "text = 'two'\n")
	w.expect("another text", args, text("two"), cc.Miss, cc.Unkept)

	// In that second somebody writes it anew, with as many letters.
	w.write("part.py", "text = 'six'\n")
	w.must(os.Chtimes(w.path("part.py"), timeLongAgo, timeLongAgo))
	w.must(os.Chtimes(compiled[0], timeLongAgo, timeLongAgo))
	w.expect("compiled in that second", args, text("one"), cc.Unkept)
	w.must(os.Chtimes(w.path("part.py"), timeLongAgo, timeLongAgo.AddDate(1, 0, 0)))
	w.expect("touched", args, text("six"), cc.Miss, cc.Unkept)
	w.must(os.Chtimes(w.path("part.py"), timeLongAgo, timeLongAgo))
}

// TestOlderThan has programs look at the times of a file only, and read something that was
// made of it; then another one is there, of the same size.
func TestOlderThan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("source", "one")
	w.write("made", "one")
	w.must(os.Chtimes(w.path("source"), timeLongAgo, timeLongAgo))
	w.flags = []string{"--any"}
	args := []string{"sh", "-c", "if test source -nt made; then cp source made; fi; cat made >o"}
	first := w.bare(args)
	w.expect("at first", args, first, cc.Miss)
	w.expect("again", args, first, cc.Hit)
	w.write("source", "two")
	w.must(os.Chtimes(w.path("source"), time.Now().Add(time.Hour), time.Now().Add(time.Hour)))
	second := w.bare(args)
	if first.differs(second) == "" {
		t.Error("control: a newer source makes no difference")
	}
	w.expect("another source", args, second, cc.Miss)
	w.expect("another source, again", args, second, cc.Hit)
	w.write("source", "one")
	w.must(os.Chtimes(w.path("source"), timeLongAgo, timeLongAgo))
	w.expect("as at first", args, first, cc.Hit)
}

// TestTimesOfOutputs has programs give files another time than that of writing them, or
// open them to write to them without doing so.
func TestTimesOfOutputs(t *testing.T) {
	for _, c := range []struct {
		script string
		want   cc.Outcome
	}{
		{"cp -p in o", cc.Plain},
		{"echo a >o; touch -r in o", cc.Plain},
		{"cp -p fresh o", cc.Plain},
		{"echo a >o; touch -d 2100-01-01 o", cc.Plain},
		{"chmod 755 there", cc.Plain},
		{"sed s/x/y/ there >o && touch -r there o && cat o >there && touch -r o there", cc.Plain},
		{"cp in o; : >>there", cc.Miss},
		{"cp in there", cc.Miss},
		{"cat there in >o; exec 5<>there", cc.Miss},
	} {
		t.Run(strings.NewReplacer(" ", "-", "/", "_").Replace(c.script), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.flags = []string{"--any", "--no-stdin"}
			prepare := func() {
				w.write("in", "in\n")
				w.write("there", "x\n")
				w.write("fresh", "x\n")
				w.must(os.Chmod(w.path("there"), 0o644))
				for _, name := range []string{"in", "there"} {
					w.must(os.Chtimes(w.path(name), timeLongAgo, timeLongAgo))
				}
			}
			old := func() (list []string) {
				for _, name := range []string{"in", "there", "o"} {
					if info, err := os.Stat(w.path(name)); err == nil && time.Since(info.ModTime()).Abs() > time.Hour {
						list = append(list, name+info.ModTime().String())
					}
				}
				return list
			}
			args := []string{"sh", "-c", c.script}
			for i := range 3 {
				prepare()
				want := w.bare(args)
				times := strings.Join(old(), " ")
				prepare()
				w.settle()
				got, outcome, reason := w.wrapped(args)
				if diff := got.differs(want); diff != "" {
					t.Errorf("call %d: %s", i, diff)
				}
				if now := strings.Join(old(), " "); now != times {
					t.Errorf("call %d: times of %q, want %q", i, now, times)
				}
				if outcome != thenHit(c.want, i) || c.want == cc.Plain && reason != cc.ReasonTimed {
					t.Errorf("call %d: ended with %s (%s)", i, outcome, reason)
				}
			}
		})
	}
}
