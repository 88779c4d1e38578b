package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

// heavyProgram has the commands that need gRPC, image formats and the like. It is a program
// of its own because a program that links them starts two milliseconds later.
const heavyProgram = "sbx-actiond"

// delegated are the commands of sbx-actiond that users type as commands of
// sbx-action: the name and one line.
var delegated = [][2]string{
	{"rootfs", "import, list, export and remove root file systems"},
	{"owners", "read and write what fakeroot and pseudo know of owners"},
	{"serve", "serve a cache and remote execution to Bazel and others"},
	{"worker", "execute the actions of a Buildbarn or BuildGrid cluster"},
	{"runner", "run the commands of a stock bb_worker in sandboxes"},
	{"buildbox-run", "run one action, with buildbox-run's options"},
	{"init", "write an sbx.yaml to edit, for build"},
	{"attest", "sign where an output comes from (SLSA), or check it"},
	{"build", "build components, of an sbx.yaml or Baserock definitions"},
}

// delegates are the commands that this program hands over, with all their
// arguments.
func delegates() (list []command) {
	for _, d := range delegated {
		list = append(list, command{Name: d[0], Short: d[1], Raw: func(_ context.Context, args []string) error {
			return delegate(d[0], args)
		}})
	}
	return list
}

// delegate becomes sbx-actiond, which says "sbx-action" where it names itself.
// It returns only if that is not to be had.
func delegate(name string, args []string) error {
	program, err := findHeavy()
	if err != nil {
		return err
	}
	err = syscall.Exec(program, append([]string{"sbx-action", name}, args...), os.Environ())
	return fmt.Errorf("start %s: %w; build it again with 'make build', or install it anew", program, err)
}

// whole is the program with what sbx-actiond says of its commands: for those who
// look at the table. If that is not to be had, there are their names only.
func whole(ctx context.Context) *commandline.Program {
	p := program()
	heavy, err := findHeavy()
	if err != nil {
		return p
	}
	ask := exec.CommandContext(ctx, heavy, commandline.TableFlag)
	ask.Args[0] = "sbx-action"
	out, err := ask.Output()
	var table []commandline.Described
	if err != nil || json.Unmarshal(out, &table) != nil {
		return p
	}
	for i, c := range p.Commands {
		for _, d := range table {
			if c.Setup == nil && d.Name == c.Name {
				p.Commands[i] = d.Command()
			}
		}
	}
	return p
}

// findHeavy looks for sbx-actiond beside this program, then on PATH.
func findHeavy() (string, error) {
	place := "beside sbx-action"
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), heavyProgram)
			if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return beside, nil
			}
			place = "in " + filepath.Dir(self)
		}
	}
	found, err := exec.LookPath(heavyProgram)
	if err != nil {
		return "", fmt.Errorf("this needs %s, which is neither %s nor on PATH: install it there ('make build' makes both programs)", heavyProgram, place)
	}
	return found, nil
}
