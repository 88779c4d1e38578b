// Sbx-actiond has the commands of sbx-action that need gRPC: servers and
// clients of the Remote Execution API. Users type 'sbx-action COMMAND'; the
// light program hands over.
//
// Read serve.go: it wires integration/reapi to the store and the sandbox.
package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/cmd/commandline"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == commandline.TableFlag { // sbx-action asks
		if err := json.NewEncoder(os.Stdout).Encode(commandline.Describe(program().Commands)); err != nil {
			os.Exit(commandline.ExitOurs)
		}
		return
	}
	program().Main()
}

func program() *commandline.Program {
	name := "sbx-actiond"
	if filepath.Base(os.Args[0]) == "sbx-action" { // the light program handed over
		name = "sbx-action"
	}
	return &commandline.Program{
		Name: name,
		Commands: []commandline.Command{
			serveCommand(), buildCommand(), initCommand(), rootfsCommand(), ownersCommand(), workerCommand(), runnerCommand(), buildboxCommand(), agentCommand(), attestCommand(), commandline.VersionCommand("sbx-actiond"),
		},
		Intro: `
sbx-actiond is the part of sbx-action that speaks gRPC or knows large formats:
servers and workers of the Remote Execution API, component builds, images. Each of
its commands but agent is one of sbx-action, too: type 'sbx-action serve'.`,
		Outro:   `'sbx-action COMMAND --help' says more about each.`,
		Unknown: "unknown command %[1]q%[3]s: '%[2]s help' lists the commands",
	}
}
