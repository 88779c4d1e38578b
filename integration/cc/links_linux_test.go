package cc_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// nextSource is a program that executes the next one of its name on PATH, as ccache and
// its relatives do that are called by links, and gives up when it has come to itself twenty times.
const nextSource = `#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int c, char **a) {
	char me[PATH_MAX], found[PATH_MAX], times[9], *dir, *turn = getenv("TZ"), *dirs = strdup(getenv("PATH")), *name = strrchr(a[0], '/');
	int n = turn ? atoi(turn) : 0;
	if (!realpath("/proc/self/exe", me) || n > 20)
		return 99;
	sprintf(times, "%d", n + 1);
	setenv("TZ", times, 1);
	while ((dir = strsep(&dirs, ":"))) {
		char p[PATH_MAX];
		snprintf(p, sizeof p, "%s/%s", dir, name ? name + 1 : a[0]);
		if (realpath(p, found) && strcmp(found, me) && !access(p, X_OK)) {
			a[0] = p;
			execv(p, a);
			return 98;
		}
	}
	return 97;
}
`

// TestLinksNext has links to us and to another program that passes calls on to the next
// compiler beside each other on PATH, in both orders, in directories of links and in
// one that holds something else, and wants all calls to come to the compiler.
func TestLinksNext(t *testing.T) {
	w := newWorld(t)
	w.files(twoFiles)
	w.write("wrong.c", "int x = y;\n")
	w.write("next.c", nextSource)
	for _, dir := range []string{"other", "links", "mixed"} {
		w.mkdir(dir)
	}
	w.host("gcc", "next.c", "-o", "other/gcc")
	w.link(command, "links/gcc")
	w.link(command, "mixed/gcc")
	w.write("mixed/mine", "")
	path := os.Getenv("PATH")
	for _, line := range []string{"gcc -c a.c -o a.o", "gcc -print-prog-name=cc1", "gcc -c wrong.c"} {
		args := words(line)
		w.env["PATH"] = path
		want := w.bare(args)
		for _, dirs := range [][]string{{"links", "other"}, {"other", "links"}, {"mixed", "other"}, {"other", "mixed"}, {"other", "mixed", "links"}} {
			w.env["PATH"] = path
			for i := range dirs {
				w.env["PATH"] = w.path(dirs[len(dirs)-1-i]) + ":" + w.env["PATH"]
			}
			for _, name := range []string{"gcc", w.path(dirs[0] + "/gcc"), w.path(dirs[1] + "/gcc")} {
				for _, off := range []string{"0", "1"} {
					w.env["SBX_CC_DISABLE"] = off
					if diff := w.bare(append([]string{name}, args[1:]...)).differs(want); diff != "" {
						t.Errorf("%s by %s, PATH of %v, disabled: %s: %s", line, name, dirs, off, diff)
					}
				}
			}
		}
	}
}

// A script of the compiler's name that calls us for it, or a link to us, is no compiler:
// the next one on PATH is, for whatever way the call takes.
func TestLinksScript(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	w := newWorld(t)
	w.files(twoFiles)
	w.write("wrong.c", "int x = y;\n")
	for _, dir := range []string{"scripts", "more", "links"} {
		w.mkdir(dir)
	}
	w.link(command, "links/gcc")
	path := os.Getenv("PATH")
	for _, line := range []string{"gcc -c a.c -o a.o", "gcc -print-prog-name=cc1", "gcc -c wrong.c"} {
		args := words(line)
		w.env["PATH"] = path
		want := w.bare(args)
		for _, call := range []string{command + " cc gcc", command + " cc --path fixed gcc", w.path("links/gcc"), command + " cc --any gcc"} {
			w.script("scripts/gcc", "exec "+call+" \"$@\"\n")
			for _, dirs := range []string{"scripts", "links:scripts", "scripts:links", "more:scripts"} {
				if strings.HasPrefix(dirs, "more") { // one calls the other
					w.script("more/gcc", "exec "+call+" \"$@\"\n")
				}
				w.env["PATH"] = path
				for _, dir := range slices.Backward(strings.Split(dirs, ":")) {
					w.env["PATH"] = w.path(dir) + ":" + w.env["PATH"]
				}
				for _, again := range []string{"first", "again"} {
					if diff := w.bare(args).differs(want); diff != "" {
						t.Errorf("%s, PATH of %s, script with %s, %s: %s", line, dirs, call, again, diff)
					}
				}
			}
		}
	}
	for i := range 12 {
		w.mkdir(fmt.Sprint("s", i))
		w.script(fmt.Sprint("s", i, "/gcc"), "exec "+command+" cc gcc \"$@\"\n")
		w.env["PATH"] = w.path(fmt.Sprint("s", i)) + ":" + w.env["PATH"]
	}
	if r := w.bare(words("gcc -c a.c -o a.o")); !strings.Contains(r.stderr, "calls itself by way of us") {
		t.Errorf("twelve scripts: %+v", r)
	}
}
