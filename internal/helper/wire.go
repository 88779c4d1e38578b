//go:build linux

package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// Version is the version of the messages; both sides refuse another one.
const Version = 3

// The descriptors of the helper.
const (
	SocketFD = 3
	LifeFD   = 4
)

// ErrGone says that the helper has died, or talks nonsense.
var ErrGone = errors.New("the sandbox helper is gone")

// What around makes in the directory Request.Target: the root of the command,
// whole but for /proc and /dev, and a directory for files of the program.
const (
	RootDir = "root"
	JobDir  = "job"
)

// Flags of a Request.
const (
	KeepRoot uint32 = 1 << iota // answer with a descriptor of the root
	Observe                     // answer with a log of what was looked up
	FillRoot                    // ask for files before the command starts
	Prewarm                     // slot: there will be more requests, prepare for the next
	bigRequest
	hasStdin // and stdout, stderr
	_
	_
	Vary     // Request.Vary is in force
	Shell    // around: the root is also at JobDir/shell/sbx
	Terminal // the command gets a terminal: see the reply HasTerminal
	ReadOnly // backends.Root.ReadOnly
	OwnPID   // around: with Shell, the program is the first of a pid namespace, and has /proc and /dev there
	OwnRest  // around: with OwnPID, it has ipc and uts namespaces of its own, too,
	OwnNet   // and a network; init: it makes its network itself
	HasTree  // around: answer with the root as a tree that is mounted nowhere; init: Tree is the root to enter
	OnStdio  // around: the program has the socket and the helper's file as descriptors 0 and 1
	AsUser   // around: the program runs as the user ID of the host
	// around: with OwnPID, the root in the shell is whole, /proc and /dev included,
	// the shell shows the host's programs, and is the program's root.
	HostShell
	Owners   // the command is user 0; answer with a log of owners
	SetName  // init: the host name of our namespace is still to be set
	LoUp     // init: the loopback interface of our namespace is still to be brought up
	KeepCaps // around: with "user", the program has all capabilities of its user namespace
	PutInit  // around: this program is also in the root, as InitPath
	Begin    // slot: the binds only, which the next command will want: answer Ready
	Begun    // slot: what Begin did is wanted, and Binds are the rest
)

// filtered is a flag, too: there is a Request.Filter.
const filtered uint32 = 1 << 30

// InitPath is where PutInit puts the helper.
const InitPath = "/tmp/.sbx-init"

// ReplySize is the size of a reply on the wire, in bytes.
const ReplySize = 552

const (
	requestSize = 96 + 40
	replySize   = ReplySize
	maxMessage  = 64 << 10 // bytes in one packet
	maxGroups   = 8

	BeginMost = 24 // pairs of Request.Binds with Begin
)

// A Request asks for one command.
//
// On the wire it is, in the byte order of the machine:
//
//	uint32 size, version; uint64 seq; uint32 flags, id;
//	uint32 nargs, nenv, nlowers, nbinds, ngroups, nknown, gid, 0;
//	uint64 wall, data, procs, fileSize, scratch
//	uint64 varyFlags; int64 clock; uint64 step; uint32 order, umask, cpus, delay
//	8*(nargs+nenv+3) bytes of room, for the pointers of argv and envp
//	NUL-terminated strings: dir, data, scratchDir, target, hide, hostName, alias,
//	  binfmt, emulator, label, context, lowers ("d" or "i" and a path), binds (source, target),
//	  known (uid, gid, kind, major, minor and a path, with blanks between), args, env
//
// with the descriptors of stdin, stdout, stderr (those that are there), of
// the control groups, of the tree, and of a memory file with the filter. If it is larger than a packet, the packet holds only the
// fixed part, and one more descriptor, the last one, a memory file with all.
type Request struct {
	Seq   uint64 // comes back in the Reply
	Flags uint32
	ID    int // user of the command
	GID   int // and group

	Dir       string
	Args, Env []string

	Lowers     []string // "d" and a directory, or "i" and an image; topmost first
	DataDir    string   // backends.Root.Data
	ScratchDir string   // backends.Root.ScratchDir
	Target     string   // around: where to mount; see [RootDir] and [JobDir]. init: where the root is, if not at "/". fence: see there
	Hide       string   // around: a directory of the host that the program does not see. fence: see there
	Binds      []string // source, target, source, target, …; before a source: "+" backends.Bind.Over, "=" Bind.Writable; instead of one: "%" Root.Tmpfs, "!" Root.Writable

	Wall     time.Duration // then the command is killed
	Memory   int64         // of each process: RLIMIT_DATA
	Procs    int64         // RLIMIT_NPROC
	FileSize int64         // RLIMIT_FSIZE
	Scratch  int64         // of a scratch in memory

	Vary Variation // with the flag Vary

	Known    []string // of owners, with the flag Owners
	Binfmt   string   // how to know the programs of another machine, as binfmt_misc wants it: all before the emulator
	Label    string   // SELinux: of the command,
	Context  string   // and of its mounts; or empty
	Emulator string   // and what executes them, a path of the host; or empty

	Stdio  [3]*os.File // nil: /dev/null
	Groups []*os.File  // cgroup.procs files, which the command enters
	Tree   *os.File    // init, with HasTree
	Filter []byte      // backends.Spec.Filter
}

// Flags of a Variation.
const (
	VaryShift  uint64 = 1 << iota // the wall clock is wrong by Clock
	VaryFreeze                    // the wall clock begins at Clock, in ns since 1970, and does not run
	VaryOrder
	VaryUmask
	VaryLayout // addresses are random
	VaryOneCPU // nothing of the command runs at the same time
)

// A Variation is backends.Vary as it goes over the wire; see src/wire.h.
type Variation struct {
	Flags                     uint64
	Clock                     int64
	Step                      time.Duration
	Order, Umask, CPUs, Delay uint32

	HostName, Alias string // empty: as always
}

// Encode returns the bytes of r for a helper that is not at the end of a socket. What
// descriptors there are is in them, too.
func (r *Request) Encode() ([]byte, error) {
	b, err := r.encode()
	if err != nil {
		return nil, err
	}
	return b, nil
}

// encode returns the bytes of r, and the flags that go with its descriptors.
func (r *Request) encode() ([]byte, error) {
	size := requestSize + 8*(len(r.Args)+len(r.Env)+3)
	lists := [][]string{{r.Dir, r.DataDir, r.ScratchDir, r.Target, r.Hide, r.Vary.HostName, r.Vary.Alias, r.Binfmt, r.Emulator, r.Label, r.Context}, r.Lowers, r.Binds, r.Known, r.Args, r.Env}
	for _, list := range lists {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return nil, fmt.Errorf("%q contains a NUL byte: %w", s, unix.EINVAL)
			}
			size += len(s) + 1
		}
	}
	if size > 1<<30 {
		return nil, fmt.Errorf("arguments and environment of %d bytes: %w", size, unix.E2BIG)
	}
	flags := r.Flags
	for i, f := range r.Stdio {
		if f != nil {
			flags |= hasStdin << i
		}
	}
	if size > maxMessage {
		flags |= bigRequest
	}
	if len(r.Filter) > 0 {
		flags |= filtered
	}
	b := make([]byte, 0, size)
	e := binary.NativeEndian
	b = e.AppendUint32(b, uint32(size))
	b = e.AppendUint32(b, Version)
	b = e.AppendUint64(b, r.Seq)
	for _, v := range []int{
		int(flags), r.ID, len(r.Args), len(r.Env), len(r.Lowers), len(r.Binds) / 2, len(r.directories()), len(r.Known), r.GID, 0,
	} {
		b = e.AppendUint32(b, uint32(v))
	}
	for _, v := range []int64{int64(r.Wall), r.Memory, r.Procs, r.FileSize, r.Scratch} {
		b = e.AppendUint64(b, uint64(v))
	}
	b = e.AppendUint64(b, r.Vary.Flags)
	b = e.AppendUint64(b, uint64(r.Vary.Clock))
	b = e.AppendUint64(b, uint64(r.Vary.Step))
	for _, v := range []uint32{r.Vary.Order, r.Vary.Umask, r.Vary.CPUs, r.Vary.Delay} {
		b = e.AppendUint32(b, v)
	}
	b = b[:len(b)+8*(len(r.Args)+len(r.Env)+3)]
	for _, list := range lists {
		for _, s := range list {
			b = append(append(b, s...), 0)
		}
	}
	return b, nil
}

// directories are Groups and, last, Tree.
func (r *Request) directories() []*os.File {
	if r.Tree == nil {
		return r.Groups
	}
	return append(slices.Clip(r.Groups), r.Tree)
}

// Send sends the request into a socket whose other end is a helper's.
func (r *Request) Send(socket int) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	var fds []int
	for _, f := range r.Stdio {
		if f == nil {
			continue
		}
		fd := int(f.Fd())
		// A descriptor shares this flag with its copies, and commands do
		// not expect EAGAIN. Fd has told the runtime.
		if err := unix.SetNonblock(fd, false); err != nil {
			return fmt.Errorf("pass %s: %w", f.Name(), err)
		}
		fds = append(fds, fd)
	}
	for _, f := range r.directories() {
		fds = append(fds, int(f.Fd()))
	}
	if len(r.Filter) > 0 {
		filter, err := memoryFile(r.Filter)
		if err != nil {
			return err
		}
		defer unix.Close(filter)
		fds = append(fds, filter)
	}
	if len(b) > maxMessage {
		big, err := memoryFile(b)
		if err != nil {
			return err
		}
		defer unix.Close(big)
		fds = append(fds, big)
		b = b[:requestSize]
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(socket, b, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%w: send: %w", ErrGone, err)
	}
	return nil
}

func memoryFile(data []byte) (int, error) {
	fd, err := unix.MemfdCreate("sbx-request", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make a file in memory: %w", err)
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && err != unix.EINTR {
			unix.Close(fd)
			return -1, fmt.Errorf("write to a file in memory: %w", err)
		}
		data = data[max(n, 0):]
	}
	return fd, nil
}

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

// The ops of a log, which are those of backends.Lookup.
const (
	opStat = iota
	opOpen
	opExec
	opMove
)

// What else is known of a look-up.
const (
	lookupFound = 1 // there was something, perhaps what the command has made
	lookupMade  = 2 // the call may have made it, or given it this name
)

// Lookups reads the log of look-ups, and closes it.
//
// The log is a sequence of: uint16 length, uint8 op, which is a [backends.Op], uint8
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
		if at+4+n > len(b) || b[at+2] > opMove {
			return nil, fmt.Errorf("what was observed is damaged at byte %d", at)
		}
		at += (4 + n + 3) &^ 3
	}
	list := make([]backends.Lookup, count)
	all := unsafe.String(unsafe.SliceData(b), len(b)) // nobody writes to it any more
	for i, at := 0, 0; i < count; i++ {
		n, how := int(binary.NativeEndian.Uint16(b[at:])), int(b[at+3])
		list[i] = backends.Lookup{
			Path: all[at+4 : at+4+n], Op: backends.Op(b[at+2]), Found: how&lookupFound != 0, Made: how&lookupMade != 0,
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

// Sandboxes is how many inits a slot may have at a time: one that works, one
// that waits, and some that are being cleaned up.
const Sandboxes = 8
