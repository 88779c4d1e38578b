package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "bwrap", "linux-user-chroot", "nothing-of-that-name": // links that script/persona makes
		main()
	}
	testscript.Main(m, map[string]func(){"sbx-action": main})
}

// TestScripts runs the program as users run it: each file of testdata/script
// brings its own inputs. The store of a script is its own.
func TestScripts(t *testing.T) {
	heavy := heavyDir(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("SBX_CACHE", filepath.Join(env.WorkDir, "..", filepath.Base(env.WorkDir)+"-cache"))
			env.Defer(func() { os.RemoveAll(env.Getenv("SBX_CACHE")) })
			// As on a user's terminal: what the caller has set is not seen.
			env.Setenv("SBX_LEAK", "leaked")
			env.Setenv("SBX_WARM", "off")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			self, err := exec.LookPath("sbx-action")
			env.Setenv("SELF", self)
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+heavy)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mtime": cmdMtime,
			"same":  cmdSame,
		},
	})
}

// cmdMtime sets the modification time of a file: mtime FILE OTHER copies it.
func cmdMtime(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mtime FILE OTHER")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), info.ModTime(), info.ModTime()))
}

// cmdSame compares two lines of text as "same A B", for values in variables.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same A B")
	}
	if (args[0] == args[1]) == neg {
		ts.Fatalf("%q and %q: same is %v", args[0], args[1], args[0] == args[1])
	}
}
