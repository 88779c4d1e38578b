// Sbx-action makes any command a hermetic, cached build action.
//
// Read commands.go, then run.go (what a user does all day), then setup.go
// (which parts the program is made of), then the package documentation of
// action. What needs gRPC is in sbx-actiond: see delegate.go.
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/backends/backendtest/probe"
	"github.com/sbx-action/sbx-action/backends/backendtest/promise"
	"github.com/sbx-action/sbx-action/internal/front"
)

// calledAs are the arguments that we were given.
var calledAs []string

func main() {
	roomy()
	one := front.One()
	if filepath.Base(os.Args[0]) == promise.ProbeName { // see backends.go
		os.Exit(probe.Main(os.Args[1:]))
	}
	if code, ok := warmPart(os.Args); ok { // see warm_linux.go
		os.Exit(code)
	}
	runPersonality(os.Args)
	calledAs = os.Args
	if name := filepath.Base(os.Args[0]); !strings.HasPrefix(name, "sbx-action") { // a link: see cc.go
		checkLink(name)
		os.Args = append(linkedArgs(name), os.Args[1:]...)
	}
	p := program()
	p.One = one
	p.Main()
}

// roomy makes the stack 64 KiB at once, while little is on it. Otherwise a miss has it
// copied to a larger one six times, the last times with dozens of callers whose frames
// have to be found, which takes 0.15 ms in all. It is in assembly, in roomy.s, so that
// nobody writes zeros into what may not be used.
func roomy()
