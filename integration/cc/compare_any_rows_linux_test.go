package cc_test

import (
	"regexp"
	"testing"
)

var digits = regexp.MustCompile(`[0-9]+`)

// withoutRate is what dd says but for how long it took.
func withoutRate(s string) string { return regexp.MustCompile(`copied.*`).ReplaceAllString(s, "") }

func withoutDigits(s string) string { return digits.ReplaceAllString(s, "") }

// withoutLong is a short text, and nothing of a long one, such as an index of git.
func withoutLong(s string) string {
	if len(s) > 60 {
		return ""
	}
	return s
}

func nothing(string) string { return "" }

func TestCompareAny(t *testing.T) {
	compareAny(t, []anyRow{
		// who and where
		{name: "id", want: "MHHHH|PPPPP", call: "$ANY id >o"},
		{name: "ls -l", want: "UUUUU|PPPPP", call: "$ANY ls -ln i j >o"},
		{name: "whoami", want: "MHHHH|PPPPP", call: "$ANY whoami"},
		{name: "stat owner", want: "MHHHH|PPPPP", call: "$ANY stat -c '%u %g %U %a %h %s' i >o"},
		{name: "pwd", want: "MHHHH", call: "$ANY pwd"},
		{name: "umask", want: "MHMHH", call: "umask 027; $ANY sh -c 'umask; cat i >o; mkdir d; cat j >d/o'"},
		{name: "umask 077", want: "MHHHH", call: "umask 077; $ANY sh -c 'cat i >o'"},
		{name: "umask 002", want: "PPPPP", call: "umask 002; $ANY cp i o"},
		{name: "tty", want: "PPPPP", call: "$ANY tty </dev/null"},
		{name: "date", want: "UUUUU", call: "$ANY date +%s.%N >o", mask: withoutDigits},
		{name: "date year", want: "UUUUU", call: "$ANY date +%Y >o"},
		{name: "date said", want: "UUUUU", call: "$ANY date +%F"},
		{name: "urandom", want: "UUUUU|PPPPP", call: "$ANY sh -c 'head -c 8 /dev/urandom | od >o'", mask: withoutDigits},
		{name: "urandom, not named", want: "UUUUU", setup: "echo 'head -c 8 /dev/urandom | od >o' >s", call: "$ANY sh s", mask: withoutDigits},
		{name: "getrandom", want: "MHHHH", call: `$ANY python3 -c 'import os; open("o","w").write(os.urandom(4).hex())'`, mask: nothing},
		{name: "uuid", want: "PPPPP", call: "$ANY cat /proc/sys/kernel/random/uuid", mask: nothing},
		{name: "mktemp", want: "MHHHH", call: "$ANY mktemp -u", mask: nothing},
		{name: "pid", want: "MHHHH", call: "$ANY sh -c 'kill -0 $$ && echo $$ | tr -d 0-9 >o'"},
		{name: "pid in temp", want: "MHMHH", call: "$ANY sh -c 'cat i >t.$$; mv t.$$ o'"},
		{name: "proc uptime", want: "PPPPP", call: "$ANY cat /proc/uptime", mask: withoutDigits},
		{name: "proc loadavg", want: "PPPPP", call: "$ANY sed s/[0-9]*//g /proc/loadavg >o"},
		{name: "ls of what is not all shown", want: "PPPPP", setup: "touch /tmp/sbx-any-seen", call: "$ANY sh -c 'ls / | grep -x run; ls /tmp | grep -x sbx-any-seen'; rm -f /tmp/sbx-any-seen"},
		{name: "find in what is not all shown", want: "PPPPP", setup: "touch /tmp/sbx-any-found", call: "$ANY find /tmp -maxdepth 1 -name sbx-any-found; $ANY find / -maxdepth 1 -name run; rm -f /tmp/sbx-any-found"},
		{name: "what Java lists", want: "MHHHH", setup: "echo 'mkdir -p /tmp/hsperfdata_sbx-any; ls /tmp/hsperfdata_sbx-any >o' >s", call: "mkdir /tmp/hsperfdata_sbx-any; $ANY sh s; rmdir /tmp/hsperfdata_sbx-any"},
		{name: "a directory in tmp that is made, and there already", want: "PPPPP", setup: "echo 'mkdir -p /tmp/sbx-any-there; ls /tmp/sbx-any-there >o' >s", call: "mkdir /tmp/sbx-any-there; touch /tmp/sbx-any-there/x; $ANY sh s; rm -r /tmp/sbx-any-there"},
		{name: "sys", want: "PPPPP", call: "$ANY sh -c 'ls /sys | head -3'"},
	})
}

func TestCompareAnyFiles(t *testing.T) {
	compareAny(t, []anyRow{
		{name: "cp", want: "MHMHH", call: "$ANY cp i o"},
		{name: "cp -p", want: "PPPPP", call: "$ANY cp -p i o"},
		{name: "cp -r", want: "MHMHH", call: "$ANY cp -r src dst"},
		{name: "cat", want: "MHHHH", call: "$ANY sh -c 'cat i j >o'"},
		{name: "rm", want: "PPMHH", call: "$ANY rm -f i"},
		{name: "rm -r", want: "PPMHH", call: "$ANY rm -rf src"},
		{name: "mv", want: "PPPPP", call: "$ANY mv i k"},
		{name: "mv dir", want: "PPPPP", call: "$ANY mv src dst"},
		{name: "sed -i", want: "MHMHH", call: "$ANY sed -i s/one/uno/ i"},
		{name: "perl -i", want: "MHMHH", call: "$ANY perl -pi -e s/one/uno/ i"},
		{name: "truncate", want: "MHMHH", call: "$ANY truncate -s 3 i"},
		{name: "append", want: "MHMHH", call: "$ANY sh -c 'echo x >>i'"},
		{name: "append new", want: "MHMHH", call: "$ANY sh -c 'echo x >>o'"},
		{name: "append outside", want: "PPPPP", call: "$ANY sh -c 'echo x >>$OUT/log; cat i >o'"},
		{name: "append outside via stdout", want: "MHHHH", call: "$ANY echo x >>$OUT/log"},
		{name: "append outside by name", want: "PPPPP", call: "$ANY sh -c \"echo x >>$OUT/log; cat i >o\""},
		{name: "make outside by name", want: "PPPPP", call: "$ANY sh -c \"cat i >$OUT/new\""},
		{name: "make outside by cp", want: "PPPPP", call: "$ANY cp i $OUT/new"},
		{name: "make outside by -o", want: "MHMHH", call: "$ANY sort -o $OUT/new i"},
		{name: "rm outside", want: "FFFFF", call: "$ANY rm $OUT/log"},
		{name: "chmod outside", want: "FFFFF", call: "$ANY chmod 600 $OUT/log"},
		{name: "touch outside", want: "PPPPP", call: "$ANY touch -d 2001-01-01 $OUT/log; stat -c %Y $OUT/log"},
		{name: "ln outside", want: "PPPPP", call: "$ANY ln -sf x $OUT/log"},
		{name: "truncate outside", want: "PPPPP", call: "$ANY truncate -s 0 $OUT/log"},
		{name: "home", want: "MHHHH", call: "$ANY sh -c 'cat ~/rc >o; echo 1 >~/.cache'"},
		{name: "home append", want: "MHMHH", call: "$ANY sh -c 'echo 1 >>~/rc'"},
		{name: "parent", want: "MHMHH", call: "$ANY sh -c 'cat i >../home/o'"},
		{name: "absolute", want: "MHMHH", call: "$ANY cp i $PWD/o"},
		{name: "touch", want: "MHMHH", call: "$ANY touch o"},
		{name: "touch old", want: "PPPPP", call: "$ANY touch -d 2001-01-01 i; stat -c %Y i"},
		{name: "touch new at", want: "PPPPP", call: "$ANY touch -d 2001-01-01 o; stat -c %Y o"},
		{name: "mkdir -p", want: "PPPPP", call: "$ANY mkdir -p d/e/f"},
		{name: "mkdir file", want: "MHMHH", call: "$ANY sh -c 'mkdir -p d/e; cat i >d/e/o'"},
		{name: "mkdir and empty", want: "PPPPP", call: "$ANY sh -c 'mkdir -p d/e f; cat i >d/e/o'"},
		{name: "rmdir", want: "PPFFF", setup: "mkdir e", call: "$ANY rmdir e"},
		{name: "install", want: "MHMHH", call: "$ANY install -m 644 i o"},
		{name: "install 755", want: "MHMHH", call: "$ANY install -D i d/e/o"},
		{name: "ln -s", want: "MHMHH", call: "$ANY ln -sf i l"},
		{name: "ln -s other", want: "MHMHH", setup: "ln -s j l", call: "$ANY ln -sfn i l"},
		{name: "ln", want: "PPPPP", call: "$ANY ln -f i l"},
		{name: "ln new", want: "PPPPP", call: "$ANY sh -c 'cat i >o; ln -f o l'"},
		{name: "chmod", want: "PPPPP", call: "$ANY chmod +x i"},
		{name: "chmod 600", want: "PPPPP", call: "$ANY chmod 600 i"},
		{name: "script made", want: "MHMHH", call: "$ANY sh -c 'echo exit >o; chmod +x o'"},
		{name: "private made", want: "PPPPP", call: "$ANY sh -c 'umask 077; echo exit >o'"},
		{name: "fifo made", want: "PPPPP", call: "$ANY mkfifo f"},
		{name: "socket made", want: "PPPPP", call: `$ANY python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'`},
		{name: "device made", want: "FFPPP", user: "FFFFF", call: "$ANY mknod dev c 1 3"},
		{name: "sparse", want: "MHMHH", call: "$ANY truncate -s 64M o"},
		{name: "many", want: "MHMHH", call: "$ANY sh -c 'mkdir -p d; cd d; i=0; while [ $i -lt 200 ]; do echo $i >f$i; i=$((i+1)); done'"},
		{name: "xattr truncated", want: "PPPPP", setup: "echo 1 >o; setfattr -n user.kept -v yes o", call: "$ANY sh -c 'cat i >o'"},
		{name: "xattr replaced", want: "PPMHH", setup: "echo 1 >o; setfattr -n user.kept -v yes o", call: "$ANY sh -c 'cat i >t; mv t o'"},
		{name: "xattr sed", want: "PPMHH", setup: "setfattr -n user.kept -v yes i", call: "$ANY sed -i s/one/uno/ i"},
		{name: "xattr made", want: "PPPPP", call: "$ANY sh -c 'cat i >o; setfattr -n user.kept -v 1 o'"},
		{name: "xattr read", want: "MHHHH", setup: "setfattr -n user.kept -v yes i", call: "$ANY sh -c 'getfattr --only-values -n user.kept i >o'"},
		{name: "hard link in place", want: "PPPPP", setup: "echo 1 >o; ln o l", call: "$ANY sh -c 'cat i >o'"},
		{name: "link in place", want: "MHMHH", setup: "echo 1 >l; ln -s l o", call: "$ANY sh -c 'cat i >o'"},
		{name: "link out", want: "PPPPP", setup: "ln -s $OUT/new o", call: "$ANY sh -c 'cat i >o'"},
		{name: "private in place", want: "PPPPP", setup: "echo 1 >o; chmod 600 o", call: "$ANY sh -c 'cat i >o'"},
		{name: "read-only in place", want: "FFFFF", setup: "echo 1 >o; chmod 444 o", call: "$ANY cp i o"},
		{name: "dir in place", want: "MHMHH", setup: "mkdir o", call: "$ANY cp i o"},
		{name: "read-only dir", want: "PPPPP", user: "FFFFF", setup: "mkdir -p d; chmod 555 d", call: "$ANY cp i d/o"},
		{name: "setgid dir", want: "MHMHH", setup: "mkdir -p d; chmod 2775 d", call: "$ANY cp i d/o; $ANY sh -c 'mkdir -p d/e; cat i >d/e/o'"},
	})
}

func TestCompareAnyStreams(t *testing.T) {
	compareAny(t, []anyRow{
		{name: "stdin file", want: "MHHHH", call: "$ANY sort <i >o"},
		{name: "stdin pipe", want: "PPPPP", call: "cat i | $ANY sort >o"},
		{name: "stdin null", want: "MHHHH", call: "$ANY cat </dev/null"},
		{name: "stdin partly", want: "MHHHH", call: "{ read x; $ANY cat; } <i"},
		{name: "stdin left", want: "MHHHH", call: "{ $ANY head -c 1; cat; } <i"},
		{name: "stdin unread", want: "MHHHH", call: "{ $ANY true; cat; } <i"},
		{name: "stdin closed", want: "PPPPP", call: "$ANY cat i <&-"},
		{name: "stdout closed", want: "PPPPP", call: "$ANY cat i >&-"},
		{name: "stdout pipe", want: "MHHHH", call: "$ANY cat i | cat"},
		{name: "stdout head", want: "MHHHH", call: "$ANY sh -c 'cat i; echo 1 >o' | head -1"},
		{name: "sigpipe", want: "PPPPP", call: "($ANY yes; echo $? >&2) | head -1"},
		{name: "both one", want: "PPPPP", call: "$ANY sh -c 'echo 1; echo 2 >&2; echo 3' 2>&1"},
		{name: "fd 3", want: "FFFFF", call: "$ANY sh -c 'echo x >&3' 3>o"},
		{name: "fd 3 in", want: "FFFFF", call: "$ANY sh -c 'cat <&3 >o' 3<i"},
		{name: "fd 9 lock", want: "PPPPP", call: "$ANY flock 9 cp i o 9>lock"},
		{name: "flock", want: "PPPPP", call: "$ANY flock lock cp i o"},
		{name: "dev stdout", want: "PPPPP", call: "$ANY sh -c 'cat i >/dev/stdout'"},
		{name: "dev stderr", want: "PPPPP", call: "$ANY sh -c 'echo 1 >/dev/stderr'"},
		{name: "dev stdin", want: "PPPPP", call: "$ANY sh -c 'cat /dev/stdin' <i"},
		{name: "dev fd", want: "PPPPP", call: "$ANY cat /dev/fd/0 <i"},
		{name: "tee", want: "MHHHH", call: "$ANY tee o <i"},
		{name: "stdout to read-write file", want: "MHHHH", call: "$ANY cat i 1<>j"},
		{name: "stdout is an input", want: "PPPPP", call: "$ANY cat j >>j"},
		{name: "exit code", want: "FFFFF", call: "$ANY sh -c 'echo 1 >o; exit 3'"},
		{name: "fail and append", want: "PPPPP", call: "$ANY sh -c 'echo 1 >>$OUT/log; echo 2 >>i; exit 3'"},
		{name: "signal", want: "PPPPP", call: "$ANY sh -c 'echo 1 >>i; kill -9 $$'; echo $?"},
		{name: "signal term", want: "PPPPP", call: "$ANY sh -c 'kill $$'; echo $?"},
		{name: "abort", want: "PPPPP", call: "ulimit -c 0; $ANY sh -c 'kill -ABRT $$'; echo $?"},
		// It waits for what comes when the call has ended.
		{name: "background", want: "PPPPP", call: "$ANY sh -c '(while test ! -e go; do sleep 0.05; done; echo 1 >late) >/dev/null 2>&1 & cat i >o'; touch go; for i in $(seq 600); do test -s late && break; sleep 0.1; done"},
		{name: "binary args", want: "MHHHH", call: "$ANY printf '\\377\\n' >o; $ANY echo \"$(printf '\\303\\251')\""},
		{name: "empty arg", want: "MHHHH", call: "$ANY sh -c 'echo $#' x '' a"},
		{name: "dash args", want: "MHHHH", call: "$ANY echo --help -- -v"},
		{name: "terminal size", want: "PPPPP", call: "$ANY stty size </dev/null"},
		{name: "nice", want: "PPPPP", call: "nice -n 3 $ANY sh -c nice"},
		{name: "unix socket", want: "UUUUU", setup: "rm -f $OUT/s $OUT/n; timeout 20 python3 -c 'import os,socket; s=socket.socket(socket.AF_UNIX); s.bind(os.environ[\"OUT\"]+\"/s\"); s.listen()\nwhile 1:\n c,_=s.accept(); open(os.environ[\"OUT\"]+\"/log\",\"a\").write(\"asked\\n\"); c.send(b\"1\"); c.close()' >/dev/null 2>&1 & while [ ! -S $OUT/s ]; do sleep 0.01; done", call: `$ANY python3 -c 'import os,socket; s=socket.socket(socket.AF_UNIX); s.connect(os.environ["OUT"]+"/s"); print(s.recv(1))'`},
		{name: "unix socket in project", want: "FFFFF|PPPPP", setup: "rm -f s; timeout 20 python3 -c 'import os,socket; s=socket.socket(socket.AF_UNIX); s.bind(\"s\"); s.listen()\nwhile 1:\n c,_=s.accept(); open(os.environ[\"OUT\"]+\"/log\",\"a\").write(\"asked\\n\"); c.send(b\"1\"); c.close()' >/dev/null 2>&1 & while [ ! -S s ]; do sleep 0.01; done", call: `$ANY python3 -c 'import os,socket; s=socket.socket(socket.AF_UNIX); s.connect("s"); print(s.recv(1))'`},
	})
}

func TestCompareAnyTools(t *testing.T) {
	compareAny(t, []anyRow{
		{name: "tar x", want: "PPPPP", setup: "tar cf a.tar --mtime=@1000000000 src; rm -r src", call: "$ANY tar xf a.tar; stat -c %Y src/a.c"},
		{name: "tar c", want: "UUUUU|PPPPP", call: "touch -d @1000000000 src; $ANY tar cf a.tar src"}, // else two runs find two times
		{name: "tar of 1970", want: "MHHHH", call: "$ANY tar cf a.tar --mtime=@0 --sort=name src"},
		{name: "tgz of 1970", want: "MHMHH", call: "$ANY tar czf a.tgz --mtime=@0 --sort=name src"},
		{name: "tgz", want: "UUUUU", call: "touch -d @1000000000 src src/a.c; $ANY tar czf a.tgz src"},
		{name: "tar said", want: "UUUUU", call: "touch -d @1000000000 src src/a.c; $ANY tar c src >o"},
		{name: "tar hidden", want: "UUUUU", call: "touch -d @1000000000 src src/a.c; $ANY sh -c 'tar c src | base64 >o'"},
		{name: "gzip said", want: "UUUUU", call: "touch -d @1000000000 i; $ANY gzip -c i >o"},
		{name: "gzip", want: "PPPPP", call: "$ANY gzip -k i"},
		{name: "gzip rm", want: "PPPPP", call: "$ANY gzip i"},
		{name: "gunzip", want: "PPPPP", setup: "gzip -n i", call: "$ANY gunzip i.gz"},
		{name: "patch", want: "MHFFF", files: map[string]string{"p/d.patch": "--- i\n+++ i\n@@ -1,2 +1,2 @@\n-one\n+uno\n two\n"}, call: "$ANY patch -s i d.patch"},
		{name: "make", want: "PPPPP", files: map[string]string{"p/Makefile": "o: i\n\tcp i o\n"}, call: "$ANY make -s"},
		{name: "make in a script", want: "PPPPP", files: map[string]string{"p/Makefile": "V = 1\no: i\n\techo $V >o\n"}, call: "MAKEFLAGS=' -- V=2' $ANY sh -c 'make -s'"},
		{name: "make's level", want: "MHHHH", call: "MAKELEVEL=7 DISPLAY=:9 $ANY sh -c 'echo $MAKELEVEL $DISPLAY'"},
		{name: "git describe", want: "MHHHH", setup: "git init -q . && git config user.email a@b && git config user.name a && git add i && GIT_COMMITTER_DATE=2001-01-01T00:00:00 git commit -q -m a --date 2001-01-01T00:00:00; git tag v1", call: "$ANY git describe --tags >o", mask: withoutLong},
		{name: "gcc", want: "MHMHH", call: "$ANY gcc -c src/a.c"},
		{name: "gcc -MD", want: "MHMHH", call: "$ANY gcc -MD -c src/a.c -o a.o"},
		{name: "cd script", want: "MHMHH", files: map[string]string{"p/s.sh": "#!/bin/sh\ncd src && wc -l a.c >../o\n"}, call: "$ANY ./s.sh"},
		{name: "cmake -E copy", want: "MHMHH", call: "$ANY cmake -E copy i o"},
		{name: "cmake -E copy_if_different", want: "MHMHH", call: "$ANY cmake -E copy_if_different i o"},
		{name: "cmake -E touch", want: "MHMHH", call: "$ANY cmake -E touch o"},
		{name: "python module", want: "MHMHH", files: map[string]string{"p/g.py": "import m\nopen('o','w').write(m.t)\n", "p/m.py": "t='1'\n"}, call: "$ANY python3 g.py"},
		{name: "python pyc", want: "MHMHH", files: map[string]string{"p/g.py": "import m\nopen('o','w').write(m.t)\n", "p/m.py": "t='1'\n"}, call: "$ANY env -u PYTHONDONTWRITEBYTECODE python3 g.py"},
		{name: "tmp by mktemp", want: "MHHHH", call: "$ANY sh -c 't=$(mktemp); cat i >$t; cat $t >o; rm $t'"},
		{name: "tmp made", want: "PPPPP", call: "$ANY sh -c 'cat i >/tmp/sbx-any-left; cat /tmp/sbx-any-left >o'; rm -f /tmp/sbx-any-left"},
		{name: "tmp left", want: "PPPPP", call: "$ANY sh -c 'cat i >/tmp/sbx-any-left'; cat /tmp/sbx-any-left; rm -f /tmp/sbx-any-left"},
		{name: "tmp named", want: "PPPPP", call: "$ANY cp i /tmp/sbx-any-left2; cat /tmp/sbx-any-left2; rm -f /tmp/sbx-any-left2"},
		{name: "tmp append", want: "PPPPP", setup: "echo 1 >/tmp/sbx-any-left3", call: "$ANY sh -c 'cat i >>/tmp/sbx-any-left3'; cat /tmp/sbx-any-left3; rm -f /tmp/sbx-any-left3"},
		{name: "stat mtime", want: "UUUUU", call: "touch -d @1000000000 i; $ANY stat -c %Y i"},
		{name: "stat day", want: "UUUUU", call: "touch -d @1000000000 i; $ANY stat -c %y i >o"},
		{name: "stat day that is said", want: "MHHHH", call: "touch -d @1000000000 i; $ANY sh -c 'test -f i; echo 2001-09-09'"},
		{name: "stat mtime dir", want: "MHHHH", call: "$ANY sh -c 'test i -nt j; echo $?'"},
		{name: "dd", want: "MHHHH", call: "$ANY dd if=i of=o", mask: withoutRate},
		{name: "dd notrunc", want: "MHMHH", call: "$ANY dd if=i of=j conv=notrunc status=none"},
		{name: "find", want: "MHHHH", call: "$ANY find . -name '*.c'"},
		{name: "find newer", want: "MHHHH", call: "$ANY find . -newer i -type f"},
		{name: "du", want: "MHHHH", call: "$ANY du -s --apparent-size i"},
		{name: "sort -o same", want: "MHHHH", call: "$ANY sort -o i i"},
		{name: "split", want: "MHMHH", call: "$ANY split -l 1 i part-"},
		{name: "unlink and make", want: "MHMHH", call: "$ANY sh -c 'rm -f o; cat i >o'"},
		{name: "if newer", want: "MHMHH", call: "$ANY sh -c 'if [ -e o ] && [ o -nt i ]; then echo fresh; else cat i >o; fi'"},
		{name: "counter", want: "MHMHH", call: "$ANY sh -c 'n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) >n'"},
		{name: "sudo", want: "MHHHH", call: "$ANY sh -c 'test -u /bin/su && echo suid'"},
		{name: "chown self", want: "PPPPP", call: "$ANY sh -c 'cat i >o; chown $(id -u) o'"},
	})
}
