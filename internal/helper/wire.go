//go:build linux

package helper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	VaryCaller // the command has the numbers of the slot's caller; with VaryUmask, it holds without the flag Vary, too
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

// Sandboxes is how many inits a slot may have at a time: one that works, one
// that waits, and some that are being cleaned up.
const Sandboxes = 8
