// Command sbx-probe is package probe as a program of its own.
package main

import (
	"os"

	"github.com/sbx-action/sbx-action/backends/backendtest/probe"
)

func main() { os.Exit(probe.Main(os.Args[1:])) }
