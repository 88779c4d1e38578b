package native

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// clockProgram asks for the time in all ways that there are, and for the times
// of a file that it makes.
const clockProgram = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int main(void) {
	struct timespec a, b; struct timeval c; struct stat e, f, g; struct statx h; long d;
	clock_gettime(CLOCK_REALTIME, &a);
	syscall(SYS_clock_gettime, CLOCK_REALTIME_COARSE, &b);
	gettimeofday(&c, 0);
	d = time(0);
	int fd = open("new", O_CREAT | O_WRONLY, 0644);
	write(fd, "x", 1);
	fstat(fd, &e); stat("new", &f); lstat("/build/new", &g);
	statx(AT_FDCWD, "new", 0, STATX_MTIME, &h);
	struct timespec m; clock_gettime(CLOCK_MONOTONIC, &m);
	printf("%ld %ld %ld %ld %ld %ld %ld %ld\n", (long)a.tv_sec, (long)b.tv_sec, (long)c.tv_sec, d,
		(long)e.st_mtime, (long)f.st_mtime, (long)g.st_mtime, (long)h.stx_mtime.tv_sec);
	return 0;
}
`

// compile makes the program in a directory that everybody can read.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	c := filepath.Join(dir, "a.c")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "a.out")
	if out, err := exec.Command("gcc", append(flags, "-o", bin, c)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return bin
}

// vary runs a program of ours in the host's root.
func vary(t *testing.T, v *backends.Vary, args ...string) []string {
	t.Helper()
	b := open(t)
	spec := shell("")
	spec.Args, spec.Vary = args, v
	if strings.HasPrefix(args[0], os.TempDir()) {
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: args[0], Target: "/program"})
		spec.Args[0] = "/program"
	}
	out, st := output(t, b, spec)
	if st.Code != 0 || v != nil && st.Unvaried {
		t.Fatalf("%q: code %d, unvaried %v\n%s", args, st.Code, st.Unvaried, out)
	}
	return strings.Fields(out)
}

func TestVaryClock(t *testing.T) {
	for _, flags := range [][]string{{"-static"}, {"-static-pie"}, nil} {
		program := compile(t, clockProgram, flags...)
		begin := time.Now()
		for i, s := range vary(t, nil, program) { // the control
			if n := parse(t, s); n.Before(begin.Add(-2*time.Second)) || n.After(time.Now()) {
				t.Errorf("%q: way %d: %v, want about %v", flags, i, n, begin)
			}
		}
		shift := 400*24*time.Hour + 7*time.Hour
		for i, s := range vary(t, &backends.Vary{Shift: shift}, program) {
			if n := parse(t, s).Add(-shift); n.Before(begin.Add(-2*time.Second)) || n.After(time.Now()) {
				t.Errorf("%q, shifted: way %d: %v, want about %v", flags, i, n, begin)
			}
		}
		freeze := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
		for i, s := range vary(t, &backends.Vary{Freeze: freeze, FreezeStep: time.Hour}, program) {
			if n := parse(t, s); !n.Equal(freeze) {
				t.Errorf("%q, frozen: way %d: %v, want %v", flags, i, n, freeze)
			}
		}
	}
}

func parse(t *testing.T, s string) time.Time {
	t.Helper()
	d, err := time.ParseDuration(s + "s")
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(0, 0).Add(d)
}

// TestVaryClockOfChildren asks in a child that has not executed anything, and
// in a thread's.
func TestVaryClockOfChildren(t *testing.T) {
	freeze := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	got := vary(t, &backends.Vary{Freeze: freeze, FreezeStep: time.Hour}, "sh", "-c",
		`date -u +%Y; (date -u +%Y; sh -c "date -u +%Y"); perl -e 'if (fork) { wait } else { print scalar(gmtime)."\n" }'; touch f; date -u -r f +%Y`)
	if s := strings.Join(got, " "); strings.Count(s, "2031") != 5 {
		t.Errorf("got %s, want five times 2031", s)
	}
}

func TestVaryOrder(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	list := func(seed uint32, script string) string {
		return strings.Join(vary(t, &backends.Vary{Order: seed}, "sh", "-c",
			`mkdir d; for i in 1 2 3 4 5 6 7 8 9; do : >d/$i; done; `+script), " ")
	}
	one, two := list(1, "ls -f d"), list(2, "ls -f d")
	if one == two || one != list(1, "ls -f d") || len(one) != len(two) {
		t.Errorf("seed 1: %s; seed 2: %s", one, two)
	}
	// More than one buffer, also while it is emptied; in /proc.
	got := list(3, `mkdir e; seq -f e/%g 40000 | xargs touch; ls -f e | sort -u | wc -l; find e -name '1*' -delete; ls e | wc -l; rm -r e d; ls -A; ls /proc | grep -c self`)
	want := list(3, `echo 40002; echo 28889; echo 2`)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// On the host; what others install there just now may change it once.
	for tries := 5; ; tries-- {
		host, err := os.ReadDir("/usr/bin")
		if err != nil {
			t.Fatal(err)
		}
		got := list(3, `rm -r d; ls /usr/bin | wc -l`)
		if got == strconv.Itoa(len(host)) {
			break
		}
		if tries == 1 {
			t.Errorf("/usr/bin has %s files, want %d", got, len(host))
			break
		}
	}
}

func TestVaryRest(t *testing.T) {
	script := `hostname; pwd; nproc; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat; umask; : >made; ls /build/made`
	umask := 0o27
	got := strings.Join(vary(t, &backends.Vary{
		HostName: "another.example.org", WorkDir: "/some/where/else", CPUs: 77, OneCPU: true, Umask: &umask, Layout: true, Delay: 5,
	}, "sh", "-c", "cd /some/where/else; "+script), " ")
	if want := "another.example.org /some/where/else 77 77 77 0027 /build/made"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	plain := strings.Fields(strings.Join(vary(t, nil, "sh", "-c", script), " "))
	if plain[0] != "sbx" || plain[1] != "/build" || plain[5] != "0022" {
		t.Errorf("without: %s", plain)
	}
	maps := []string{"sh", "-c", "head -n 1 /proc/self/maps"}
	if a, b := vary(t, nil, maps...), vary(t, nil, maps...); a[0] != b[0] {
		t.Errorf("without: %s and %s", a[0], b[0])
	}
	if a, b := vary(t, &backends.Vary{Layout: true}, maps...), vary(t, &backends.Vary{Layout: true}, maps...); a[0] == b[0] {
		t.Errorf("layout: %s twice", a[0])
	}
	cpus := `taskset -p $$ | sed 's/.*: //'`
	// Groups of digits that are all 0 but for one with one bit.
	if got := vary(t, &backends.Vary{OneCPU: true}, "sh", "-c", cpus)[0]; !strings.Contains("1248", cmp.Or(strings.Trim(got, "0,"), "none")) {
		t.Errorf("one processor: mask %s", got)
	}
}

// TestVaryAfterObserved runs commands that are varied in slots that expect one
// to observe: the process that was made for that ends, which is not the end of
// the command.
func TestVaryAfterObserved(t *testing.T) {
	b := open(t)
	for range 20 {
		spec := shell("echo observed")
		spec.Observe = true
		b.(*Backend).Warm(spec)
		if out, st := output(t, b, spec); st.Code != 0 || out != "observed\n" {
			t.Fatalf("observed: code %d\n%s", st.Code, out)
		}
		spec = shell("echo varied; echo errors >&2")
		spec.Vary = &backends.Vary{Shift: time.Hour}
		if out, st := output(t, b, spec); st.Code != 0 || !strings.Contains(out, "varied\n") {
			t.Fatalf("varied: code %d\n%s", st.Code, out)
		}
	}
}
