package warm

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// A caller proves that it may look into the processes of the session: that it can read
// /proc/KEEPER/fd/N, the name of a file without a place, which is random. The kernel
// shows it to those that may read the keeper's memory. Landlock and other security
// modules do not let a process in a narrower domain; what they keep it from, it
// would otherwise get done by a worker, which they keep from nothing. They tell nobody
// what a process is kept from, so it is not among the [Facts].

// A proof is that name, and zeros.
type proof [64]byte

const (
	proofFD     = 6 // keep: as in warm.c
	workProofFD = 8 // work
)

// makeProof makes the file of the keeper, as its descriptor proofFD. Nothing else may be
// open from there on.
func makeProof() error {
	const noExec = 8 // MFD_NOEXEC_SEAL, since Linux 6.3
	var random [16]byte
	if n, err := unix.Getrandom(random[:], 0); n < len(random) {
		return fmt.Errorf("get random bytes: %w", err)
	}
	name := fmt.Sprintf("sbx-warm-%x", random)
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|noExec)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err == nil && fd != proofFD {
		err = unix.Dup3(fd, proofFD, unix.O_CLOEXEC)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("make a file for callers to prove themselves with: %w", err)
	}
	return nil
}

// readProof returns what callers have to send.
func readProof() (p proof, err error) {
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(workProofFD), p[:])
	if err == nil && n == len(p) {
		err = unix.ENAMETOOLONG
	}
	return p, err
}

// Trusts says whether the caller may look into this session.
func (w *Worker) Trusts(c *Call) bool { return c.proof == w.proof }
