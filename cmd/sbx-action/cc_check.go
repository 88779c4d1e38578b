package main

import (
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
