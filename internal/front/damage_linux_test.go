package front

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDamage cuts a memo at all lengths, changes its bytes, and makes it one of
// another boot or program.
func TestDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	data := w.put(m)
	before := w.outputs()
	try := func(what string, data []byte) {
		w.write(w.file(m), string(data))
		if got, _ := w.call(); got == "answered" || got == "unable" {
			t.Errorf("%s: %s", what, got)
		}
	}
	for n := 0; n < len(data); n += 1 + n/16 {
		try(fmt.Sprintf("cut at %d", n), data[:n])
	}
	for at := recordHead; at < len(data); at += 37 {
		bad := bytes.Clone(data)
		bad[at] ^= 1
		try(fmt.Sprintf("byte %d", at), bad)
	}
	try("zeros", make([]byte, len(data)))
	for what, at := range map[string]int{"another boot": 16, "another program": 16 + 36} {
		bad := bytes.Clone(data)
		bad[recordHead+at]++
		binary.LittleEndian.PutUint64(bad[recordHead+8:], sum(bad[recordHead+16:]))
		try(what, bad)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	w.write(w.file(m), string(data))
	if got, _ := w.call(); got != "answered" {
		t.Errorf("control: %s", got)
	}
}

// TestDamageEverywhere does to a memo at each of its bytes what a disk may do.
func TestDamageEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := filepath.Join(filepath.Dir(w.store), "seed")
	w.env = append(w.env, "FRONT_TEST=damage:"+name)
	w.write(name, string(w.put(w.memo())))
	cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
	out, err := cmd.CombinedOutput()
	var tries, parsed int
	if _, serr := fmt.Sscanf(string(out), "%d tries %d parsed", &tries, &parsed); err != nil || serr != nil || tries < 5_000 || parsed > 0 {
		t.Errorf("%s: %v, %v: want many tries and none parsed", out, err, serr)
	}
}

// TestLost has standard output or error that cannot be written to: Go is left with the
// call, and nothing is counted. The outputs are there, and Go will find them so; but not
// where it was to be seen before that nobody reads.
func TestLost(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	reader, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	reader.Close()
	for _, c := range []struct {
		name     string
		silent   bool // nothing goes to standard output
		out, err *os.File
		want     int
	}{
		{"control", false, nil, nil, 0},
		{"output full", false, full, nil, 99},
		{"output broken", false, broken, nil, 99},
		{"both full", false, full, full, 99},
		{"error full, when the output is written", false, nil, full, 0},
		{"error full", true, nil, full, 99},
		{"error broken", true, nil, broken, 99},
		{"output full, and there is none", true, full, nil, 0},
	} {
		w := newWorld(t)
		m := w.memo()
		if c.silent {
			m.Stdout = nil
		}
		w.put(m)
		cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
		if c.out != nil {
			cmd.Stdout = c.out
		}
		if c.err != nil {
			cmd.Stderr = c.err
		}
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != c.want {
			t.Errorf("%s: %v, want %d", c.name, cmd.ProcessState, c.want)
		}
		unread := c.out == broken || c.err == broken
		if data, err := os.ReadFile(w.dir + "/a.o"); (err == nil && string(data) == "object\n") == unread {
			t.Errorf("%s: %q, %v", c.name, data, err)
		}
		stats, err := os.ReadFile(w.store + "/stat/cc1")
		w.must(err)
		if counted := len(stats) > 0; counted != (c.want == 0) {
			t.Errorf("%s: counted %q", c.name, stats)
		}
	}
}

// TestPart writes a part of what was said into a file that must not grow further: what
// Go or the compiler writes then begins where ours did.
func TestPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	m.Stdout = bytes.Repeat([]byte("said "), 1000)
	w.put(m)
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 1; (printf 12345; "$0" "$@") >out`, harness}, w.args[1:]...)...)
	m.key = Key(append([]string{harness}, w.args[1:]...), w.env, w.dir, false)
	w.put(m)
	cmd.Dir, cmd.Env = w.dir, w.env
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 99 {
		t.Errorf("%v, want 99", err)
	}
	// A part of what was said is behind what the harness printed: ours was to be seen.
	data, err := os.ReadFile(w.dir + "/out")
	w.must(err)
	if want := "12345unable\nsaid said"; !strings.HasPrefix(string(data), "12345unable\n") || !bytes.HasSuffix(data[:40], m.Stdout[7:35]) {
		t.Errorf("the file begins with %q, want %q", data[:min(40, len(data))], want)
	}
}

// TestHostile gives the parser memos with right sums and wrong bytes.
func TestHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name := filepath.Join(filepath.Dir(w.store), "seed")
	n := 20000
	if testing.Short() {
		n = 2000
	}
	w.env = append(w.env, fmt.Sprintf("FRONT_TEST=fuzz:%d:%s", n, name))
	data := w.put(w.memo())
	w.write(name, string(data))
	cmd := exec.Cmd{Path: harness, Args: w.args, Env: w.env, Dir: w.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var parsed, held, prepared, all int
	if _, err := fmt.Sscanf(string(out), "%d parsed %d held %d prepared %d", &all, &parsed, &held, &prepared); err != nil || all != n || prepared == 0 || parsed == all {
		t.Errorf("%q: %v: the test does not reach what it is for", out, err)
	}
}

// TestFull runs out of space in the middle of an output.
func TestFull(t *testing.T) { // nothing else runs meanwhile
	w := newWorld(t)
	w.write(w.store+"/blob", strings.Repeat("x", 200_000))
	w.put(w.memo())
	before := w.outputs()
	// As good as a full disk: a limit, and no signal for it.
	var limit unix.Rlimit
	w.must(unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = 100_000
	signal.Ignore(unix.SIGXFSZ)
	w.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	what, out := w.call()
	w.must(unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	signal.Reset(unix.SIGXFSZ)
	if what != "unable" || out != "" {
		t.Errorf("%s, said %q", what, out)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
	if what, _ := w.call(); what != "answered" {
		t.Errorf("with space: %s", what)
	}
}

// TestSizeLimit has a limit of the size of files that is lower than the size of the
// statistics, whose default end is a signal: it must not end a hit whose outputs fit,
// and what does not fit is left to Go with no signal waiting for it.
func TestSizeLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.memo()
	w.write(w.store+"/history", strings.Repeat("x", 5000))
	m.Append(Append{File: "history", Most: 1 << 20, Data: []byte("more")})
	w.put(m)
	limited := func(blocks string) (what string) {
		cmd := exec.Command("sh", append([]string{"-c", "ulimit -f " + blocks + `; exec "$0" "$@"`, harness}, w.args[1:]...)...)
		cmd.Dir, cmd.Env = w.dir, w.env
		out, err := cmd.Output()
		if err == nil {
			return "answered"
		}
		if cmd.ProcessState.ExitCode() != 99 {
			t.Errorf("%v: it ended with %v", cmd.Args, err)
		}
		return strings.TrimSpace(string(out))
	}
	w.args[0] = harness
	m.key = Key(w.args, w.env, w.dir, false)
	w.put(m)
	if what := limited("2"); what != "answered" { // of 512 bytes, or 1024
		t.Errorf("the outputs fit: %s", what)
	}
	if data, err := os.ReadFile(w.dir + "/a.o"); err != nil || string(data) != "object\n" {
		t.Errorf("the output: %q, %v", data, err)
	}
	w.write(w.store+"/blob", strings.Repeat("x", 5000))
	large := w.memo()
	large.key = m.key
	w.put(large)
	before := w.outputs()
	if what := limited("2"); what != "unable" {
		t.Errorf("the outputs do not fit: %s", what)
	}
	if after := w.outputs(); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// TestClosed has standard descriptors that are closed, whose numbers outputs would get.
func TestClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.memo())
	before := w.outputs()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	w.must(err)
	defer null.Close()
	for closed := range 4 {
		files := []*os.File{null, null, null}
		if closed < 3 {
			files[closed] = nil
		}
		p, err := os.StartProcess(harness, w.args, &os.ProcAttr{Dir: w.dir, Env: w.env, Files: files})
		w.must(err)
		state, err := p.Wait()
		w.must(err)
		if answered := state.ExitCode() == 0; answered != (closed == 3) {
			t.Errorf("with descriptor %d closed: %v", closed, state)
		}
		if after := w.outputs(); closed < 3 && after != before {
			t.Errorf("with descriptor %d closed:\n%s", closed, after)
		}
	}
}

// TestEncode says of what there cannot be a memo.
func TestEncode(t *testing.T) {
	for what, f := range map[string]func(*Memo){
		"path":   func(m *Memo) { m.Nothing("/" + strings.Repeat("x", 5000)) },
		"name":   func(m *Memo) { m.Without("/", nil, nil, []string{"a/b"}) },
		"output": func(m *Memo) { m.Output("/", Output{Path: "/etc/passwd"}) },
		"outputs": func(m *Memo) {
			for range 65 {
				m.Output("/", Output{Path: "x"})
			}
		},
		"blob":   func(m *Memo) { m.Output("/nowhere", Output{Path: "x", Blob: "y"}) },
		"record": func(m *Memo) { m.Result("/nowhere", "y") },
		"key":    func(m *Memo) { m.key = make([]byte, 1<<20) },
		"size":   func(m *Memo) { m.Stdout = make([]byte, 5<<20) },
		"appends": func(m *Memo) {
			for range 5 {
				m.Append(Append{})
			}
		},
	} {
		m := NewMemo([]string{"x"}, nil, "/")
		f(m)
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
