package staging

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// # Large files of the system are not read at once
//
// A linker may load 165 MB of libraries for a plugin that it then does not use. To
// read them takes as long as a compile, and mostly nobody ever asks for their digest:
// as long as the StatID of a file is what it was, its content is. So such a file gets
// a name in the place of its digest when it is first seen, which is made of its StatID
// and of the boot. That is done exactly where the StatID of a file that was read would
// be recorded; and only for large files below one directory that belong to root, that
// root alone may write, and that are no programs: a compiler is known by its content.
//
// A name says nothing on another machine, and stays here: see [MergeNotes].
//
// What was only touched has another StatID, and its old content cannot be had any more.
// So a file that is seen again after largeWait is read, and what its name stands for is
// kept. Of one that changes before that, nobody can say that it is as it was.
//
// The table has up to two slots more for such a file, whose checksums are others than
// those of the slots of files, so that who does not know of them takes them for free:
//
//	the name, in the bucket of the file: as a slot of it, but the highest bit of the
//	  device is 1, and
//	56 hash of the name
//	88 i64 moment in which it was given; 0: what it stands for is known
//
//	what the name stands for: device, inode and mtime are the first 24 bytes of the
//	  name, size is that of the file, and ctime is 1
//	56 hash of the content
const (
	largeMin    = 16 << 20
	largeWait   = 10 * 1e9 // longer than a small build
	largeDevice = 1 << 63
	largeSeed   = 0x6c61726765 // is XORed to the seed
)

// large returns the name of the file at path that was just seen to be id, not before
// the moment at, if it is a large file of the system below the directory under.
func (h *FileHasher) large(path, under string, id *StatID, at Moment) (d FileDigest, ok bool) {
	if under == "" || id.Size < largeMin || id.Mode&0o577 != 0o444 || !strings.HasPrefix(path, under+"/") {
		return d, false
	}
	t := h.openTable()
	if _, changes := h.unnamed.Load(path); changes || t == nil || id.CTime >= int64(at) {
		return d, false
	}
	slot, read := h.findLarge(int(t.Fd()), id)
	if slot != nil {
		d = FileDigest{Digest: recordedDigest(h.fn, slot[56:88], id.Size), ID: *id, Stable: true, Mark: slot[48], Named: true}
		d.given = Moment(le.Uint64(slot[88:]))
		if d.given != 0 && at-d.given > largeWait {
			h.learn(path, &d, at)
		}
		return d, true
	}
	if read || !h.believable(path, id) {
		return d, false
	}
	d = FileDigest{Digest: h.nameOf(id), ID: *id, Stable: true, Named: true, given: at}
	h.rememberName(&d)
	return d, true
}

// findLarge looks for the slot of the name of the file that is id now; read says that
// there is none, but the file's content is known.
func (h *FileHasher) findLarge(t int, id *StatID) (slot *fileSlot, read bool) {
	var room [bucketSize]byte
	n, _ := unix.Pread(t, room[:], bucket(id))
	alias := aliasOf(id)
	for b := room[:max(n, 0)/slotSize*slotSize]; len(b) > 0; b = b[slotSize:] {
		s, seed := (*fileSlot)(b), h.seedOf(id.CTime)
		switch {
		case le.Uint64(s[16:]) != id.Ino:
		case s.is(&alias) && le.Uint64(s[:]) == s.checksum(seed^largeSeed):
			return s, false
		case s.is(id) && le.Uint64(s[:]) == s.checksum(seed):
			read = true
		}
	}
	return nil, read
}

// believable says whether the file at path is id, is of the system, and cannot change
// from now on without another StatID: see "What the stat caches trust".
func (h *FileHasher) believable(path string, id *StatID) bool {
	fd, err := openFile(unix.AT_FDCWD, path, unix.O_NOFOLLOW)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	at, margin := Now(), int64(trustMargin)
	writer := hasWriter(fd, &margin) // before the stat, as in hash
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Uid != 0 || makeStatID(&st) != *id {
		return false
	}
	return !writer && settled(id.CTime, at, margin) && h.trust.device(id.Dev, fd).believes(id.CTime)
}

// nameOf is the name of a file.
func (h *FileHasher) nameOf(id *StatID) action.Digest {
	text := []byte("sbx-action: a large file that was not read\n" + durable.BootID())
	for _, n := range [...]uint64{id.Dev, id.Ino, uint64(id.Size), uint64(id.MTime), uint64(id.CTime)} {
		text = strconv.AppendUint(append(text, '\n'), n, 10)
	}
	sum := action.Sum(h.fn, text).Bytes()
	return recordedDigest(h.fn, sum[:], id.Size)
}

// learn reads the file and keeps what its name stands for.
func (h *FileHasher) learn(path string, d *FileDigest, at Moment) {
	content, err := h.Digest(path)
	if d.given = at; err == nil && content.Stable && content.ID == d.ID {
		h.put(&FileDigest{Digest: content.Digest, ID: meaningOf(d.Digest)}, h.seed^largeSeed)
		d.given = 0
	}
	h.rememberName(d)
}

// meant is the content that a name stands for, if it is known.
func (h *FileHasher) meant(name action.Digest) (content action.Digest, ok bool) {
	t := h.openTable()
	if t == nil {
		return content, false
	}
	id := meaningOf(name)
	var room [bucketSize]byte
	n, _ := unix.Pread(int(t.Fd()), room[:], bucket(&id))
	for b := room[:max(n, 0)/slotSize*slotSize]; len(b) > 0; b = b[slotSize:] {
		if s := (*fileSlot)(b); s.is(&id) && le.Uint64(s[:]) == s.checksum(h.seed^largeSeed) {
			return recordedDigest(h.fn, s[56:88], id.Size), true
		}
	}
	return content, false
}

// rememberName keeps the name of a file, in a slot beside that of its content.
func (h *FileHasher) rememberName(d *FileDigest) {
	alias := *d
	alias.ID = aliasOf(&d.ID)
	h.put(&alias, h.seedOf(d.ID.CTime)^largeSeed)
}

// aliasOf is the file as which its name is in the table.
func aliasOf(id *StatID) StatID {
	alias := *id
	alias.Dev ^= largeDevice
	return alias
}

// meaningOf is the file as which the content that a name stands for is in the table.
func meaningOf(name action.Digest) StatID {
	sum := name.Bytes()
	return StatID{Dev: le.Uint64(sum[:]), Ino: le.Uint64(sum[8:]), Size: name.Size(), MTime: int64(le.Uint64(sum[16:])), CTime: 1}
}
