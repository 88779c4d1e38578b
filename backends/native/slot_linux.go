package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A slot runs one command at a time. Whoever has taken it from the Backend owns
// it.
type slot struct {
	process *helper.Process
	network backends.Network
	seq     uint64
	begun   bool   // it has offered a scratch, for the first request
	ahead   *ahead // what is made in that scratch; or nil
	broken  bool   // it can only be stopped
}

// newSlot starts a slot. With the arguments "begin" it prepares a sandbox before it
// is asked to.
func (b *Backend) newSlot(n backends.Network, begin ...string) (*slot, error) {
	args := []string{strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())}
	if b.unprivileged {
		args = append(args, "user")
	}
	switch n {
	case backends.NetworkHost:
		args = append(args, "hostnet")
	case backends.NetworkSealed:
		args = append(args, "sealed")
	}
	if b.noScribe {
		args = append(args, "noscribe")
	}
	p, err := helper.StartSlot(append(args, begin...)...)
	if err != nil {
		return nil, err
	}
	return &slot{process: p, network: n, begun: len(begin) > 0}, nil
}

// run runs one command. After an error that is not the request's own fault the
// slot is broken.
func (s *slot) run(ctx context.Context, b *Backend, spec *backends.Spec) (*backends.Status, error) {
	s.seq++
	req := helper.NewRequest(spec)
	req.Seq = s.seq
	if !b.unprivileged {
		req.Vary.Flags &^= helper.VaryCaller
	}
	if s.seq > 1 && !b.prepared { // a process that runs one command only shall not prepare for two
		req.Flags |= helper.Prewarm
	}
	group, err := b.limit(spec.Limits, req)
	if err != nil {
		return nil, err
	}
	if group != nil {
		defer b.groups.put(group)
	}
	if s.begun {
		s.begun = false
		if err := s.early(b, spec, req); err != nil {
			return nil, err
		}
	}
	if err := req.Send(s.process.Socket); err != nil {
		s.broken = errors.Is(err, helper.ErrGone)
		return nil, err
	}
	if ctx.Done() != nil {
		seq := s.seq
		stop := context.AfterFunc(ctx, func() { s.process.Cancel(seq) })
		defer stop()
	}
	if req.Flags&helper.FillRoot == 0 && spec.Meanwhile != nil {
		spec.Meanwhile()
	}
	reply, err := s.answer(spec, req)
	if err != nil {
		return nil, s.explain(b, b.mountedBelow(&spec.Root, err))
	}
	st, err := reply.BackendStatus(spec)
	if err != nil {
		return nil, err
	}
	if group != nil {
		st.OutOfMemory, err = group.outOfMemory()
	}
	return st, err
}

// explain adds what is likely the reason why a slot is broken.
func (s *slot) explain(b *Backend, err error) error {
	if hint := b.forbidden(); s.broken && hint != "" {
		return fmt.Errorf("%w (%s)", err, hint)
	}
	return err
}

// stop ends the slot.
func (s *slot) stop() {
	s.ahead.drop()
	s.process.Stop()
}

// early uses the scratch that the slot offers, which saves a question and an answer
// later, and what was begun in it.
func (s *slot) early(b *Backend, spec *backends.Spec, req *helper.Request) error {
	a, root := s.ahead, &spec.Root
	s.ahead = nil
	defer a.drop()
	switch {
	case root.Fill == nil || len(root.Lowers) > 0 || root.ScratchDir != "" || spec.Limits.Scratch > 0:
		return nil // what is offered arrives before the answer, and is dropped
	case a == nil:
		return s.fillEarly(b, spec, req)
	case !a.serves(spec):
		return nil // the slot makes another scratch
	}
	if err := root.Ahead.Rest(a.dir); err != nil {
		s.broken = true // half filled
		return fmt.Errorf("fill the root: %w", err)
	}
	req.Binds = req.Binds[2*len(root.Ahead.Binds):]
	req.Flags = req.Flags&^helper.FillRoot | helper.Begun
	return nil
}

// fillEarly fills the scratch that the slot offers.
func (s *slot) fillEarly(b *Backend, spec *backends.Spec, req *helper.Request) error {
	root := &spec.Root
	r, err := helper.Receive(s.process.Socket, req)
	if err != nil {
		s.broken = true
		return s.explain(b, err)
	}
	defer r.Close()
	if r.Kind != helper.Fill {
		s.broken = true
		if r.Kind == helper.Failed {
			return s.explain(b, fmt.Errorf("make the sandbox: %w", r.Err))
		}
		return s.explain(b, fmt.Errorf("the sandbox's init was killed (%v)", r.Status))
	}
	if err := root.Fill(r.Root); err != nil {
		s.broken = true // half filled
		return fmt.Errorf("fill the root: %w", err)
	}
	req.Flags &^= helper.FillRoot
	return nil
}

// drain waits until the slot says something, and begins with what the command writes
// until then. It returns what it has not begun with.
func (s *slot) drain(drains []backends.Drain) []backends.Drain {
	for len(drains) > 0 {
		fds := []unix.PollFd{{Fd: int32(s.process.Socket), Events: unix.POLLIN}}
		for _, d := range drains {
			fds = append(fds, unix.PollFd{Fd: int32(d.Fd), Events: unix.POLLIN})
		}
		switch _, err := unix.Poll(fds, -1); err {
		case nil:
		case unix.EINTR:
			continue
		default: // there is no memory for it
			for _, d := range drains {
				d.Begin()
			}
			return nil
		}
		if fds[0].Revents != 0 { // of what else there is, most is the end: the caller reads that
			break
		}
		var rest []backends.Drain
		for i, d := range drains {
			if fds[i+1].Revents == 0 {
				rest = append(rest, d)
				continue
			}
			d.Begin()
		}
		drains = rest
	}
	return drains
}

// answer waits for the end of req, and fills its root on the way.
func (s *slot) answer(spec *backends.Spec, req *helper.Request) (*helper.Reply, error) {
	var filled error
	drains := spec.Drains
	for {
		drains = s.drain(drains)
		r, err := helper.Receive(s.process.Socket, req)
		if err != nil {
			s.broken = true
			return nil, err
		}
		switch {
		case r.Seq != req.Seq && r.Kind != helper.Failed:
			r.Close() // of a request that has been given up
		case r.Kind == helper.Fill:
			filled = spec.Root.Fill(r.Root)
			r.Close()
			if filled != nil {
				err = helper.GiveUp(s.process.Socket, req.Seq)
			} else {
				err = helper.Continue(s.process.Socket, req.Seq)
			}
			if err != nil {
				s.broken = true
				return nil, err
			}
			if filled == nil && spec.Meanwhile != nil {
				spec.Meanwhile()
			}
		case r.Kind == helper.HasTerminal && r.Root != nil:
			spec.Terminal(r.Root)
		case r.Kind == helper.Done:
			return r, nil
		default:
			defer r.Close()
			if r.Kind == helper.Failed && r.Seq == 0 {
				s.broken = true // it could not even start
			}
			if filled != nil {
				return nil, fmt.Errorf("fill the root: %w", filled)
			}
			if r.Kind == helper.Failed {
				return nil, fmt.Errorf("make the sandbox: %w", r.Err)
			}
			return nil, fmt.Errorf("the sandbox's init was killed (%v)", r.Status)
		}
	}
}
