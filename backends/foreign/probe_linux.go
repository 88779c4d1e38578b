package foreign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// owner is the user and group, as we see them, of a command's files.
func (b *Backend) owner() int {
	if b.unprivileged {
		return os.Geteuid()
	}
	return backends.ID
}

// probe finds out what can be done here, by doing it.
func (b *Backend) probe(boot bool) backends.Capabilities {
	c := backends.Capabilities{Owner: b.owner()}
	if b.missing != nil {
		c.Reason = b.missing.Error()
		return c
	}
	if b.tool.Compiled && isScript(b.program) {
		c.Reason = fmt.Sprintf("%s is a script that stands in for %s: %s", b.program, b.tool.Name, b.tool.Install)
		c.NetworkNone, c.NetworkHost = true, true
		if b.tool.Adjust != nil {
			b.tool.Adjust(&c)
		}
		return c
	}
	// A machine takes long to boot, so one has to tell all.
	machine, patience := b.tool.Machine != nil, time.Minute
	if machine {
		patience *= 5
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := b.present()
	if err == nil && boot {
		err = b.try(ctx, &backends.Spec{Observe: machine}, unix.ENOENT)
	}
	if err != nil {
		c.Reason = err.Error()
		return c
	}
	c.Works = true
	c.Mounts, c.Filters, c.Users = true, true, !b.unprivileged && !b.tool.AsUser && !b.tool.HostShell
	c.NetworkNone, c.NetworkHost = true, true
	c.OwnRoot, c.FixedID, c.Loopback, c.KillsAll = true, true, true, true
	c.PidNamespace, c.IPCNamespace, c.UTSNamespace = true, true, true
	c.Seccomp, c.NoNewPrivs, c.ExactStatus = true, true, true
	c.MemoryLimit, c.FileLimit, c.ScratchLimit = backends.PerProc, true, true
	if b.unprivileged || b.tool.AsUser {
		// The kernel counts the processes of a user in each user namespace.
		// As root there mostly is none, and all commands are one user.
		c.PidsLimit = backends.PerProc
	}
	c.Observe = machine || b.try(ctx, &backends.Spec{Observe: true}, unix.ENOENT) == nil
	c.Owners = !machine && b.try(ctx, &backends.Spec{Owners: true}, unix.ENOENT) == nil
	c.Terminal = !machine && b.tryTerminal(ctx) == nil
	c.SELinux = b.tool.Labels
	if b.tool.Adjust != nil {
		b.tool.Adjust(&c)
	}
	b.probeLayers(ctx, &c)
	return c
}

// probeLayers finds out which layers a root can have.
func (b *Backend) probeLayers(ctx context.Context, c *backends.Capabilities) {
	dir, err := os.MkdirTemp("", "sbx-probe-")
	if err != nil {
		return
	}
	defer os.RemoveAll(dir)
	if os.Chmod(dir, 0o755) != nil { // the command is another user
		return
	}
	c.Overlay = b.tryOverlay(ctx, dir) == nil
	c.DataLayers = c.Overlay && b.tryData(ctx, dir) == nil
	c.Images = c.Overlay && b.tryImage(ctx, dir) == nil
}

// probeName is a command which cannot be executed, for a reason that tells what
// the root is like. So a root needs no program for it to be seen.
const probeName = "/probe"

// present says whether what a machine is made of is there.
func (b *Backend) present() error {
	if b.tool.Machine == nil {
		return nil
	}
	m, err := b.tool.Machine()
	if err == nil {
		m.Close()
	}
	return err
}

// tryRoot makes a root on the host, which is all that layers need, and does not wait
// for a machine to boot.
func (b *Backend) tryRoot(spec *backends.Spec) error {
	s, err := b.start(nil)
	if err != nil {
		return err
	}
	ready, err := s.makeRoot(b, spec)
	if err == nil {
		ready.Close()
	}
	s.cancel()
	s.wait()
	return err
}

func isScript(program string) bool {
	f, err := os.Open(program)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	n, _ := f.Read(head[:])
	return string(head[:n]) == "#!"
}

// try runs it in a root that has nothing but what spec says.
func (b *Backend) try(ctx context.Context, spec *backends.Spec, want error) error {
	if b.tool.Machine != nil && len(spec.Root.Lowers) > 0 {
		return b.tryRoot(spec)
	}
	spec.Args, spec.Dir = []string{probeName}, "/"
	st, err := b.run(ctx, spec)
	if err != nil {
		return err
	}
	if !errors.Is(st.Start, want) {
		return fmt.Errorf("executing %s in a sandbox: got %v, want %w", probeName, st.Start, want)
	}
	return nil
}

func (b *Backend) tryTerminal(ctx context.Context) error {
	var terminal *os.File
	err := b.try(ctx, &backends.Spec{Terminal: func(far *os.File) { terminal = far }}, unix.ENOENT)
	if terminal != nil {
		return errors.Join(err, terminal.Close())
	}
	return cmp.Or(err, errors.New("its far end does not come out of the sandbox"))
}

// tryOverlay makes a layer with a program that the kernel does not know.
func (b *Backend) tryOverlay(ctx context.Context, dir string) error {
	layer := filepath.Join(dir, "plain")
	if err := os.Mkdir(layer, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(layer+probeName, []byte("\x00unknown"), 0o755); err != nil {
		return err
	}
	spec := &backends.Spec{Root: backends.Root{Lowers: []backends.Layer{{Dir: layer}}}}
	return b.try(ctx, spec, unix.ENOEXEC)
}

// tryData makes a layer with a program that takes its contents from elsewhere:
// a script whose interpreter is a directory.
func (b *Backend) tryData(ctx context.Context, dir string) error {
	const script = "#!/proc\n"
	layer, data := filepath.Join(dir, "layer"), filepath.Join(dir, "data")
	err := errors.Join(
		os.Mkdir(layer, 0o755),
		os.Mkdir(data, 0o755),
		os.WriteFile(data+"/blob", []byte(script), 0o755),
		os.WriteFile(layer+probeName, make([]byte, len(script)), 0o755),
	)
	if err != nil {
		return err
	}
	space := "trusted."
	if b.unprivileged {
		space = "user."
	}
	err = errors.Join(
		unix.Setxattr(layer+probeName, space+"overlay.metacopy", nil, 0),
		unix.Setxattr(layer+probeName, space+"overlay.redirect", []byte("/blob"), 0),
	)
	if err != nil {
		return err
	}
	spec := &backends.Spec{Root: backends.Root{Lowers: []backends.Layer{{Dir: layer}}, Data: data}}
	return b.try(ctx, spec, unix.EACCES)
}

// tryImage shows the kernel an image that is none. A kernel that mounts images
// from files says that it is damaged; one that does not wants a block device,
// and a user who may not mount is told so.
func (b *Backend) tryImage(ctx context.Context, dir string) error {
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, make([]byte, 8192), 0o644); err != nil {
		return err
	}
	spec := &backends.Spec{Root: backends.Root{Lowers: []backends.Layer{{Image: image}}}}
	err := b.try(ctx, spec, nil)
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("mount a damaged image: %w", err)
}
