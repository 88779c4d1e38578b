// Package nspawn is the backend that has its sandboxes made by systemd-nspawn.
// Package foreign says what is promised, and how.
//
// It works for root only. Systemd-nspawn neither registers a machine nor makes
// a unit; it passes our descriptors on as those of socket activation.
package nspawn

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
	// Program is the path of systemd-nspawn. Empty: it is looked up in $PATH.
	Program string
}

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	return foreign.Open(foreign.Tool{
		Name: "nspawn", Program: cmp.Or(o.Program, "systemd-nspawn"),
		Install:  "run: apt-get install systemd-container (or your system's like)",
		RootOnly: true,
		Shell:    []string{"usr", "tmp"},
		Command:  command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	args := []string{
		j.Program, "--quiet", "--settings=no", "--register=no", "--keep-unit",
		"--directory=" + j.Root, fmt.Sprintf("--machine=sbx-%d-%d", os.Getpid(), j.PID), "--hostname=" + backends.HostName,
		"--as-pid2", "--pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--capability=" + strings.Join(foreign.Capabilities(), ","),
	}
	if j.Network == backends.NetworkNone {
		args = append(args, "--private-network")
	}
	return foreign.Line{
		Args: append(append(args, "--"), j.Init...),
		Env: []string{
			fmt.Sprintf("LISTEN_PID=%d", j.PID), fmt.Sprintf("LISTEN_FDS=%d", foreign.LastFD-foreign.FirstFD+1),
			"SYSTEMD_NSPAWN_TMPFS_TMP=0", "SYSTEMD_LOG_LEVEL=warning", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		},
	}, nil
}
