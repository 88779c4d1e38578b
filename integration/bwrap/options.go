package bwrap

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An option is one of the command line. The texts of its errors are those of
// bubblewrap: its callers show them, and some look for them.
type option struct {
	name  string // without the dashes
	args  string // the names of its arguments, for --help
	count string // how many, as bubblewrap's error says it
	usage string
	set   func(p *parser, a []string)

	// modifies says that the option is about the one that follows.
	modifies bool
}

// options is the table that the parser and --help read, in the order of --help.
func options() []option {
	return slices.Concat(programOptions(), namespaceOptions(), processOptions(), fileOptions(), overlayOptions(), reportOptions())
}

func programOptions() []option {
	return []option{
		{name: "help", usage: "Print this text", set: func(p *parser, _ []string) { p.leave(0, p.usage(), "") }},
		{name: "version", usage: "Print the version of bubblewrap whose command line this is", set: func(p *parser, _ []string) { p.leave(0, version+"\n", "") }},
		{name: "args", args: "FD", count: "an argument", usage: "Read more options, each ended by a NUL, from FD", set: (*parser).args},
		{name: "argv0", args: "VALUE", count: "one argument", usage: "Call the program VALUE", set: func(p *parser, a []string) {
			if p.argv0 != nil {
				p.die("--argv0 used multiple times")
			}
			p.argv0 = &a[0]
		}},
		{name: "level-prefix", usage: "Begin messages with their severity, as in <3>", set: func(p *parser, _ []string) { p.level = true }},
	}
}

func namespaceOptions() []option {
	flag := func(name, usage string, set func(*parser)) option {
		return option{name: name, usage: usage, set: func(p *parser, _ []string) { set(p) }}
	}
	return []option{
		flag("unshare-all", "Make all kinds of namespaces that can be made", func(p *parser) {
			p.userTry, p.cgroupTry = true, true
			p.ipc, p.pid, p.uts, p.net = true, true, true, true
		}),
		flag("share-net", "Keep the network, after --unshare-all", func(p *parser) { p.net = false }),
		flag("unshare-user", "Make a user namespace (always, for users other than root)", func(p *parser) { p.user = true }),
		flag("unshare-user-try", "Make a user namespace where that is possible", func(p *parser) { p.userTry = true }),
		flag("unshare-ipc", "Make an IPC namespace", func(p *parser) { p.ipc = true }),
		flag("unshare-pid", "Make a PID namespace", func(p *parser) { p.pid = true }),
		flag("unshare-net", "Make a network namespace", func(p *parser) { p.net = true }),
		flag("unshare-uts", "Make a UTS namespace", func(p *parser) { p.uts = true }),
		flag("unshare-cgroup", "Make a cgroup namespace", func(p *parser) { p.cgroup = true }),
		flag("unshare-cgroup-try", "Make a cgroup namespace where that is possible", func(p *parser) { p.cgroupTry = true }),
		fdOption("userns", "Join this user namespace", func(p *parser) *int { return &p.usernsFD }),
		fdOption("userns2", "Change to this user namespace when all is set up", func(p *parser) *int { return &p.userns2FD }),
		flag("disable-userns", "Let nobody inside make user namespaces", func(p *parser) { p.disableUserns = true }),
		flag("assert-userns-disabled", "Fail if somebody inside could make user namespaces", func(p *parser) { p.assertUsernsDisabled = true }),
		fdOption("pidns", "Join this PID namespace, or be its child with --unshare-pid", func(p *parser) *int { return &p.pidnsFD }),
		idOption("uid", "User inside", func(p *parser) *int { return &p.uid }),
		idOption("gid", "Group inside", func(p *parser) *int { return &p.gid }),
		{name: "hostname", args: "NAME", count: "an argument", usage: "Host name inside", set: func(p *parser, a []string) {
			if p.hostname {
				p.onlyLast("hostname")
			}
			p.hostname = true
			p.add(op{kind: opHostname, dest: a[0], exists: true})
		}},
	}
}

func processOptions() []option {
	flag := func(name, usage string, set func(*parser)) option {
		return option{name: name, usage: usage, set: func(p *parser, _ []string) { set(p) }}
	}
	return []option{
		{name: "chdir", args: "DIR", count: "one argument", usage: "Start in DIR", set: func(p *parser, a []string) {
			if p.chdir != "" {
				p.onlyLast("chdir")
			}
			p.chdir = a[0]
		}},
		flag("clearenv", "Unset all variables", func(p *parser) { p.env = nil }),
		{name: "setenv", args: "VAR VALUE", count: "two arguments", usage: "Set a variable", set: func(p *parser, a []string) {
			if a[0] == "" || strings.Contains(a[0], "=") {
				p.die("setenv failed")
			}
			p.setenv(a[0], a[1])
		}},
		{name: "unsetenv", args: "VAR", count: "an argument", usage: "Unset a variable", set: func(p *parser, a []string) {
			if a[0] == "" || strings.Contains(a[0], "=") {
				p.die("unsetenv failed")
			}
			p.unsetenv(a[0])
		}},
		{name: "lock-file", args: "DEST", count: "an argument", usage: "Hold a lock of DEST while anything runs", set: func(p *parser, a []string) {
			p.locks = append(p.locks, a[0])
		}},
		fdOption("sync-fd", "Keep FD open while anything runs", func(p *parser) *int { return &p.syncFD }),
		flag("new-session", "Start in a session of its own", func(p *parser) { p.newSession = true }),
		flag("die-with-parent", "Kill everything when the caller dies", func(p *parser) { p.dieWithParent = true }),
		flag("as-pid-1", "Put no process that reaps above the command", func(p *parser) { p.asPid1 = true }),
		{name: "cap-add", args: "CAP", count: "an argument", usage: "Keep or give a capability, or ALL", set: func(p *parser, a []string) { p.caps |= p.capability(a[0]) }},
		{name: "cap-drop", args: "CAP", count: "an argument", usage: "Take a capability away, or ALL", set: func(p *parser, a []string) { p.caps &^= p.capability(a[0]) }},
		{name: "seccomp", args: "FD", count: "an argument", usage: "Filter system calls with the program in FD", set: func(p *parser, a []string) {
			if p.filters != nil {
				p.die("--seccomp cannot be combined with --add-seccomp-fd")
			}
			p.fd(&p.seccompFD, "seccomp", a[0])
		}},
		{name: "add-seccomp-fd", args: "FD", count: "an argument", usage: "The same, and there can be more than one", set: func(p *parser, a []string) {
			if p.seccompFD >= 0 {
				p.die("--add-seccomp-fd cannot be combined with --seccomp")
			}
			p.filter(p.number(a[0], "fd"))
		}},
		{name: "exec-label", args: "LABEL", count: "an argument", usage: "SELinux label of the command", set: func(p *parser, a []string) {
			if p.execLabel != "" {
				p.onlyLast("exec-label")
			}
			p.execLabel = p.label(a[0])
		}},
		{name: "file-label", args: "LABEL", count: "an argument", usage: "SELinux label of what is made for the sandbox", set: func(p *parser, a []string) {
			if p.fileLabel != "" {
				p.onlyLast("file-label")
			}
			p.fileLabel = p.label(a[0])
		}},
	}
}

// bind is an option that shows a file of the host; with try, it may not be there.
func bind(name string, kind opKind, try bool, usage string) option {
	return option{name: name, args: "SRC DEST", count: "two arguments", usage: usage, set: func(p *parser, a []string) {
		p.add(op{kind: kind, source: a[0], dest: a[1], try: try})
	}}
}

// bindFD is an option that shows what is open as a descriptor.
func bindFD(name string, kind opKind, usage string) option {
	return option{name: name, args: "FD DEST", count: "two arguments", usage: usage, set: func(p *parser, a []string) {
		fd := p.number(a[0], "fd")
		p.add(op{kind: kind, source: fmt.Sprintf("/proc/self/fd/%d", fd), dest: a[1], fd: fd, hasFD: true})
	}}
}

// mount is an option that mounts a file system.
func mount(name string, kind opKind, usage string) option {
	return option{name: name, args: "DEST", count: "an argument", usage: usage, set: func(p *parser, a []string) {
		p.devpts = p.devpts || kind == opDev
		p.add(op{kind: kind, dest: a[0]})
	}}
}

// data is an option that makes a file of what is read from a descriptor.
func data(name string, kind opKind, perms int, usage string) option {
	return option{name: name, args: "FD DEST", count: "two arguments", usage: usage, set: func(p *parser, a []string) {
		p.add(op{kind: kind, dest: a[1], fd: p.number(a[0], "fd"), hasFD: true, perms: p.permsOr(perms)})
	}}
}

// fileOptions are those that say what is in the root.
func fileOptions() []option {
	return []option{
		bind("bind", opBind, false, "Show SRC of the host at DEST"),
		bind("bind-try", opBind, true, "The same, if SRC is there"),
		bind("dev-bind", opDevBind, false, "Show SRC of the host at DEST, devices too"),
		bind("dev-bind-try", opDevBind, true, "The same, if SRC is there"),
		bind("ro-bind", opROBind, false, "Show SRC of the host at DEST, read-only"),
		bind("ro-bind-try", opROBind, true, "The same, if SRC is there"),
		bindFD("bind-fd", opBind, "Show the open file or directory FD at DEST"),
		bindFD("ro-bind-fd", opROBind, "The same, read-only"),
		{name: "remount-ro", args: "DEST", count: "one argument", usage: "Make the mount DEST read-only, not what is mounted below it", set: func(p *parser, a []string) {
			p.add(op{kind: opRemountRO, dest: a[0]})
		}},
		mount("proc", opProc, "Mount a procfs"),
		mount("dev", opDev, "Make a /dev with the usual devices"),
		{name: "tmpfs", args: "DEST", count: "an argument", usage: "Mount an empty directory in memory", set: func(p *parser, a []string) {
			p.add(op{kind: opTmpfs, dest: a[0], perms: p.permsOr(0o755), size: p.size})
			p.size = 0
		}},
		mount("mqueue", opMqueue, "Mount the POSIX message queues"),
		{name: "dir", args: "DEST", count: "an argument", usage: "Make a directory", set: func(p *parser, a []string) {
			p.add(op{kind: opDir, dest: a[0], perms: p.permsOr(0o755)})
		}},
		data("file", opFile, 0o666, "Make a file with what is read from FD"),
		data("bind-data", opBindData, 0o600, "The same, on a mount of its own"),
		data("ro-bind-data", opROBindData, 0o600, "The same, on a read-only mount of its own"),
		{name: "symlink", args: "SRC DEST", count: "two arguments", usage: "Make a symbolic link DEST to SRC", set: func(p *parser, a []string) {
			p.add(op{kind: opSymlink, source: a[0], dest: a[1]})
		}},
		{name: "perms", args: "OCTAL", count: "an argument", usage: "Permissions for the option that follows", modifies: true, set: func(p *parser, a []string) {
			if p.perms >= 0 {
				p.die("--perms given twice for the same action")
			}
			p.perms = p.octal("perms", a[0])
		}},
		{name: "size", args: "BYTES", count: "an argument", usage: "Size of the --tmpfs that follows", modifies: true, set: (*parser).setSize},
		{name: "chmod", args: "OCTAL PATH", count: "two arguments", usage: "Change the permissions of PATH, which is there", set: func(p *parser, a []string) {
			p.add(op{kind: opChmod, dest: a[1], perms: p.octal("chmod", a[0]), exists: true})
		}},
	}
}

func overlayOptions() []option {
	overlay := func(name, args, count string, least int, few string, add func(p *parser, a []string) op, usage string) option {
		return option{name: name, args: args, count: count, usage: usage, set: func(p *parser, a []string) {
			if len(p.overlaySources) < least {
				p.die("--%s requires at least %s --overlay-src", name, few)
			}
			o := add(p, a)
			o.lowers = slices.Clone(p.overlaySources)
			slices.Reverse(o.lowers) // as overlayfs has them: the topmost first
			p.overlaySources = nil
			p.add(o)
		}}
	}
	return []option{
		{name: "overlay-src", args: "SRC", usage: "A lower directory of the overlay that follows", modifies: true, set: func(p *parser, a []string) {
			p.overlaySources = append(p.overlaySources, a[0])
		}},
		overlay("overlay", "RWSRC WORKDIR DEST", "three arguments", 1, "one", func(_ *parser, a []string) op {
			return op{kind: opOverlay, source: a[0], work: a[1], dest: a[2]}
		}, "Mount an overlay; what is written goes to RWSRC"),
		overlay("tmp-overlay", "DEST", "an argument", 1, "one", func(p *parser, a []string) op {
			p.tmpOverlays++
			return op{kind: opTmpOverlay, dest: a[0]}
		}, "Mount an overlay; what is written is forgotten"),
		overlay("ro-overlay", "DEST", "an argument", 2, "two", func(_ *parser, a []string) op {
			return op{kind: opROOverlay, dest: a[0]}
		}, "Mount an overlay that cannot be written to"),
	}
}

func reportOptions() []option {
	return []option{
		fdOption("block-fd", "Wait for something to read from FD before the command starts", func(p *parser) *int { return &p.blockFD }),
		fdOption("userns-block-fd", "Wait for it before the user namespace is used", func(p *parser) *int { return &p.usernsBlockFD }),
		fdOption("info-fd", "Write the pid and the namespaces to FD", func(p *parser) *int { return &p.infoFD }),
		fdOption("json-status-fd", "Write the pid, and then the exit code, to FD", func(p *parser) *int { return &p.jsonFD }),
	}
}

// fdOption is an option whose last value counts.
func fdOption(name, usage string, where func(*parser) *int) option {
	return option{name: name, args: "FD", count: "an argument", usage: usage, set: func(p *parser, a []string) { p.fd(where(p), name, a[0]) }}
}

func idOption(name, usage string, where func(*parser) *int) option {
	return option{name: name, args: strings.ToUpper(name), count: "an argument", usage: usage, set: func(p *parser, a []string) {
		if *where(p) >= 0 {
			p.onlyLast(name)
		}
		*where(p) = p.number(a[0], name)
	}}
}

// usage is what --help prints.
func (p *parser) usage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s [OPTIONS...] [--] COMMAND [ARGS...]\n\n", p.called)
	for _, o := range options() {
		fmt.Fprintf(&b, "    %-28s %s\n", strings.TrimSpace("--"+o.name+" "+o.args), o.usage)
	}
	b.WriteString("\nThis is sbx-action, which takes bubblewrap's options.\n")
	return b.String()
}

// capability returns the bits of a capability, or of all.
func (p *parser) capability(name string) uint64 {
	p.capsGiven = true
	if strings.EqualFold(name, "ALL") {
		return ^uint64(0)
	}
	i := slices.IndexFunc(capabilities, func(c string) bool { return strings.EqualFold("cap_"+c, name) })
	if n, err := strconv.Atoi(name); i < 0 && err == nil && n >= 0 && n < len(capabilities) {
		i = n
	}
	if i < 0 {
		p.die("unknown cap: %s", name)
	}
	return 1 << i
}

// capabilities are the names of the kernel, in its order.
var capabilities = []string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}
