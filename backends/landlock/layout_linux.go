package landlock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// A layout is a root that has been laid out in a place.
type layout struct {
	spec  *backends.Spec
	rules []rule
	links []string // of the root, for binds
	empty []string // directories of the root whose contents nobody keeps
}

// A rule lets the command use a file or directory of the host.
type rule struct {
	path  string
	write bool
}

// Every command may use these.
var common = []rule{
	{"/proc", false},
	{"/dev/null", true},
	{"/dev/zero", true},
	{"/dev/full", true},
	{"/dev/random", false},
	{"/dev/urandom", false},
}

// layOut puts into the place what the root of spec has.
func layOut(p *place, spec *backends.Spec, owner int) (*layout, error) {
	l := &layout{spec: spec, rules: append([]rule{{p.root, !spec.Root.ReadOnly}}, common...)}
	dir, err := os.Open(p.root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if spec.Root.Fill != nil {
		if err := spec.Root.Fill(dir); err != nil {
			return nil, fmt.Errorf("fill the root: %w", err)
		}
	}
	if err := l.emptyDir(dir, "/tmp"); err != nil {
		return nil, fmt.Errorf("make the directory /tmp: %w", err)
	}
	for _, b := range spec.Root.Binds {
		if err := l.bind(dir, b); err != nil {
			return nil, fmt.Errorf("bind %s on %s: %w", b.Source, b.Target, err)
		}
	}
	for _, t := range spec.Root.Tmpfs {
		if err := l.emptyDir(dir, t); err != nil {
			return nil, fmt.Errorf("make the directory %s: %w", t, err)
		}
	}
	for _, w := range spec.Root.Writable {
		if in, ok := l.bound(w); ok && in.Writable {
			continue
		} else if ok {
			l.rules = append(l.rules, rule{w, true})
			continue
		}
		if _, err := os.Lstat(p.root + w); err != nil {
			return nil, fmt.Errorf("keep %s writable: %w", w, err)
		}
		l.rules = append(l.rules, rule{p.root + w, true})
	}
	return l, nil
}

// bound returns the last bind to its own name that has path.
func (l *layout) bound(path string) (found backends.Bind, ok bool) {
	for _, b := range l.spec.Root.Binds {
		if b.Source == b.Target && (path == b.Source || b.Source == "/" || strings.HasPrefix(path, b.Source+"/")) {
			found, ok = b, true
		}
	}
	return found, ok
}

// bind makes a link to the source at the target, and lets the command use it.
func (l *layout) bind(root *os.File, b backends.Bind) error {
	if _, err := os.Stat(b.Source); err != nil {
		return err
	}
	l.rules = append(l.rules, rule{b.Source, b.Writable})
	if b.Target == "/" {
		if b.Source == "/" {
			return nil
		}
		return fmt.Errorf("the root cannot be a link: %w", backends.UnsupportedBy(Name))
	}
	parent, name, err := makeParents(root, b.Target)
	if errors.Is(err, backends.ErrUnsupported) && b.Source == b.Target {
		return nil // it is there under its own name, and below an earlier one here
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	// What is mounted over something hides it: an empty directory, or an
	// earlier bind. Of anything else we would have to hide too much.
	err = unix.Symlinkat(b.Source, int(parent.Fd()), name)
	if errors.Is(err, unix.EEXIST) {
		err = unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTDIR) && (l.linked(b.Target) || b.Source == b.Target) {
			err = unix.Unlinkat(int(parent.Fd()), name, 0)
		}
		if err != nil {
			return fmt.Errorf("something else is there, which would have to be hidden: %w", backends.UnsupportedBy(Name))
		}
		err = unix.Symlinkat(b.Source, int(parent.Fd()), name)
	}
	if err == nil {
		l.links = append(l.links, b.Target)
	}
	return err
}

func (l *layout) linked(target string) bool {
	return slices.Contains(l.links, target)
}

// emptyDir makes a directory that anybody may write to.
func (l *layout) emptyDir(root *os.File, target string) error {
	parent, name, err := makeParents(root, target)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o777); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := openDir(parent, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil || len(f) > 0 {
		return errors.Join(err, fmt.Errorf("it is not empty, and what it has would have to be hidden: %w", backends.UnsupportedBy(Name)))
	}
	if err := unix.Fchmod(fd, 0o1777); err != nil {
		return err
	}
	l.rules = append(l.rules, rule{root.Name() + target, true})
	l.empty = append(l.empty, target)
	return nil
}

// makeParents opens the directory above path, which it makes where it is missing.
// It does not follow links: what we write must be below root.
func makeParents(root *os.File, path string) (*os.File, string, error) {
	at, err := openDir(root, ".")
	if err != nil {
		return nil, "", err
	}
	names := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, name := range names[:len(names)-1] {
		here := os.NewFile(uintptr(at), root.Name())
		if err := unix.Mkdirat(at, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			here.Close()
			return nil, "", err
		}
		at, err = openDir(here, name)
		here.Close()
		if err != nil {
			return nil, "", fmt.Errorf("%w: a link on the way: %w", err, backends.UnsupportedBy(Name))
		}
	}
	return os.NewFile(uintptr(at), root.Name()), names[len(names)-1], nil
}

func openDir(dir *os.File, name string) (int, error) {
	return unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// request is what the helper has to do.
func (l *layout) request(p *place) *helper.Request {
	req := helper.NewRequest(l.spec)
	req.Flags = 0
	req.Seq, req.Lowers, req.DataDir, req.ScratchDir = 1, nil, "", ""
	req.Memory = l.spec.Limits.Memory
	req.Target = p.base
	req.Dir = l.where(p, l.spec.Dir)
	if a := l.spec.Args[0]; filepath.IsAbs(a) {
		req.Hide = l.where(p, a)
	}
	req.Env = slices.Clone(l.spec.Env)
	for i, v := range req.Env {
		if dir, ok := strings.CutPrefix(v, "TMPDIR="); ok && filepath.IsAbs(dir) {
			req.Env[i] = "TMPDIR=" + l.where(p, dir)
		}
	}
	req.Binds = nil
	for _, r := range l.rules {
		if r.write {
			req.Binds = append(req.Binds, "="+r.path, "")
		} else {
			req.Binds = append(req.Binds, r.path, "")
		}
	}
	return req
}

// where is the path on the host of a path in the root.
func (l *layout) where(p *place, path string) string {
	if _, ok := l.bound(path); ok {
		return path
	}
	return filepath.Join(p.root, path)
}

// keep takes out of the root what is not the command's, and opens it.
func (l *layout) keep(p *place) (*os.File, error) {
	root, err := os.Open(p.root)
	if err != nil {
		return nil, err
	}
	for _, t := range l.links {
		// It may be something else by now, or lie behind a link.
		parent, name, err := parentOf(root, t)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			unix.Unlinkat(int(parent.Fd()), name, 0) //nolint:errcheck // it is only a link
		}
		parent.Close()
	}
	for _, t := range l.empty {
		parent, name, err := parentOf(root, t)
		if err != nil {
			continue
		}
		if fd, err := openDir(parent, name); err == nil {
			dir := fmt.Sprintf("/proc/self/fd/%d", fd)
			list, _ := os.ReadDir(dir)
			for _, e := range list {
				removeAll(filepath.Join(dir, e.Name())) //nolint:errcheck // nobody looks there
			}
			unix.Close(fd)
		}
		parent.Close()
	}
	return root, nil
}

func parentOf(root *os.File, path string) (*os.File, string, error) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	dir := strings.TrimPrefix(filepath.Dir(path), "/")
	if dir == "" {
		dir = "."
	}
	fd, err := unix.Openat2(int(root.Fd()), dir, &how)
	if err != nil {
		return nil, "", err
	}
	return os.NewFile(uintptr(fd), root.Name()), filepath.Base(path), nil
}
