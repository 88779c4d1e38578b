package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// check says what is wrong with the settings, wherever they come from, and makes the
// names of --inputs absolute, without links.
func (f *ccFlags) check() error {
	if f.path != "same" && f.path != "fixed" {
		return fmt.Errorf("--path %q: want same or fixed", f.path)
	}
	if err := wiring.CheckBackend(f.backend); err != nil {
		return fmt.Errorf("--backend: %w", err)
	}
	for _, name := range f.env {
		if strings.Contains(name, "=") {
			return fmt.Errorf("--env %s: want the name of a variable, whose value is passed on", name)
		}
	}
	if f.root != "" {
		if _, err := realDirectory(f.root); err != nil {
			return fmt.Errorf("--root %s: %w", f.root, err)
		}
	}
	for i, d := range f.inputs {
		real, err := realDirectory(d)
		if err != nil {
			return fmt.Errorf("--inputs %s: %w", d, err)
		}
		f.inputs[i] = real
	}
	return nil
}

// together says what is wrong with flags that are given together, and contradict each
// other. What settings say is no contradiction: a flag goes before them, and who switches
// caching off has not to look what else is set.
func (f *ccFlags) together() error {
	said := map[string]bool{}
	f.flags.Visit(func(fl *flag.Flag) { said[fl.Name] = said[fl.Name] || fl.Value.String() != "false" })
	for _, c := range []struct{ one, other, why string }{
		{"read-only", "recache", "one adds no results, the other replaces them"},
		{"disable", "recache", "one only executes the compiler, the other keeps what it gives"},
		{"disable", "verify", "one asks no cache, the other looks at its hits"},
		{"disable", "read-only", "one asks no cache, the other takes results from it"},
		{"recache", "verify", "one takes no hits, the other looks at them"},
	} {
		if said[c.one] && said[c.other] {
			return fmt.Errorf("--%s and --%s: want one of them: %s", c.one, c.other, c.why)
		}
	}
	if said["no-stdin"] && !f.any {
		return errors.New("--no-stdin goes with --any: of a compiler it is known what it reads")
	}
	return nil
}

// fromFile is what a file in dir says for a setting. The name of a directory is as
// seen from there: calls in the directories below have the file, too.
func fromFile(dir, key, value string) string {
	isName := key == "inputs" || key == "root" || key == "cache"
	if !isName || value == "" || filepath.IsAbs(value) {
		return value
	}
	return filepath.Join(dir, value)
}

// realDirectory returns the absolute name of a directory, without links.
func realDirectory(name string) (string, error) {
	real, err := filepath.Abs(name)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", real)
	}
	return real, err
}

// settings takes from the environment, and then from the project's file, what
// the command line does not say.
func (f *ccFlags) settings(dir string) error {
	said := map[string]bool{}
	f.flags.Visit(func(fl *flag.Flag) { said[fl.Name] = true })
	var failed error
	set := func(from, name, value string) {
		words := []string{value}
		if name == "env" || name == "inputs" {
			words = strings.Fields(value)
		}
		for _, w := range words {
			if filepath.Base(from) == settingsFile {
				w = fromFile(filepath.Dir(from), name, w)
			}
			err := f.flags.Set(name, w)
			if name == limitName {
				f.max.from = from
			}
			if b, ok := f.flags.Lookup(name).Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() && err != nil {
				err = errors.New("want 1 or 0")
			}
			if err != nil && failed == nil {
				failed = fmt.Errorf("%s: %q: %w", from, w, err)
			}
		}
		said[name] = true
	}
	f.flags.VisitAll(func(fl *flag.Flag) {
		variable := "SBX_CC_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if value := os.Getenv(variable); value != "" && !said[fl.Name] && isSetting(fl.Name) {
			set(variable, fl.Name, value)
		}
	})
	if err := f.fromProject(dir, said, set); err != nil {
		return err
	}
	return cmp.Or(failed, f.limitFromElsewhere())
}

// limitFromElsewhere takes the limit of the store from the variable that run has as well.
func (f *ccFlags) limitFromElsewhere() error {
	v := os.Getenv("SBX_CACHE_MAX")
	if v == "" || f.max.given {
		return nil
	}
	if err := f.max.Set(v); err != nil {
		return fmt.Errorf("SBX_CACHE_MAX: %q: %w", v, err)
	}
	f.max.from = "SBX_CACHE_MAX"
	return nil
}

// isSetting says whether a flag says how calls are treated, and not which.
func isSetting(name string) bool {
	switch name {
	case "stats", "zero", "json", "why", "install-links", "any":
		return false
	case "remote", "remote-mode", "remote-timeout":
		// Not from a project's file: what a remote gives, other projects get, too.
		return false
	}
	return true
}
