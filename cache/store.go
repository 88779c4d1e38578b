package cache

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// ErrReadOnly is wrapped by the error of every change to a store that was
// opened with Options.ReadOnly or lies on a read-only file system.
var ErrReadOnly = errors.New("the cache is read-only")

// ErrUnwritable is wrapped by the error of every change that the directory of
// the store does not allow: because it is read-only, full, or somebody else's.
var ErrUnwritable = errors.New("the cache cannot be written")

// ErrContent is wrapped by the error of a Put whose content is not that of the
// digest that it was given.
var ErrContent = errors.New("the content is another")

// An unwritable is an error that is an ErrUnwritable, too, and does not say so.
type unwritable struct{ error }

func (u unwritable) Is(target error) bool { return target == ErrUnwritable }
func (u unwritable) Unwrap() error        { return u.error }

// ErrVersion is wrapped by the error of [Open] for a directory that holds
// another version of the format, or something else.
var ErrVersion = errors.New("not a cache of this version")

// Options of a [Store]. The zero value is a store that is read and written.
type Options struct {
	// ReadOnly forbids every change, marks of use included.
	ReadOnly bool

	// TouchAfter is how far off the time of the last use may be. A small one
	// lets Trim remove what was used a short while ago, and costs a system call
	// at each use. All users of a directory must have the same. Zero: ten
	// minutes.
	TouchAfter time.Duration

	// Lean says that an action of this store needs nothing in it but what it writes
	// itself: what it does not find any more is a miss. So while it is in flight,
	// [Store.Fit] has to spare only what was used since it began.
	Lean bool

	// Warn, where not nil, is told of what went wrong and was got over, such
	// as a damaged blob that is written again. Any goroutine may call it.
	Warn func(error)

	// Boot names this boot of the machine; "": as the kernel does. Another name
	// is for tests of what a power cut leaves.
	Boot string
}

// A Store is a directory of blobs, results, notes and layers. It implements
// [action.Cache], [action.Blobs], [action.Notes] and [action.Layers]. Its
// methods may be called by any number of goroutines.
type Store struct {
	dir  string // absolute
	opts Options

	// Set before use, by tests only.
	disk   durable.Disk
	now    func() time.Time
	dice   func(n int64) int64 // a number below n: see Outgrows
	bootID func() string

	stamped  atomic.Int64 // this boot's stamp once it is known
	verified sync.Map     // Digest -> nil: found good, and could not be stamped
	damaged  atomic.Bool  // a blob was: see Doubt
	vague    atomic.Bool  // times of files say nothing here: see changed
	full     atomic.Bool  // the disk was, since Outgrows was last asked
	packed   Packed       // nil: every blob has a file
	packedMu sync.Mutex   // held while a record leaves the pack
	synced   syncedFile
	noTemp   atomic.Bool  // the file system wants names for drafts
	writers  atomic.Int32 // that are writing, this instant
	tmp      tempDir
	flight   flight
	logbook  logbook
	spares   spares
	trees    treeMemo
}

var (
	_ action.Cache  = (*Store)(nil)
	_ action.Blobs  = (*Store)(nil)
	_ action.Notes  = (*Store)(nil)
	_ action.Layers = (*Store)(nil)
)

// drafts numbers the drafts of this process: two stores in one process may well
// be of one directory.
var drafts atomic.Uint64

const (
	versionName = "VERSION"
	tagName     = "CACHEDIR.TAG"
	versionWord = "sbx-action cache "
	version     = versionWord + "1\n"
)

// Open opens the store in the directory dir. It makes nothing yet: the first
// Put does. It costs three system calls.
func Open(dir string, opts Options) (*Store, error) {
	if dir == "" {
		return nil, errors.New("open cache: no directory given")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", dir, err)
	}
	s := &Store{dir: abs, opts: opts, now: time.Now, dice: throw, bootID: durable.BootID}
	if opts.Boot != "" {
		s.bootID = func() string { return opts.Boot }
	}
	if err := s.checkVersion(); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return s, nil
}

// Close gives back what the store holds outside its directory, and removes its
// drafts. It does not wait for a disk.
func (s *Store) Close() error {
	s.spares.close()
	return errors.Join(s.logbook.flush(s), s.flight.close(), s.tmp.close(s))
}

// Dir is the directory of the store.
func (s *Store) Dir() string { return s.dir }

// ReadOnly says whether the store was opened with Options.ReadOnly.
func (s *Store) ReadOnly() bool { return s.opts.ReadOnly }

// checkVersion returns an error if the directory is not a store that we know.
// One that does not exist, or is empty, is a store that holds nothing.
func (s *Store) checkVersion() error {
	path := filepath.Join(s.dir, versionName)
	got, err := readVersion(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s.checkEmpty()
	}
	if err != nil {
		return s.explain(err)
	}
	if got == version {
		return nil
	}
	if v, ok := strings.CutPrefix(got, versionWord); ok && !strings.HasPrefix(version, got) {
		return fmt.Errorf("%w: %s has format %s, this program knows %s: use the program that made it, or choose another directory, or remove this one",
			ErrVersion, s.dir, strconv.Quote(strings.TrimSuffix(v, "\n")), strconv.Quote(version[len(versionWord):len(version)-1]))
	}
	if s.tagged() {
		return s.healVersion(path)
	}
	return fmt.Errorf("%w: %s begins with %q, want %q: choose another directory, or remove this one",
		ErrVersion, path, got, version)
}

// readVersion returns what VERSION says; nothing where it is a directory or a link.
func readVersion(path string) (string, error) {
	fd, err := durable.OpenRead(path)
	if errors.Is(err, syscall.ELOOP) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer durable.Close(fd)
	// No more than what we hope for, so that one read does.
	var buf [len(version)]byte
	n, err := durable.Read(fd, buf[:])
	if err != nil && !errors.Is(err, syscall.EISDIR) {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(buf[:n]), nil
}

// tagged says whether the file that stands beside VERSION says that this is a store.
func (s *Store) tagged() bool {
	tag, err := os.ReadFile(filepath.Join(s.dir, tagName))
	return err == nil && string(tag) == cacheDirTag
}

// healVersion writes the version again, in a directory that is a store by its other file.
// What is in it says for itself whether it can be read.
func (s *Store) healVersion(path string) error {
	s.warn(fmt.Errorf("%s is damaged, and written again", path))
	if s.opts.ReadOnly {
		return nil
	}
	return s.explain(s.writeVersion(path))
}

func (s *Store) writeVersion(path string) error {
	return s.replace(path, topDraft(path), []byte(version), 0o444)
}

// checkEmpty guards what is not ours: a directory without VERSION is only
// taken when it is empty.
func (s *Store) checkEmpty() error {
	names, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return s.explain(err)
	}
	for _, e := range names {
		switch name := e.Name(); {
		case name == "stat", strings.HasPrefix(name, "stat-"): // stat caches of the inputs, which are made before anything is stored
		case name == "lost+found", name == tagName, strings.HasPrefix(name, versionName):
		default:
			// Another process may be making the store this instant.
			if _, err := durable.Stat(filepath.Join(s.dir, versionName)); err == nil {
				return s.checkVersion()
			}
			if s.tagged() { // another process may be healing it
				return s.healVersion(filepath.Join(s.dir, versionName))
			}
			return fmt.Errorf("%w: %s holds %q and no %s file: choose an empty directory",
				ErrVersion, s.dir, name, versionName)
		}
	}
	return nil
}

const cacheDirTag = "Signature: 8a477f597d28d172789f06886806bc55\n" +
	"# This directory is a cache of sbx-action. It can be removed at any time.\n"

// prepare makes the directory dir, below the store's, and the store itself
// where it is missing. It is called when a change met a missing directory, so
// that neither Open nor a second Put pays for it, and so that a store that was
// removed while we run comes back.
func (s *Store) prepare(dir string) error {
	if s.opts.ReadOnly {
		return unwritable{ErrReadOnly}
	}
	path := filepath.Join(s.dir, versionName)
	if _, err := durable.Stat(path); err == nil {
		return s.mkdirs(dir)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) { // below /proc, or a link to nowhere
			return fmt.Errorf("the cache %s cannot be made: choose another with --cache or SBX_CACHE: %v", s.dir, err)
		}
		return s.explain(err)
	}
	if _, err := durable.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := s.checkEmpty(); err != nil {
			return err
		}
		// Several processes may do this at once: all write the same.
		if err := s.writeVersion(path); err != nil {
			return s.explain(err)
		}
		tag := filepath.Join(s.dir, tagName)
		if err := os.WriteFile(tag, []byte(cacheDirTag), 0o644); err != nil {
			return s.explain(err)
		}
		s.share(tag, 0o644)
		if err := s.prepareEmpty(); err != nil {
			return err
		}
	}
	return s.mkdirs(dir)
}

// mkdirs makes dir and its missing parents below the store's directory.
func (s *Store) mkdirs(dir string) error {
	err := s.disk.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) && len(dir) > len(s.dir) {
		if err := s.mkdirs(filepath.Dir(dir)); err != nil {
			return err
		}
		err = s.disk.Mkdir(dir, 0o755)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return s.explain(err)
	}
	if err == nil {
		s.share(dir, 0o775)
	}
	return nil
}

// share gives a file or directory, which was just made, the permissions perm if the
// store is one of a group: its directory can be written by its group, and hands that on.
// Where it fails, others of the group cannot add there.
func (s *Store) share(path string, perm fs.FileMode) {
	const ofGroup = fs.ModeSetgid | 0o020
	info, err := os.Stat(s.dir)
	if err != nil || info.Mode()&(ofGroup|fs.ModeSticky) != ofGroup {
		return
	}
	if perm&0o111 != 0 {
		perm |= fs.ModeSetgid
	}
	// What is there now may be somebody else's link.
	if f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0); err == nil {
		_ = f.Chmod(perm)
		f.Close()
	}
}

// replace is WriteSynced for a file that all who use the store are to read.
func (s *Store) replace(path, draft string, data []byte, perm fs.FileMode) error {
	err := s.disk.WriteSynced(path, draft, data, perm)
	if errors.Is(err, syscall.EISDIR) && s.bury(path) == nil {
		err = s.disk.WriteSynced(path, draft, data, perm)
	}
	if err == nil {
		s.share(path, perm)
	}
	return err
}

// inDir makes a change in dir, and makes dir where it is missing, or no directory.
func (s *Store) inDir(dir string, change func() error) error {
	err := change()
	for range 3 { // somebody may be removing it all
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := s.prepare(dir); err != nil {
				return err
			}
		case !errors.Is(err, syscall.ENOTDIR) || !s.clearWay(dir):
			return err
		}
		err = change()
	}
	return err
}

// explain says what to do about an error of the file system.
func (s *Store) explain(err error) error {
	var told unwritable
	switch {
	case err == nil || errors.As(err, &told):
		return err
	case durable.IsFull(err):
		s.full.Store(true)
		return unwritable{fmt.Errorf("no space for the cache in %s: free some, or run 'sbx-action cache trim': %w", s.dir, err)}
	case durable.IsReadOnly(err):
		return unwritable{fmt.Errorf("%w: %w", ErrReadOnly, err)}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%s cannot be a cache: something in its place is not a directory or file of ours: %w", s.dir, err)
	case errors.Is(err, fs.ErrPermission):
		if st, serr := durable.Stat(s.dir); serr == nil && int(st.UID) != os.Geteuid() {
			return unwritable{fmt.Errorf("the cache in %s belongs to user %d and you are user %d: choose another with --cache or SBX_CACHE, or change its owner: %w",
				s.dir, st.UID, os.Geteuid(), err)}
		}
		return unwritable{fmt.Errorf("no permission for the cache in %s: choose another with --cache or SBX_CACHE, or give yourself the right: %w", s.dir, err)}
	}
	return err
}

func (s *Store) warn(err error) {
	if err != nil && s.opts.Warn != nil {
		s.opts.Warn(err)
	}
}

// writable returns the error of a change that the options forbid.
func (s *Store) writable(what string) error {
	if s.opts.ReadOnly {
		return unwritable{fmt.Errorf("%s: %w", what, ErrReadOnly)}
	}
	return nil
}

// stamp is the nanoseconds that the files of this boot bear; 0 where boots
// cannot be told apart, which makes every file suspect.
func (s *Store) stamp() int64 {
	if n := s.stamped.Load(); n > 0 {
		return n
	}
	id := s.bootID()
	if id == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(id))
	n := 1 + int64(binary.BigEndian.Uint64(sum[:])%999_999_999)
	s.stamped.Store(n)
	return n
}

// stampTime is the modification time of a file that is written now.
func (s *Store) stampTime() time.Time { return time.Unix(s.now().Unix(), s.stamp()) }

// A missError is a miss and its reason.
type missError struct {
	kind   string
	d      action.Digest
	name   string // where d is zero
	reason string
}

func (e *missError) Error() string {
	name := e.name
	if name == "" {
		name = e.d.String()
	}
	return e.kind + " " + name + ": " + e.reason
}

func (e *missError) Unwrap() error { return action.ErrMiss }

// Damaged says that there was something, and that it was damaged or lacked a
// blob: whoever wants to know looks for this method with [errors.As].
func (e *missError) Damaged() bool {
	return strings.HasPrefix(e.reason, "damaged") || strings.HasPrefix(e.reason, "incomplete")
}

func miss(d action.Digest, kind, reason string) error {
	return &missError{kind: kind, d: d, reason: reason}
}

func missLayer(name, reason string) error {
	return &missError{kind: "layer", name: name, reason: reason}
}

// shard returns the path of the file that holds d among the files of a kind.
func (s *Store) shard(kind string, d action.Digest) string {
	return string(s.appendShard(make([]byte, 0, 256), kind, d))
}

func (s *Store) appendShard(b []byte, kind string, d action.Digest) []byte {
	b = append(b, s.dir...)
	b = append(b, '/')
	b = append(b, kind...)
	return appendBlobPath(b, d)
}

// shardDir returns the directory of the path that shard returned.
func shardDir(path string) string { return path[:len(path)-len("/")-2*sha256.Size] }

// BlobPath is the path of a blob below its store's [Store.BlobDir], with a
// slash in front.
func BlobPath(d action.Digest) string { return string(appendBlobPath(nil, d)) }

func appendBlobPath(b []byte, d action.Digest) []byte {
	sum := d.Bytes()
	b = append(b, '/')
	b = append(b, d.Function().String()...)
	b = append(b, '/')
	b = hex.AppendEncode(b, sum[:1])
	b = append(b, '/')
	return hex.AppendEncode(b, sum[:])
}

// touchAfter is how far off the time of the last use may be, unless the options
// say otherwise.
const touchAfter = 10 * time.Minute

func (s *Store) touchAfter() time.Duration { return cmp.Or(s.opts.TouchAfter, touchAfter) }

// touch marks the file path, which fi describes, as used now. It returns an
// error only if the file is gone.
func (s *Store) touch(path string, fi *durable.FileInfo) error {
	if s.opts.ReadOnly {
		return nil
	}
	now := s.now()
	if age, after := now.Sub(fi.ATime), s.touchAfter(); -after < age && age < after {
		return nil
	}
	if err := s.disk.Touch(path, now); errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // another's file: whoever trims it must live with our uses
}
