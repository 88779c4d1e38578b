package probe

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tellFile prints a file as it is. The runtime's own os.Args and os.Environ
// would do for the honest case, but they drop what they cannot parse.
func tellFile(name string) command {
	return func([]string) int {
		os.Stdout.Write(must(os.ReadFile(name)))
		return 0
	}
}

func cat([]string) int {
	must(io.Copy(os.Stdout, os.Stdin))
	return 0
}

// say OUT ERR… writes the arguments to standard output and error, in turns.
func say(args []string) int {
	for i, s := range args {
		if i%2 == 0 {
			must(os.Stdout.WriteString(s))
		} else {
			must(os.Stderr.WriteString(s))
		}
	}
	return 0
}

func cwd([]string) int {
	var buf [unix.PathMax]byte // os.Getwd believes $PWD
	n := must(unix.Getcwd(buf[:]))
	os.Stdout.Write(buf[:n-1])
	return 0
}

// fds prints the descriptors that were inherited: those without close-on-exec.
// The Go runtime opens some of its own, with it.
func fds([]string) int {
	for fd := range 1 << 12 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			fmt.Println(fd, link)
		}
	}
	return 0
}

func ids([]string) int {
	r, e, s := unix.Getresuid()
	fmt.Println("uid", r, e, s)
	r, e, s = unix.Getresgid()
	fmt.Println("gid", r, e, s)
	for _, g := range must(unix.Getgroups()) {
		fmt.Println("group", g)
	}
	return 0
}

func umask([]string) int {
	fmt.Printf("%03o\n", unix.Umask(0))
	return 0
}

func limits([]string) int {
	var r unix.Rlimit
	must(0, unix.Getrlimit(unix.RLIMIT_CORE, &r))
	fmt.Println("core", r.Cur, r.Max)
	return 0
}

func hostname([]string) int {
	var u unix.Utsname
	must(0, unix.Uname(&u))
	fmt.Println(unix.ByteSliceToString(u.Nodename[:]))
	fmt.Println(unix.ByteSliceToString(u.Domainname[:]))
	return 0
}

// status KEY… prints lines of /proc/self/status.
func status(keys []string) int {
	told := map[string]bool{}
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/status")))) {
		key, value, _ := strings.Cut(line, ":")
		for _, want := range keys {
			if key == want {
				fmt.Println(key, strings.TrimSpace(value))
				told[key] = true
			}
		}
	}
	// Other kernels say less.
	if slices.Contains(keys, "CapAmb") && !told["CapAmb"] && ambient() == 0 {
		fmt.Println("CapAmb 0000000000000000")
	}
	if slices.Contains(keys, "NoNewPrivs") && !told["NoNewPrivs"] {
		on, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		fmt.Println("NoNewPrivs", on)
	}
	return 0
}

// ambient counts the ambient capabilities.
func ambient() int {
	n := 0
	for c := range unix.CAP_LAST_CAP + 1 {
		if on, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(c), 0, 0); err == nil {
			n += on
		}
	}
	return n
}

// ls PATH… prints, for each entry of a directory and for any other file, its
// quoted name, mode, owner, and device number.
func ls(paths []string) int {
	for _, p := range paths {
		entries, err := os.ReadDir(p)
		if err != nil {
			describe(p, p)
			continue
		}
		for _, e := range entries {
			describe(e.Name(), filepath.Join(p, e.Name()))
		}
	}
	return 0
}

func describe(name, path string) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		fmt.Printf("%q error %v\n", name, err)
		return
	}
	fmt.Printf("%q %06o %d:%d %d:%d\n", name, st.Mode, st.Uid, st.Gid, unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// content PATH… prints the contents of files.
func content(paths []string) int {
	for _, p := range paths {
		os.Stdout.Write(must(os.ReadFile(p)))
	}
	return 0
}

// processes prints the command line of every process in /proc.
func processes([]string) int {
	for _, e := range must(os.ReadDir("/proc")) {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			fmt.Printf("%d %q\n", pid, bytes.TrimRight(line, "\x00"))
		}
	}
	return 0
}

// namespace NAME… prints the identity of namespaces.
func namespace(names []string) int {
	for _, n := range names {
		fmt.Println(must(os.Readlink("/proc/self/ns/" + n)))
	}
	return 0
}

// links prints the network interfaces that /proc/net/dev shows.
func links([]string) int {
	var names []string
	for line := range strings.Lines(string(must(os.ReadFile("/proc/net/dev")))) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	sort.Strings(names)
	fmt.Println(strings.Join(names, " "))
	return 0
}

// netlink prints the network interfaces that the kernel tells of, and whether
// they are up.
func netlink([]string) int {
	s := must(unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE))
	req := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	put32 := func(at int, v uint32) { copy(req[at:], nativeBytes(v)) }
	put32(0, uint32(len(req)))
	put32(4, unix.RTM_GETLINK|(unix.NLM_F_REQUEST|unix.NLM_F_DUMP)<<16)
	must(0, unix.Sendto(s, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(s, buf, 0)
		must(n, err)
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size, kind := native32(b), native32(b[4:])&0xffff
			if kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR || size < unix.SizeofNlMsghdr || int(size) > len(b) {
				return 0
			}
			if kind == unix.RTM_NEWLINK {
				tellLink(b[unix.SizeofNlMsghdr:size])
			}
			b = b[min(len(b), int(size+3)&^3):]
		}
	}
}

func tellLink(msg []byte) {
	state := "down"
	if native32(msg[8:])&unix.IFF_UP != 0 {
		state = "up"
	}
	for b := msg[unix.SizeofIfInfomsg:]; len(b) >= 4; {
		size, kind := int(native32(b)&0xffff), native32(b)>>16
		if size < 4 || size > len(b) {
			return
		}
		if kind == unix.IFLA_IFNAME {
			fmt.Println(unix.ByteSliceToString(b[4:size]), state)
		}
		b = b[min(len(b), (size+3)&^3):]
	}
}

// stdio prints what descriptors 0 to 2 are.
func stdio([]string) int {
	var out bytes.Buffer
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			fmt.Fprintln(&out, fd, err)
			continue
		}
		fmt.Fprintf(&out, "%d %06o %d:%d\n", fd, st.Mode&unix.S_IFMT, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	os.Stdout.Write(out.Bytes())
	return 0
}

// devices uses the devices that a program may expect, and says what is wrong.
func devices([]string) int {
	wrong := func(format string, a ...any) { fmt.Printf(format+"\n", a...) }
	buf := make([]byte, 64)
	zeros := make([]byte, len(buf))
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			wrong("%v", err)
		}
		return f // nil methods of os.File return errors
	}
	if n, err := open("/dev/null").Read(buf); n != 0 || err != io.EOF {
		wrong("reading /dev/null: %d, %v", n, err)
	}
	if n, err := open("/dev/null").Write(buf); n != len(buf) || err != nil {
		wrong("writing /dev/null: %d, %v", n, err)
	}
	copy(buf, "x")
	if n, err := open("/dev/zero").Read(buf); n != len(buf) || err != nil || !bytes.Equal(buf, zeros) {
		wrong("reading /dev/zero: %d, %v", n, err)
	}
	if _, err := open("/dev/full").Write(buf); err == nil || !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		wrong("writing /dev/full: %v", err)
	}
	for _, name := range []string{"/dev/random", "/dev/urandom"} {
		copy(buf, zeros)
		if n, err := open(name).Read(buf); n == 0 || err != nil || bytes.Equal(buf, zeros) {
			wrong("reading %s: %d, %v", name, n, err)
		}
	}
	if err := os.WriteFile("/dev/shm/sbx-probe", buf, 0o600); err != nil || os.Remove("/dev/shm/sbx-probe") != nil {
		wrong("writing below /dev/shm: %v", err)
	}
	for fd, name := range []string{"stdin", "stdout", "stderr"} {
		if link, err := os.Readlink("/dev/" + name); err != nil || link != "/proc/self/fd/"+strconv.Itoa(fd) && link != "fd/"+strconv.Itoa(fd) {
			wrong("/dev/%s -> %s, %v", name, link, err)
		}
	}
	if link, err := os.Readlink("/dev/fd"); err != nil || link != "/proc/self/fd" {
		wrong("/dev/fd -> %s, %v", link, err)
	}
	if _, err := pty(); err != nil {
		wrong("a pseudo terminal: %v", err)
	}
	return 0
}

// pty opens a new pseudo terminal and both its ends.
func pty() (*os.File, error) {
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("number: %w", err)
	}
	return os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
}
