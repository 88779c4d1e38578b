package promise

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func lifetimePromises() []Promise {
	return []Promise{
		{Name: "lifetime/parallel", Says: "commands that run at the same time do not mix", check: checkParallel},
		{Name: "lifetime/close", Says: "after Close there is no process, mount, control group, descriptor or temporary file of the backend", slow: true, check: func(t *trial) error { return byOthersToo(func() error { return checkClose(t) }) }},
		{Name: "lifetime/killed", Says: "the same holds when the caller was killed while a command ran", needs: killsAll, slow: true, check: func(t *trial) error { return byOthersToo(func() error { return checkKilled(t) }) }},
		{Name: "lifetime/capabilities", Says: "the capabilities do not change", check: checkSameCapabilities},
		{Name: "lifetime/fill-error", Says: "an error of Root.Fill is the error of Run, and nothing is run", check: checkFillError},
		{Name: "lifetime/bind-error", Says: "a file of the host that is not there is an error of Run that names it, and nothing is run", check: checkBindError},
		{Name: "lifetime/after-errors", Says: "after errors, time-outs and deaths the backend goes on as before", check: checkAfterErrors},
	}
}

func checkParallel(t *trial) error {
	const n = 32
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = t.distinct(i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// distinct runs a command that differs in everything from those beside it.
func (t *trial) distinct(i int) error {
	own := fmt.Sprintf("%d-%s", i, t.mark())
	stdin, err := t.temp()
	if err != nil {
		return err
	}
	defer stdin.Close()
	if _, err := stdin.WriteString(own + " in"); err != nil {
		return err
	}
	if _, err := stdin.Seek(0, 0); err != nil {
		return err
	}
	spec := t.spec("cat")
	spec.Stdin = stdin
	spec.Root.Fill = t.fill(file{path: "/build/" + own, text: own})
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("input", got, own+" in"); err != nil {
		return err
	}
	spec.Stdin, spec.Args, spec.Env, spec.KeepRoot = nil, probe("environ"), []string{"OWN=" + own}, true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Root == nil {
		return errors.New("no Status.Root")
	}
	defer o.Root.Close()
	if err := equal("environment", o.out, spec.Env[0]+"\x00"); err != nil {
		return err
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d/build", o.Root.Fd()))
	if err != nil || len(entries) != 1 || entries[0].Name() != own {
		return fmt.Errorf("the root of %s has %v, error %v", own, entries, err)
	}
	code := i + 1
	if o, err = t.run(t.spec("exit", fmt.Sprint(code))); err != nil || o.Code != code {
		return fmt.Errorf("exit %d: %v, error %v", code, o, err)
	}
	return nil
}

// checkClose must not run beside other checks: it looks at our whole process.
func checkClose(t *trial) error {
	if t.Reopen == nil {
		return fmt.Errorf("%w: no second backend can be opened", errUnprobed)
	}
	scratch, err := os.MkdirTemp(t.Dir, "scratch-")
	if err != nil {
		return err
	}
	t.later(func() { os.RemoveAll(scratch) })
	if err := os.Chmod(scratch, 0o755); err != nil {
		return err
	}
	before := t.scene()
	b, err := t.Reopen()
	if err != nil {
		return err
	}
	second := *t
	env := *t.Env
	env.Backend, second.Env = b, &env
	err = second.exercise(scratch)
	if e := b.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	// The kernel takes a moment to bury what was killed.
	var left error
	if t.eventually(t.wait(), "nothing is left", func() bool { left = before.left(t.scene(), os.Getpid()); return left == nil }) != nil {
		return left
	}
	if err := os.RemoveAll(scratch); err != nil {
		return fmt.Errorf("Root.ScratchDir, which the caller removes: %w", err)
	}
	return nil
}

// exercise uses a backend in all ways that may leave something behind.
func (t *trial) exercise(scratch string) error {
	mark := t.mark()
	keep := t.spec("put", "/build/x", "x")
	keep.KeepRoot = true
	inDir := t.spec("put", "/build/x", "x")
	inDir.Root.ScratchDir = scratch
	slow := t.spec("daemon", mark, t.lifetime(), "sleep", t.lifetime())
	slow.Limits.Wall = 50 * time.Millisecond
	absent := t.spec()
	absent.Args = []string{"/absent"}
	daemon := t.spec("daemon", mark, t.lifetime(), "exit", "0")
	if t.caps.MemoryLimit != backends.Absent {
		daemon.Limits.Memory = 4096 * mib
	}
	if t.caps.PidsLimit != backends.Absent {
		daemon.Limits.Pids = 1000
	}
	if t.caps.Observe {
		daemon.Observe = true
	}
	for _, spec := range []*backends.Spec{keep, inDir, slow, absent, daemon} {
		o, err := t.run(spec)
		if err != nil {
			return err
		}
		if o.Root != nil {
			o.Root.Close()
		}
	}
	return nil
}

func checkKilled(t *trial) error {
	if t.Victim == nil {
		return fmt.Errorf("%w: no process that could be killed", errUnprobed)
	}
	// Who loses a parent that is killed becomes our child.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	t.later(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	before := t.scene()
	mark := t.mark()
	p, out, err := t.Victim(t.ctx, []string{"daemon", mark, t.lifetime(), "linger", t.lifetime()})
	if err != nil {
		return err
	}
	defer out.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	seen := t.visible(mark) // the control
	pid := p.Pid
	below := descendants()
	if e := p.Kill(); e != nil {
		return e
	}
	if _, e := p.Wait(); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("the command of the victim did not start: %q, error %v", line, err)
	}
	out.Close()
	pids := []int{os.Getpid(), pid}
	for pid := range below {
		pids = append(pids, pid)
	}
	var left error
	if t.eventually(t.wait(), "nothing is left", func() bool {
		left = all(func() error { return t.gone(mark) }, func() error { return before.left(t.scene(), pids...) })
		return left == nil
	}) != nil {
		return left
	}
	reap(below)
	return seen
}

// reap buries those of pids that have become our children.
func reap(pids map[int]string) {
	for pid := range pids {
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

func checkSameCapabilities(t *trial) error {
	if now := t.Backend.Capabilities(); now != t.caps || now != t.Backend.Capabilities() {
		return fmt.Errorf("were %+v, are %+v", t.caps, now)
	}
	if !t.caps.Works {
		return errors.New("the backend says that it does not work: " + t.caps.Reason)
	}
	return nil
}

func checkFillError(t *trial) error {
	f, err := t.temp()
	if err != nil {
		return err
	}
	defer f.Close()
	cause := errors.New("the cause")
	spec := t.spec("say", "I ran")
	spec.Stdout = f
	spec.Root.Fill = func(*os.File) error { return cause }
	if _, err := t.Backend.Run(t.ctx, spec); !errors.Is(err, cause) {
		return fmt.Errorf("got error %v, want the cause", err)
	}
	return equal("output", readAll(f), "")
}

func checkBindError(t *trial) error {
	spec := t.spec("say", "I ran")
	absent := t.Dir + "/absent-source"
	spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: absent, Target: "/x"})
	o, err := t.run(spec)
	if err == nil {
		return fmt.Errorf("no error, but %v", o)
	}
	if !strings.Contains(err.Error(), absent) {
		return fmt.Errorf("the error does not name %s: %w", absent, err)
	}
	return nil
}

func checkAfterErrors(t *trial) error {
	for _, f := range []func(*trial) error{checkFillError, checkBindError, checkCancelBefore} {
		for range 3 {
			if err := f(t); err != nil {
				return err
			}
		}
	}
	slow := t.spec("sleep", t.lifetime())
	slow.Limits.Wall = 10 * time.Millisecond
	for range 3 {
		if _, err := t.run(slow); err != nil {
			return err
		}
	}
	return checkParallel(t)
}
