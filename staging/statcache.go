package staging

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/sbx-action/sbx-action/action"
)

// # What the stat caches trust
//
// A file whose [StatID] equals a recorded one is not read again. That is sound
// only if every change of the content changes the StatID, so a StatID is
// recorded only where this holds:
//
//   - The change time decides. Nobody can set it, so restored modification
//     times, edits that keep the size, edits through another hard link and
//     files that were renamed over others are all seen; device and inode tell
//     files apart. The modification time is compared, but proves nothing.
//   - The clock that stamps files ticks in steps of some milliseconds, and a
//     second edit within a tick leaves the change time as it was. So a StatID
//     counts only if its change time is older, by a margin, than the clock was
//     before the file was looked at. That clock is CLOCK_REALTIME_COARSE, the
//     one that the kernel stamps files with. Whatever happens to the file
//     later has a later change time.
//   - That is true of file systems of this machine that keep times in
//     nanoseconds: ext4, xfs, btrfs, tmpfs, ramfs, f2fs, zfs, bcachefs, and
//     overlayfs on them. Files of all others (network, FUSE, images) are read
//     each time. A change time without a fraction of a second may be from a
//     file system that keeps whole seconds (ext4 with small inodes): it must be
//     more than two seconds old. Or whoever made a disk image has made it up, and
//     the next image at the same place has the same time and the same inode for
//     another content. So it counts only on the disk that "/" is on, which stays as
//     long as the system runs, and until the next boot; not on a loop device or an
//     overlay, whose device numbers others get later.
//   - A file that is mapped for writing changes without a new time until the
//     kernel has written the page back, and one long write stamps the file
//     before it copies the data. Both have the file open for writing. So before
//     a file is read we ask for a read lease, which the kernel grants only if
//     nobody has; its content is recorded only then. Where leases cannot be had
//     (the file belongs to another user) the margin is two seconds.
//   - If the clock goes back, files may be stamped with times that were there
//     before. A change time that lies in the future is not believed. What
//     remains is a change at the very nanosecond, by a clock that was set back,
//     at which the file had been changed before.
//   - Another file system at the same place has another device number, or other
//     inodes and change times. A bind mount is seen because every file and
//     directory is looked up by its name each time.
//
// Directories are listed again under the same rule; the kernel changes a
// directory's times under the lock that guards its entries, so no lease is
// needed. Symbolic links cannot change in place, and so need no look at all
// where their directory is unchanged.
//
// Not seen are changes behind the file system's back: to the block device, or
// with debugfs.

const (
	// trustMargin is how much older than the look a change time must be. The
	// clock's step is 10 ms at most.
	trustMargin = 100 * 1e6
	// trustMarginUnleased is the margin where writers cannot be excluded.
	trustMarginUnleased = 2 * 1e9
	// trustMarginWhole is the margin for a time without a fraction of a second:
	// the file system may keep whole seconds only.
	trustMarginWhole = 2.1 * 1e9
)

// A StatID is what a file system says of a file, without reading it. Compare
// with ==. Equal StatIDs mean equal contents only where [FileHasher.Stable] or
// a [FileDigest] said so when the first one was taken.
type StatID struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64 // nanoseconds since 1970
	Mode         uint32
}

// A Moment is a reading of the clock that files are stamped with, in
// nanoseconds since 1970.
type Moment int64

// clockTrust remembers which devices have file systems whose times we trust.
type clockTrust struct {
	mu   sync.Mutex
	devs map[uint64]deviceTrust
}

// A deviceTrust says what the times of a file system prove.
type deviceTrust byte

const (
	noTrust   deviceTrust = iota // nothing
	exactOnly                    // that nothing has changed, but for those in whole seconds
	fullTrust                    // that nothing has changed
)

// known is what device has found out of dev before.
func (t *clockTrust) known(dev uint64) (trust deviceTrust, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trust, known = t.devs[dev]
	return trust, known
}

// device says what the times of the file system of dev prove, on which the file fd is.
func (t *clockTrust) device(dev uint64, fd int) deviceTrust {
	t.mu.Lock()
	defer t.mu.Unlock()
	trust, known := t.devs[dev]
	if !known {
		if t.devs == nil {
			t.devs = map[uint64]deviceTrust{}
		}
		switch {
		case !trustedFileSystem(fd):
		case lasts(dev):
			trust = fullTrust
		default:
			trust = exactOnly
		}
		t.devs[dev] = trust
	}
	return trust
}

// latest is when the change may have been after which a file of the device dev has this
// change time. Of a file system that is not one of this machine neither the clock nor
// its steps are known; FAT's are two seconds.
func (t *clockTrust) latest(dev uint64, ctime int64) int64 {
	if trust, known := t.known(dev); known && trust == noTrust || inSeconds(ctime) {
		return ctime + trustMarginWhole
	}
	return ctime
}

// believes says whether a change time of the file system is worth recording.
func (d deviceTrust) believes(ctime int64) bool {
	return d == fullTrust || d == exactOnly && !inSeconds(ctime)
}

// inSeconds says whether a time has no fraction of a second.
func inSeconds(time int64) bool { return time%1e9 == 0 }

// settled says whether a change after the moment at would get a later change
// time than ctime, with margin to spare.
func settled(ctime int64, at Moment, margin int64) bool {
	if inSeconds(ctime) {
		margin = max(margin, trustMarginWhole)
	}
	return ctime < int64(at)-margin
}

// # Records of directories
//
// A dirRecord is what is known of one directory: little-endian numbers at
// fixed places, so that it is compared without being decoded.
//
//	 0 u32 length of the record, a multiple of 8
//	 4 u64 checksum of everything from 12 on
//	12 u32 number of entries
//	16 u32 length of the path
//	20 u32 flags: recListed, recDigest
//	24 u64 device, 32 u64 inode, 40 i64 mtime, 48 i64 ctime of the directory
//	56 i64 size, 64 hash (32 bytes) of its Directory message, for recDigest:
//	       of all its entries, with the digests that they have here
//	96     the path, from the declared directory on; zeros up to a multiple of 8
//	       the entries, 80 bytes each, by name
//	       the names, each with a NUL; a link's target follows, with a NUL
//
// and an entry
//
//	 0 u64 device, 8 u64 inode, 16 i64 size, 24 i64 mtime, 32 i64 ctime
//	40 hash (32 bytes) of the content; of a directory, the hash of its message,
//	   whose size is at 16; of a link, nothing, and at 16 its target's length
//	72 u32 where the name begins in the names, 76 u16 its length
//	78 u8 kind, 79 u8 flags: entStable, entBad
type dirRecord []byte

const (
	recHead  = 96
	recEntry = 80

	recListed = 1 // an equal stat of the directory means equal names
	recDigest = 2

	kindFile  = 1
	kindExec  = 2
	kindDir   = 3
	kindLink  = 4
	kindOther = 5 // 16 holds its type, in the bits of st_mode

	entStable = 1 // an equal stat means equal content
	entBad    = 2 // the name or target is not UTF-8
	entFresh  = 4 // only in memory: the stat was made in this scan
	entPlaced = 8 // only in memory: a tree of the store
)

var le = binary.LittleEndian

func (r dirRecord) count() int      { return int(le.Uint32(r[12:])) }
func (r dirRecord) path() []byte    { return r[recHead : recHead+int(le.Uint32(r[16:]))] }
func (r dirRecord) has(f byte) bool { return r[20]&f != 0 }
func (r dirRecord) entries() int    { return recHead + align8(int(le.Uint32(r[16:]))) }
func (r dirRecord) names() dirRecord {
	return r[r.entries()+r.count()*recEntry:]
}

func (r dirRecord) set(f byte, on bool) {
	r[20] &^= f
	if on {
		r[20] |= f
	}
}

// entry returns entry i. Its methods need the names for the name and target.
func (r dirRecord) entry(i int) recEnt {
	at := r.entries() + i*recEntry
	return recEnt(r[at : at+recEntry : at+recEntry])
}

func align8(n int) int { return (n + 7) &^ 7 }

// sameDir says whether the names are those of the directory that st describes.
func (r dirRecord) sameDir(id *StatID) bool {
	return r.has(recListed) && le.Uint64(r[24:]) == id.Dev && le.Uint64(r[32:]) == id.Ino &&
		int64(le.Uint64(r[40:])) == id.MTime && int64(le.Uint64(r[48:])) == id.CTime
}

func (r dirRecord) setDir(id *StatID, listed bool) {
	le.PutUint64(r[24:], id.Dev)
	le.PutUint64(r[32:], id.Ino)
	le.PutUint64(r[40:], uint64(id.MTime))
	le.PutUint64(r[48:], uint64(id.CTime))
	r.set(recListed, listed)
}

func (r dirRecord) digest(f action.Function) action.Digest {
	return recordedDigest(f, r[64:96], int64(le.Uint64(r[56:])))
}

func (r dirRecord) setDigest(d action.Digest) {
	sum := d.Bytes()
	copy(r[64:96], sum[:])
	le.PutUint64(r[56:], uint64(d.Size()))
	r.set(recDigest, true)
}

func recordedDigest(f action.Function, sum []byte, size int64) action.Digest {
	d, err := action.NewDigest(f, [32]byte(sum), max(size, 0))
	if err != nil {
		panic(err) // f is checked by Scan
	}
	return d
}

// A recEnt is an entry of a dirRecord.
type recEnt []byte

func (e recEnt) kind() byte       { return e[78] }
func (e recEnt) flag(f byte) bool { return e[79]&f != 0 }
func (e recEnt) size() int64      { return int64(le.Uint64(e[16:])) }
func (e recEnt) isFile() bool     { return e[78] == kindFile || e[78] == kindExec }

// nameZ returns the name with the NUL after it.
func (e recEnt) nameZ(names []byte) []byte {
	at := int(le.Uint32(e[72:]))
	return names[at : at+int(le.Uint16(e[76:]))+1]
}

func (e recEnt) name(names []byte) []byte {
	z := e.nameZ(names)
	return z[:len(z)-1]
}

func (e recEnt) target(names []byte) []byte {
	at := int(le.Uint32(e[72:])) + int(le.Uint16(e[76:])) + 1
	return names[at : at+int(e.size())]
}

func (e recEnt) digest(f action.Function) action.Digest {
	return recordedDigest(f, e[40:72], e.size())
}

// sameFile says whether the content is that of the file that id describes.
func (e recEnt) sameFile(id *StatID) bool {
	return e[79]&entStable != 0 && le.Uint64(e[8:]) == id.Ino && int64(le.Uint64(e[32:])) == id.CTime &&
		int64(le.Uint64(e[16:])) == id.Size && int64(le.Uint64(e[24:])) == id.MTime && le.Uint64(e) == id.Dev
}

func (e recEnt) setStat(id *StatID, flags byte) {
	le.PutUint64(e, id.Dev)
	le.PutUint64(e[8:], id.Ino)
	le.PutUint64(e[16:], uint64(id.Size))
	le.PutUint64(e[24:], uint64(id.MTime))
	le.PutUint64(e[32:], uint64(id.CTime))
	e[79] = e[79]&entBad | flags
}

func (e recEnt) statID() StatID {
	id := StatID{
		Dev: le.Uint64(e), Ino: le.Uint64(e[8:]), Size: e.size(),
		MTime: int64(le.Uint64(e[24:])), CTime: int64(le.Uint64(e[32:])), Mode: modeRegular,
	}
	if e.kind() == kindExec {
		id.Mode |= 0o111
	}
	return id
}

// setDigest stores a digest and says whether it is another one.
func (e recEnt) setDigest(d action.Digest) bool {
	sum := d.Bytes()
	if [32]byte(e[40:72]) == sum && e.size() == d.Size() {
		return false
	}
	copy(e[40:72], sum[:])
	le.PutUint64(e[16:], uint64(d.Size()))
	return true
}

func (e recEnt) setKind(k byte) (changed bool) {
	changed = e[78] != k
	e[78] = k
	return changed
}

// check says why r, whose checksum is right and whose length is that of the
// slice, is no record, or nil. After it no method reads out of bounds.
func (r dirRecord) check() error {
	if len(r) < recHead {
		return fmt.Errorf("a record of %d bytes", len(r))
	}
	n, pathLen := int64(le.Uint32(r[12:])), int64(le.Uint32(r[16:]))
	if pathLen > 1<<20 || int64(recHead)+pathLen+7+n*recEntry > int64(len(r)) || r.entries()+r.count()*recEntry > len(r) {
		return fmt.Errorf("%d entries do not fit into a record of %d bytes", n, len(r))
	}
	names, prev := r.names(), ""
	for i := range r.count() {
		e := r.entry(i)
		at, length := int64(le.Uint32(e[72:])), int64(le.Uint16(e[76:]))
		end := at + length
		if e.kind() == kindLink {
			end += e.size() + 1
		}
		if e.size() < 0 || e.kind() == kindLink && e.size() > 1<<20 || end >= int64(len(names)) ||
			names[at+length] != 0 || names[end] != 0 {
			return fmt.Errorf("entry %d is not whole", i)
		}
		name := viewString(names[at : at+length])
		if name <= prev || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("entry %d: %q is not a name, or not in order", i, name)
		}
		if e.kind() < kindFile || e.kind() > kindOther || e[79]&^(entStable|entBad) != 0 {
			return fmt.Errorf("entry %d: kind %d, flags %d", i, e.kind(), e[79])
		}
		if e.kind() == kindLink && strings.IndexByte(viewString(names[at+length+1:end]), 0) >= 0 {
			return fmt.Errorf("entry %d: a NUL in a target", i)
		}
		prev = name
	}
	return nil
}

// find returns the index of name, or where it would be.
func (r dirRecord) find(name string) (int, bool) {
	names := r.names()
	lo, hi := 0, r.count()
	for lo < hi {
		mid := (lo + hi) / 2
		if viewString(r.entry(mid).name(names)) < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < r.count() && viewString(r.entry(lo).name(names)) == name
}

// A listEntry is a name that a directory holds.
type listEntry struct {
	name, target string
	kind         byte
	placed       action.Digest // the tree that is put there
	id           StatID        // where fresh
	fresh        bool
}

// newDirRecord makes the record of a directory at path with these entries,
// sorted by name. What old, which may be nil, knows of them is kept.
func newDirRecord(path string, list []listEntry, old dirRecord) dirRecord {
	size := recHead + align8(len(path)) + len(list)*recEntry
	for i := range list {
		size += len(list[i].name) + len(list[i].target) + 2
	}
	r := make(dirRecord, align8(size))
	le.PutUint32(r, uint32(len(r)))
	le.PutUint32(r[12:], uint32(len(list)))
	le.PutUint32(r[16:], uint32(len(path)))
	copy(r[recHead:], path)
	names, at, o := r.names(), 0, 0
	for i := range list {
		l, e := &list[i], r.entry(i)
		if old != nil {
			for o < old.count() && viewString(old.entry(o).name(old.names())) < l.name {
				o++
			}
		}
		e.fill(l)
		if old != nil && o < old.count() && viewString(old.entry(o).name(old.names())) == l.name {
			e.inherit(old.entry(o))
		}
		le.PutUint32(e[72:], uint32(at))
		le.PutUint16(e[76:], uint16(len(l.name)))
		at += copy(names[at:], l.name) + 1
		if l.kind == kindLink {
			at += copy(names[at:], l.target) + 1
		}
	}
	return r
}

func (e recEnt) fill(l *listEntry) {
	e[78] = l.kind
	if !utf8.ValidString(l.name) || !utf8.ValidString(l.target) {
		e[79] |= entBad
	}
	switch {
	case !l.placed.IsZero():
		e.setDigest(l.placed)
		e[79] |= entPlaced
	case l.kind == kindLink:
		le.PutUint64(e[16:], uint64(len(l.target)))
	case l.fresh && e.isFile():
		e.setStat(&l.id, entFresh)
	case l.kind == kindOther:
		le.PutUint64(e[16:], uint64(l.id.Mode))
	}
}

// inherit keeps what old knew, where it is of the same kind.
func (e recEnt) inherit(old recEnt) {
	switch {
	case e.flag(entFresh | entPlaced):
	case e.isFile() && old.isFile():
		copy(e[:72], old[:72])
		e[78] = old[78]
		e[79] |= old[79] & entStable
	case e.kind() == kindDir && old.kind() == kindDir:
		copy(e[:72], old[:72])
	}
}
