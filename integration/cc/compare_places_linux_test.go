package cc_test

import (
	"testing"

	"github.com/sbx-action/sbx-action/integration/cc"
)

// TestCompareOptions writes options in the ways in which they can be written.
func TestCompareOptions(t *testing.T) {
	compareAll(t, []row{
		{name: "joined", call: "$CC -Wall -O2 -Iinc -DX=1 -UY -oa.o -c a.c", with: both},
		{name: "output first", call: "$CC -o a.o -c a.c", with: both},
		{name: "abbreviated", call: "$CC --comp --out=a.o a.c", want: "fail"},
		{name: "x stdin", call: "$CC -x c - -c -o a.o <a.c; $CC -xc -E - <a.c; $CC -xc -S - -o - <a.c; echo 'int x;' | $CC -xc -c -; $CC -E - <a.c", with: both},
		{name: "stdin empty", call: "$CC -xc -E - </dev/null; $CC -xc -E -dM - </dev/null | wc -l", with: both},
		{name: "include", call: "$CC -include a.h -imacros a.h -c b.c", with: both},
		{name: "response quoting", call: "printf '%s' '-DX=a\\ b -DY=\\\"q\\\" \"-DZ=\\\\\\\\\" a.c' >one; tick; $CC -E @one"},
		{name: "specs", call: "echo '*cc1: + -DFOO' >sp; tick; $CC -specs=sp -E a.c"},
		{name: "several sources", call: "$CC -MD -c a.c b.c src/c.c", with: both},
		{name: "several sources, one bad", call: "$CC -MD -c a.c bad.c b.c", with: both, want: "fail"},
		{name: "several sources with o", call: "$CC -c a.c b.c -o x.o", with: both, want: "fail"},
		{name: "several sources E", call: "$CC -E a.c b.c", with: both},
		{name: "several sources S", call: "$CC -S -g a.c b.c", with: both},
		{name: "same source twice", call: "$CC -c b.c b.c; $CC -E b.c b.c"},
		{name: "output is ./", call: "$CC -c a.c -o ./a.o; $CC -c ./b.c; $CC -c ././src/../src/c.c", with: both},
		{name: "output in src", call: "$CC -c src/c.c -o src/c.o -MD; $CC -g -c src/c.c -MMD", with: both},
		{name: "cd out", call: "p=$PWD; cd $T; $CC -g -MD -Wall -c $p/a.c; cat a.d; $CC -c $p/a.c -o $p/b.o; cksum a.o", with: both},
		{name: "quotes", files: map[string]string{"a'b.c": "int q;\n", "a\"c.c": "int q;\n", "a\nd.c": "int q;\n", "-x.c": "int w;\n", "a\\b.c": "int e;\n"}, call: "$CC -c -MD \"a'b.c\"; $CC -c -MD 'a\"c.c'; $CC -MD -c 'a\nd.c'; $CC -c ./-x.c; $CC -c 'a\\b.c' -MD", with: both},
		{name: "macro with quotes", call: "$CC -DS='\"a b\"' -DT=\\'x\\' '-DU(x)=#x' -E a.c; $CC -D 'V=1' -E a.c", with: both},
		{name: "empty argument", call: "$CC '' -c a.c", want: "fail"},
		{name: "o last", call: "$CC -c a.c -o; $CC -o '' -c a.c", want: "plain (arguments that we do not understand), plain (the output is not a regular file)"},
		{name: "o twice", call: "$CC -c a.c -o x.o -o y.o", with: both},
		{name: "verbose", call: "$CC -v -E b.c 2>&1 | wc -l; $CC -### -c b.c 2>&1 | wc -l", want: "plain (asks the compiler something)"},
		{name: "Werror", call: "$CC -Wall -Werror -c a.c; $CC -Wall -Wfatal-errors -c bad.c", with: both, want: "fail"},
		{name: "date macros", call: "echo 'const char *x=__DATE__;' >g.c; tick; SOURCE_DATE_EPOCH=100 $CC -c g.c", with: both},
		{name: "has_include", call: "echo '#if __has_include(\"n.h\")\n#include \"n.h\"\n#endif\n#if __has_include(<a.h>)\nint u;\n#endif' >g.c; tick; $CC -E g.c; $CC -I. -c g.c", with: both},
		{name: "sysroot", call: "$CC --sysroot=/ -c b.c; $CC -isysroot / -c b.c; $CC --sysroot=/nonesuch -E a.c; $CC -nostdinc -E a.c", with: both},
		{name: "cc1", call: "${CC%gcc}$(gcc -print-prog-name=cc1) -quiet a.c -o b.s"},
		{name: "Xclang", call: "$CLANG -Xclang -ast-dump -fsyntax-only a.c | wc -l; $CLANG -cc1 -emit-obj a.c -o q.o"},
		{name: "O variants", call: "$CC -O3 -ffast-math -funroll-loops -fPIC -fvisibility=hidden -fsanitize=address,undefined -fstack-protector-strong -D_FORTIFY_SOURCE=2 -c a.c; $CC -Og -fopenmp -pthread -c b.c", with: both},
		{name: "wrapper", call: "$CC -wrapper /usr/bin/env -c a.c", want: "plain (arguments that we do not understand)"},
	})
}

// TestComparePlaces has outputs and the caller in unusual places and states.
func TestComparePlaces(t *testing.T) {
	compareAll(t, []row{
		{name: "read-only output", call: "echo x >a.o; chmod 400 a.o; tick; $CC -c a.c; ls -l a.o | cut -c1-10", with: both, want: "plain (an output has an owner or permissions that are not those of new files)", clang: "fail"},
		{name: "symlink output", call: "echo x >b.o; ln -s b.o a.o; tick; $CC -c a.c; stat -c '%F %h' a.o b.o", with: both, want: "plain (an output has another name, too, or is a link)"},
		{name: "dangling output", call: "ln -s b.o a.o; tick; $CC -c a.c; stat -c '%F %h' a.o", with: both, clang: "plain (an output has another name, too, or is a link)"},
		{name: "hard link output", call: "echo x >b.o; ln b.o a.o; tick; $CC -c a.c; stat -c '%F %h' a.o b.o", with: both, want: "plain (an output has another name, too, or is a link)"},
		{name: "hard link output of what fails", files: map[string]string{"e.c": "int e;\n#error no\n"}, call: "echo x >b.i; ln b.i a.i; tick; $CC -E e.c -o a.i; cat b.i", want: "plain (an output has another name, too, or is a link)"},
		{name: "fifo output", call: "mkfifo a.o; cat a.o >x & $CC -c a.c -o a.o; wait; rm -f a.o", with: both, want: "plain (the output is not a regular file)"},
		{name: "fifo S", call: "mkfifo f; cat f >x & $CC -S a.c -o f; wait; rm f", with: both, want: "plain (the output is not a regular file)"},
		{name: "fifo depfile", call: "mkfifo f; cat f >x & $CC -c -MD -MF f a.c; wait; rm f", with: both, want: "plain (the output is not a regular file)"},
		{name: "umask", call: "umask 077; $CC -MD -c a.c; umask 0; $CC -MD -c b.c; umask 027; $CC a.c m.c -o p", with: both},
		{name: "umask 777", call: "umask 777; $CC -c a.c", with: both, want: "plain (the umask takes rights from the owner of new files)"},
		{name: "cwd symlink", call: "ln -s $PWD $T/l; cd $T/l; tick; $CC -g -MD -c a.c; $CC -g -MD -c $T/l/a.c -o b.o; $CC -g -c $PWD/b.c -o c.o; echo $PWD", with: both},
		{name: "cwd symlink, PWD physical", call: "ln -s $PWD $T/l; cd -P $T/l; tick; $CC -g -c a.c", with: both},
		{name: "cwd is a link in src", call: "ln -s src lnk; cd lnk; tick; $CC -g -MD -c c.c; $CC -g -MD -c ../a.c -o ../z.o", with: both},
		{name: "source is a link", call: "mkdir q; ln -s ../a.c q/z.c; ln -s src dd; tick; $CC -g -MD -c q/z.c; $CC -MD -c dd/c.c -o y.o", with: both, want: "fail, hit"},
		{name: "source dangling", call: "ln -s none.c z.c; tick; $CC -c z.c; ln -s l.c l.c; $CC -c l.c", with: both, want: "fail"},
		{name: "cwd unreadable", call: "mkdir x; cp a.c a.h x; cd x; chmod 300 .; tick; $CC -c a.c; chmod 700 .", with: both, user: "trip (permission denied)"},
		{name: "cwd not writable", call: "mkdir x; cp a.c a.h x; cd x; chmod 500 .; tick; $CC -c a.c; chmod 700 .", with: both, want: "fail"},
		{name: "source unreadable", call: "chmod 0 a.c; tick; $CC -c a.c", with: both, want: "plain (" + string(cc.ReasonBarred) + ")", user: "fail"},
		{name: "root cwd", call: "p=$PWD; cd /; $CC -g -c $p/a.c -o $p/x.o; cd /usr; $CC -g -c $p/a.c -o $p/y.o", with: both, want: "plain (the working directory is not one to build in)"},
		{name: "sticky output", call: "mkdir x; chmod 1777 x; tick; $CC -c a.c -o x/a.o; chmod 2755 x; $CC -c a.c -o x/b.o", with: both},
		{name: "source is output", call: "cp a.c z.c; tick; $CC -c z.c -o z.c; $CC -E a.c -o a.c", with: both, want: "fail", clang: "hit"},
		{name: "header is output", call: "$CC -E a.c -o a.h; $CC -MD -MF a.h -c a.c", with: both, want: "fail, hit", clang: "fail, hit"},
		{name: "outputs are one", call: "$CC -MD -MF x -c a.c -o x", with: both},
		{name: "immutable dir", call: "mkdir x; echo >x/a.o; chmod 555 x; tick; $CC -c a.c -o x/a.o; chmod 755 x", with: both, user: "trip (permission denied)"},
		{name: "cwd symlink, said without -g", call: "ln -s $PWD $T/l; cd $T/l; tick; $CC -E -fworking-directory b.c; $CC -c b.c; $CLANG -MJ db -c b.c"},
	})
}

// TestCompareStreams has standard streams of all kinds, and diagnostics.
func TestCompareStreams(t *testing.T) {
	compareAll(t, []row{
		{name: "stdin closed", call: "$CC -Wall -c a.c <&-", with: both},
		{name: "descriptor in a source", call: "echo '#include \"/dev/fd/7\"' >g.c; tick; $CC -c g.c 7<b.c", with: both, want: "plain (asks for something in /tmp, /run or /dev/shm that it does not name)"},
		{name: "stdout closed", call: "$CC -Wall -c a.c >&-; $CC -E a.c >&-", with: both, want: "plain (a standard descriptor is closed)"},
		{name: "stderr closed", call: "$CC -Wall -c a.c 2>&-; $CC -c bad.c 2>&-", with: both, want: "plain (a standard descriptor is closed)"},
		{name: "all closed", call: "$CC -Wall -c a.c <&- >&- 2>&-", with: both, want: "plain (a standard descriptor is closed)"},
		{name: "stdin source closed", call: "$CC -xc -c - -o a.o <&-", with: both, want: "plain (a standard descriptor is closed)"},
		{name: "stdin directory", call: "$CC -xc -c - -o a.o <src", with: both, want: "plain (standard input is neither a whole file nor empty)"},
		{name: "stdout is output", call: "$CC -E a.c -o x >x; $CC -S a.c -o y >y; $CC -c a.c >a.o", with: both},
		{name: "stdout pipe", call: "$CC -E a.c | cat; $CC -Wall -S -o - a.c 2>&1 | cat | wc -l", with: both, want: "hit, plain (standard output and error are one file, and both get something)"},
		{name: "stdin is a source too", call: "$CC -c a.c <a.c; $CC -xc -c - -o b.o <<E\nint x;\nE", with: both},
		{name: "stdin offset", call: "exec 3<a.c; read l <&3; $CC -xc -E - <&3; cat <&3", with: both, want: "plain (standard input is neither a whole file nor empty)"},
		{name: "stdin is left", call: " tick;echo rest | { $CC -c a.c; cat; }; echo 'int x;' | { $CC -xc -c - -o b.o; cat; }", with: both},
		{name: "json", call: "$CC -Wall -fdiagnostics-format=json -c a.c"},
		{name: "json-file", call: "$CC -Wall -fdiagnostics-format=json-file -c a.c; $CC -Wall -fdiagnostics-format=sarif-file -c a.c", want: "fail"},
		{name: "urls", call: "$CC -Wall -fdiagnostics-urls=always -c a.c; GCC_URLS=st $CC -Wall -fdiagnostics-urls=always -c a.c; TERM_URLS=no $CC -Wall -fdiagnostics-urls=always -c a.c"},
	})
}
