package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/openat"
)

// Collect stores what it finds of the outputs o below root, a root directory
// in which nothing runs any more, and returns it as a Result with sorted Files,
// Directories and Symlinks and nothing else. It names the outputs that are not
// there. An output that is something else than a file, a directory or a link,
// or has such a thing in it, is an error that names it, or missing if the command failed.
//
// Files that the command made unreadable for us, as their owner, are made
// readable. Extended attributes, owners and times are not collected; a file is
// executable if anybody may execute it.
func Collect(ctx context.Context, blobs action.Blobs, root *os.File, o Outputs) (*action.Result, []action.Missing, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	c := &collector{
		Outputs: o, ctx: ctx, blobs: blobs, root: int(root.Fd()),
		slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), 8)), seen: map[string]bool{},
	}
	var lost []string
	var err error
	for _, p := range o.Paths {
		var found bool
		if found, err = c.output(p); c.tolerates(err) {
			found, err = false, nil
		}
		if err != nil {
			err = fmt.Errorf("output %q: %w", p, err)
			break
		}
		if !found {
			lost = append(lost, p)
		}
	}
	c.running.Wait()
	runtime.KeepAlive(root)
	if err = cmp.Or(c.failed, err); err != nil {
		return nil, nil, err
	}
	res, err := c.result()
	if err != nil {
		return nil, nil, err
	}
	return res, c.nearMisses(lost), nil
}

// tolerates says that err means no more than that an output is missing.
func (c *collector) tolerates(err error) bool {
	_, ok := errors.AsType[unfit](err)
	return ok && c.Failed
}

// A collector serves one call of Collect.
type collector struct {
	Outputs
	ctx   context.Context
	blobs action.Blobs
	root  int

	seen  map[string]bool // outputs that are recorded
	files []*action.OutputFile
	links []action.OutputSymlink
	dirs  []collectedOutput

	running sync.WaitGroup
	slots   chan struct{} // one for each file that is being stored
	mu      sync.Mutex
	failed  error // guarded by mu while running
}

type collectedOutput struct {
	path string
	dir  *collectedDir
}

// output collects what is at p, and says whether something is.
func (c *collector) output(p string) (bool, error) {
	if p == "" {
		return c.whole()
	}
	full := c.full(p)
	found, err := c.at(path.Dir(full), path.Base(full), p)
	if !found && err == nil && c.Globs && isPattern(p) {
		return c.glob(p)
	}
	return found, err
}

// at collects what is at name in the directory parent, as the output p.
func (c *collector) at(parent, name, p string) (bool, error) {
	dir, err := c.open(parent)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if c.seen[p] {
		return true, nil
	}
	c.seen[p] = true
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return true, c.directoryOutput(dir, name, p)
	case unix.S_IFLNK:
		target, err := readLink(dir, name, st.Size)
		if err == nil {
			c.links = append(c.links, action.OutputSymlink{Path: p, Target: target, Properties: c.with(c.properties(&st), dir, name, "", &st)})
		}
		return true, err
	case unix.S_IFREG:
		f := &action.OutputFile{Path: p, Executable: st.Mode&0o111 != 0, Properties: c.with(c.properties(&st), dir, name, "", &st)}
		c.files = append(c.files, f)
		return true, c.store(dir, name, p, &f.Digest)
	}
	return true, special(st.Mode)
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// unusual is the node property for a mode, or nil for the two usual ones.
func unusual(mode, plain, executable uint32) *action.NodeProperties {
	mode &= 0o7777
	if mode == plain || mode == executable {
		return nil
	}
	return &action.NodeProperties{UnixMode: &mode}
}

// special says what a file is that cannot be an output.
func special(mode uint32) error {
	what := map[uint32]string{
		unix.S_IFSOCK: "a socket", unix.S_IFIFO: "a named pipe", unix.S_IFCHR: "a device", unix.S_IFBLK: "a device",
	}[mode&unix.S_IFMT]
	return unfit{fmt.Errorf("it is %s: outputs are files, directories and symbolic links", cmp.Or(what, "of an unknown kind"))}
}

func readLink(dir int, name string, size int64) (string, error) {
	buf := make([]byte, max(size, 256)+1)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", fmt.Errorf("readlink: %w", err)
	}
	target := string(buf[:n])
	if err := (&action.Directory{Symlinks: []action.SymlinkNode{{Name: "x", Target: target}}}).Check(); err != nil {
		return "", unfit{fmt.Errorf("its target %q cannot be recorded: %w", target, err)}
	}
	return target, nil
}

// open opens a directory of the root for looking up names in it.
func (c *collector) open(dir string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	fd, err := openat.Open(c.root, dir, flags, 0, openat.InRoot)
	if errors.Is(err, unix.EACCES) {
		c.unlockPath(dir)
		fd, err = openat.Open(c.root, dir, flags, 0, openat.InRoot)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	unlock(fd)
	return fd, nil
}

// unlockPath makes the directories on the way to dir usable for us.
func (c *collector) unlockPath(dir string) {
	for i := range dir {
		if dir[i] != '/' {
			continue
		}
		if fd, err := openat.Open(c.root, dir[:i], unix.O_PATH|unix.O_DIRECTORY, 0, openat.InRoot); err == nil {
			unlock(fd)
			unix.Close(fd)
		}
	}
}

// unlock gives the owner of an open file all rights that owners usually have.
// If that fails, what needs them says so.
func unlock(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return
	}
	want := st.Mode | 0o600
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		want |= 0o100
	}
	if want != st.Mode && os.Geteuid() != 0 {
		// fchmod refuses descriptors that were opened by O_PATH.
		_ = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), want&0o7777)
	}
}

// whole collects the directory of the command itself.
func (c *collector) whole() (bool, error) {
	dir, err := c.open(c.full(""))
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	return true, c.directoryOutput(dir, ".", "")
}

func (c *collector) directoryOutput(parent int, name, p string) error {
	d, err := c.directory(parent, name, p, 0)
	if err != nil {
		return err
	}
	c.dirs = append(c.dirs, collectedOutput{p, d})
	return nil
}

// directory collects the directory name of parent. show is its path in errors.
func (c *collector) directory(parent int, name, show string, depth int) (*collectedDir, error) {
	if depth > maxDepth {
		return nil, unfit{fmt.Errorf("%q: directories nested deeper than %d", show, maxDepth)}
	}
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	f, err := openLocked(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%q: open: %w", show, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%q: list: %w", show, err)
	}
	slices.Sort(names)
	d := &collectedDir{}
	if c.Modes || len(c.Properties) > 0 || c.Owned != nil {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return nil, fmt.Errorf("%q: stat: %w", show, err)
		}
		d.m.Properties = c.with(c.nodeProperties(&st, 0o755, 0o755), -1, "", c.full(show), &st)
	}
	d.m.Files = make([]action.FileNode, 0, len(names)) // workers keep pointers into it
	for _, n := range names {
		if err := action.CheckName(n); err != nil {
			return nil, unfit{fmt.Errorf("%q: a name in it cannot be recorded: %w", show, err)}
		}
		if err := c.entry(d, int(f.Fd()), n, show+"/"+n, depth); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// entry adds what is at name in the directory dir to d.
func (c *collector) entry(d *collectedDir, dir int, name, show string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%q: stat: %w", show, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		kid, err := c.directory(dir, name, show, depth+1)
		if err == nil { // as it was before we opened it
			kid.m.Properties = c.with(c.nodeProperties(&st, 0o755, 0o755), dir, name, c.full(show), &st)
		}
		d.kids = append(d.kids, kid)
		d.m.Directories = append(d.m.Directories, action.DirectoryNode{Name: name})
		return err
	case unix.S_IFLNK:
		target, err := readLink(dir, name, st.Size)
		if err != nil {
			return fmt.Errorf("%q: %w", show, err)
		}
		d.m.Symlinks = append(d.m.Symlinks, action.SymlinkNode{Name: name, Target: target, Properties: c.with(c.properties(&st), dir, name, "", &st)})
		return nil
	case unix.S_IFREG:
		file := action.FileNode{Name: name, Executable: st.Mode&0o111 != 0}
		file.Properties = c.with(c.nodeProperties(&st, 0o644, 0o755), dir, name, "", &st)
		d.m.Files = append(d.m.Files, file)
		return c.store(dir, name, show, &d.m.Files[len(d.m.Files)-1].Digest)
	case unix.S_IFIFO:
		if c.Owned != nil {
			d.m.Files = append(d.m.Files, action.FileNode{
				Name: name, Digest: action.Sum(c.Function, nil),
				Properties: c.with(c.nodeProperties(&st, 0o644, 0o644), dir, name, "", &st),
			})
			return nil
		}
	}
	return fmt.Errorf("%q: %w", show, special(st.Mode))
}

// openLocked opens a file for reading, also if its owner may not read it.
func openLocked(dir int, name string, flags int) (*os.File, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := openRetry(dir, name, flags, 0)
	if errors.Is(err, unix.EACCES) {
		if p, perr := openRetry(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0); perr == nil {
			unlock(p)
			unix.Close(p)
			fd, err = openRetry(dir, name, flags, 0)
		}
	} else if err == nil && flags&unix.O_DIRECTORY != 0 {
		unlock(fd) // readable does not mean that names can be looked up
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// store stores the file name of dir and puts its digest into to, some time
// before c.running is done.
func (c *collector) store(dir int, name, show string, to *action.Digest) error {
	f, err := openLocked(dir, name, 0)
	if err != nil {
		return fmt.Errorf("%q: open: %w", show, err)
	}
	if err := bounded(f); err != nil {
		f.Close()
		return fmt.Errorf("%q: %w", show, err)
	}
	c.slots <- struct{}{}
	c.running.Go(func() {
		defer func() { <-c.slots }()
		defer f.Close()
		d, err := c.blobs.PutFile(c.ctx, c.Function, f)
		if err == nil {
			*to = d
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.failed == nil {
			c.failed = fmt.Errorf("store output %q: %w", show, err)
		}
	})
	return nil
}

// mostHoles is the size of the largest file that may consist of holes for the most
// part. They take no room that would bound them, but must be hashed like all else, at a
// few hundred MB a second.
const mostHoles = 256 << 30

// bounded says why a file is too large to be an output, or nil.
func bounded(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Size > mostHoles && st.Blocks*512 < st.Size/2 {
		return unfit{fmt.Errorf("it has %d bytes, of which %d are on the disk and the rest are holes: such an output can have %d bytes", st.Size, st.Blocks*512, int64(mostHoles))}
	}
	return nil
}

// result makes the Result when every file has been stored.
func (c *collector) result() (*action.Result, error) {
	res := &action.Result{Symlinks: c.links}
	for _, f := range c.files {
		res.Files = append(res.Files, *f)
	}
	for _, d := range c.dirs {
		out, err := c.storeDirectory(d)
		if err != nil {
			return nil, fmt.Errorf("store output %q: %w", d.path, err)
		}
		res.Directories = append(res.Directories, out)
	}
	slices.SortFunc(res.Files, func(a, b action.OutputFile) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(res.Directories, func(a, b action.OutputDirectory) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(res.Symlinks, func(a, b action.OutputSymlink) int { return strings.Compare(a.Path, b.Path) })
	return res, nil
}

func (c *collector) storeDirectory(o collectedOutput) (action.OutputDirectory, error) {
	o.dir.seal(c.Function)
	order := o.dir.topological()
	out := action.OutputDirectory{Path: o.path}
	if c.Format != 0 {
		for _, d := range order {
			if _, err := c.blobs.PutBytes(c.ctx, c.Function, d.data); err != nil {
				return out, err
			}
		}
		out.Root = o.dir.digest
	}
	if c.Format != 1 {
		t := action.Tree{Root: o.dir.m}
		for _, d := range order[1:] {
			t.Children = append(t.Children, d.m)
		}
		var err error
		if out.Tree, err = c.blobs.PutBytes(c.ctx, c.Function, t.Marshal()); err != nil {
			return out, err
		}
		out.Sorted = true
	}
	return out, nil
}

// walk calls visit for everything below the directory dir that is no
// directory, with its path relative to dir, until visit says stop.
func (c *collector) walk(dir string, visit func(fd int, name, rel string, st *unix.Stat_t) error) error {
	parent, err := c.open(dir)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return walkBelow(parent, ".", "", 0, visit)
}

func walkBelow(parent int, name, rel string, depth int, visit func(fd int, name, rel string, st *unix.Stat_t) error) error {
	f, err := openLocked(parent, name, unix.O_DIRECTORY)
	if err != nil || depth > maxDepth {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = walkBelow(int(f.Fd()), n, path.Join(rel, n), depth+1, visit)
		} else {
			err = visit(int(f.Fd()), n, path.Join(rel, n), &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
