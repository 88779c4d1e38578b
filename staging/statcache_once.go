package staging

import (
	"os"
	"time"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// # Large files are read once
//
// Where the store is empty, all the first compiles of a build come to its compiler, of
// some tens of megabytes, at the same moment. The one that is first has a lock of the
// table while it reads, and the others look whether the table has it yet. They wait no
// longer than they would read: who has the lock may be stopped, and what is found in the
// table is all that counts.
const (
	// onceMin is the size from which that is worth a lock.
	onceMin = 4 << 20
	// onceRate is how many bytes are read and hashed in a nanosecond, on a machine with
	// other work.
	onceRate = 2
	// onceAt is where the locks are: behind all that a table holds, at places that
	// device and inode choose.
	onceAt   = 1 << 40
	onceMask = 1<<40 - 1
)

// once returns the digest of the file fd, if somebody else is just reading it. Else the
// caller is to read it, and then to call done.
func (h *FileHasher) once(fd int) (d FileDigest, found bool, done func()) {
	at := Now()
	id, err := StatFD(fd)
	if err != nil || id.Size < onceMin {
		return d, false, func() {}
	}
	t := h.openTable()
	// What will not be in the table, nobody need wait for.
	if t == nil || id.Mode&modeType != modeRegular || !settled(id.CTime, at, trustMargin) || !h.trust.device(id.Dev, fd).believes(id.CTime) {
		return d, false, func() {}
	}
	return h.turn(t, &id, at, time.Duration(id.Size/onceRate))
}

// turn waits until a file that is id is in the table, nobody is reading it, or limit is
// over.
func (h *FileHasher) turn(t *os.File, id *StatID, at Moment, limit time.Duration) (d FileDigest, found bool, done func()) {
	place := onceAt + int64((id.Ino^id.Dev<<32)*0x9e3779b97f4a7c15>>20&onceMask)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		locked, err := durable.TryLock(t, place, 1)
		if d, ok := h.recall(id, at); ok { // also if we have the lock: it was somebody else's until now
			if locked {
				_ = durable.Unlock(t, place, 1)
			}
			return d, true, func() {}
		}
		if locked {
			return d, false, func() { _ = durable.Unlock(t, place, 1) }
		}
		if err != nil || time.Since(start) >= limit {
			return d, false, func() {}
		}
	}
}
