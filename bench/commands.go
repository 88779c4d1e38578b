package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sources are one-file programs, by what they include of the system: each
// header is one more file for a cache to look at.
var sources = []struct{ file, compiler, what, text string }{
	{"hello.c", "gcc", "C, 1 include", "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n"},
	{"tool.c", "gcc", "C, 11 includes", `#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
	printf("hello, %s\n", argc > 1 ? argv[1] : strerror(errno));
	return EXIT_SUCCESS;
}
`},
	{"words.cc", "g++", "C++, 3 includes", `#include <iostream>
#include <map>
#include <string>
int main() {
	std::map<std::string, int> n;
	for (std::string w; std::cin >> w;) ++n[w];
	for (auto &[w, i] : n) std::cout << i << ' ' << w << '\n';
}
`},
}

// nobody is the unprivileged user that rows run as when we are root.
const nobody = 65534

// as makes cmd run as an unprivileged user, if we are root.
func asUser(cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}

// commandRows measure the program as users run it.
func (b *bench) commandRows() ([]row, error) {
	work, err := b.workspace("commands")
	if err != nil {
		return nil, err
	}
	for _, src := range sources {
		if err := os.WriteFile(filepath.Join(work, src.file), []byte(src.text), 0o644); err != nil {
			return nil, err
		}
	}
	// Both caches distrust files that were written just now.
	time.Sleep(3 * time.Second)
	cacheDir := filepath.Join(work, "cache")
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work, "SBX_CACHE=" + cacheDir, "CCACHE_DIR=" + filepath.Join(work, "ccache")}
	command := func(args ...string) *exec.Cmd {
		cmd := asUser(exec.Command(args[0], args[1:]...))
		cmd.Dir, cmd.Env = work, env
		return cmd
	}
	n := 0
	unique := func() string { n++; return strconv.Itoa(n) }
	bwrap := func(args ...string) *exec.Cmd {
		return command(append([]string{
			"bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
			"--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
			"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--",
		}, args...)...)
	}
	// A store that has been in use has its directories.
	for range 300 {
		if _, err := timed(command(b.sbx, "run", "--", "true", unique())); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, src := range sources {
		compile := []string{src.compiler, "-O2", "-c", src.file, "-o", "out.o"}
		rows = append(rows, row{
			name: "hit: compile of one file, " + src.what, target: "≤ 0.6", rounds: 60,
			ours: process("run", func() *exec.Cmd {
				return command(append([]string{b.sbx, "run", "-i", src.file, "-o", "out.o", "--"}, compile...)...)
			}),
			peer: process("ccache direct", func() *exec.Cmd { return command(append([]string{"ccache"}, compile...)...) }),
		})
	}
	warm, err := b.warmSession(command(b.sbx, "warm", "--jobs", "1"))
	if err != nil {
		return nil, err
	}
	return append(rows, []row{
		{
			name: "miss: true, in a warm session", target: "≤ 0.8", rounds: 60,
			ours: process("run", func() *exec.Cmd {
				cmd := command(b.sbx, "run", "--", "true", unique())
				cmd.Env = append(slices.Clip(env), warm)
				return cmd
			}),
			peer: process("bwrap", func() *exec.Cmd { return bwrap("true", unique()) }),
		},
		{
			name: "miss: true, host rootfs, unprivileged", target: "≤ 0.8", rounds: 60,
			ours: process("run", func() *exec.Cmd { return command(b.sbx, "run", "--", "true", unique()) }),
			peer: process("bwrap", func() *exec.Cmd { return bwrap("true", unique()) }),
		},
		{
			name: "miss: true, with SBX_WARM=off", target: "", rounds: 60,
			ours: process("run", func() *exec.Cmd {
				cmd := command(b.sbx, "run", "--", "true", unique())
				cmd.Env = append(slices.Clip(env), "SBX_WARM=off")
				return cmd
			}),
			peer: process("bwrap", func() *exec.Cmd { return bwrap("true", unique()) }),
		},
		{
			name: "miss: compile of one file", target: "", rounds: 20,
			ours: process("run", func() *exec.Cmd {
				return command(b.sbx, "run", "-i", "hello.c", "-o", "hello.o", "--", "gcc", "-O2", "-DN="+unique(), "-c", "hello.c", "-o", "hello.o")
			}),
			peer: process("gcc", func() *exec.Cmd {
				return command("gcc", "-O2", "-DN="+unique(), "-c", "hello.c", "-o", "hello.o")
			}),
		},
	}...), nil
}

// warmSession starts a warm session, which ends with the program, and returns the
// variable that names it.
func (b *bench) warmSession(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.after = append(b.after, func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // Wait tells
		cmd.Wait()                          //nolint:errcheck // it was ended by us
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	variable, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
	if err != nil || !ok {
		return "", fmt.Errorf("%v: it printed %q, %w", cmd.Args, line, err)
	}
	return variable, nil
}

// workspace makes a directory that the unprivileged user owns.
func (b *bench) workspace(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return "", fmt.Errorf("give the workspace to nobody: %w", err)
		}
	}
	return dir, nil
}
