package bwrap

import (
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

const userChrootUsage = `usage: linux-user-chroot [OPTIONS...] ROOTDIR PROGRAM [ARGS...]

    --unshare-ipc                  Make IPC and UTS namespaces
    --unshare-pid                  Make a PID namespace; it ends with the program
    --unshare-net                  Make a network namespace
    --mount-proc DIR               Mount a procfs
    --mount-devapi DIR             Make a /dev with the usual devices
    --mount-readonly DIR           Make a directory of ROOTDIR read-only
    --mount-bind SOURCE DEST       Show SOURCE of the host at DEST, which is there
    --chdir DIR                    Start in DIR
    --seccomp-profile-version N    Refuse system calls that builds do not need: 0 is the only list
    --help, --version              Print this text, or the version whose options these are

Besides, for those who know that it is us:
    --mount-tmpfs DIR              Mount an empty directory in memory
    --map-root                     Be root in a user namespace

This is sbx-action, which takes linux-user-chroot's options. DIRs are in ROOTDIR.
`

// MainUserChroot is [Main] for the command line of linux-user-chroot, the parent
// of bubblewrap. It needs no setuid bit: users other than root are in a user
// namespace. The program is not process 1, so that signals end it; but its exit
// code after a signal is 1 as it always was, and nobody lives longer than it in a
// PID namespace of its own.
func MainUserChroot(args []string) int {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		fmt.Fprintln(os.Stderr, "linux-user-chroot: sbx-action must not be setuid: users get their sandboxes by user namespaces")
		return 1
	}
	caps, err := effectiveCaps()
	if err != nil {
		fmt.Fprintf(os.Stderr, "linux-user-chroot: capget: %v\n", err)
		return 1
	}
	s := newSettings("linux-user-chroot", slices.Clone(os.Environ()), caps)
	text, problem := s.userChroot(args[1:])
	if problem != "" {
		fmt.Fprint(os.Stderr, s.message(3, problem))
		return 1
	}
	if text != "" {
		fmt.Print(text)
		return 0
	}
	return s.run(func() { fmt.Fprint(os.Stderr, userChrootUsage) })
}

// userChroot reads the arguments. It returns what is to be printed instead, or
// what is wrong.
func (s *settings) userChroot(args []string) (text, problem string) {
	s.keepPWD, s.endWithCommand, s.signalsAre1 = true, true, true
	s.chdir = "/"
	s.add(op{kind: opDevBind, dest: "/", exists: true, made: true})
	needs := map[string]int{"--mount-bind": 2, "--mount-readonly": 1, "--mount-proc": 1, "--mount-devapi": 1, "--mount-tmpfs": 1, "--chdir": 1, "--seccomp-profile-version": 1}
	for len(args) > 0 {
		arg, n := args[0], needs[args[0]]
		if len(args) <= n {
			return "", fmt.Sprintf("%s takes %s", arg, [...]string{"", "one argument", "two arguments"}[n])
		}
		a := args[1:]
		switch arg {
		case "--help":
			return userChrootUsage, ""
		case "--version":
			return "linux-user-chroot 2015.1\n", ""
		case "--unshare-ipc":
			s.ipc, s.uts = true, true
		case "--unshare-pid":
			s.pid = true
		case "--unshare-net":
			s.net = true
		case "--mount-bind":
			s.add(op{kind: opDevBind, source: a[0], dest: a[1], exists: true, made: true})
		case "--mount-readonly":
			s.add(op{kind: opReadOnly, dest: a[0], exists: true, made: true})
		case "--mount-proc":
			s.add(op{kind: opProc, dest: a[0], exists: true, made: true})
		case "--mount-devapi":
			s.devpts = true
			s.add(op{kind: opDev, dest: a[0], exists: true, made: true})
		case "--mount-tmpfs":
			s.add(op{kind: opTmpfs, dest: a[0], perms: 0o1777, exists: true, made: true})
		case "--map-root":
			s.user, s.uid, s.gid = true, 0, 0
		case "--chdir":
			s.chdir = a[0]
		case "--seccomp-profile-version":
			version, err := strconv.Atoi(a[0])
			if err != nil || version > 0 || version < -1 {
				return "", fmt.Sprintf("--seccomp-profile-version %s: the versions are 0 and, for none, -1", a[0])
			}
			if version == 0 {
				s.filters = [][]byte{profile0()}
			}
		default:
			if len(arg) > 1 && arg[:2] == "--" {
				return "", fmt.Sprintf("unknown option %s; --help lists them", arg)
			}
			if len(args) < 2 {
				return "", "no program: put it behind ROOTDIR; --help lists the options"
			}
			s.ops[0].source, s.command = arg, args[1:]
			return "", ""
		}
		args = args[1+n:]
	}
	return "", "no ROOTDIR and no program; --help lists the options"
}

// profile0 is the only profile there has been: what programs that build do not
// need, and where the kernel had holes, answers EPERM; so does making a user
// namespace; and sockets of rare families are not supported.
func profile0() []byte {
	const (
		load, equal, atLeast, set, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
			unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
		number, arch, argument0        = 0, 4, 16 // places in struct seccomp_data
		allow, refuse                  = 0x7fff0000, 0x00050000 + uint32(unix.EPERM)
		noFamily                       = 0x00050000 + uint32(unix.EAFNOSUPPORT)
		auditI386, x32          uint32 = 0x40000003, 0x40000000
	)
	var program []unix.SockFilter
	add := func(code uint16, k uint32, jt, jf uint8) {
		program = append(program, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	}
	// calls refuses the calls with these numbers; clone and socket are looked into.
	calls := func(refused []uint32, clone, socket uint32) {
		for _, n := range refused {
			add(equal, n, 0, 1)
			add(ret, refuse, 0, 0)
		}
		add(equal, clone, 0, 4)
		add(load, argument0, 0, 0)
		add(set, unix.CLONE_NEWUSER, 0, 1)
		add(ret, refuse, 0, 0)
		add(ret, allow, 0, 0)
		families := []uint32{
			unix.AF_AX25, unix.AF_IPX, unix.AF_APPLETALK, unix.AF_NETROM, unix.AF_BRIDGE, unix.AF_ATMPVC, unix.AF_X25,
			unix.AF_ROSE, unix.AF_DECnet, unix.AF_NETBEUI, unix.AF_SECURITY, unix.AF_KEY,
		}
		add(equal, socket, 0, uint8(1+2*len(families)+2))
		add(load, argument0, 0, 0)
		for _, f := range families {
			add(equal, f, 0, 1)
			add(ret, noFamily, 0, 0)
		}
		add(atLeast, unix.AF_NETLINK+1, 0, 1)
		add(ret, noFamily, 0, 0)
		add(ret, allow, 0, 0)
	}
	i386 := []uint32{103, 86, 136, 51, 123, 131, 317, 274, 275, 276, 294, 310, 21, 217, 336, 26}
	skip := 2 + 2*len(i386) + 5 + 2 + 2*12 + 2 + 1
	add(load, arch, 0, 0)
	add(equal, auditI386, 0, uint8(skip-1))
	add(load, number, 0, 0)
	calls(i386, 120, 359)
	add(load, number, 0, 0)
	if own.x32 { // the same numbers with a bit
		add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, ^x32, 0, 0)
	}
	calls(own.refused, unix.SYS_CLONE, unix.SYS_SOCKET)
	out := make([]byte, 0, 8*len(program))
	for _, f := range program {
		out = append(out, byte(f.Code), byte(f.Code>>8), f.Jt, f.Jf, byte(f.K), byte(f.K>>8), byte(f.K>>16), byte(f.K>>24))
	}
	return out
}

// A machine has the numbers of the calls that profile 0 refuses.
type machine struct {
	refused []uint32
	x32     bool
}

// anywhere are those that both machines have.
var anywhere = []uint32{
	unix.SYS_SYSLOG, unix.SYS_PERSONALITY, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_MOVE_PAGES, unix.SYS_MBIND, unix.SYS_GET_MEMPOLICY,
	unix.SYS_SET_MEMPOLICY, unix.SYS_MIGRATE_PAGES, unix.SYS_UNSHARE, unix.SYS_MOUNT, unix.SYS_PIVOT_ROOT, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PTRACE,
}
