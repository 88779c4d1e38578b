package main

import (
	"encoding/json"
	"io"
	"os"
)

// A jsonPromise is what 'run --json' promises of a call: a line on standard output,
// also when sbx-action itself fails, be it that it does not understand its flags.
type jsonPromise struct {
	given bool // --json is
	kept  bool // the line was printed
}

// promised is of this call.
var promised jsonPromise

// A jsonFailure is the line of a call, or of an action of a file, that failed before
// there was anything else to report. It has no fields of a jsonReport but these.
type jsonFailure struct {
	Name     string `json:"name,omitempty"` // of an action in a file
	ExitCode int    `json:"exit_code"`      // 125, or 128 and the signal that ended us
	Error    string `json:"error"`          // as on standard error, for people
}

func (j jsonFailure) print(w io.Writer) error {
	line, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// jsonFailed prints the line that --json promises for a call that ends with err.
func jsonFailed(err error, code int) {
	if promised.kept || !promised.given && !wantsJSON(os.Args) {
		return
	}
	_ = jsonFailure{ExitCode: code, Error: err.Error()}.print(os.Stdout) // err was said, and is the exit code
}

// wantsJSON says whether args are a call of run with --json, although flags may be
// wrong.
func wantsJSON(args []string) bool {
	if len(args) < 2 || args[1] != "run" {
		return false
	}
	for _, a := range args[2:] {
		switch a {
		case "--":
			return false
		case "--json", "-json", "--json=true", "-json=true":
			return true
		}
	}
	return false
}
