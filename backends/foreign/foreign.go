// Package foreign has sandboxes made by other people's programs: bwrap, runc,
// systemd-nspawn and their like. A [Tool] says how one of them is called; the
// packages beside this one are a Tool each.
//
// All of them keep what package backends promises, because our own helper runs
// on both sides of the tool. Around it, in a mount namespace that ends with it,
// the helper makes the whole root: layers, scratch, binds and /tmp. So the tool
// never sees a file of the store that can be written, and nothing that it
// leaves behind is on the host. Inside, as the first process, the helper starts
// the command with exactly the given environment and descriptors, installs the
// filter of system calls, and tells how the command ended, which no tool does
// exactly. What the tool itself writes goes to our error messages only: a
// command that could not be started because the tool failed is an error of Run,
// and never a status.
//
// As root the command is the host's user [backends.ID] without any capability.
// As another user, all is in a user namespace that knows one user.
//
// Limits of memory and of processes hold for each process, or for each user
// namespace, and are refused where they cannot be had at all.
package foreign

import (
	"github.com/sbx-action/sbx-action/backends"
)

// A Tool is a program that makes sandboxes.
type Tool struct {
	Name    string // of the backend
	Program string // a path, or a name that is looked up in $PATH
	Install string // what the user is to do when there is none

	RootOnly bool // it is of no use to other users

	// Shell says that the tool needs a root with things in it, or puts some there.
	// Then it is given one that has nothing but the directories of this list, and
	// the root of the command in one of them, to which our init changes. It needs
	// [ShellCapabilities], too, and no /proc and /dev of the tool's.
	Shell []string

	// OwnPID says that the tool makes no pid namespace: then it is started as the
	// first process of one. It goes with Shell, and with RootOnly or HostShell.
	// OwnRest makes namespaces for ipc, the host name and the network, too.
	OwnPID, OwnRest bool

	// HostShell says that the tool only pretends that its root is another one: then
	// its root is the shell, which has the host's programs, read-only, and the root
	// of the command in /sbx, whole. It is started as the user of the command. It
	// goes with OwnPID.
	HostShell bool

	// Tree says that Init gets the root of the command from us, wherever it is, as a
	// tree of mounts: the tool makes namespaces and no root. Init needs
	// [ShellCapabilities], or with AsUser [UserCapabilities].
	Tree bool

	// AsUser says that the tool is for users: it makes a user namespace, in which
	// Init is root, and if we are root it is started as the user [backends.ID].
	AsUser bool

	// UserRoot says that the tool works for other users, too, if it is started as
	// the root of a user namespace. Init need not be in one of its own. It goes on as
	// with Tree, and needs [UserCapabilities].
	UserRoot bool

	// InitFile says that the tool cannot execute a file without a name: then the
	// program of Init is in the root, and removes itself.
	InitFile bool

	// OldCalls says that the tool does not know newer system calls with paths, or not
	// all of them: then they are missing, and programs do without.
	OldCalls bool

	// Pipes says that the tool's commands cannot share a place in a file: output that
	// is to go to one goes through a pipe.
	Pipes bool

	// Stdio says that the tool passes on no descriptors but 0 to 2. Then 0 and 1 are
	// what else FirstFD and LastFD are.
	Stdio bool

	// SetName and LoUp say that the tool makes a namespace for the host name, or for
	// the network, and leaves it as it is: then our init sets the name, or brings the
	// loopback interface up.
	SetName, LoUp bool

	// Compiled says that what has the program's name and is a script is none, but
	// stands in for it. Such a one can be run, but does not work.
	Compiled bool

	// Remote says that the tool only asks another program to make the sandbox: one
	// that sees nothing of our mounts and descriptors. Then Init connects to us, and
	// gets the root as with Tree. Only the image that Prepare makes has its program:
	// see [Program]. It makes its network itself, from that of the host.
	Remote bool

	// Prepare, if it is there, is called once, before the first command.
	Prepare func(program string) error

	// KeepCaps says that the program, of a user, has all capabilities of the user
	// namespace that it is in.
	KeepCaps bool

	// Machine, if it is there, makes what runs our init where no socket leads to; the
	// tool, then, does not start the init, and ends when the machine does.
	Machine func() (Machine, error)

	// Labels says that the tool obeys Job.SELinux.
	Labels bool

	// Hide is a directory of the host that the tool must not see, or empty.
	Hide string

	// Adjust, if it is there, takes back what this tool cannot do.
	Adjust func(*backends.Capabilities)

	// Command returns the tool's command line for a job, and its environment.
	// It may write files into the job's directory.
	Command func(*Job) (Line, error)
}

// A Line is a command line and an environment.
type Line struct{ Args, Env []string }

// A Job is one sandbox to be made. The tool starts in Dir.
//
// It has to run Init as one of the first three processes of a new pid namespace in
// Root, with the descriptors [FirstFD] to [LastFD] that it was started with, as
// root of the user namespace that it is in, with [Capabilities], and with /proc and a minimal /dev
// mounted. Directories for both exist.
type Job struct {
	Program string // absolute, of the tool
	PID     int    // of the tool
	User    bool   // the caller is not root

	Root string   // the whole root but for /proc and /dev
	Dir  string   // for the tool's own files; empty
	Init []string // what to run; its first element may be replaced by the program's place

	Network  backends.Network
	ReadOnly bool // Root is read-only, but for what is mounted in it; it has to stay so

	// ReadOnlyProc says that /proc has to be read-only: the command is a user who
	// may write there without any capability, such as root.
	ReadOnlyProc bool

	// OwnUser says that the command has to get a user namespace of its own.
	OwnUser bool

	// SharedMemory is how much may be written into /dev/shm, in bytes; zero means
	// no limit.
	SharedMemory int64

	// SELinux are the labels that were asked for, or nil.
	SELinux *backends.SELinux

	// WriteFile writes a file into Dir.
	WriteFile func(name string, data []byte) error
}

// The descriptors that Init needs.
const (
	FirstFD = 3
	LastFD  = 4
)

// ShellCapabilities are what Init needs for mounts of its own.
func ShellCapabilities() []string {
	return append(Capabilities(), "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
}

// UserCapabilities are what Init needs where it is the root of a user namespace,
// and whoever makes Init's: to make a user namespace for the command. They are of
// no use outside of the namespace.
func UserCapabilities() []string { return append(ShellCapabilities(), "CAP_SETFCAP") }

// Capabilities are what Init needs, when the caller is root, to start the
// command as another user, to watch it wherever it looks, and to kill it. The
// command has none.
func Capabilities() []string {
	return []string{
		"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL", "CAP_SYS_PTRACE", "CAP_CHOWN", "CAP_DAC_READ_SEARCH",
	}
}
