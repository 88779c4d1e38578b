package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestRemoteScripts are scripts with a server of ours, which the script starts
// at $SERVER, and an agent of its own.
func TestRemoteScripts(t *testing.T) {
	heavy := heavyDir(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/remote",
		Setup: func(env *testscript.Env) error {
			// A port that is free, and stays so: at this address nobody else has any.
			l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
			if err != nil {
				return err
			}
			l.Close()
			env.Setenv("SERVER", l.Addr().String())
			env.Setenv("GORACE", os.Getenv("GORACE"))
			dir, err := os.MkdirTemp("", "sbx") // a socket's path is short
			if err != nil {
				return err
			}
			socket := filepath.Join(dir, "s")
			stores := filepath.Join(dir, "stores")
			env.Setenv("STORES", stores)
			env.Setenv("SBX_CACHE", filepath.Join(stores, "a"))
			self, err := exec.LookPath("sbx-action")
			if err != nil {
				return err
			}
			env.Setenv("SELF", self)
			env.Setenv("SBX_REMOTE_SOCKET", socket)
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+heavy)
			env.Defer(func() {
				stop := exec.Command("sbx-action", "remote", "stop")
				stop.Env = env.Vars
				stop.Run()
				os.RemoveAll(dir)
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"listening": cmdListening},
	})
}

// cmdListening waits until somebody listens at an address.
func cmdListening(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: listening ADDRESS")
	}
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", args[0]); err == nil {
			c.Close()
			return
		}
	}
	ts.Check(fmt.Errorf("nobody listens: %w", err))
}
