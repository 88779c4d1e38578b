// Package lxc is the backend that has its sandboxes made by lxc-start, of LXC.
// Package foreign says what is promised, and how.
//
// It works for root only. Our init takes the place of LXC's, and LXC sees none
// of the host's control groups, so that none of its own are left behind.
package lxc

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of lxc-start. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "lxc", Program: cmp.Or(o.Program, "lxc-start"),
		Install:  "run: apt-get install lxc (or your system's like)",
		RootOnly: true,
		Hide:     "/sys/fs/cgroup",
		Shell:    []string{},
		Command:  command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	network := "empty" // a loopback interface, and nothing else
	if j.Network == backends.NetworkHost {
		network = "none"
	}
	var caps []string
	for _, c := range foreign.ShellCapabilities() {
		caps = append(caps, strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	config := strings.Join([]string{
		"lxc.uts.name = " + backends.HostName,
		"lxc.rootfs.path = dir:" + j.Root,
		"lxc.rootfs.options = rw",
		"lxc.net.0.type = " + network,
		"lxc.net.0.flags = up",
		"lxc.mount.auto = proc:mixed",
		"lxc.autodev = 1",
		"lxc.console.path = none",
		"lxc.tty.max = 0",
		"lxc.pty.max = 16",
		"lxc.cap.keep = " + strings.Join(caps, " "),
		"lxc.apparmor.profile = unconfined",
		"lxc.init.cmd = " + strings.Join(j.Init, " "),
		"lxc.init.cwd = /",
		"",
	}, "\n")
	if err := j.WriteFile("config", []byte(config)); err != nil {
		return foreign.Line{}, err
	}
	return foreign.Line{
		Args: []string{
			j.Program, "--foreground", "--quiet", "--name", fmt.Sprintf("sbx-%d-%d", os.Getpid(), j.PID),
			"--lxcpath", j.Dir, "--rcfile", j.Dir + "/config",
		},
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, nil
}
