package promise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/sbx-action/sbx-action/backends"
)

// A trial is the state of one check.
type trial struct {
	*Env
	ctx      context.Context
	caps     backends.Capabilities
	cleanups []func()
}

// later has f called when the check is over, last first.
func (t *trial) later(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *trial) cleanup() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}

// The probe's path, and the directory where commands begin, in every sandbox.
const (
	probePath = "/" + ProbeName
	workDir   = "/build"
)

// spec is a plain command: a probe in a root with nothing but the probe and an
// empty directory to work in.
func (t *trial) spec(args ...string) *backends.Spec {
	network := backends.NetworkNone
	if !t.caps.NetworkNone {
		network = backends.NetworkHost
	}
	return &backends.Spec{
		Network: network,
		Root: backends.Root{
			InPlace: !t.caps.OwnRoot,
			Fill:    t.fill(),
			Binds:   []backends.Bind{{Source: t.Probe, Target: probePath}},
		},
		Args: probe(args...),
		Env:  []string{"PATH=/usr/bin:/bin"},
		Dir:  workDir,
	}
}

// probe is the command line of a probe inside.
func probe(args ...string) []string { return append([]string{probePath}, args...) }

// probeOutside is a probe without a sandbox.
func (t *trial) probeOutside(args []string) *exec.Cmd {
	cmd := exec.CommandContext(t.ctx, t.Probe, args...)
	cmd.Args[0] = ProbeName
	cmd.Dir, cmd.Env = t.Dir, []string{"PATH=/usr/bin:/bin"}
	return cmd
}

// A file is something for fill to put into a root: a link where link is set, a
// directory where the path ends with a slash.
type file struct {
	path, text, link string
	mode             os.FileMode // 0 means 0644, or 0755 for a directory
}

// fill returns a Root.Fill that makes the working directory and files.
func (t *trial) fill(files ...file) func(*os.File) error {
	owner := t.caps.Owner
	return func(dir *os.File) error {
		// The descriptor is of a file system that may have no path here.
		root := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
		return write(root, owner, append([]file{{path: workDir + "/"}}, files...))
	}
}

// write makes files below root. An owner of less than 0 is us.
func write(root string, owner int, files []file) error {
	own := func(path string) error {
		if owner < 0 {
			return nil
		}
		return os.Lchown(path, owner, owner)
	}
	for _, f := range files {
		if err := mkdirs(root, filepath.Dir(f.path), own); err != nil {
			return err
		}
		path := filepath.Join(root, f.path)
		mode := f.mode
		var err error
		switch {
		case strings.HasSuffix(f.path, "/"):
			if mode == 0 {
				mode = 0o755
			}
			if err = mkdirs(root, filepath.Clean(f.path), own); err == nil {
				err = os.Chmod(path, mode)
			}
		case f.link != "":
			err = os.Symlink(f.link, path)
		default:
			if mode == 0 {
				mode = 0o644
			}
			if err = os.WriteFile(path, []byte(f.text), 0o600); err == nil {
				err = os.Chmod(path, mode)
			}
		}
		if err != nil {
			return err
		}
		if err := own(path); err != nil {
			return err
		}
		if mode&(os.ModeSetuid|os.ModeSetgid) != 0 { // chown takes these bits away
			if err := os.Chmod(path, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// mkdirs makes dir and what is missing above it, below root.
func mkdirs(root, dir string, own func(string) error) error {
	if dir == "/" || dir == "." {
		return nil
	}
	if err := mkdirs(root, filepath.Dir(dir), own); err != nil {
		return err
	}
	path := filepath.Join(root, dir)
	if err := os.Mkdir(path, 0o755); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return own(path)
}

// hostDirs are what programs of the host need. Links stay links.
var hostDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// hostRoot shows the programs of the host in the root of spec as well.
func (t *trial) hostRoot(spec *backends.Spec, files ...file) {
	for _, d := range hostDirs {
		if link, err := os.Readlink(d); err == nil {
			files = append(files, file{path: d, link: link})
		} else if _, err := os.Stat(d); err == nil {
			spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: d, Target: d})
		}
	}
	spec.Root.Fill = t.fill(files...)
}

// An outcome is a Status with what the command wrote.
type outcome struct {
	*backends.Status
	out, err string
}

func (o *outcome) String() string {
	how := fmt.Sprintf("code %d, signal %d", o.Code, o.Signal)
	if o.TimedOut {
		how += ", timed out"
	}
	if o.OutOfMemory {
		how += ", out of memory"
	}
	if o.Start != nil {
		how += fmt.Sprintf(", not started: %v", o.Start)
	}
	return fmt.Sprintf("%s; output %.300q; errors %.300q", how, o.out, o.err)
}

// run runs spec, and collects what the command writes where spec does not say
// otherwise. The output goes to files, so nothing waits for a process that was
// forgotten.
func (t *trial) run(spec *backends.Spec) (*outcome, error) {
	out, err := t.temp()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	errs, err := t.temp()
	if err != nil {
		return nil, err
	}
	defer errs.Close()
	copied := *spec
	if spec.Stdout == nil {
		copied.Stdout = out
	}
	if spec.Stderr == nil {
		copied.Stderr = errs
	}
	status, err := t.Backend.Run(t.ctx, &copied)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if status == nil {
		return nil, errors.New("run: neither a status nor an error")
	}
	return &outcome{status, readAll(out), readAll(errs)}, nil
}

// temp is a new file without a name.
func (t *trial) temp() (*os.File, error) {
	f, err := os.CreateTemp(t.Dir, "output-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func readAll(f *os.File) string {
	var b bytes.Buffer
	io.Copy(&b, io.NewSectionReader(f, 0, 1<<40))
	return b.String()
}

// succeed runs spec, whose command must exit 0, and returns what it printed.
func (t *trial) succeed(spec *backends.Spec) (string, error) {
	o, err := t.run(spec)
	if err != nil {
		return "", err
	}
	if o.Code != 0 || o.Signal != 0 || o.Start != nil || o.TimedOut {
		return "", fmt.Errorf("%q ended with %v", spec.Args, o)
	}
	return o.out, nil
}

// inside runs a probe in a plain sandbox and returns what it printed.
func (t *trial) inside(args ...string) (string, error) { return t.succeed(t.spec(args...)) }

// outside runs a probe without any sandbox and returns what it printed.
func (t *trial) outside(args ...string) (string, error) { return t.control(false, args) }

func (t *trial) control(root bool, args []string) (string, error) {
	cmd := t.probeOutside(args)
	if root && os.Geteuid() != 0 {
		asNamespaceRoot(cmd)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("control outside: %q: %w; output %.300q; errors %.300q", args, err, out.String(), errs.String())
	}
	return out.String(), nil
}

// said interprets the answer of an attempt.
func said(answer string) (yes bool, err error) {
	switch {
	case strings.HasPrefix(answer, "yes"):
		return true, nil
	case strings.HasPrefix(answer, "no:"):
		return false, nil
	}
	return false, fmt.Errorf("the probe answered neither yes nor no: %.300q", answer)
}

// An attempt is something that must succeed outside and fail inside.
type attempt struct {
	args    []string // the probe inside
	control []string // the probe outside, where it differs
	root    bool     // only root can do it outside
	spec    func(*backends.Spec)
}

// defeats checks that a sandbox defeats an attempt. What happens inside counts
// first: an attempt that succeeds there needs no control.
func (t *trial) defeats(a attempt) error {
	spec := t.spec(a.args...)
	if a.spec != nil {
		a.spec(spec)
	}
	answer, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil {
		return err
	} else if yes {
		return fmt.Errorf("%q succeeded in the sandbox: %.300s", a.args, answer)
	}
	control := a.control
	if control == nil {
		control = a.args
	}
	answer, err = t.control(a.root, control)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	if yes, err := said(answer); err != nil {
		return err
	} else if !yes {
		return fmt.Errorf("%w: %q does not succeed outside either: %.300s", errUnproven, control, answer)
	}
	return nil
}

// all returns the first error of checks, but one that only says that nothing
// was proven comes after every other.
func all(checks ...func() error) error {
	var unproven error
	for _, c := range checks {
		err := c()
		if err != nil && !errors.Is(err, errUnproven) {
			return err
		}
		if unproven == nil {
			unproven = err
		}
	}
	return unproven
}

// refuses checks that a command is not run when it asks for something that the
// backend does not have.
func (t *trial) refuses(ask func(*backends.Spec)) error {
	spec := t.spec("say", "I ran")
	ask(spec)
	o, err := t.run(spec)
	if err == nil {
		return fmt.Errorf("was not refused: %v", o)
	}
	if !errors.Is(err, backends.ErrUnsupported) {
		return fmt.Errorf("was refused with an error that does not wrap ErrUnsupported: %w", err)
	}
	return nil
}

// equal checks a value that was printed.
func equal(what, got, want string) error {
	if got == want {
		return nil
	}
	if len(got)+len(want) > 2000 {
		return fmt.Errorf("%s: got %d bytes, want %d other ones", what, len(got), len(want))
	}
	return fmt.Errorf("%s: got %q, want %q", what, got, want)
}

var marks atomic.Int64

// mark is a word that occurs on the command line of one process only.
func (t *trial) mark() string {
	return fmt.Sprintf("mark-%d-%d", os.Getpid(), marks.Add(1))
}

// pipe is a pipe that is closed when the check is over.
func pipe(t *trial) (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err == nil {
		t.later(func() { r.Close(); w.Close() })
	}
	return r, w, err
}

// Plain is the Spec of a probe as most checks use it. It is for whoever starts
// an Env.Victim.
func Plain(b backends.Backend, program string, stdin, stdout *os.File, args ...string) *backends.Spec {
	t := &trial{Env: &Env{Backend: b, Probe: program}, caps: b.Capabilities()}
	spec := t.spec(args...)
	spec.Stdin, spec.Stdout = stdin, stdout
	return spec
}
