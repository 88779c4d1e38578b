package bwrap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main does what the arguments say; the first is the name of the program. It
// becomes another program, and returns only if it does not come so far: with the
// exit code.
func Main(args []string) int {
	if len(args) == 2 && args[1] == "--version" {
		fmt.Println(version)
		return 0
	}
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		fmt.Fprintln(os.Stderr, "bwrap: sbx-action must not be setuid: users get their sandboxes by user namespaces")
		return 1
	}
	caps, err := effectiveCaps()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bwrap: capget (for uid == 0) failed: %s\n", errorText(errno(err)))
		return 1
	}
	s, warnings, end := parse(args[0], args[1:], slices.Clone(os.Environ()), caps)
	if end != nil {
		fmt.Print(end.stdout)
		fmt.Fprint(os.Stderr, end.stderr)
		return end.code
	}
	fmt.Fprint(os.Stderr, warnings)
	return s.run(func() {
		p := parser{called: args[0]}
		fmt.Fprint(os.Stderr, p.usage())
	})
}

// run becomes what was asked for; usage is for when there is no command.
func (s *settings) run(usage func()) int {
	if complaint := s.check(os.Getuid(), os.Getgid()); complaint != "" {
		fmt.Fprint(os.Stderr, s.message(3, complaint))
		return 1
	}
	if len(s.command) == 0 {
		usage()
		return 1
	}
	err := s.become()
	fmt.Fprint(os.Stderr, s.message(3, err.Error()))
	return 1
}

// effectiveCaps are the capabilities of root; others have none to pass on.
func effectiveCaps() (uint64, error) {
	if os.Getuid() != 0 {
		return 0, nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}

// check completes the settings, and returns what is wrong with them together.
func (s *settings) check(uid, gid int) string {
	switch {
	case s.usernsBlockFD >= 0 && !s.user:
		return "--userns-block-fd requires --unshare-user"
	case s.usernsBlockFD >= 0 && s.infoFD < 0:
		return "--userns-block-fd requires --info-fd"
	case s.usernsFD >= 0 && s.user:
		return "--userns not compatible --unshare-user"
	case s.usernsFD >= 0 && s.userTry:
		return "--userns not compatible --unshare-user-try"
	case s.disableUserns && !s.user:
		return "--disable-userns requires --unshare-user"
	case s.disableUserns && s.usernsBlockFD >= 0:
		return "--disable-userns is not compatible with  --userns-block-fd"
	}
	if uid != 0 && s.usernsFD < 0 || s.userTry && userNamespaces() {
		s.user = true
	}
	if s.cgroup || s.cgroupTry {
		_, err := os.Stat("/proc/self/ns/cgroup")
		if s.cgroup && err != nil {
			return "Cannot create new cgroup namespace because the kernel does not support it"
		}
		s.cgroup = err == nil
	}
	if len(s.command) == 0 {
		return ""
	}
	if s.uid < 0 {
		s.uid = uid
	}
	if s.gid < 0 {
		s.gid = gid
	}
	own := s.user || s.usernsFD >= 0
	switch {
	case !own && s.uid != uid:
		return "Specifying --uid requires --unshare-user or --userns"
	case !own && s.gid != gid:
		return "Specifying --gid requires --unshare-user or --userns"
	case !s.uts && s.hostname:
		return "Specifying --hostname requires --unshare-uts"
	case s.asPid1 && !s.pid:
		return "Specifying --as-pid-1 requires --unshare-pid"
	case s.asPid1 && s.locks != nil:
		return "Specifying --as-pid-1 and --lock-file is not permitted"
	}
	return ""
}

// userNamespaces says whether they can be made at all.
func userNamespaces() bool {
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		return false
	}
	enable, err := os.ReadFile("/sys/module/user_namespace/parameters/enable")
	if err == nil && strings.HasPrefix(string(enable), "N") {
		return false
	}
	most, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	return err != nil || string(most) != "0\n"
}

// become executes the program that carries out the plan.
func (s *settings) become() error {
	plan := s.encode(outside{dir: workingDir(), home: value(s.env, "HOME"), tty: terminal(), uid: os.Getuid(), gid: os.Getgid()})
	file, err := memory("sbx-plan", plan, 0)
	if err != nil {
		return err
	}
	if program == "" {
		return fmt.Errorf("no sandbox can be made on this machine: only amd64 and arm64 are known")
	}
	executable, err := memory("bwrap", []byte(program), unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3
		executable, err = memory("bwrap", []byte(program), 0)
	}
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(file), unix.F_SETFD, 0); err != nil {
		return err
	}
	err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", executable), []string{"bwrap", fmt.Sprint(file)}, []string{})
	return fmt.Errorf("start the program that makes the sandbox: %w", err)
}

// memory makes a file in memory, with a number that nobody gives a descriptor on
// the command line: one of an option that is not open must not be ours.
func memory(name string, data []byte, flags int) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|flags)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return -1, fmt.Errorf("write a file in memory: %w", err)
		}
		data = data[n:]
	}
	for _, least := range []int{700, 100, 10} { // as RLIMIT_NOFILE allows
		high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, least)
		if err == nil {
			return high, nil
		}
	}
	return -1, fmt.Errorf("too few descriptors are allowed: raise 'ulimit -n'")
}

func workingDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

func value(env []string, name string) string {
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			return rest
		}
	}
	return ""
}

// terminal is the name of the terminal that standard output goes to, or "".
func terminal() string {
	if _, err := unix.IoctlGetTermios(1, unix.TCGETS); err != nil {
		return ""
	}
	name, err := os.Readlink("/proc/self/fd/1")
	if err != nil || !filepath.IsAbs(name) {
		return ""
	}
	var named, open unix.Stat_t
	if unix.Stat(name, &named) != nil || unix.Fstat(1, &open) != nil || named.Rdev != open.Rdev || named.Ino != open.Ino {
		return ""
	}
	return name
}

// errorText is the C library's text: Go's, with a capital.
func errorText(err syscall.Errno) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
