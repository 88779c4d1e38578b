package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// # The stat cache of single files
//
// Files that are declared one by one, and those of the host that an action
// read, have one table for all workspaces: a file of a fixed size, mostly holes,
// that is read and written in place, one slot at a time.
//
// The table has 4096 buckets of 4 KiB, and a bucket has 32 slots of 128 bytes.
// Device and inode choose the bucket. A slot is, in little-endian numbers,
//
//	 0 u64 checksum of the rest, of the digest function and of the version; and of
//	       the boot, where the ctime is in whole seconds
//	 8 u64 device, 16 u64 inode, 24 i64 size, 32 i64 mtime, 40 i64 ctime
//	48 u8 what the owner of the table said of the content, or 0; 49 zeros
//	56 hash (32 bytes); 88 zeros
//
// (Large files have others, too: see statcache_large.go.) A slot with a wrong checksum
// is free: so a torn write, damage, or another version's slot costs one file's hashing
// and nothing else, and any number of processes need no lock. A full bucket forgets one
// of its slots.
const (
	tableName    = "files1-"
	tableBuckets = 4096
	bucketSize   = 4096
	slotSize     = 128
	// tableMin is the size from which a look into the table is cheaper than
	// reading the file.
	tableMin = 8 << 10
)

// errChanging is wrapped by the error about a file that is never the same at
// the end of reading it as at the start.
var errChanging = errors.New("it keeps changing while it is read")

// A FileDigest is the content of a file, and how to know it again.
type FileDigest struct {
	Digest action.Digest
	ID     StatID
	// Stable says that as long as the file's StatID equals ID, its content has
	// this digest. It is false for a file that was changed just now, that
	// someone has open for writing, or whose file system's times prove nothing.
	Stable bool
	// Mark is what [FileHasher.Mark] has noted of the content, or 0.
	Mark byte
	// Named says that Digest is not that of the content, but a name that stands for
	// it: see [HostWitness]'s Large.
	Named bool
	given Moment // of a name: when, and 0 if it is known what it stands for
}

// A FileHasher gives the digests of files, and reads only those that changed
// since the last time, in whichever process that was. Any number of goroutines
// may use it.
type FileHasher struct {
	fn    action.Function
	dir   string
	trust clockTrust
	pool  sync.Pool // of *scanReader

	open  sync.Once
	table *os.File // nil: none
	seed  uint64

	unnamed sync.Map // the paths of large files that get no name: see large

	keep  *Recalled      // nil: nobody keeps what was in the table
	known *recalledTable // what was in this one, or nil
}

// NewFileHasher returns a FileHasher for digests by f, which remembers them in
// the directory dir; or in none, if dir is "". Nothing is read before the first
// file, and whatever is wrong with dir costs time only.
func NewFileHasher(dir string, f action.Function) *FileHasher {
	return &FileHasher{fn: f, dir: dir, seed: uint64(f)<<8 | 1}
}

// Keep has the hasher look into r before it looks into its table, and keep there what
// it finds in that. It is to be called before the first file.
func (h *FileHasher) Keep(r *Recalled) { h.keep = r }

// Close frees what the hasher holds. No other method may be running; it may be
// used again.
func (h *FileHasher) Close() error {
	t := h.table
	h.table, h.known, h.open = nil, nil, sync.Once{}
	if t == nil {
		return nil
	}
	return t.Close()
}

// DigestAs is Digest of a file that is no link, and that was just seen to be id, not
// before the moment at. If it has to be read, and is small, see is called with the content,
// which is that of the digest, and says what [FileHasher.Mark] is to note of it; it may be
// nil.
func (h *FileHasher) DigestAs(path string, id *StatID, at Moment, see func(content []byte) (mark byte)) (FileDigest, error) {
	if id.Mode&modeType != modeRegular || id.Size >= onceMin {
		return h.Digest(path)
	}
	if d, ok := h.recall(id, at); ok && readable(path, id) {
		return d, nil
	}
	fd, err := openFile(unix.AT_FDCWD, path, 0)
	if err != nil {
		return FileDigest{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return h.hashed(fd, path, see)
}

// Digest returns the digest of the regular file at path, symbolic links
// followed.
func (h *FileHasher) Digest(path string) (FileDigest, error) {
	at := Now()
	id, err := StatPath(path, FollowLinks)
	if err != nil {
		return FileDigest{}, err
	}
	if id.Mode&modeType != modeRegular {
		return FileDigest{}, fmt.Errorf("hash %s: %s, not a file", path, typeName(id.Mode))
	}
	if d, ok := h.recall(&id, at); ok && readable(path, &id) {
		return d, nil
	}
	fd, err := openFile(unix.AT_FDCWD, path, 0)
	if err != nil {
		return FileDigest{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return h.digestFD(fd, path)
}

// DigestFile returns the digest of what f, a regular file that was opened for
// reading only, holds from its start to its end. It does not move f's offset.
func (h *FileHasher) DigestFile(f *os.File) (FileDigest, error) {
	at := Now()
	id, err := StatFD(int(f.Fd()))
	if err != nil {
		return FileDigest{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if d, ok := h.recall(&id, at); ok {
		return d, nil
	}
	return h.digestFD(int(f.Fd()), f.Name())
}

func (h *FileHasher) digestFD(fd int, name string) (FileDigest, error) {
	d, found, done := h.once(fd)
	if found {
		return d, nil
	}
	defer done()
	return h.hashed(fd, name, nil)
}

// hashed reads the file, and remembers what it is.
func (h *FileHasher) hashed(fd int, name string, see func([]byte) byte) (FileDigest, error) {
	d, err := h.hash(fd, true, see)
	if err != nil {
		return FileDigest{}, &fs.PathError{Op: "hash", Path: name, Err: err}
	}
	h.remember(&d)
	return d, nil
}

// Links says whether a look-up follows a symbolic link in the last place.
type Links bool

// The two kinds of look-up.
const (
	FollowLinks Links = true
	KeepLinks   Links = false
)

// Stable says whether an equal StatID of path will prove that nothing of it
// has changed: the names in a directory, the target of a link. before must have
// been read from [Now] before id was taken. For the content of a regular file
// it does not exclude that somebody is writing to it: that is what
// [FileDigest] says.
func (h *FileHasher) Stable(path string, id StatID, before Moment) bool {
	margin := int64(trustMargin)
	if id.Mode&modeType == modeRegular {
		margin = trustMarginUnleased
	}
	trust, known := h.trust.known(id.Dev)
	if !known {
		fd, err := openForStatfs(path)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		trust = h.trust.device(id.Dev, fd)
	}
	return trust.believes(id.CTime) && settled(id.CTime, before, margin)
}

// at returns the digest of the file name in the directory dirfd, which has
// just been found to be id.
func (h *FileHasher) at(dirfd int, name string, id *StatID, now Moment) (FileDigest, error) {
	tabled := id.Size >= tableMin && h.dir != ""
	if tabled {
		if d, ok := h.recall(id, now); ok {
			return d, nil
		}
	}
	d, err := h.read(dirfd, name, tabled)
	if err == nil && tabled {
		h.remember(&d)
	}
	return d, err
}

// read reads the file. With prove it also finds out whether it is stable.
func (h *FileHasher) read(dirfd int, name string, prove bool) (FileDigest, error) {
	fd, err := openFile(dirfd, name, unix.O_NOFOLLOW)
	if err != nil {
		return FileDigest{}, err
	}
	defer unix.Close(fd)
	return h.hash(fd, prove, nil)
}

// hash reads fd to its end, again if it changes meanwhile. See is that of DigestAs.
func (h *FileHasher) hash(fd int, prove bool, see func([]byte) byte) (FileDigest, error) {
	c, _ := h.pool.Get().(*scanReader)
	if c == nil {
		c = &scanReader{fn: h.fn}
	}
	defer h.pool.Put(c)
	for range 3 {
		at, margin := Now(), int64(trustMargin)
		// The lease comes before the stat: then a writer that comes later
		// changes what the next stat says.
		writer := prove && hasWriter(fd, &margin)
		before, err := StatFD(fd)
		if err != nil {
			return FileDigest{}, err
		}
		if before.Mode&modeType != modeRegular {
			return FileDigest{}, errReplaced
		}
		d, err := c.digest(fd, before.Size)
		if err != nil {
			return FileDigest{}, err
		}
		after, err := StatFD(fd)
		if err != nil {
			return FileDigest{}, err
		}
		if after == before && d.Size() == after.Size {
			stable := prove && h.trust.device(after.Dev, fd).believes(after.CTime) && !writer && settled(after.CTime, at, margin)
			f := FileDigest{Digest: d, ID: after, Stable: stable}
			if see != nil && c.whole != nil {
				f.Mark = see(c.whole)
			}
			return f, nil
		}
	}
	return FileDigest{}, errChanging
}

// openTable opens the table once.
func (h *FileHasher) openTable() *os.File {
	h.open.Do(func() {
		if h.dir == "" {
			return
		}
		name := filepath.Join(h.dir, tableName+h.fn.String())
		f, err := durable.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(h.dir, 0o700) == nil {
			f, err = durable.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		}
		if err != nil {
			f, err = os.Open(name) // a read-only store
		}
		if err == nil && !mine(f) {
			err = errors.Join(fs.ErrPermission, f.Close())
		}
		if err == nil {
			h.table = f
			h.known = h.keep.of(f, h)
		}
	})
	return h.table
}

// mine says whether a file is the caller's: in a store of several users, somebody else
// may have made the directory.
func mine(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && int(st.Uid) == os.Geteuid()
}

type fileSlot [slotSize]byte

func (s *fileSlot) checksum(seed uint64) uint64 { return statChecksum(seed, s[8:]) }

// is compares everything but the mode, which cannot change without the change
// time.
func (s *fileSlot) is(id *StatID) bool {
	return le.Uint64(s[8:]) == id.Dev && le.Uint64(s[16:]) == id.Ino && int64(le.Uint64(s[24:])) == id.Size &&
		int64(le.Uint64(s[32:])) == id.MTime && int64(le.Uint64(s[40:])) == id.CTime
}

func (s *fileSlot) fill(d *FileDigest, seed uint64) {
	le.PutUint64(s[8:], d.ID.Dev)
	le.PutUint64(s[16:], d.ID.Ino)
	le.PutUint64(s[24:], uint64(d.ID.Size))
	le.PutUint64(s[32:], uint64(d.ID.MTime))
	le.PutUint64(s[40:], uint64(d.ID.CTime))
	s[48] = d.Mark
	sum := d.Digest.Bytes()
	copy(s[56:], sum[:])
	le.PutUint64(s[88:], uint64(d.given))
	le.PutUint64(s[:], s.checksum(seed))
}

// bucket is where the slots of a file are.
func bucket(id *StatID) int64 {
	x := (id.Ino ^ id.Dev<<32) * 0x9e3779b97f4a7c15
	return int64(x>>52) % tableBuckets * bucketSize
}

// recall looks for the file that is id now.
func (h *FileHasher) recall(id *StatID, now Moment) (FileDigest, bool) {
	t := h.openTable()
	if t == nil || id.CTime >= int64(now) {
		return FileDigest{}, false
	}
	if d, ok := h.known.get(id); ok {
		return d, true
	}
	var first [4 * slotSize]byte // most buckets have a slot or two, and at the start
	if n, err := unix.Pread(int(t.Fd()), first[:], bucket(id)); err != nil || n != len(first) {
		return FileDigest{}, false
	}
	if d, ok := h.among(first[:], id); ok {
		return d, true
	}
	return h.recallRest(t, id, len(first))
}

// recallRest looks for the file that is id in its bucket, from there on.
func (h *FileHasher) recallRest(t *os.File, id *StatID, from int) (FileDigest, bool) {
	var room [bucketSize]byte
	b := room[from:]
	if n, err := unix.Pread(int(t.Fd()), b, bucket(id)+int64(from)); err != nil || n != len(b) {
		return FileDigest{}, false
	}
	return h.among(b, id)
}

// among looks for the file that is id among slots.
func (h *FileHasher) among(slots []byte, id *StatID) (FileDigest, bool) {
	for ; len(slots) > 0; slots = slots[slotSize:] {
		s := (*fileSlot)(slots)
		if le.Uint64(s[16:]) != id.Ino || !s.is(id) || le.Uint64(s[:]) != s.checksum(h.seedOf(id.CTime)) {
			continue
		}
		d := FileDigest{Digest: recordedDigest(h.fn, s[56:88], id.Size), ID: *id, Stable: true, Mark: s[48]}
		h.known.put(&d)
		return d, true
	}
	return FileDigest{}, false
}

// seedOf is the seed of the checksum of a slot for a file with that change time.
func (h *FileHasher) seedOf(ctime int64) uint64 {
	if !inSeconds(ctime) {
		return h.seed
	}
	return statChecksum(h.seed, []byte(durable.BootID()))
}

// Mark notes something of the content of a file, which d tells later, as long as the
// file is as it is. Of a file that is not stable nothing is noted.
func (h *FileHasher) Mark(d FileDigest, mark byte) {
	d.Mark = mark
	if d.Named {
		h.rememberName(&d)
		return
	}
	h.remember(&d)
}

// Marked is what was noted of the content of a file that was seen to be id, not before the
// moment at: see Mark. It reads no file.
func (h *FileHasher) Marked(id *StatID, at Moment) byte {
	d, _ := h.recall(id, at)
	return d.Mark
}

// remember keeps a stable digest.
func (h *FileHasher) remember(d *FileDigest) {
	if h.openTable() == nil || !d.Stable {
		return
	}
	h.known.put(d)
	h.put(d, h.seedOf(d.ID.CTime))
}

// put writes a slot with a checksum from seed: in the place of the one that the file
// had, a free one, or any. The table is open, if there is one.
func (h *FileHasher) put(d *FileDigest, seed uint64) {
	t := h.table
	var b [bucketSize]byte
	n, _ := unix.Pread(int(t.Fd()), b[:], bucket(&d.ID)) // a short one reads as free slots
	slot := int(uint64(d.ID.CTime)/4) % (bucketSize / slotSize) * slotSize
	for at := bucketSize - slotSize; at >= 0; at -= slotSize {
		s := (*fileSlot)(b[at:])
		if le.Uint64(s[16:]) == d.ID.Ino && le.Uint64(s[8:]) == d.ID.Dev {
			slot = at
			break
		}
		if !h.taken(s) {
			slot = at
		}
	}
	var s fileSlot
	s.fill(d, seed)
	if n < bucketSize && bucket(&d.ID)+bucketSize > h.tableSize() {
		_ = t.Truncate(tableBuckets * bucketSize)
	}
	_, _ = unix.Pwrite(int(t.Fd()), s[:], bucket(&d.ID)+int64(slot)) // lost: hashed again
}

// taken says whether something is in a slot.
func (h *FileHasher) taken(s *fileSlot) bool {
	have := le.Uint64(s[:])
	if have == 0 {
		return false
	}
	seed := h.seedOf(int64(le.Uint64(s[40:])))
	return have == s.checksum(seed) || have == s.checksum(seed^largeSeed)
}

func (h *FileHasher) tableSize() int64 {
	st, err := StatFD(int(h.table.Fd()))
	if err != nil {
		return 0
	}
	return st.Size
}
