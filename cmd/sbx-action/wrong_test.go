package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// wrongUses are command lines, with what the one line says that each gets: it names
// the thing, and what there is to do about it.
var wrongUses = []struct{ line, want string }{
	{"rnu -- true", "(is run meant?)"},
	{"--nope", "--nope stands before the name of a command"},
	{"--verbose run -- true", "--verbose stands before"},
	{"run", "no command: put it after --"},
	{"run -i", "flag needs an argument: -i"},
	{"run -v -- true", "unknown flag -v (is --verbose meant?)"},
	{"run --input a.c -- true", "unknown flag --input (is -i meant?)"},
	{"run --outptu=x -- true", "unknown flag --outptu (is -o meant?)"},
	{"run --timout 5s -- true", "(is --timeout meant?)"},
	{"run --no-cache=maybe -- true", "want true or false"},
	{"run -i nothere -- true", `input "nothere" does not exist`},
	{"run -i A.C -- true", `"A.C" does not exist`},
	{"run -i ../x -- true", "--workspace"},
	{"run -o /x -- true", "outside of the workspace"},
	{"run --timeout -5s -- true", "such as 90s"},
	{"run --memory lots -- true", "such as 512M"},
	{"run --pids 0 -- true", "a whole number above 0"},
	{"run --scratch 1X -- true", "such as 512M"},
	{"run --digest md5 -- true", "use sha256 or blake3"},
	{"run --backend nope -- true", "there are native, bubblewrap"},
	{"run --rootfs nothere -- true", "'sbx-action rootfs list'"},
	{"run --rootfs a.c -- true", "want a directory or a tar archive"},
	{"run --cwd nothere -- true", "not a directory of the workspace"},
	{"run --cwd a.c -- true", "not a directory of the workspace"},
	{"run --stdin nothere -- true", "--stdin: open nothere: no such file"},
	{"run --stdin dir -- true", "dir is a directory"},
	{"run --workspace a.c -- true", "is not a directory"},
	{"run --env =x -- true", "want NAME=VALUE"},
	{"run --env NOT_SET_AT_ALL -- true", "--env NOT_SET_AT_ALL=VALUE"},
	{"run --cache a.c -- true", "a.c cannot be a cache"},
	{"run --log dir -- true", "--log: open dir: is a directory; name a file"},
	{"run --verify=0 -- true", "N from 1 to 1000"},
	{"run --keep=a.c -- true", "a.c is there already"},
	{"run --remote http://x -- true", "want grpc://HOST:PORT/INSTANCE"},
	{"run --remote-mode rw --remote grpc://x:1 -- true", "there are read, write and both"},
	{"run --arch vax -- true", "is not one of amd64"},
	{"run --no-cache --refresh -- true", "exclude each other"},
	{"run -j 2 -- true", "name it with -f FILE"},
	{"run -f nothere.yaml", "open nothere.yaml: no such file"},
	{"run -f dir", "dir is a directory"},
	{"run -f a.c", "a.c:1:1: an action file must be a mapping"},
	{"run -f build.yaml -i a.c", "write it into the file"},
	{"run -f build.yaml actoin", `did you mean "action"?`},
	{"run -f build.yaml --color sometimes", "want one of auto, always, never"},
	{"graph --format svg", "want one of text, dot, json, targets"},
	{"explain", "no command"},
	{"cc", "no compiler"},
	{"cc --stast", "(is --stats meant?)"},
	{"cc --root nothere gcc -c a.c", "--root nothere"},
	{"cc --stats gcc", "run no compiler"},
	{"warm --jobs 0 true", "a whole number above 0"},
	{"why", "say of what"},
	{"diff", "want one or two"},
	{"show nothere", "never run"},
	{"cat nothere", "never run"},
	{"history --since yesterday", "such as 90s"},
	{"enter", "say what to enter"},
	{"rerun a.o --nope", "unknown flag --nope"},
	{"export a.o", "and the file to write"},
	{"import a.c", "a.c: not an export"},
	{"attest a.o", "give --key FILE"},
	{"sandbox", "no root file system"},
	{"sandbox host", "no command"},
	{"sandbox host --uid x -- true", "want a whole number"},
	{"sandbox host --mount bad -- true", "want SRC:DST"},
	{"backends nope", `unknown backend "nope"`},
	{"doctor x", `unexpected argument "x"`},
	{"rootfs lsit", "want import, list, show, export or rm"},
	{"rootfs import a nothere", "nothere: no such file"},
	{"rootfs rm nothere", "'sbx-action rootfs list'"},
	{"owners export --format tar x y", "want fakeroot, pseudo or mtree"},
	{"remote stats", "want status, flush or stop"},
	{"cache trim", "--max-size, --max-age or --max-count"},
	{"cache stats", `unknown word "stats": want stat, trim`},
	{"config shwo", "want show or list"},
	{"config show --jsno", "(is --json meant?)"},
	{"completion tcsh", "bash, zsh or fish"},
	{"man nosuch", "'sbx-action help'"},
	{"build --file nothere", "open nothere: no such file"},
	{"build --output foo:bar", "want KIND:PATH"},
	{"build schema x", `unexpected argument "x"`},
	{"serve --listen nope", "want HOST:PORT"},
	{"worker --scheduler x", "--storage is missing"},
	{"runner --listen x", "want unix:PATH"},
	{"buildbox-run", "--remote is missing"},
}

// TestWrongUses gives the program command lines that are wrong: each gets one line, the
// exit code is ours, and nothing is left in the workspace.
func TestWrongUses(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"a.c": "int a;\n", "build.yaml": "version: 1\nactions: {action: {command: ['true']}}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+string(os.PathListSeparator)+heavyDir(t))
	t.Setenv("SBX_CACHE", filepath.Join(out, "cache"))
	t.Setenv("XDG_CONFIG_HOME", out)
	for _, use := range wrongUses {
		cmd := exec.Command("sbx-action", strings.Fields(use.line)...)
		cmd.Dir = dir
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		exit, _ := errors.AsType[*exec.ExitError](cmd.Run())
		said := stderr.String()
		if exit == nil || exit.ExitCode() != exitOurs || stdout.Len() > 0 ||
			strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "sbx-action: ") || !strings.Contains(said, use.want) {
			t.Errorf("sbx-action %s: %v, %q, %q; want 125 and one line with %q", use.line, exit, stdout.String(), said, use.want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v", left, err)
	}
}
