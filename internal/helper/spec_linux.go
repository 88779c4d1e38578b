package helper

import (
	"fmt"
	"os/exec"
	"syscall"

	"github.com/sbx-action/sbx-action/backends"
)

// NewRequest returns the request for spec, without the limits that need control
// groups.
func NewRequest(spec *backends.Spec) *Request {
	r := &Request{
		ID:         backends.ID,
		GID:        backends.ID,
		Dir:        spec.Dir,
		Args:       spec.Args,
		Env:        spec.Env,
		DataDir:    spec.Root.Data,
		ScratchDir: spec.Root.ScratchDir,
		Wall:       spec.Limits.Wall,
		FileSize:   spec.Limits.FileSize,
		Scratch:    spec.Limits.Scratch,
	}
	r.root(&spec.Root)
	r.Filter = spec.Filter
	if spec.KeepRoot {
		r.Flags |= KeepRoot
	}
	if spec.Observe {
		r.Flags |= Observe
	}
	if spec.Terminal != nil {
		r.Flags |= Terminal
	}
	if spec.Owners {
		r.Flags |= Owners
		for _, k := range spec.Root.Owned {
			r.Known = append(r.Known, fmt.Sprintf("%d %d %d %d %d %s", k.UID, k.GID, k.Kind, k.Major, k.Minor, k.Path))
		}
	}
	if l := spec.SELinux; l != nil {
		r.Label, r.Context = l.Process, l.Mount
	}
	if m := spec.Machine; m != nil {
		r.Binfmt, r.Emulator = m.Binfmt(), m.Emulator
	}
	if v := spec.Vary; v != nil {
		r.Flags |= Vary
		r.Vary = variation(v)
	}
	if spec.Umask != nil {
		r.Vary.Flags |= VaryUmask
		r.Vary.Umask = uint32(*spec.Umask)
	}
	if spec.Caller {
		r.Vary.Flags |= VaryCaller
	}
	// Not a loop: a nil *os.File must stay nil.
	r.Stdio[0], r.Stdio[1], r.Stdio[2] = spec.Stdin, spec.Stdout, spec.Stderr
	return r
}

// root says what the root file system is made of, and whose it is.
func (r *Request) root(root *backends.Root) {
	for _, l := range root.Lowers {
		if l.Image != "" {
			r.Lowers = append(r.Lowers, "i"+l.Image)
		} else {
			r.Lowers = append(r.Lowers, "d"+l.Dir)
		}
	}
	for _, b := range root.Binds {
		source := b.Source
		if b.Over {
			source = "+" + source
		} else if b.Writable {
			source = "=" + source
		}
		r.Binds = append(r.Binds, source, b.Target)
	}
	for _, p := range root.Tmpfs {
		r.Binds = append(r.Binds, "%", p)
	}
	for _, p := range root.Writable {
		r.Binds = append(r.Binds, "!", p)
	}
	if root.ReadOnly {
		r.Flags |= ReadOnly
	}
	if root.Fill != nil {
		r.Flags |= FillRoot
	}
	if root.As != nil {
		r.ID, r.GID = *root.As, *root.As
	}
	if root.Group != nil {
		r.GID = *root.Group
	}
}

func variation(v *backends.Vary) Variation {
	w := Variation{HostName: v.HostName, Alias: v.WorkDir, CPUs: uint32(v.CPUs), Delay: v.Delay, Order: v.Order}
	set := func(on bool, flag uint64) {
		if on {
			w.Flags |= flag
		}
	}
	set(v.Order != 0, VaryOrder)
	set(v.Layout, VaryLayout)
	set(v.OneCPU, VaryOneCPU)
	set(v.Shift != 0, VaryShift)
	w.Clock = int64(v.Shift)
	if !v.Freeze.IsZero() {
		w.Flags |= VaryFreeze
		w.Clock, w.Step = v.Freeze.UnixNano(), v.FreezeStep
	}
	if v.Umask != nil {
		w.Flags |= VaryUmask
		w.Umask = uint32(*v.Umask)
	}
	return w
}

// BackendStatus turns a [Done] reply into a Status, which takes over its files.
func (r *Reply) BackendStatus(spec *backends.Spec) (*backends.Status, error) {
	st := &backends.Status{
		Root:     r.Root,
		TimedOut: r.TimedOut,
		Complete: r.Complete,
		Unvaried: r.Unvaried,
		Left:     r.Left,
		Network:  r.Network,
		Usage:    backends.Usage{Wall: r.Wall, User: r.User, System: r.System, MaxRSS: r.MaxRSS},
	}
	switch {
	case r.Start != 0:
		st.Code = 126
		if r.Start == syscall.ENOENT || r.Start == syscall.ENOTDIR {
			st.Code = 127
		}
		st.Start = r.startError(spec.Args[0])
	case r.Status.Signaled():
		st.Signal = int(r.Status.Signal())
		st.Code = 128 + st.Signal
	default:
		st.Code = r.Status.ExitStatus()
	}
	var err error
	st.Lookups, err = r.Lookups()
	if err == nil {
		st.Owned, err = r.Owned()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return st, nil
}

// startError is for the reader of a build log: the kernel says "no such file"
// of a file that is there, too.
func (r *Reply) startError(name string) error {
	if r.NoInterpreter {
		return &exec.Error{Name: name, Err: fmt.Errorf("%w: the file exists, but its interpreter or dynamic loader does not", r.Start)}
	}
	return &exec.Error{Name: name, Err: r.Start}
}
