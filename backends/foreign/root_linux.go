package foreign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// tree says whether our init gets its root from us. In a nested sandbox it needs a
// /proc of its own.
func (b *Backend) tree() bool {
	return b.tool.Tree || b.tool.Remote || b.tool.UserRoot && b.unprivileged
}

// around are the flags of the request for what is around the tool.
func (b *Backend) around(spec *backends.Spec) uint32 {
	var flags uint32
	for _, f := range []struct {
		on   bool
		flag uint32
	}{
		{b.tool.Shell != nil, helper.Shell},
		{b.tool.OwnPID, helper.OwnPID},
		{b.tool.OwnRest, helper.OwnRest},
		{b.tool.OwnRest && spec.Network == backends.NetworkNone, helper.OwnNet},
		{b.tool.HostShell, helper.HostShell},
		{b.tool.HostShell || b.tool.InitFile, helper.PutInit},
		{b.tree(), helper.HasTree},
		{b.tool.AsUser, helper.AsUser},
		{b.tool.Stdio, helper.OnStdio},
		{b.tool.KeepCaps, helper.KeepCaps},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	return flags
}

// makeRoot has the helper mount the root, fills it, and writes what the tool
// reads. When it returns, the helper waits for leave to become the tool.
func (s *sandbox) makeRoot(b *Backend, spec *backends.Spec) (*helper.Reply, error) {
	target, err := mountPlace(b.program, &spec.Root)
	if err != nil {
		return nil, err
	}
	// A tool that does not make a pid namespace starts an init that refuses to work.
	files := map[string][]byte{}
	job := &Job{
		Program: b.program, PID: s.pid, User: b.unprivileged,
		Root: filepath.Join(target, helper.RootDir), Dir: filepath.Join(target, helper.JobDir),
		Init:    b.init(s.door),
		Network: spec.Network, ReadOnly: spec.Root.ReadOnly,
		ReadOnlyProc: spec.Root.As != nil && *spec.Root.As != backends.ID,
		OwnUser:      spec.Owners,
		SELinux:      spec.SELinux,
		SharedMemory: spec.Limits.InMemory(),
		WriteFile: func(name string, data []byte) error {
			files[name] = data
			return nil
		},
	}
	switch {
	case b.tool.HostShell:
		job.Root = "/sbx"
	case b.tool.Shell != nil:
		job.Root = filepath.Join(job.Dir, "shell")
	}
	line, err := b.tool.Command(job)
	if err != nil {
		return nil, err
	}
	req := helper.NewRequest(spec)
	req.Seq, req.Target, req.Dir = 1, target, "/"
	req.Args, req.Env = line.Args, line.Env
	req.Stdio, req.Wall, req.Filter = [3]*os.File{}, 0, nil
	req.Memory = spec.Limits.Memory // of what is written to memory
	req.Flags &= helper.FillRoot | helper.ReadOnly
	req.Hide = b.tool.Hide
	req.Flags |= b.around(spec)
	if err := req.Send(s.socket); err != nil {
		return nil, err
	}
	return s.awaitRoot(b, spec, req, files)
}

// awaitRoot fills the root when it is asked to, and puts files beside it when it is
// there.
func (s *sandbox) awaitRoot(b *Backend, spec *backends.Spec, req *helper.Request, files map[string][]byte) (*helper.Reply, error) {
	var filled error
	for {
		r, err := helper.Receive(s.socket, req)
		if err != nil {
			return nil, err
		}
		switch r.Kind {
		case helper.Ready:
			if err := errors.Join(b.makeShell(r.Job), writeFiles(r.Job, files)); err != nil {
				r.Close()
				return nil, errors.Join(err, helper.GiveUp(s.socket, req.Seq))
			}
			return r, nil
		case helper.Fill:
			filled = spec.Root.Fill(r.Root)
			r.Close()
			if filled != nil {
				err = helper.GiveUp(s.socket, req.Seq)
			} else {
				err = helper.Continue(s.socket, req.Seq)
			}
			if err != nil {
				return nil, errors.Join(filled, err)
			}
		default:
			defer r.Close()
			if filled != nil {
				return nil, fmt.Errorf("fill the root: %w", filled)
			}
			return nil, unexpected(r)
		}
	}
}

// makeShell makes the root in which the tool has the command's.
func (b *Backend) makeShell(job *os.File) error {
	if b.tool.Shell == nil {
		return nil
	}
	for _, name := range append([]string{".", "sbx", "proc", "dev"}, b.tool.Shell...) {
		if err := unix.Mkdirat(int(job.Fd()), filepath.Join("shell", name), 0o755); err != nil {
			return fmt.Errorf("make the shell of the root: /%s: %w", name, err)
		}
	}
	return nil
}

// writeFiles writes the files of a tool into the directory of its job.
func writeFiles(dir *os.File, files map[string][]byte) error {
	for name, data := range files {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		f := os.NewFile(uintptr(fd), name)
		_, err = f.Write(data)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
