package cc_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// words splits a command line.
func words(s string) []string { return strings.Fields(s) }

// TestPlain runs calls that are executed as they are, and wants their effect and
// the reason.
func TestPlain(t *testing.T) {
	for _, c := range []struct {
		call string
		want cc.Reason
	}{
		{"gcc --version", cc.ReasonQuery},
		{"gcc -v", cc.ReasonQuery},
		{"gcc -### -c a.c", cc.ReasonQuery},
		{"gcc -dumpmachine", cc.ReasonQuery},
		{"gcc -print-search-dirs", cc.ReasonQuery},
		{"gcc", cc.ReasonNoInput},
		{"gcc -c", cc.ReasonNoInput},
		{"gcc -o", cc.ReasonArguments},
		{"gcc a.o -o a", cc.ReasonLink},
		{"gcc -c a.c -o fifo", cc.ReasonOutput},
		{"gcc -S a.c -o link.s", cc.ReasonOutput},
		{"gcc -c /dev/stdin -x c", cc.ReasonArguments},
		{"gcc a.c -Wl,-O1,--build-id=uuid -o a", cc.ReasonReport},
		{"gcc a.c -Xlinker --stats -o a", cc.ReasonReport},
		{"gcc -Wa,-g,--statistics -c a.c", cc.ReasonReport},
		{"gcc -Xassembler --stat -c a.c", cc.ReasonReport},
		{"gcc -Wp,-ftime-report -c a.c", cc.ReasonReport},
		{"gcc --time -c a.c", cc.ReasonReport},
		{"clang -Xclang -ftime-report -c a.c", cc.ReasonReport},
		{"clang -fproc-stat-report=r -c a.c", cc.ReasonReport},
		{"ar t lib.a", cc.ReasonQuery},
		{"ar --version", cc.ReasonQuery},
		{"ar rcsU lib.a a.o", cc.ReasonTimes},
		{"true a.c", cc.ReasonProgram},
		{"./ccache", cc.ReasonWrapped},
		{"./links/gcc -c a.c", cc.ReasonWrapped},
		{"./absent-gcc -c a.c", "error"},
	} {
		t.Run(strings.NewReplacer(" ", "_", "/", "_").Replace(c.call), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", "int main(void) { return 0; }\n")
			w.script("ccache", "echo I am a cache")
			w.mkdir("links")
			w.link("../ccache", "links/gcc-12")
			w.link("gcc-12", "links/gcc")
			w.write("other.s", "\n")
			w.link("other.s", "link.s")
			w.host("sh", "-c", "gcc -c a.c && ar rcs lib.a a.o")
			if c.call == "./absent-gcc -c a.c" {
				w.absent(words(c.call))
				return
			}
			if strings.Contains(c.call, "fifo") {
				w.fifo(words(c.call), c.want)
				return
			}
			w.skip = map[bool]string{true: "."}[strings.Contains(c.call, "rcsU") || c.want == cc.ReasonReport] // no two are alike
			want := w.bare(words(c.call))
			got, outcome, reason := w.wrapped(words(c.call))
			if diff := got.differs(want); diff != "" && !strings.Contains(c.call, "-###") && c.want != cc.ReasonReport { // which names a temporary file
				t.Error(diff)
			}
			if outcome != cc.Plain || reason != c.want {
				t.Errorf("ended with %s (%s), want %s (%s)", outcome, reason, cc.Plain, c.want)
			}
		})
	}
}

// absent wants a compiler that is not there to be what it is in a shell: 127, and
// a line that names it.
func (w *world) absent(call []string) {
	got, _, _ := w.wrapped(call)
	if got.code != 127 || !strings.Contains(got.stderr, "absent-gcc") || len(got.files) > 0 {
		w.t.Errorf("%+v", got)
	}
}

// fifo wants a FIFO in the place of an output to stay one.
func (w *world) fifo(call []string, want cc.Reason) {
	w.must(syscall.Mkfifo(w.path("fifo"), 0o644))
	if err := os.Remove(w.path("fifo")); err != nil {
		w.t.Fatal(err)
	}
	w.link("/dev/null", "fifo") // a FIFO would wait for its reader
	_, outcome, reason := w.wrapped(call)
	if outcome != cc.Plain || reason != want {
		w.t.Errorf("ended with %s (%s)", outcome, reason)
	}
}

// TestNullDevice compiles into /dev/null, which must stay a device.
func TestNullDevice(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "int main(void) { return 0; }\n")
	for _, call := range []string{"gcc -c a.c -o /dev/null", "gcc -x c /dev/null -c -o a.o", "gcc -E a.c -o /dev/null", "gcc a.c -o /dev/null"} {
		want := w.bare(words(call))
		w.expect(call, words(call), want, cc.Miss, cc.Failed, cc.Broken)
		w.expect(call+" again", words(call), want, cc.Hit, cc.Failed, cc.Broken)
	}
	if info, err := os.Lstat(os.DevNull); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("/dev/null is %v now", info.Mode())
	}
}

// TestFailures wants what fails to fail as the compiler does.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name, call string
		make       func(*world)
	}{
		{"a source with an error", "gcc -c a.c -o a.o", text("a.c", "int main( {\n")},
		{"a source that is not there", "gcc -c absent.c", nil},
		{"a header that is not there", "gcc -c a.c", text("a.c", "#include \"absent.h\"\n")},
		{"a header that cannot be read", "gcc -c a.c", func(w *world) {
			w.write("a.c", usesA)
			w.write("a.h", "#define A 1\n")
			w.must(os.Chmod(w.path("a.h"), 0))
		}},
		{"a directory that cannot be entered", "gcc -Ishut -c a.c", func(w *world) {
			w.write("a.c", "#include <stdio.h>\n")
			w.mkdir("shut")
			w.must(os.Chmod(w.path("shut"), 0))
		}},
		{"a directory of the output that is not there", "gcc -c a.c -o absent/a.o", text("a.c", "int a;\n")},
		{"an output that is a directory", "gcc -c a.c -o out", func(w *world) { w.write("a.c", "int a;\n"); w.mkdir("out") }},
		{"a compiler that breaks", "./b-gcc -c a.c", func(w *world) {
			w.write("a.c", "int a;\n")
			w.script("b-gcc", "echo half >a.o; echo broken >&2; exit 3")
		}},
		{"a compiler that a signal ends", "./b-gcc -c a.c", func(w *world) { w.write("a.c", "int a;\n"); w.script("b-gcc", "kill -SEGV $$") }},
		{"a compiler that is not executable", "./b-gcc -c a.c", func(w *world) {
			w.write("a.c", "int a;\n")
			w.write("b-gcc", "not a program\x00")
			w.must(os.Chmod(w.path("b-gcc"), 0o755))
		}},
		{"a compiler without its parts", "gcc -B/nowhere -c a.c", text("a.c", "int a;\n")},
		{"an archive that is none", "ar rcs lib.a a.o", func(w *world) { w.write("lib.a", "nonsense\n"); w.write("a.o", "x") }},
		{"an option that is not known", "gcc -fno-such-thing -c a.c", text("a.c", "int a;\n")},
		{"a link that lacks a function", "gcc a.o -o a", func(w *world) {
			w.flags = []string{"--cache-links"}
			w.write("a.c", "int f(void);\nint main(void) { return f(); }\n")
			w.host("gcc", "-c", "a.c")
		}},
		{"a preprocessor that fails after output", "gcc -E a.c", text("a.c", "int a;\n#error no\n")},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.make != nil {
				c.make(w)
			}
			want := w.bare(words(c.call))
			if strings.Contains(c.name, "not executable") {
				want.stderr = "" // a shell says that, and which one is the user's business
			}
			for range 3 {
				got, _, _ := w.wrapped(words(c.call))
				if strings.Contains(c.name, "not executable") {
					got.stderr = ""
				}
				if diff := got.differs(want); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestCachedFailures takes failures from the cache when it is told to.
func TestCachedFailures(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "int main( {\n")
	w.flags = []string{"--cache-failures"}
	call := words("gcc -c a.c")
	want := w.bare(call)
	if want.code == 0 || want.stderr == "" {
		t.Fatalf("control: %+v", want)
	}
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	w.write("a.c", "int main(void) { return 0; }\n")
	w.expect("repaired", call, w.bare(call), cc.Miss)
}

// TestTick edits a header in the same tick of the clock, many times.
func TestTick(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", usesA)
	want := map[int]effect{}
	call := words("gcc -c a.c")
	for n := range 2 {
		w.write("a.h", fmt.Sprintf("#define A %d\n", n))
		want[n] = w.bare(call)
	}
	for i := range 12 {
		w.write("a.h", fmt.Sprintf("#define A %d\n", i%2))
		before := w.tree()
		cmd := exec.Command(command, append([]string{"cc"}, call...)...)
		cmd.Dir = w.dir
		cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := w.tree()["a.o"]; got != want[i%2].files["a.o"] {
			t.Errorf("round %d: the object is not that of the header as it is", i)
		}
		w.restore(before)
	}
}

// TestReplacedMeanwhile changes the source while the compiler runs.
func TestReplacedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", "int one;\n")
	w.script("s-gcc", "sh -c 'until grep -q two a.c; do sleep 0.02; done' \"$PWD\" in-s-gcc & gcc \"$@\" && wait")
	call := words("./s-gcc -c a.c -o a.o")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if waitFor(w.dir, "in-s-gcc") { // before or after gcc has read it: it is the same
			_ = os.WriteFile(w.path("a.c"), []byte("int two;\n"), 0o644)
		}
	}()
	_, outcome, reason := w.wrapped(call)
	<-done
	if outcome != cc.Unkept {
		t.Errorf("ended with %s (%s), want %s", outcome, reason, cc.Unkept)
	}
	w.write("a.c", "int two;\n")
	w.expect("afterwards", call, w.bare(call), cc.Miss)
	w.expect("again", call, w.bare(call), cc.Hit)
}

// TestStores runs calls with stores that are no good.
func TestStores(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(*world)
	}{
		{"a store that is a file", func(w *world) { w.must(os.WriteFile(w.cache, []byte("x"), 0o600)) }},
		{"a store that is something else", func(w *world) {
			w.must(os.MkdirAll(w.cache, 0o700))
			w.must(os.WriteFile(filepath.Join(w.cache, "letter"), []byte("x"), 0o600))
		}},
		{"a store in a directory that cannot be written", func(w *world) { w.cache = "/proc/cache" }},
		{"a store of another version", func(w *world) {
			w.must(os.MkdirAll(w.cache, 0o700))
			w.must(os.WriteFile(filepath.Join(w.cache, "VERSION"), []byte("sbx-action cache 99\n"), 0o600))
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("a.c", usesA)
			w.write("a.h", "#define A 1\n")
			c.make(w)
			call := words("gcc -Wall -c a.c")
			want := w.bare(call)
			for range 2 { // and nothing is counted: it would be in somebody else's directory
				if diff := w.run(append([]string{command, "cc"}, call...)).differs(want); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestReadOnlyStore takes hits from a store that cannot be written, and makes the rest.
func TestReadOnlyStore(t *testing.T) {
	w := newWorld(t)
	w.write("a.c", usesA)
	w.write("a.h", "#define A 1\n")
	call := words("gcc -c a.c")
	want := w.bare(call)
	w.expect("at first", call, want, cc.Miss)
	w.flags = []string{"--read-only"}
	w.expect("a hit", call, want, cc.Hit)
	third := words("gcc -O1 -c a.c")
	w.flags, w.env["SOURCE_DATE_EPOCH"] = []string{"--path", "fixed"}, "1"
	w.expect("at first, at a fixed place", third, w.bare(third), cc.Miss)
	w.flags, w.env["SOURCE_DATE_EPOCH"] = append(w.flags, "--read-only"), "2"
	w.expect("a hit, at a fixed place and another time", third, w.bare(third), cc.Hit)
	delete(w.env, "SOURCE_DATE_EPOCH")
	w.flags = []string{"--read-only"}
	other := words("gcc -g -c a.c")
	for range 2 {
		w.expect("not there", other, w.bare(other), cc.Unkept)
	}
	if os.Geteuid() == 0 {
		return // whom no permission stops
	}
	w.must(filepath.WalkDir(w.cache, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(p, 0o555)
		}
		return err
	}))
	w.flags = nil
	w.expect("a hit from a directory that cannot be written", call, want, cc.Hit)
	w.expect("a miss beside it", other, w.bare(other), cc.Unkept)
	_ = exec.Command("chmod", "-R", "u+w", w.cache).Run()
}

// TestParallel runs equal and different calls at the same time on one store.
func TestParallel(t *testing.T) {
	w := newWorld(t)
	w.write("a.h", "#define A 1\n")
	const sources, each = 8, 8
	want := make([]effect, sources)
	for i := range sources {
		w.write(fmt.Sprintf("s%d.c", i), usesA+fmt.Sprintf("int n%d;\n", i))
		want[i] = w.bare(words(fmt.Sprintf("gcc -g -c s%d.c", i)))
	}
	var wg sync.WaitGroup
	for k := range each {
		dir := w.path(fmt.Sprintf("o%d", k))
		w.mkdir(dir)
		for i := range sources {
			wg.Go(func() {
				// Another directory for each, but equal calls: the output goes to standard output.
				cmd := exec.Command(command, "cc", "gcc", "-g", "-S", "-o", "-", fmt.Sprintf("s%d.c", i))
				cmd.Dir = w.dir
				cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache)
				out, err := cmd.Output()
				if err != nil || len(out) == 0 {
					t.Errorf("call %d of source %d: %v, %d bytes", k, i, err, len(out))
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("s%d.s", i)), out, 0o644); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	ran, hits := int64(0), int64(0)
	for k, n := range w.totals() {
		switch k.o {
		case cc.Hit:
			hits += n
		case cc.Miss, cc.Unkept:
			ran += n
		default:
			t.Errorf("%d calls ended with %s (%s)", n, k.o, k.r)
		}
	}
	if ran+hits != sources*each || ran > 2*sources {
		t.Errorf("%d calls ran and %d were hits; want about %d to run, of %d", ran, hits, sources, sources*each)
	}
	for i := range sources {
		first := w.tree()[fmt.Sprintf("o0/s%d.s", i)]
		for k := range each {
			if w.tree()[fmt.Sprintf("o%d/s%d.s", k, i)] != first {
				t.Errorf("source %d: not all calls gave the same", i)
			}
		}
	}
}

// TestSignals ends a call while the compiler runs: the signal is the call's end,
// nothing of the compiler is left, and the next call is as if there had been none.
func TestSignals(t *testing.T) {
	// Who starts us in the background may have us ignore it, and with us what we
	// start. What we catch they do not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT)
	defer signal.Stop(caught)
	for i, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGQUIT, syscall.SIGALRM} {
		w := newWorld(t)
		w.write("a.c", "int a;\n")
		mark := fmt.Sprintf("%d.%d", 3000+i, os.Getpid()) // seconds, and a word that only our process has
		w.script("s-gcc", "test -e fast || sleep "+mark+"\nexec gcc \"$@\"")
		call := []string{"./s-gcc", "-c", "a.c"}
		cmd := exec.Command(command, append([]string{"cc"}, call...)...)
		cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "SBX_CACHE="+w.cache)
		w.must(cmd.Start())
		sleeps := func() bool {
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			return slices.ContainsFunc(lines, func(f string) bool {
				data, _ := os.ReadFile(f)
				return string(data) == "sleep\x00"+mark+"\x00"
			})
		}
		for n := 0; !sleeps(); n++ {
			if n == 6000 {
				t.Fatal("control: the compiler does not run")
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.must(cmd.Process.Signal(sig))
		_ = cmd.Wait()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
			t.Errorf("%v: ended with %v", sig, cmd.ProcessState)
		}
		for n := 0; sleeps(); n++ {
			if n == 6000 {
				t.Fatalf("%v: the compiler still runs", sig)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if _, ok := w.tree()["a.o"]; ok {
			t.Errorf("%v: there is an output", sig)
		}
		w.write("fast", "")
		w.expect(sig.String(), call, w.bare(call), cc.Miss)
	}
}

// TestClock wants what depends on the time not to be kept, unless the time is in the key.
func TestClock(t *testing.T) {
	for _, use := range []string{"__DATE__", "__TIME__", "__TIMESTAMP__"} {
		w := newWorld(t)
		w.write("a.c", "const char *d = "+use+";\n")
		_, outcome, reason := w.wrapped(words("gcc -c a.c"))
		if outcome != cc.Unkept || reason != "uses the date or time" {
			t.Errorf("%s: ended with %s (%s)", use, outcome, reason)
		}
	}
}

// TestClockAnywhere finds it in files of whatever name.
func TestClockAnywhere(t *testing.T) {
	for _, name := range []string{"my.source.h", "h.o", "libx.so", "no-end"} {
		w := newWorld(t)
		w.write("a.c", "#include \""+name+"\"\nconst char *d = D;\n")
		w.write(name, "#define D __TIME__\n")
		if _, outcome, reason := w.wrapped(words("gcc -c a.c")); outcome != cc.Unkept || reason != "uses the date or time" {
			t.Errorf("in %s: ended with %s (%s)", name, outcome, reason)
		}
	}
	w := newWorld(t)
	w.write("\xff.c", "int a;\n")
	call := []string{"gcc", "-c", "\xff.c", "-o", "a.o"}
	want := w.bare(call)
	if got, outcome, reason := w.wrapped(call); outcome != cc.Plain || reason != cc.ReasonText || got.differs(want) != "" {
		t.Errorf("a name that is not UTF-8: %s (%s), %s", outcome, reason, got.differs(want))
	}
}

// TestNative puts the processor into the key of what depends on it.
func TestNative(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can show another processor
	}
	w := newWorld(t)
	w.write("a.c", "int a;\n")
	call := words("gcc -march=native -c a.c")
	want := w.bare(call)
	w.expect("at first", call, want, cc.Miss)
	w.expect("again", call, want, cc.Hit)
	info, err := os.ReadFile("/proc/cpuinfo")
	w.must(err)
	other := filepath.Join(w.top, "cpuinfo")
	w.must(os.WriteFile(other, []byte(strings.Replace(string(info), "\nflags\t\t: ", "\nflags\t\t: other ", 1)), 0o644))
	elsewhere := []string{"unshare", "-m", "sh", "-c", "mount --bind " + other + ` /proc/cpuinfo && exec "$@"`, "sh", command, "cc"}
	before := w.totals()
	if diff := w.run(slices.Concat(elsewhere, call)).differs(want); diff != "" {
		t.Error(diff)
	}
	after := w.totals()
	if after[totalKey{cc.Miss, "not seen before"}] != before[totalKey{cc.Miss, "not seen before"}]+1 {
		t.Errorf("another processor: %v, then %v", before, after)
	}
	w.expect("on the first one", call, want, cc.Hit)
}
