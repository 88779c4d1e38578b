// Package bazelsandbox is the backend that has its sandboxes made by
// linux-sandbox, the program in which Bazel runs its actions. Package foreign
// says what is promised, and how.
//
// Linux-sandbox makes namespaces and changes no root: what it shows is the host,
// read-only. So our init takes over the root of the command from the helper, as a
// tree of mounts, and nothing of the host is left in sight. It always makes a
// user namespace with one user: for root, it is started as the user ID.
package bazelsandbox

import (
	"cmp"
	"os"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of linux-sandbox. Empty: it is looked up in $PATH, and
	// where Debian's bazel-bootstrap has it.
	Program string
}

// debian is where the package bazel-bootstrap has the program. Bazel as others
// package it has it in its install base, which it unpacks when it first runs:
// "bazel info install_base".
const debian = "/usr/share/bazel/linux-sandbox"

// Open returns the backend. It does not fail where the program is missing or
// does not work: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	program := cmp.Or(o.Program, "linux-sandbox")
	if _, err := os.Stat(debian); o.Program == "" && err == nil {
		program = debian
	}
	return foreign.Open(foreign.Tool{
		Name: "bazel-sandbox", Program: program,
		Install: "run: apt-get install bazel-bootstrap, or put the linux-sandbox of Bazel's install base (bazel info install_base) into $PATH",
		Tree:    true, AsUser: true, Stdio: true,
		Command: command,
	})
}

func command(j *foreign.Job) (foreign.Line, error) {
	// The working directory is made writable, and may not be "/".
	args := []string{j.Program, "-W", j.Dir, "-R", "-H"}
	if j.Network == backends.NetworkNone {
		args = append(args, "-N")
	}
	return foreign.Line{Args: append(append(args, "--"), j.Init...)}, nil
}
