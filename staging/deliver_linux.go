package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/internal/openat"
)

// Deliver makes the outputs of res appear in a workspace.
//
// Everything is first written beside its place, then all of it is moved there:
// each output appears whole or not at all, and when something cannot be
// written, or ctx ends, before the first one appeared, nothing does. Outputs
// are as if the command had just written them: new times, the modes that the
// umask leaves, no inode shared with the store. A file that is the same
// already is not written, but gets a new time. An output directory replaces
// the one that is there with all that is in it. Missing directories on the way
// to an output are made.
//
// Links in the workspace are followed on the way to an output as long as they
// stay in it; a link in the place of an output is replaced. A device, pipe or
// socket in its place is left alone. A directory is not replaced by a file.
func Deliver(ctx context.Context, blobs action.Blobs, res *action.Result, w Workspace) error {
	list, err := w.deliveries(res)
	if err != nil {
		return err
	}
	d := &deliverer{ctx: ctx, blobs: blobs, to: w, parent: -1, unnamed: len(list) <= maxUnnamed, number: newNumber()}
	if d.root, err = unix.Open(w.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open the workspace %s: %w", w.Root, err)
	}
	defer d.close()
	pending := make([]step, 0, len(list))
	for i := range list {
		s, err := d.prepare(&list[i])
		if err != nil {
			d.undo(pending)
			return fmt.Errorf("deliver output %q: %w", list[i].show, w.advise(err))
		}
		pending = append(pending, s)
	}
	if ctx.Err() != nil {
		d.undo(pending)
		return context.Cause(ctx)
	}
	for i := range pending {
		if err := d.commit(&pending[i]); err != nil {
			d.undo(pending[i:]) // what has appeared stays
			return fmt.Errorf("deliver output %q: %w", pending[i].show, w.advise(err))
		}
	}
	return nil
}

// advise adds to the error of a delivery what the workspace has to do with it.
func (w Workspace) advise(err error) error {
	switch {
	case durable.IsFull(err):
		return fmt.Errorf("%w: free some where the workspace %s is", err, w.Root)
	case durable.IsReadOnly(err), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: you may not write there, in the workspace %s", err, w.Root)
	}
	return err
}

// maxUnnamed is up to how many outputs wait as open files without a name,
// which vanish by themselves when we are killed.
const maxUnnamed = 64

// A deliverer serves one call of Deliver.
type deliverer struct {
	ctx     context.Context
	blobs   action.Blobs
	to      Workspace
	root    int
	unnamed bool
	buf     []byte

	parent     int // the directory that was opened last, or -1
	parentPath string
	made       []string // directories that were made on the way to outputs

	number uint64         // of the last draft
	swept  map[string]int // descriptors with the locks of drafts, or -1, by directory
}

// A step is an output that is written but not in its place.
type step struct {
	*delivery
	fd    int    // the file, without a name; or -1
	temp  string // its name in the directory of its place; or ""
	touch bool   // the file is in its place already
	skip  bool   // what is in its place is to be left alone
	clean bool   // nothing is in its place
}

func (d *deliverer) close() {
	if d.parent >= 0 {
		unix.Close(d.parent)
	}
	unix.Close(d.root)
	for _, fd := range d.swept {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// prepare writes an output beside its place.
func (d *deliverer) prepare(o *delivery) (step, error) {
	s := step{delivery: o, fd: -1}
	if d.ctx.Err() != nil {
		return s, context.Cause(d.ctx)
	}
	dir, err := d.directory(path.Dir(o.path))
	if err != nil {
		return s, err
	}
	if o.dir != nil {
		d.sweep(dir, path.Dir(o.path))
	}
	var st unix.Stat_t
	err = unix.Fstatat(dir, path.Base(o.path), &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return s, fmt.Errorf("stat: %w", err)
	}
	s.clean = err != nil
	switch kind := st.Mode & unix.S_IFMT; {
	case s.clean:
	case kind != unix.S_IFREG && kind != unix.S_IFDIR && kind != unix.S_IFLNK:
		s.skip = true
		return s, nil
	case kind == unix.S_IFDIR && o.dir == nil:
		return s, errors.New("a directory is in its place: remove it, or name the output differently")
	case kind == unix.S_IFREG && o.file != nil && d.same(dir, o, &st):
		s.touch, s.skip = true, d.to.Known != nil
		return s, nil
	case kind == unix.S_IFDIR && o.dir != nil && d.to.Known != nil && d.sameTree(o):
		s.skip = true
		return s, nil
	}
	switch {
	case o.link != nil:
		s.temp = d.draft(dir, path.Dir(o.path))
		if err := unix.Symlinkat(o.link.Target, dir, s.temp); err != nil {
			return s, fmt.Errorf("symlink: %w", err)
		}
		return s, nil
	case o.dir != nil:
		s.temp = d.draft(dir, path.Dir(o.path))
		if err := d.tree(dir, s.temp, o.dir); err != nil {
			return s, errors.Join(err, removeAt(dir, s.temp))
		}
		return s, nil
	}
	return s, d.fileBeside(dir, &s)
}

// fileBeside writes a file into the directory of its place.
func (d *deliverer) fileBeside(dir int, s *step) error {
	mode := uint32(0o666)
	if s.file.Executable {
		mode = 0o777
	}
	fd := -1
	if d.unnamed {
		var err error
		if fd, err = openRetry(dir, ".", unix.O_TMPFILE|unix.O_WRONLY, mode); err != nil {
			fd = -1 // not every file system has them
		}
	}
	if fd < 0 {
		s.temp = d.draft(dir, path.Dir(s.path))
		var err error
		if fd, err = openRetry(dir, s.temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW, mode); err != nil {
			s.temp = ""
			return fmt.Errorf("create: %w", err)
		}
	}
	err := d.content(fd, s.file.Digest, s.file.Contents)
	if err == nil && s.temp == "" {
		s.fd = fd
		return nil
	}
	err = errors.Join(err, unix.Close(fd)) // some file systems report a full disk here
	if err != nil && s.temp != "" {
		err = errors.Join(err, removeAt(dir, s.temp))
	}
	return err
}

// content writes a blob to fd. It may be given.
func (d *deliverer) content(fd int, blob action.Digest, given []byte) error {
	if blob.IsEmpty() {
		return nil
	}
	if given != nil {
		return writeAll(fd, given)
	}
	src, err := d.blobs.Open(d.ctx, blob)
	if err != nil {
		return err
	}
	defer src.Close()
	if want := min(copyBuffer, blob.Size()); int64(len(d.buf)) < want {
		d.buf = make([]byte, max(want, 4096))
	}
	return d.checked(fd, int(src.Fd()), blob)
}

// same says whether the file in the place of o, which is st, is as it will be.
func (d *deliverer) same(dir int, o *delivery, st *unix.Stat_t) bool {
	if st.Size != o.file.Digest.Size() || st.Nlink != 1 || (st.Mode&0o111 != 0) != o.file.Executable {
		return false
	}
	// Whoever may not write a file may not set its time to now either.
	if unix.Faccessat(dir, path.Base(o.path), unix.W_OK, unix.AT_EACCESS) != nil {
		return false
	}
	fd, err := openRetry(dir, path.Base(o.path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	// A descriptor that blocks is kept out of the runtime's poller, whose start
	// takes as long as all the rest.
	_ = unix.SetNonblock(fd, false)
	f := os.NewFile(uintptr(fd), o.path)
	defer f.Close()
	if known := d.to.Known; known != nil && known.fn == o.file.Digest.Function() {
		got, err := known.DigestFile(f)
		return err == nil && got.Digest == o.file.Digest
	}
	h := o.file.Digest.Function().New()
	if _, err := io.Copy(h, f); err != nil {
		return false
	}
	sum := o.file.Digest.Bytes()
	return string(h.Sum(nil)) == string(sum[:])
}

// sameTree says whether the directory in the place of o is as it will be.
func (d *deliverer) sameTree(o *delivery) bool {
	want := o.dir.Root
	if want.IsZero() {
		f, err := d.blobs.Open(d.ctx, o.dir.Tree)
		if err != nil {
			return false
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return false
		}
		tree, err := action.ParseTree(data, o.dir.Tree.Function())
		if err != nil {
			return false
		}
		want = action.Sum(o.dir.Tree.Function(), tree.Root.Marshal())
	}
	have, err := Scan(d.ctx, ScanConfig{
		Workspace: path.Join(d.to.Root, o.path), Inputs: []string{"."}, Function: want.Function(),
		StatCache: d.to.StatCache, Files: d.to.Known,
	})
	return err == nil && have.Root == want
}

// directory opens a directory of the workspace, and makes it where it is
// missing. The descriptor is good until the next call.
func (d *deliverer) directory(p string) (int, error) {
	if d.parent >= 0 && d.parentPath == p {
		return d.parent, nil
	}
	fd, err := openat.Open(d.root, p, unix.O_PATH|unix.O_DIRECTORY, 0, openat.Beneath)
	if errors.Is(err, unix.ENOENT) && p != "." {
		var above int
		if above, err = d.directory(path.Dir(p)); err != nil {
			return -1, err
		}
		err = unix.Mkdirat(above, path.Base(p), 0o777)
		if err == nil {
			d.made = append(d.made, p)
		}
		if err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = openat.Open(d.root, p, unix.O_PATH|unix.O_DIRECTORY, 0, openat.Beneath)
		}
	}
	if errors.Is(err, unix.EXDEV) {
		return -1, fmt.Errorf("directory %q leads out of the workspace through a symbolic link", p)
	}
	if err != nil {
		return -1, fmt.Errorf("directory %q: %w", p, err)
	}
	if d.parent >= 0 {
		unix.Close(d.parent)
	}
	d.parent, d.parentPath = fd, p
	return fd, nil
}

// commit moves an output to its place.
func (d *deliverer) commit(s *step) error {
	dir, err := d.directory(path.Dir(s.path))
	if err != nil {
		return err
	}
	name := path.Base(s.path)
	switch {
	case s.skip:
		return nil
	case s.touch:
		return touch(dir, name)
	}
	if s.fd >= 0 {
		done, err := d.link(dir, name, s)
		if done || err != nil {
			return err
		}
	}
	if s.dir == nil {
		if err := unix.Renameat(dir, s.temp, dir, name); err != nil {
			return fmt.Errorf("rename: %w", err)
		}
		s.temp = ""
		return nil
	}
	return d.exchange(dir, name, s)
}

// link gives an unnamed file its name, or if that is taken, one beside it.
func (d *deliverer) link(dir int, name string, s *step) (bool, error) {
	self := fmt.Sprintf("/proc/self/fd/%d", s.fd)
	defer func() { unix.Close(s.fd); s.fd = -1 }()
	if s.clean {
		err := unix.Linkat(unix.AT_FDCWD, self, dir, name, unix.AT_SYMLINK_FOLLOW)
		if err == nil || !errors.Is(err, unix.EEXIST) {
			return true, wrapLink(err)
		}
	}
	s.temp = draftName(noKernel, newNumber()) // for some microseconds, and a lock takes as many
	if err := unix.Linkat(unix.AT_FDCWD, self, dir, s.temp, unix.AT_SYMLINK_FOLLOW); err != nil {
		s.temp = ""
		return false, wrapLink(err)
	}
	return false, nil
}

func wrapLink(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("link: %w", err)
}

// touch gives a file that is in its place a new time.
func touch(dir int, name string) error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	if err := unix.UtimesNanoAt(dir, name, now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time: %w", err)
	}
	return nil
}

// exchange puts a directory into its place, and removes what was there.
func (d *deliverer) exchange(dir int, name string, s *step) error {
	err := unix.Renameat2(dir, s.temp, dir, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		if err = unix.Renameat2(dir, s.temp, dir, name, unix.RENAME_EXCHANGE); err == nil {
			if err := removeAt(dir, s.temp); err != nil {
				s.temp = ""
				return fmt.Errorf("remove what it replaced: %w", err)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	s.temp = ""
	return nil
}

// undo removes what was not moved to its place.
func (d *deliverer) undo(pending []step) {
	for i := range pending {
		s := &pending[i]
		if s.fd >= 0 {
			unix.Close(s.fd)
		}
		if s.temp == "" {
			continue
		}
		if dir, err := d.directory(path.Dir(s.path)); err == nil {
			_ = removeAt(dir, s.temp) // the error that we undo for is the one to report
		}
	}
	for _, p := range slices.Backward(d.made) {
		if dir, err := d.directory(path.Dir(p)); err == nil {
			_ = unix.Unlinkat(dir, path.Base(p), unix.AT_REMOVEDIR) // fails where outputs have appeared
		}
	}
}
