package cc_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestConfigure runs a configure script of autoconf three times: with the bare
// compiler, through us, and once more. It has to find out the same, and the third
// time everything that can be compiled comes from the cache.
func TestConfigure(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	w := newWorld(t)
	w.write("configure.ac", `AC_INIT([probe], [1])
AC_CONFIG_HEADERS([config.h])
AC_CONFIG_FILES([out])
AC_PROG_CC
AC_PROG_CPP
AC_CHECK_HEADERS([unistd.h sys/epoll.h sys/event.h windows.h stdatomic.h])
AC_CHECK_FUNCS([epoll_create kqueue strlcpy memmem no_such_function])
AC_CHECK_SIZEOF([long])
AC_CHECK_DECLS([environ, no_such_thing], [], [], [[#include <unistd.h>]])
AC_SEARCH_LIBS([sqrt], [m])
AC_C_BIGENDIAN
AC_C_CONST
AC_OUTPUT
`)
	w.write("out.in", "@DEFS@ @LIBS@\n")
	w.write("config.h.in", "#undef HAVE_UNISTD_H\n#undef HAVE_SYS_EPOLL_H\n#undef HAVE_SYS_EVENT_H\n#undef HAVE_STRLCPY\n#undef HAVE_EPOLL_CREATE\n#undef SIZEOF_LONG\n#undef HAVE_DECL_ENVIRON\n")
	w.host("autoconf")
	w.remove("autom4te.cache")
	configure := func(compiler string) string {
		w.settle()
		w.tool("cc", "--zero")
		w.skip = "."
		before := w.tree()
		e := w.run([]string{"/bin/sh", "-c", "./configure -q CC='" + compiler + "' && cat config.h out && grep -E '^ac_cv_(c|func|have|header|search|sizeof)_' config.log"})
		w.restore(before)
		if e.code != 0 {
			t.Fatalf("%s: %s", compiler, e.stderr)
		}
		return strings.ReplaceAll(e.stdout, compiler, "gcc")
	}
	want := configure("gcc")
	for _, line := range []string{"#define HAVE_UNISTD_H 1", "/* #undef HAVE_SYS_EVENT_H */", "#define SIZEOF_LONG 8"} {
		if !strings.Contains(want, line) {
			t.Fatalf("control: no %q in %s", line, want)
		}
	}
	wrapped := command + " cc --cache-links gcc"
	for _, round := range []string{"cold", "hot"} {
		if got := configure(wrapped); got != want {
			t.Errorf("%s: configure found out something else:\n%s\nwant\n%s", round, got, want)
		}
		sum := map[cc.Outcome]int64{}
		for k, n := range w.totals() {
			sum[k.o] += n
		}
		if sum[cc.Broken]+sum[cc.Unkept] > 0 || round == "hot" && (sum[cc.Miss] > 0 || sum[cc.Hit] < 20) || sum[cc.Failed] == 0 {
			out, _ := w.tool("cc", "--stats")
			t.Errorf("%s: %s", round, out)
		}
	}
	_, err := os.Stat(filepath.Join(w.dir, "configure"))
	w.must(err)
}
