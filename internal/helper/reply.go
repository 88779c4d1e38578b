//go:build linux

package helper

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// A Kind says what a Reply is.
type Kind uint32

const (
	Done        Kind = 1 + iota // the command has ended
	Fill                        // Root is to be filled; see [Continue]
	Ready                       // around: Root and Job are there, the program follows on [Continue]
	Failed                      // the helper could not do what was asked: Err
	Killed                      // the sandbox was killed from outside: cancelled, or an accident
	HasTerminal                 // Root is the far end of the command's terminal; the command starts now
)

// A Reply is an answer of the helper.
//
// On the wire it is, in the byte order of the machine:
//
//	uint32 kind, version; uint64 seq; int32 waitStatus, startErrno;
//	uint32 flags, logSize; uint64 user, system (µs), maxRSS (KiB), wall (ns);
//	int32 errno; uint32 ownersSize; 480 bytes of text, NUL-terminated
//
// with the descriptors of the root, the job's directory, the tree and the log
// (those that there are).
type Reply struct {
	Kind   Kind
	Seq    uint64
	Status syscall.WaitStatus
	Start  syscall.Errno // why the command was not executed, or 0
	// Start is ENOENT although the file exists: its interpreter does not.
	NoInterpreter bool
	TimedOut      bool
	Complete      bool // nothing is missing from the log
	Unvaried      bool // something of Request.Vary could not be done
	Left          bool // the command had left processes, which were killed
	Network       bool // something was sent to the loopback interface

	User, System, Wall time.Duration
	MaxRSS             int64 // bytes

	Err  error    // Failed
	Root *os.File // Fill, Ready, HasTerminal, and Done with KeepRoot
	Job  *os.File // Ready
	Tree *os.File // Ready, with HasTree

	log     *os.File
	logSize int

	owners     *os.File
	ownersSize int
}

// Receive waits for the next reply of the helper at the other end of socket.
// It fails with ErrGone when there will be none.
func Receive(socket int, asked *Request) (*Reply, error) {
	var b [replySize]byte
	oob := make([]byte, unix.CmsgSpace(3*4))
	n, oobn, flags, err := recvmsg(socket, b[:], oob)
	if err != nil {
		return nil, fmt.Errorf("%w: receive: %w", ErrGone, err)
	}
	files := receivedFiles(oob[:oobn])
	e := binary.NativeEndian
	if n != replySize || flags&unix.MSG_CTRUNC != 0 || e.Uint32(b[4:]) != Version {
		closeAll(files)
		return nil, fmt.Errorf("%w: received %d bytes", ErrGone, n)
	}
	r := newReply(b[:])
	if len(files) > 0 && (r.Kind != Done || asked.Flags&KeepRoot != 0) {
		r.Root, files = files[0], files[1:]
	}
	if len(files) > 0 && r.Kind == Ready {
		r.Job, files = files[0], files[1:]
	}
	if len(files) > 0 && r.Kind == Ready {
		r.Tree, files = files[0], files[1:]
	}
	if len(files) > 0 && asked.Flags&Observe != 0 {
		r.log, files = files[0], files[1:]
	}
	if len(files) > 0 && asked.Flags&Owners != 0 {
		r.owners, files = files[0], files[1:]
	}
	closeAll(files)
	return r, nil
}

// newReply reads what is in a packet, without what came beside it.
func newReply(b []byte) *Reply {
	e := binary.NativeEndian
	r := &Reply{
		Kind:          Kind(e.Uint32(b[0:])),
		Seq:           e.Uint64(b[8:]),
		Status:        syscall.WaitStatus(e.Uint32(b[16:])),
		Start:         syscall.Errno(e.Uint32(b[20:])),
		TimedOut:      b[24]&1 != 0,
		Complete:      b[24]&2 != 0,
		NoInterpreter: b[24]&4 != 0,
		Unvaried:      b[24]&8 != 0,
		Left:          b[24]&16 != 0,
		Network:       b[24]&32 != 0,
		logSize:       int(e.Uint32(b[28:])),
		ownersSize:    int(e.Uint32(b[68:])),
		User:          time.Duration(e.Uint64(b[32:])) * time.Microsecond,
		System:        time.Duration(e.Uint64(b[40:])) * time.Microsecond,
		MaxRSS:        int64(e.Uint64(b[48:])) << 10,
		Wall:          time.Duration(e.Uint64(b[56:])),
	}
	if r.Kind == Failed {
		text, _, _ := strings.Cut(string(b[72:]), "\x00")
		r.Err = fmt.Errorf("%s: %w", text, syscall.Errno(e.Uint32(b[64:])))
	}
	return r
}

// Decode is Receive for an answer that was carried here from another machine's
// kernel: b is the packet, and the log behind it.
func Decode(b []byte, asked *Request) (*Reply, error) {
	if len(b) < ReplySize || binary.NativeEndian.Uint32(b[4:]) != Version {
		return nil, fmt.Errorf("%w: received %d bytes", ErrGone, len(b))
	}
	r := newReply(b[:ReplySize])
	r.logSize = len(b) - ReplySize
	if asked.Flags&Observe == 0 {
		return r, nil
	}
	fd, err := memoryFile(b[ReplySize:])
	if err != nil {
		return nil, err
	}
	r.log = os.NewFile(uintptr(fd), "log")
	return r, nil
}

func recvmsg(socket int, b, oob []byte) (n, oobn, flags int, err error) {
	reset := false
	for {
		n, oobn, flags, _, err = unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.ECONNRESET && !reset {
			// It ended without reading all that we had sent. That is told
			// first, and once; what it had answered before comes then.
			reset = true
			continue
		}
		if err != unix.EINTR {
			return n, oobn, flags, err
		}
	}
}

func receivedFiles(oob []byte) []*os.File {
	if len(oob) == 0 {
		return nil
	}
	var files []*os.File
	messages, _ := unix.ParseSocketControlMessage(oob)
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "sandbox"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Continue answers a [Fill] or a [Ready]: the files are there, go on.
func Continue(socket int, seq uint64) error {
	return unix.Send(socket, binary.NativeEndian.AppendUint64(nil, seq), unix.MSG_NOSIGNAL)
}

// GiveUp answers a [Fill] or a [Ready] when something went wrong. A Failed reply follows.
func GiveUp(socket int, seq uint64) error {
	return unix.Send(socket, binary.NativeEndian.AppendUint64(nil, ^seq), unix.MSG_NOSIGNAL)
}

// The ops of a log: those of backends.Lookup, and two for more.
const (
	opStat = iota
	opOpen
	opExec
	opMove
	opAnew    // opOpen with Lookup.Anew
	opReplace // opMove with Lookup.Anew
)

// What else is known of a look-up.
const (
	lookupFound = 1 // there was something, perhaps what the command has made
	lookupMade  = 2 // the call may have made it, or given it this name
	lookupStays = 4 // it did, in /tmp, /run or /dev/shm, and there it is at the end
)

// Lookups reads the log of look-ups, and closes it.
//
// The log is a sequence of: uint16 length, uint8 op, which is one of those above, uint8
// how, the path, and zeroes up to a multiple of 4.
func (r *Reply) Lookups() ([]backends.Lookup, error) {
	if r.log == nil {
		return nil, nil
	}
	defer r.log.Close()
	b := make([]byte, r.logSize)
	if _, err := r.log.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read what was observed: %w", err)
	}
	count := 0
	for at := 0; at+4 <= len(b); count++ {
		n := int(binary.NativeEndian.Uint16(b[at:]))
		if at+4+n > len(b) || b[at+2] > opReplace {
			return nil, fmt.Errorf("what was observed is damaged at byte %d", at)
		}
		at += (4 + n + 3) &^ 3
	}
	list := make([]backends.Lookup, count)
	all := unsafe.String(unsafe.SliceData(b), len(b)) // nobody writes to it any more
	for i, at := 0, 0; i < count; i++ {
		n, how := int(binary.NativeEndian.Uint16(b[at:])), int(b[at+3])
		op, anew := backends.Op(b[at+2]), false
		switch op {
		case opAnew:
			op, anew = backends.Open, true
		case opReplace:
			op, anew = backends.Move, true
		}
		list[i] = backends.Lookup{
			Path: all[at+4 : at+4+n], Op: op, Anew: anew, Found: how&lookupFound != 0, Made: how&lookupMade != 0, Stays: how&lookupStays != 0,
		}
		at += (4 + n + 3) &^ 3
	}
	return list, nil
}

// ownerEntry is the size of an entry without its path: see src/wire.h.
const ownerEntry = 40

// Owned reads the log of owners, and closes it.
//
// The log is a sequence of: uint64 inode; uint32 devMajor, devMinor, uid, gid,
// kind, major, minor, length; a path of that length, absolute in the root; and
// zeroes up to a multiple of 8.
func (r *Reply) Owned() ([]backends.Owned, error) {
	if r.owners == nil {
		return nil, nil
	}
	defer r.owners.Close()
	b := make([]byte, r.ownersSize)
	if _, err := r.owners.ReadAt(b, 0); err != nil && r.ownersSize > 0 {
		return nil, fmt.Errorf("read what was recorded of owners: %w", err)
	}
	list := []backends.Owned{}
	e := binary.NativeEndian
	for at := 0; at < len(b); {
		if len(b)-at < ownerEntry {
			return nil, fmt.Errorf("what was recorded of owners is damaged at byte %d", at)
		}
		word := func(i int) uint32 { return e.Uint32(b[at+8+4*i:]) }
		n := int(word(7))
		if n > len(b)-at-ownerEntry {
			return nil, fmt.Errorf("what was recorded of owners is damaged at byte %d", at)
		}
		list = append(list, backends.Owned{
			Inode: e.Uint64(b[at:]), Device: unix.Mkdev(word(0), word(1)),
			UID: word(2), GID: word(3), Kind: word(4), Major: word(5), Minor: word(6),
			Path: string(b[at+ownerEntry : at+ownerEntry+n]),
		})
		at += (ownerEntry + n + 7) &^ 7
	}
	return list, nil
}

// Close closes what came with the reply and was not taken out of it.
func (r *Reply) Close() {
	for _, f := range []*os.File{r.Root, r.Job, r.Tree, r.log, r.owners} {
		if f != nil {
			f.Close()
		}
	}
}
