//go:build !linux

package cc

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/action"
)

var errLinux = errors.New("there are no sandboxes but on Linux")

func mountPoints() ([]string, error) { return nil, errLinux }

func realPath(p string) (string, error) { return filepath.EvalSymlinks(p) }

func symlinkAt(*os.File, string, string) error { return errLinux }

func ownerOf(string) (int, bool) { return 0, false }

func ownedByUs(string) bool { return false }

func processor() string { return "unknown" }

type collector struct {
	ctx context.Context
	s   *Session
	res *action.Result

	fresh bool
}

func (k *collector) layer(*os.File, string, string) error { return errLinux }

// Hold returns a file of this process alone with the data, at its start.
func Hold([]byte) (*os.File, error) { return nil, errLinux }

// GiveBack makes f, from its start, the standard input of this process.
func GiveBack(*os.File) error { return errLinux }

// IsTerminal says whether a descriptor is a terminal.
func IsTerminal(int) bool { return false }

// Circumstances says nothing here.
func Circumstances() string { return "" }

// canWrite says whether we may write to the file, or in the directory, at p.
func canWrite(string) bool { return false }

// columns is the width of the terminal that a descriptor is, or 0.
func columns(int) int { return 0 }
