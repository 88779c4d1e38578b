//go:build !linux

package main

import (
	"context"
	"errors"
)

var errWarmLinux = errors.New("there are no sandboxes but on Linux")

func warmPart([]string) (int, bool) { return 0, false }

func (f *warmFlags) printCounts([]string) error { return errWarmLinux }
func (f *warmFlags) stay(context.Context) error { return errWarmLinux }
func (f *warmFlags) become(args []string) error { return errWarmLinux }

func beginWarm(*parts, bool) {}
