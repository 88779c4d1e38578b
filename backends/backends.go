// Package backends runs one command at a time in a root file system of its own.
//
// A [Backend] promises that the command sees the files of Spec.Root and nothing
// else, has no network unless it was asked for, gets exactly the environment,
// arguments and descriptors of the [Spec], and that no process it started is
// alive when Run returns, whatever the reason. It does not promise determinism:
// clocks, CPU features and scheduling differ between runs.
//
// Package backendtest checks these promises; every backend must pass it. This
// package knows paths and limits, not digests, and imports nothing of ours.
package backends

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrUnsupported is wrapped by the error of a Backend that was asked for
// something that its [Capabilities] do not offer.
var ErrUnsupported = errors.New("not supported by this backend")

// UnsupportedBy is ErrUnsupported, and says by which backend.
func UnsupportedBy(name string) error { return unsupportedBy(name) }

type unsupportedBy string

func (u unsupportedBy) Error() string { return "not supported by the backend " + string(u) }

func (unsupportedBy) Is(target error) bool { return target == ErrUnsupported }

// A Backend runs commands. Any number of goroutines may call Run at once.
type Backend interface {
	// Name is what --backend takes: "native", "bubblewrap".
	Name() string

	// Capabilities says what this backend can do on this machine, as this
	// user. It does not change during the life of the Backend.
	Capabilities() Capabilities

	// Run runs the command of spec until it ends, is killed by a limit, or
	// ctx is done. A command that ran, or could not be started because of
	// what it is, gives a Status; an error means that we cannot say what the
	// command does. After ctx is done the error wraps context.Cause(ctx).
	// The caller closes Status.Root.
	Run(ctx context.Context, spec *Spec) (*Status, error)

	// Close ends every helper process. Run must not be running.
	Close() error
}

// A Spec is everything that a backend has to know of one command.
type Spec struct {
	Root Root

	Args []string // Args[0] with a slash is a path in the root, else looked up in Env's PATH
	Env  []string // exactly the environment, "K=V", in this order
	Dir  string   // absolute path in the root; must exist there

	// Nil means /dev/null. The command gets these descriptors and no others.
	Stdin, Stdout, Stderr *os.File

	Limits  Limits
	Network Network

	// Meanwhile, where not nil, may be called once when there is nothing to do but to
	// wait for the command. It must be short.
	Meanwhile func()

	// Drains are for the other ends of Stdout and Stderr, if those are pipes that nobody
	// reads yet. Only a [Drainer] heeds them.
	Drains []Drain

	// Observe asks for Status.Lookups. It costs 3 to 10 µs for each system call
	// that names a path; in backends that put a scribe into processes (see
	// internal/helper/src/scribe.c) mostly 0.1 µs.
	Observe bool

	// Filter is a program for seccomp, struct sock_filter after struct
	// sock_filter as the kernel takes it, that the command's system calls go
	// through besides our deny list. See [CheckFilter]. It has to let execve pass.
	Filter []byte

	// KeepRoot asks for Status.Root.
	KeepRoot bool

	// Terminal, where not nil, gives the command a terminal of the sandbox's own
	// as standard streams, in the place of Stdin, Stdout and Stderr. It is called
	// once, before the command starts, takes over the far end, and must not wait.
	Terminal func(far *os.File)

	// Owners lets the command change owners and make devices, as root does,
	// whoever we are: see [Owned]. It asks for Status.Owned and excludes Vary.
	// It costs 5 µs for each stat.
	Owners bool

	// SELinux, where not nil, are the labels of the command and its mounts.
	SELinux *SELinux

	// Machine, where not nil, is the machine whose programs the command and its
	// children are.
	Machine *Machine

	// Umask, where not nil, is that of the command: it is 022 otherwise. Caller gives the
	// command the user and group that the caller has on the host, where it would be ID:
	// it needs Observe, and makes no difference to who is root. Both need
	// Capabilities.Caller.
	Umask  *int
	Caller bool

	// Vary, where not nil, changes what the command sees of the world, and not
	// what it is told to do. It excludes Observe.
	Vary *Vary
}

// A Drain reads what a command writes into a pipe.
type Drain struct {
	Fd    int    // the pipe's end to read from, which the backend only waits for
	Begin func() // called at most once, in Run, when there is something to read; it does not wait
}

// A Drainer is a Backend that calls the Begin of [Spec.Drains] before it waits for a
// command that writes, so that who calls Run need have no readers that wait beside it,
// and are woken for nothing by most commands. What comes last may be left to the caller.
type Drainer interface{ Drains() bool }

// ID is the user and group that every command runs as, in every backend and
// for every caller, so that what it sees of itself never differs. Debian
// reserves 65000–65533, so no user of the host has it.
const ID = 65000

// HasUser says whether the root asks for a user or a group other than ID.
func (r *Root) HasUser() bool {
	return r.As != nil && *r.As != ID || r.Group != nil && *r.Group != ID
}

// HostName is the host name that every command sees.
const HostName = "sbx"

// A Network says what a command can reach.
type Network int

const (
	// NetworkNone is a network of its own with a loopback interface that is
	// up, so that test suites can talk to themselves.
	NetworkNone Network = iota
	// NetworkHost is the network of the host.
	NetworkHost
	// NetworkSealed is none at all: the command can make no socket, not even a pair,
	// which saves making a network, 0.3 ms and again as much to remove it. What
	// /proc/net says is the host's, so a command that looks there is not observed
	// completely: see Status.Complete.
	NetworkSealed
)

// Limits bound what a command may use. Zero means no limit of ours.
type Limits struct {
	Wall     time.Duration // then the whole process tree is killed: Status.TimedOut
	Memory   int64         // bytes, of the whole tree where cgroups are to be had
	Pids     int64         // processes and threads at one time
	FileSize int64         // bytes, of each file that is written
	Scratch  int64         // bytes that the command may write into its root, and as many into each of /tmp and /dev/shm
}

// InMemory is how much may be written into one file system in memory where no
// control group counts it, in bytes: the smaller one of Memory and Scratch. Zero
// means no limit.
func (l Limits) InMemory() int64 {
	if l.Memory == 0 || l.Scratch == 0 {
		return max(l.Memory, l.Scratch)
	}
	return min(l.Memory, l.Scratch)
}

// A Root says what the root file system of a command is made of. From the
// bottom up: Lowers (the first is the topmost), a fresh scratch that takes
// every write, and Binds. The backend adds /proc, a minimal /dev, and a fresh
// /tmp, and makes the mount points that it needs for them.
//
// Nothing that the command can do changes Lowers, Data or Binds, but for those
// that are Writable.
type Root struct {
	// Lowers are read-only layers, the first one topmost. Files of all of
	// them are merged, as overlayfs does. May be empty: then the root is
	// what Fill puts into the scratch.
	Lowers []Layer

	// Data is a directory that the files of Lowers may take their contents
	// from: a layer's file with the extended attributes overlay.metacopy and
	// overlay.redirect (absolute, below Data) is shown with its own mode and
	// time and the contents of the file it points to. Empty: none does.
	Data string

	// Fill, where not nil, puts files into the fresh scratch before the
	// command starts; dir is its root directory. What it makes must belong
	// to ID inside the sandbox: Fill uses Owner for that.
	Fill func(dir *os.File) error

	// Ahead, where not nil, says what Fill and Binds begin with.
	Ahead *Ahead

	// Binds show directories or files of the host, read-only if they do not
	// say otherwise, without
	// devices and without setuid. They are mounted in order. The mount
	// points are made where they are missing.
	Binds []Bind

	// Tmpfs are empty directories in memory that are mounted after Binds. The
	// mount points are made where they are missing.
	Tmpfs []string

	// ReadOnly makes the root read-only, but for Writable, which are paths that
	// exist in it when all is mounted, for Tmpfs, /tmp and /dev/shm, and for
	// binds that are Writable.
	ReadOnly bool
	Writable []string

	// ScratchDir is a directory of the host for the scratch, for outputs
	// that memory cannot hold. Empty: a tmpfs.
	ScratchDir string

	// InPlace says that the command need not see the root at "/": see
	// Capabilities.OwnRoot.
	InPlace bool

	// Owned are files that belong to others than 0:0, and devices, which are
	// empty files there: for commands with Spec.Owners. Only what says so is
	// looked at: Path, UID, GID, Kind, Major, Minor.
	Owned []Owned

	// As is the user and group that the command runs as, without any
	// capability, for roots in which files of the host keep their owners.
	// Nil: ID.
	As *int

	// Group is the group, where it is another number than As.
	Group *int
}

// An Ahead is the beginning of a root that many commands have in common, so that a
// backend can make it before it knows the command.
type Ahead struct {
	Key         string                   // if equal, First does the same
	First, Rest func(dir *os.File) error // Root.Fill does one after the other
	Binds       []Bind                   // the first of Root.Binds; nothing that Rest makes is below their targets. Plain ones: not writable, and not Over
}

// A Layer is one read-only layer of a root: exactly one of the fields is set.
type Layer struct {
	Dir   string // a directory of the host
	Image string // an EROFS image, a regular file of the host
}

// A Bind shows Source of the host at Target, an absolute path in the root.
type Bind struct {
	Source, Target string

	// Writable lets the command change what is at Source, as far as the user that
	// it is on the host may: ID, for a caller who is root.
	Writable bool

	// Over shows a directory below a fresh layer, which takes all that the
	// command writes there. Of the file systems mounted below Source nothing
	// is shown. If any bind has it, Status.Root is not the root, but a
	// directory with these layers as overlayfs leaves them, each named after
	// the number of its bind.
	Over bool
}

// Capabilities say what a backend can do on this machine, as this user.
type Capabilities struct {
	Works  bool   // a command can be run at all
	Reason string // when it does not work: why, and what to do about it

	Mounts      bool // Root.Tmpfs, Root.ReadOnly, Bind.Writable
	Overlay     bool // Root.Lowers of kind Dir
	Images      bool // Root.Lowers of kind Image
	DataLayers  bool // Root.Data
	Users       bool // Root.As and Root.Group other than ID
	Filters     bool // Spec.Filter
	OverBinds   bool // Bind.Over
	Observe     bool // Spec.Observe
	Caller      bool // Spec.Umask and Spec.Caller
	Vary        bool // Spec.Vary
	Owners      bool // Spec.Owners
	Machines    bool // Spec.Machine
	SELinux     bool // Spec.SELinux, where SELinux is active
	Terminal    bool // Spec.Terminal
	NetworkNone bool
	NetworkHost bool

	// OwnRoot says that the root is the command's "/". A backend without it
	// makes the root as a directory of the host, in which the command starts:
	// all absolute paths that the command itself names are the host's. Of these
	// it can open what is bound to its own name, /proc, and the usual devices,
	// but it can see that others exist; other binds are links in the directory.
	// The Spec's own paths (Dir, Args[0], and a TMPDIR in Env) still name things in
	// the root. It wants to be told that this is good enough: Root.InPlace.
	OwnRoot bool

	FixedID  bool // the command is the user ID; else it is the caller
	Loopback bool // NetworkNone has a loopback interface; else there are no sockets at all
	KillsAll bool // no process of a command survives it, whatever it does

	// Boots says that each command boots a virtual machine: its processes are none of
	// the host's.
	Boots bool

	// OwnKernel says that the command meets a kernel of its own: its processes are
	// not the host's, and what the root has beside /proc, /dev and /tmp, what is in
	// /dev, and what /proc says of signals is that kernel's business.
	OwnKernel bool

	PidNamespace bool // host processes are invisible
	Exposed      bool // the command can signal the sandbox's process 1, and so end itself with an error of Run
	IPCNamespace bool
	UTSNamespace bool
	Seccomp      bool // a deny list of system calls is in force
	NoNewPrivs   bool // and no capability is left

	MemoryLimit  Precision
	PidsLimit    Precision
	ScratchLimit bool
	FileLimit    bool
	ExactStatus  bool // signals, time-outs and start errors are told apart

	// Owner is the user and group that Root.Fill must give to its files: ID
	// as seen from our process.
	Owner int
}

// Precision says how well a limit is kept.
type Precision int

const (
	Absent  Precision = iota // the limit is refused
	PerProc                  // each process may use that much (rlimit)
	Exact                    // the whole tree together (cgroup)
)

// A Status says how a command ended.
type Status struct {
	// Code is the exit status, 0 to 255; 128+Signal when a signal ended the
	// command; 127 when it was not found and 126 when it could not be
	// executed, as shells do (then Start says why).
	Code   int
	Signal int // the signal that ended the command, or 0

	TimedOut    bool  // Limits.Wall killed it
	OutOfMemory bool  // Limits.Memory killed something in it
	Start       error // why the command could not be started; it did not run

	Usage Usage

	// Lookups are the paths that the command and its descendants named in
	// system calls, where Spec.Observe asked for it. Complete says that
	// nothing is missing from them.
	Lookups  []Lookup
	Complete bool

	// Owned is what the command has given away or made devices of, and still
	// exists, where Spec.Owners asked for it; else nil.
	Owned []Owned

	// Unvaried says that some of Spec.Vary could not be done for some process.
	Unvaried bool

	// Left says that the command had left processes, which were killed, and Network that
	// it sent something to the loopback interface of a network of its own. Backends
	// without Capabilities.Caller do not know.
	Left, Network bool

	// Root is the root directory as the command left it, where Spec.KeepRoot
	// asked for it: without /proc, /dev, /tmp and Binds. It stays valid, and
	// the files below it exist, until it is closed.
	Root *os.File
}

// Usage is what the command and its descendants used.
type Usage struct {
	Wall, User, System time.Duration
	MaxRSS             int64 // bytes, of the largest single process
}

// A Lookup is one path that was looked up, absolute in the root, symbolic
// links not resolved, "." and ".." not cleaned. What the look-up found is not
// recorded, but for whether it was something: whoever needs more looks at the root.
type Lookup struct {
	Path string
	Op   Op

	// Found says that there was something, which may be gone by the end; false
	// where that is not known. Made says that the command may have made it, or
	// moved it there: then Found says nothing. Stays says that what it made is there
	// at the end, of what is below /tmp, /run and /dev/shm.
	Found, Made, Stays bool

	// Anew says that what was there, if anything, was not looked at: it was opened to
	// be written, made or emptied by that, or another file was given its name. Where
	// the same path was looked up in another way, too, there is another Lookup.
	Anew bool
}

// Op says how a path was used.
type Op int

const (
	Stat Op = iota // metadata or existence: stat, access, readlink, mkdir, …
	Open           // opened; a directory that is opened may be listed
	Exec           // executed, as program, interpreter or dynamic loader
	Move           // given another name, or that of another: rename, link
)
