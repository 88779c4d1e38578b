//go:build !linux

package staging

import (
	"errors"
	"fmt"
)

// Roots are made on Linux only; elsewhere everything here says so.

var errNotLinux = fmt.Errorf("staging roots on this system: %w", errors.ErrUnsupported)

type placer struct{}

func newPlacer(int) *placer { return &placer{} }

func (p *placer) own(int, uint32) error                         { return errNotLinux }
func (p *placer) date(int) error                                { return errNotLinux }
func (p *placer) mkdir(int, string, bool) (int, error)          { return -1, errNotLinux }
func (p *placer) finish(int, error) error                       { return errNotLinux }
func (p *placer) file(int, string, bool, func(int) error) error { return errNotLinux }
func (p *placer) symlink(int, string, string) error             { return errNotLinux }
func (p *placer) copy(int, int, int64) error                    { return errNotLinux }
func whiteout(int, string) error                                { return errNotLinux }
func setAttr(int, string, string) error                         { return errNotLinux }
func truncate(int, int64) error                                 { return errNotLinux }
func writeAll(int, []byte) error                                { return errNotLinux }
