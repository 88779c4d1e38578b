package cc_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestJobserver gives a link its share of make's jobserver, of both kinds. The FIFO
// is that of make 4.4, and of GCC 13, which know it under its name; a compiler that is
// a script stands for those.
func TestJobserver(t *testing.T) {
	for _, kind := range []string{"pipe", "fifo"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.write("a.o", "an object\n")
			w.script("gcc", `
case $MAKEFLAGS in *" -j2 "*) ;; *) exit 2 ;; esac
auth=${MAKEFLAGS##*--jobserver-auth=}
case $auth in
fifo:*) exec 5<>"${auth#fifo:}" 6<&5 ;;
8,9) exec 5>&9 6<&8 ;;
*) exit 3 ;;
esac
read -r token <&6
echo "$token" >&5
echo "took $token" >prog`)
			server, flags := w.jobserver(kind)
			run := func(token string, more ...string) string {
				w.settle()
				w.remove("prog")
				cmd := exec.Command(command, append(append([]string{"cc", "--cache-links"}, more...), words("./gcc -flto=jobserver -o prog a.o")...)...)
				cmd.Dir = w.dir
				cmd.Env = append(os.Environ(), "SBX_CACHE="+w.cache, "MAKEFLAGS="+flags)
				if kind == "pipe" {
					cmd.ExtraFiles = []*os.File{server, server}
				}
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				w.must(cmd.Start())
				// Only now is there one: who did not wait has none.
				_, err := server.WriteString(token + "\n")
				w.must(err)
				if err := cmd.Wait(); err != nil {
					t.Fatalf("%v\n%s", err, &out)
				}
				back := make([]byte, 16)
				n, err := server.Read(back)
				if err != nil || string(back[:n]) != token+"\n" {
					t.Errorf("in the jobserver is %q (%v) afterwards, want %q", back[:n], err, token)
				}
				data, err := os.ReadFile(w.path("prog"))
				w.must(err)
				return string(data)
			}
			if got := run("one"); got != "took one\n" {
				t.Errorf("it %q", got)
			}
			if got := run("two"); got != "took one\n" { // how many there are is no input
				t.Errorf("a hit: it %q", got)
			}
			if got := run("three", "--recache"); got != "took three\n" {
				t.Errorf("it %q", got)
			}
			total := w.totals()
			if total[totalKey{cc.Hit, ""}] != 1 || total[totalKey{cc.Miss, "not seen before"}]+total[totalKey{cc.Miss, cc.ReasonRecache}] != 2 {
				t.Errorf("%v", total)
			}
			// One that cannot be reached, as make has it for recipes that are no make.
			w.env["MAKEFLAGS"] = " -j3 --jobserver-auth=57,58"
			w.script("gcc", "echo alone >prog")
			w.flags = []string{"--cache-links"}
			call := words("./gcc -flto=jobserver -o prog a.o")
			want := w.bare(call)
			got, outcome, reason := w.wrapped(call)
			if outcome != cc.Plain || reason != cc.ReasonJobserver || got.differs(want) != "" {
				t.Errorf("%s (%s): %s", outcome, reason, got.differs(want))
			}
		})
	}
}

// jobserver makes a jobserver without tokens, and the MAKEFLAGS that tell of it.
func (w *world) jobserver(kind string) (*os.File, string) {
	w.t.Helper()
	name := filepath.Join(w.top, "GMfifo")
	w.must(syscall.Mkfifo(name, 0o600))
	f, err := os.OpenFile(name, os.O_RDWR, 0) // both ends of what is a pipe, too
	w.must(err)
	w.t.Cleanup(func() { f.Close() })
	if kind == "fifo" {
		return f, " -j3 --jobserver-auth=fifo:" + name
	}
	return f, " -j3 --jobserver-auth=3,4"
}

// TestFindJobserver: what is said of a jobserver may be nonsense.
func TestFindJobserver(t *testing.T) {
	for _, flags := range []string{
		"", "-j3", "--jobserver-auth=", "--jobserver-auth=1", "--jobserver-auth=0,1", "--jobserver-auth=-1,-1", "--jobserver-auth=99999999999999999999,4",
		"--jobserver-auth=fifo:", "--jobserver-auth=fifo:/", "--jobserver-auth=fifo:/absent", "--jobserver-auth=fifo:/etc/passwd", "--jobserver-auth=250,251",
		strings.Repeat("x", 100000),
	} {
		if _, ok := cc.FindJobserver(flags); ok {
			t.Errorf("%.60q: found", flags)
		}
	}
}
