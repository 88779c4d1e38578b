package backends

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
)

// Check says what is wrong with a Spec for any backend: what could only fail
// later, or what two readers would read differently. Its errors wrap
// syscall.EINVAL.
func (s *Spec) Check() error {
	if len(s.Args) == 0 {
		return fmt.Errorf("no arguments: %w", syscall.EINVAL)
	}
	if l := s.Limits; l.Wall < 0 || l.Memory < 0 || l.Pids < 0 || l.FileSize < 0 || l.Scratch < 0 {
		return fmt.Errorf("negative limit in %+v: %w", l, syscall.EINVAL)
	}
	if s.Filter != nil {
		if err := CheckFilter(s.Filter); err != nil {
			return fmt.Errorf("the filter of system calls: %w: %w", err, syscall.EINVAL)
		}
	}
	if s.Root.Data != "" && len(s.Root.Lowers) == 0 {
		return fmt.Errorf("Root.Data without Root.Lowers: %w", syscall.EINVAL)
	}
	paths := append(append([]string{s.Dir}, s.Root.Tmpfs...), s.Root.Writable...)
	for _, l := range s.Root.Lowers {
		if (l.Dir == "") == (l.Image == "") {
			return fmt.Errorf("layer %+v must have either a directory or an image: %w", l, syscall.EINVAL)
		}
		paths = append(paths, l.Dir+l.Image)
	}
	for _, b := range s.Root.Binds {
		paths = append(paths, b.Source, b.Target)
	}
	optional := []string{s.Root.Data, s.Root.ScratchDir}
	if s.Vary != nil {
		optional = append(optional, s.Vary.WorkDir)
	}
	for _, p := range optional {
		if p != "" {
			paths = append(paths, p)
		}
	}
	for _, p := range paths {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return fmt.Errorf("%q is not an absolute and clean path: %w", p, syscall.EINVAL)
		}
	}
	return nil
}

// FilterMax is the most instructions that a Spec.Filter can have: the kernel's
// limit.
const FilterMax = 4096

// CheckFilter says what is wrong with the size of a Spec.Filter. What is wrong
// inside it, only the kernel knows.
func CheckFilter(filter []byte) error {
	const size = 8 // of an instruction
	switch n := len(filter); {
	case n == 0:
		return errors.New("it is empty: a filter has at least one instruction, of 8 bytes")
	case n%size != 0:
		return fmt.Errorf("it has %d bytes, which is no multiple of 8, the size of an instruction: is it a compiled BPF program?", n)
	case n > FilterMax*size:
		return fmt.Errorf("it has %d instructions, and the kernel takes %d at most", n/size, FilterMax)
	}
	return nil
}

// RunChecked is how the Run of every backend begins and ends: a spec that is
// wrong or that refuse refuses, and a ctx that is done, are errors before run
// is called, and each error names the command.
func RunChecked(ctx context.Context, spec *Spec, refuse func(*Spec) error, run func(context.Context, *Spec) (*Status, error)) (*Status, error) {
	err := spec.Check()
	if err == nil {
		err = refuse(spec)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var st *Status
	if err == nil {
		st, err = run(ctx, spec)
	}
	if err == nil {
		return st, nil
	}
	name := "nothing"
	if len(spec.Args) > 0 {
		name = spec.Args[0]
	}
	return nil, fmt.Errorf("run %s: %w", name, err)
}
