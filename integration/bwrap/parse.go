package bwrap

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// version is what --version prints: the newest bubblewrap all of whose options
// are here. Callers parse it to find out what they can use.
const version = "bubblewrap 0.11.1"

// maxArgs is bubblewrap's limit, of options from all sources together.
const maxArgs = 9000

// A settings is what a command line says.
type settings struct {
	name string // of the program, in messages
	ops  []op

	user, userTry, ipc, pid, net, uts, cgroup, cgroupTry bool
	disableUserns, assertUsernsDisabled                  bool
	newSession, dieWithParent, asPid1, level             bool
	hostname, devpts, capsGiven                          bool

	// Of linux-user-chroot.
	keepPWD, endWithCommand, signalsAre1 bool

	// Descriptors and numbers that were not given are -1.
	syncFD, blockFD, usernsBlockFD, infoFD, jsonFD int
	seccompFD, usernsFD, userns2FD, pidnsFD        int
	uid, gid                                       int

	caps        uint64 // that the command shall have
	tmpOverlays int
	locks       []string
	filters     [][]byte // of --add-seccomp-fd
	execLabel   string
	fileLabel   string
	chdir       string
	argv0       *string
	env         []string
	command     []string
}

func newSettings(name string, env []string, caps uint64) settings {
	return settings{
		name: name, env: env, caps: caps,
		syncFD: -1, blockFD: -1, usernsBlockFD: -1, infoFD: -1, jsonFD: -1,
		seccompFD: -1, usernsFD: -1, userns2FD: -1, pidnsFD: -1,
		uid: -1, gid: -1,
	}
}

// A parser reads a command line. What is wrong ends it by a panic with a
// [stopped], because every option can say so.
type parser struct {
	settings
	called  string // the program, for --help
	options map[string]option
	total   int // of arguments, for maxArgs

	// What was said for the next option.
	perms          int // or -1
	size           uint64
	overlaySources []string

	warnings strings.Builder
}

// A stopped is the end of the program with this code and these texts.
type stopped struct {
	code           int
	stdout, stderr string
}

// parse reads the arguments, without the name of the program. caps are the
// capabilities that the command gets unless options say otherwise.
func parse(name string, args, env []string, caps uint64) (s *settings, warnings string, end *stopped) {
	p := &parser{settings: newSettings("bwrap", env, caps), called: name, options: map[string]option{}, perms: -1, total: len(args)}
	for _, o := range options() {
		p.options["--"+o.name] = o
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case stopped:
			r.stderr = p.warnings.String() + r.stderr
			end = &r
		default:
			panic(r)
		}
	}()
	if len(args) == 0 {
		p.leave(1, "", p.usage())
	}
	p.command = p.read(args, false)
	if p.overlaySources != nil {
		p.danglingSource()
	}
	return &p.settings, p.warnings.String(), nil
}

// read takes options from the beginning of args and returns the rest.
func (p *parser) read(args []string, inFile bool) []string {
	p.limit()
	for len(args) > 0 {
		arg := args[0]
		if arg == "--" {
			return args[1:] // bubblewrap does not ask what is pending either
		}
		o, known := p.options[arg]
		if !known && strings.HasPrefix(arg, "-") {
			p.die("Unknown option %s", arg)
		}
		if !known {
			break
		}
		if inFile && o.name == "args" {
			p.die("--args not supported in arguments file")
		}
		n := len(strings.Fields(o.args))
		if len(args) <= n {
			if o.name == "overlay-src" { // bubblewrap takes it as it is, and then has no more
				p.danglingSource()
			}
			p.die("%s takes %s", strings.Replace(arg, "--ro-bind-fd", "--bind-fd", 1), o.count)
		}
		o.set(p, args[1:1+n])
		p.pending(o)
		args = args[1+n:]
	}
	return args
}

// pending refuses what was said for an option that did not come.
func (p *parser) pending(o option) {
	if p.perms >= 0 && (!o.modifies || o.name == "overlay-src") {
		p.die("--perms must be followed by an option that creates a file")
	}
	if p.size != 0 && (!o.modifies || o.name == "overlay-src") {
		p.die("--size must be followed by --tmpfs")
	}
	if p.overlaySources != nil && o.name != "overlay-src" {
		p.danglingSource()
	}
}

func (p *parser) danglingSource() {
	p.die("--overlay-src must be followed by another --overlay-src or one of --overlay, --tmp-overlay, or --ro-overlay")
}

func (p *parser) limit() {
	if p.total > maxArgs {
		p.die("Exceeded maximum number of arguments %d", maxArgs)
	}
}

// args reads options from a file. A command in it is not looked at.
func (p *parser) args(a []string) {
	fd := p.number(a[0], "fd")
	data, err := readAll(fd)
	if err != nil {
		p.dieErrno(err.(syscall.Errno), "Can't read --args data")
	}
	syscall.Close(fd)
	var list []string
	for len(data) > 0 {
		word, rest, _ := bytes.Cut(data, []byte{0})
		list, data = append(list, string(word)), rest
		p.total++
		p.limit()
	}
	p.read(list, true)
}

// filter reads a program for seccomp.
func (p *parser) filter(fd int) {
	data, err := readAll(fd)
	if err != nil {
		p.dieErrno(err.(syscall.Errno), "Can't read seccomp data")
	}
	syscall.Close(fd)
	if len(data)%8 != 0 {
		p.die("Invalid seccomp data, must be multiple of 8")
	}
	p.filters = append(p.filters, data)
}

// readMost bounds what is read of a descriptor: /dev/zero has no end.
const readMost = 64 << 20

// readAll reads a descriptor that is not ours until its end: not as an os.File,
// which would change it.
func readAll(fd int) ([]byte, error) {
	var data []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(fd, buf)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data, err
		}
		if len(data)+n > readMost {
			return nil, syscall.EFBIG
		}
		data = append(data, buf[:n]...)
	}
}

func (s *settings) add(o op) { s.ops = append(s.ops, o) }

// fd is the value of an option for a descriptor, the last of which counts.
func (p *parser) fd(to *int, name, value string) {
	if *to >= 0 {
		p.onlyLast(name)
	}
	*to = p.number(value, "fd")
}

// number reads a descriptor or the like as strtol does.
func (p *parser) number(s, what string) int {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		p.die("Invalid %s: %s", what, s)
	}
	return int(n)
}

func (p *parser) octal(option, s string) int {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimLeft(s, " \t\n\v\f\r"), "+"), 8, 32)
	if err != nil || n > 0o7777 {
		p.die("--%s takes an octal argument <= 07777", option)
	}
	return int(n)
}

func (p *parser) permsOr(perms int) int {
	if p.perms >= 0 {
		perms = p.perms
	}
	p.perms = -1
	return perms
}

func (p *parser) setSize(a []string) {
	if p.size != 0 {
		p.die("--size given twice for the same action")
	}
	n, err := strconv.ParseUint(a[0], 0, 64)
	if err != nil || n == 0 || a[0][0] < '0' || a[0][0] > '9' || strings.ContainsAny(a[0], "_oO") {
		p.die("--size takes a non-zero number of bytes")
	}
	if n > math.MaxInt64 {
		p.die("--size (for tmpfs) is limited to %d", uint64(math.MaxInt64))
	}
	p.size = n
}

func (p *parser) setenv(name, value string) {
	for i, v := range p.env {
		if strings.HasPrefix(v, name+"=") {
			p.env[i] = name + "=" + value
			return
		}
	}
	p.env = append(p.env, name+"="+value)
}

func (p *parser) unsetenv(name string) {
	var left []string
	for _, v := range p.env {
		if !strings.HasPrefix(v, name+"=") {
			left = append(left, v)
		}
	}
	p.env = left
}

// label is a label of SELinux, where that is active.
func (p *parser) label(s string) string {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		p.die("labeling not supported on this system")
	}
	return s
}

func (p *parser) onlyLast(name string) {
	p.warnings.WriteString(p.message(4, fmt.Sprintf("Only the last --%s option will take effect", name)))
}

// message is a line for standard error; severity is that of syslog.
func (s *settings) message(severity int, text string) string {
	if s.level {
		return fmt.Sprintf("<%d>%s: %s\n", severity, s.name, text)
	}
	return s.name + ": " + text + "\n"
}

func (p *parser) leave(code int, stdout, stderr string) {
	panic(stopped{code, stdout, stderr})
}

func (p *parser) die(format string, args ...any) {
	p.leave(1, "", p.message(3, fmt.Sprintf(format, args...)))
}

func (p *parser) dieErrno(err syscall.Errno, format string, args ...any) {
	p.die("%s: %s", fmt.Sprintf(format, args...), errorText(err))
}
