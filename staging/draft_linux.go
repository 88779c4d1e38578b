package staging

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A draft is what an output is written as, beside its place. Who is killed leaves it
// there, and the next delivery of an output directory, or of many files, to the same
// place removes it.
//
// Its name is draftPrefix, 6 hex digits that say of which start of which kernel it is,
// and 10 of a random number. From before it is made until after it is gone its maker
// has a lock on the byte of that number of the directory that it is in, which the
// kernel drops with the process. So a draft of this kernel whose byte is free is
// nobody's. A draft whose maker could not have a lock has zeroes in the place of the
// kernel, and is not removed, as are those of other kernels: another machine's on the
// same disk, or those of before the machine was started.
//
// A scan takes drafts for what they look like, files of the user: a name alone is no
// reason to leave something out.
const (
	draftPrefix = ".sbx-"
	kernelLen   = 6
	numberLen   = 10 // hex digits
	noKernel    = "000000"
)

// maxLocked is in how many directories drafts are locked, each with a descriptor.
const maxLocked = 256

// bootID names this start of this kernel: the beginning of a random number.
var bootID = sync.OnceValue(func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(id) < kernelLen || strings.Trim(string(id[:kernelLen]), "0123456789abcdef") != "" {
		return noKernel
	}
	return string(id[:kernelLen])
})

func draftName(kernel string, number uint64) string {
	return fmt.Sprintf("%s%s%0*x", draftPrefix, kernel, numberLen, number)
}

// draftNumber returns the number of a draft of this kernel.
func draftNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, draftPrefix+bootID())
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, ok && err == nil && bootID() != noKernel && draftName(bootID(), n) == name
}

// newNumber begins the numbers of the drafts of one delivery.
func newNumber() uint64 { return rand.Uint64N(1 << (4 * numberLen)) }

// draft returns the name of a new draft in dir, which is the workspace's directory p.
func (d *deliverer) draft(dir int, p string) string {
	d.number = (d.number + 1) % (1 << (4 * numberLen))
	kernel := noKernel
	if fd := d.sweep(dir, p); fd >= 0 && lockNumber(fd, d.number) == nil {
		kernel = bootID()
	}
	return draftName(kernel, d.number)
}

// sweep removes the drafts that nobody holds from dir, which is the workspace's
// directory p, when it comes there first. It returns a descriptor for locks, or -1.
func (d *deliverer) sweep(dir int, p string) int {
	if fd, ok := d.swept[p]; ok {
		return fd
	}
	if len(d.swept) >= maxLocked {
		return -1
	}
	if d.swept == nil {
		d.swept = map[string]int{}
	}
	fd, err := openRetry(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		fd = -1
	}
	d.swept[p] = fd
	if fd >= 0 {
		removeDrafts(fd)
	}
	return fd
}

// removeDrafts removes the drafts that nobody holds from the directory of fd, which
// has no lock yet. What cannot be removed stays.
func removeDrafts(fd int) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(dup), ".")
	defer f.Close()
	names, _ := f.Readdirnames(-1) // those that were read before an error will do
	for _, name := range names {
		// Locks of other machines are not seen by this one, and those of one file
		// system that is mounted twice need not be.
		if n, ok := draftNumber(name); ok && trustedFileSystem(fd) && !numberLocked(fd, n) {
			_ = removeAt(fd, name)
		}
	}
}

// lockNumber locks a number of the directory of fd for as long as fd is open.
func lockNumber(fd int, n uint64) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: int64(n), Len: 1})
}

// numberLocked says whether another descriptor than fd has a lock on a number. If that
// cannot be said, it has.
func numberLocked(fd int, n uint64) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(n), Len: 1}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l)
	return err != nil || l.Type != unix.F_UNLCK
}
