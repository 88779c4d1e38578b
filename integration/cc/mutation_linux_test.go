package cc_test

import (
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// A mutation is a call, and a change of one thing that the call depends on. The
// call has to be a hit before the change, a miss with the compiler's new result
// after it, and a hit again when the change is taken back.
type mutation struct {
	name   string
	files  map[string]string
	make   func(*world) // more than files
	call   string       // words, with spaces between them
	change func(*world)
	back   func(*world) // nil: the files are as at first

	same    bool         // the change is none for the compiler: it has to stay a hit
	silent  bool         // the change may make no difference, but it is one of the key
	ends    []cc.Outcome // how all calls end; nil: as described above
	changed []cc.Outcome // how those after the change end; nil: as the others
	root    bool         // it can only be made by root
	watched bool         // it is noticed only where calls are observed
}

// text returns the change that writes a file.
func text(name, content string) func(*world) { return func(w *world) { w.write(name, content) } }

func gone(name string) func(*world) { return func(w *world) { w.remove(name) } }

func env(name, value string) func(*world) { return func(w *world) { w.env[name] = value } }

func unset(name string) func(*world) { return func(w *world) { delete(w.env, name) } }

func steps(list ...func(*world)) func(*world) {
	return func(w *world) {
		for _, f := range list {
			f(w)
		}
	}
}

const usesA = "#include \"a.h\"\nint value(void) { int unused; return A; }\n"

// answered counts the mutations before which the front answered the call: it has to
// have noticed them.
var answered atomic.Int32

func TestMutations(t *testing.T) {
	t.Cleanup(func() { // when all of them are done
		if n := answered.Load(); !testing.Short() && n < 60 && runtime.GOARCH == "amd64" {
			t.Errorf("the front was there for %d mutations, want 60", n)
		} else {
			t.Logf("the front was there for %d mutations", n)
		}
	})
	for i, m := range mutations() {
		if testing.Short() && i%16 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			if m.root && os.Geteuid() != 0 {
				return // it is tested as root
			}
			if !m.root { // those change what the others see
				t.Parallel()
			}
			m.test(newWorld(t))
		})
	}
	if n := len(mutations()); n < 60 {
		t.Errorf("there are %d mutations, want 60", n)
	}
}

func (m *mutation) test(w *world) {
	t := w.t
	for name, content := range m.files {
		w.write(name, content)
	}
	w.env["PYTHONDONTWRITEBYTECODE"] = "1" // beside the modules of the host
	if m.make != nil {
		m.make(w)
	}
	w.flags = []string{"--cache-links"}
	args := strings.Fields(strings.ReplaceAll(m.call, "$PWD", w.dir))
	if args[0] == "--any" {
		w.flags, args = append(w.flags, "--any"), args[1:]
	}
	if args[0] == "--no-stdin" { // so that the front answers it
		w.flags, args = append(w.flags, "--no-stdin"), args[1:]
	}
	ran := []cc.Outcome{cc.Miss}
	hit := []cc.Outcome{cc.Hit}
	if m.ends != nil {
		ran, hit = m.ends, m.ends
	}
	w.settle()
	first := w.bare(args)
	if first.code != 0 {
		t.Fatalf("control: the call fails: %s", first.stderr)
	}
	w.expect("at first", args, first, ran...)
	w.expect("unchanged", args, first, hit...)
	if m.ends == nil && w.atOnce("unchanged, by the front", args, first) {
		answered.Add(1)
	}
	before := w.tree()
	m.change(w)
	second := w.bare(args)
	if diff := second.differs(first); (diff == "") != m.same && !m.silent {
		t.Fatalf("control: the change makes a difference for the compiler: %q", diff)
	}
	switch {
	case m.same:
		w.expect("changed without effect", args, second, hit...)
		w.atOnce("changed without effect, by the front", args, second)
	case second.code != 0:
		w.expect("changed, so that it fails", args, second, cc.Failed, cc.Broken, cc.Plain)
	case m.changed != nil:
		w.expect("changed", args, second, m.changed...)
		w.expect("changed, again", args, second, m.changed...)
	default:
		w.expect("changed", args, second, ran...)
		w.expect("changed, again", args, second, hit...)
		if m.ends == nil {
			w.atOnce("changed, by the front", args, second)
		}
	}
	if m.back != nil {
		m.back(w)
	} else {
		w.restore(before)
	}
	w.expect("changed back", args, first, hit...)
	if m.ends == nil {
		w.atOnce("changed back, by the front", args, first)
	}
}

// asRoot is how calls end after a change that is none for root, but for a compiler in
// a sandbox, which has another user or no capabilities.
func asRoot(o cc.Outcome) []cc.Outcome {
	if os.Geteuid() != 0 {
		return nil
	}
	return []cc.Outcome{o}
}
