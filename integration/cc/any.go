package cc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// A program of whatever kind may do more than a compiler does: it asks what else runs on
// the machine, sets the times of what it unpacks, or reads the file that its output goes to.
// What of that a run shows is found here. Such a call is executed, and a note says so to
// the next one, which then need not run twice.

// They are wrapped by errors that say that only the program itself can do what it does.
var (
	errMachine = fmt.Errorf("it says something of the machine at this moment: %w", ErrPlain)
	errTimed   = fmt.Errorf("it was given a time, which a result has not: %w", ErrPlain)
	errItself  = fmt.Errorf("the output of the program goes to it, which looks at it: %w", ErrPlain)
	errKind    = fmt.Errorf("a result cannot hold it: %w", ErrPlain)
	errEnded   = fmt.Errorf("it did not end by itself in the sandbox: %w", ErrPlain)
	errLeft    = fmt.Errorf("it leaves something running: %w", ErrPlain)
	errBuilds  = fmt.Errorf("what it does depends on the times of files, and on variables that are of it alone: %w", ErrPlain)
	errMuch    = fmt.Errorf("the program says more than is kept: %w", ErrPlain)
)

var errRandom = errors.New("it makes something that no two runs have alike")

// saysMost is how much a program may say, in bytes: one that writes until nobody reads any
// more would otherwise never end.
const saysMost = 64 << 20

// ofMachine are programs that say something of the machine, of what runs on it, of the
// terminal, or of the priority and limits that they have from who calls, that speak with services, or that hold locks.
var ofMachine = []string{
	"hostname", "hostid", "uptime", "ps", "pgrep", "pkill", "pidof", "top", "free", "df", "findmnt", "mount", "who", "w", "last", "ss", "netstat", "ip",
	"ifconfig", "lsof", "fuser", "lsblk", "nproc", "tty", "stty", "flock", "docker", "podman", "systemctl", "journalctl", "busctl", "dbus-send",
	"ssh", "scp", "sftp", "ssh-add", "curl", "wget", "apt", "apt-get", "id", "groups",
	"nice", "renice", "ionice", "chrt", "taskset", "prlimit", "jps", "jcmd", "jstat", "jinfo", "jmap", "jstack",
}

// javasFiles is what the names of the directories begin with in which Java's machine leaves
// how it fares, one for each user: each one that starts lists it to remove what dead ones
// have left.
const javasFiles = "/tmp/hsperfdata_"

// chance are programs that make something random, or say the time.
var chance = []string{"uuidgen", "mcookie", "shuf", "openssl", "ssh-keygen", "gpg", "date"}

// machineFiles are files and directories of which the host has others than the sandbox,
// which say something else each time, or which are read to find other machines. Of the directory /proc itself, to list it is meant.
var machineFiles = []string{
	"/proc", "/proc/uptime", "/proc/loadavg", "/proc/diskstats", "/proc/interrupts", "/proc/vmstat", "/proc/locks", "/proc/sys/kernel/random",
	"/proc/sys/kernel/hostname", "/proc/net/dev", "/proc/net/tcp", "/proc/net/unix", "/proc/net/route",
	"/etc/hosts", "/etc/resolv.conf", // who wants to know where another machine is
}

// dullFiles are directories of /sys that programs look into to see how much memory and how
// many processors they may use.
var dullFiles = []string{"/sys/fs/cgroup", "/sys/devices/system", "/sys/kernel/mm"}

// asksMachine returns something that the run looked at and that says something of the
// machine, or "".
func asksMachine(lookups []backends.Lookup) string {
	for _, l := range lookups {
		p := path.Clean(l.Path)
		switch {
		case l.Op == backends.Exec:
			if slices.Contains(ofMachine, path.Base(p)) && ofSystem(p) && isThere(p) {
				return p
			}
		case l.Op == backends.Open && (strings.HasPrefix(p, "/proc") || strings.HasPrefix(p, "/etc/")):
			if slices.ContainsFunc(machineFiles, func(f string) bool { return p == f || f != "/proc" && strings.HasPrefix(p, f+"/") }) {
				return p
			}
		case p == "/sys":
			return p
		case strings.HasPrefix(p, "/sys/"):
			if !slices.ContainsFunc(dullFiles, func(d string) bool { _, in := under(p, d); return in }) && isThere(p) {
				return p
			}
		}
	}
	return ""
}

// partlyShown returns a directory that the run opened, as who lists it does, and of which a
// call sees only what leads to its project and to what it names, or "": "/", "/tmp", "/dev".
func (s *Session) partlyShown(lookups []backends.Lookup) string {
	if s.view.limits != nil {
		return ""
	}
	for _, l := range lookups {
		p := path.Clean(l.Path)
		if l.Op != backends.Open || l.Anew || !l.Found && !s.leads(p) { // of what follows no link it is not known
			continue
		}
		if _, shown := s.view.host(p); shown || strings.HasPrefix(p, "/proc/") || strings.HasPrefix(p, javasFiles) {
			continue
		}
		if info, err := os.Stat(p); err == nil && info.IsDir() {
			return p
		}
	}
	return ""
}

// leads says whether something that is shown lies below p.
func (s *Session) leads(p string) bool {
	return p == "/" || p == "/dev" || slices.ContainsFunc(s.binds, func(b backends.Bind) bool { return isAbove(p, b.Target) })
}

func isThere(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// isRandom returns something that the run executed or read and that is another one each
// time, or "". Perl reads random bytes at its start, for itself.
func isRandom(lookups []backends.Lookup) string {
	perl := slices.ContainsFunc(lookups, func(l backends.Lookup) bool {
		return l.Op == backends.Exec && strings.HasPrefix(path.Base(l.Path), "perl")
	})
	for _, l := range lookups {
		switch p := path.Clean(l.Path); {
		case l.Op == backends.Exec && slices.Contains(chance, path.Base(p)) && ofSystem(p) && isThere(p):
			return p
		case l.Op == backends.Open && !perl && (p == "/dev/urandom" || p == "/dev/random"):
			return p
		}
	}
	return ""
}

// beyond returns an error if the run did something that only the program itself can do.
func (s *Session) beyond(status *backends.Status) error {
	if err := s.outside(status); err != nil {
		return err
	}
	if s.call.Kind != Any || s.told != nil {
		return nil
	}
	if status.Left {
		return errLeft
	}
	if status.Network {
		return fmt.Errorf("the network: %w", errMachine)
	}
	if p := asksMachine(status.Lookups); p != "" {
		return fmt.Errorf("%s: %w", p, errMachine)
	}
	if p := s.partlyShown(status.Lookups); p != "" {
		return fmt.Errorf("%s, of which not all is shown to it: %w", p, errMachine)
	}
	if p := executed(status.Lookups, builders); p != "" {
		return fmt.Errorf("%s: %w", p, errBuilds)
	}
	if p := s.readsItself(status.Lookups); p != "" {
		return fmt.Errorf("%s: %w", p, errItself)
	}
	return nil
}

// saysTo is where the file is that a standard descriptor writes to, or "" if it has no name
// or is none.
func saysTo(fd int) string {
	var st, named unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	p, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || unix.Lstat(p, &named) != nil || named.Dev != st.Dev || named.Ino != st.Ino {
		return ""
	}
	return p
}

// anyVersion changes with what is decided on a miss.
const anyVersion = "4"

// circumstances are what else is in the key of a program of whatever kind: who it is, its
// umask, and where it writes what it says, if that is a file, which it might look at.
func (c *Call) circumstances() (list []action.Property) {
	if c.Kind != Any {
		return nil
	}
	list = append(list, action.Property{Name: "any", Value: anyVersion})
	user, group := os.Geteuid(), os.Getegid()
	if id, ok := ownerOf(c.Dir); ok && user == 0 { // as whom it then runs
		user, group = id, id
	}
	list = append(list, action.Property{Name: "user", Value: fmt.Sprint(user, ":", group)})
	if mask := umask(); mask != plainMask {
		list = append(list, action.Property{Name: "umask", Value: fmt.Sprintf("%04o", mask)})
	}
	for fd := 1; fd <= 2; fd++ {
		if p := saysTo(fd); p != "" {
			list = append(list, action.Property{Name: "stream", Value: strconv.Itoa(fd) + " " + p})
		}
	}
	return list
}

// plainMask is the umask of the sandbox, if nobody wants another one.
const plainMask = 0o022

// mask is the umask with which the command runs.
func (s *Session) mask() uint32 {
	if s.call.Kind != Any || s.told != nil {
		return plainMask
	}
	return umask()
}

// umask is the mask, if it is not the sandbox's.
func (s *Session) umask() *int {
	if mask := int(s.mask()); mask != plainMask {
		return &mask
	}
	return nil
}

// asCaller says whether the command is to have our number: compilers do not ask for it.
func (s *Session) asCaller() bool {
	return s.call.Kind == Any && s.told == nil && os.Geteuid() != 0 && s.parts.Backend.Capabilities().Caller
}

// readsItself returns the file that the program's output goes to, if it looked at that, or
// made another one in its place; or "". Where it writes to a file, it appends to what it
// has said so far; here nothing has been said yet.
func (s *Session) readsItself(lookups []backends.Lookup) string {
	var files []unix.Stat_t
	for fd := 1; fd <= 2; fd++ {
		var st unix.Stat_t
		if saysTo(fd) != "" && unix.Fstat(fd, &st) == nil {
			files = append(files, st)
		}
	}
	if len(files) == 0 {
		return ""
	}
	seen := map[string]bool{}
	for _, l := range lookups {
		p := path.Clean(l.Path)
		if seen[p] || ofSystem(p) {
			continue
		}
		seen[p] = true
		host, ok := s.view.host(p)
		var st unix.Stat_t
		if !ok || unix.Stat(host, &st) != nil {
			continue
		}
		if slices.ContainsFunc(files, func(f unix.Stat_t) bool { return f.Dev == st.Dev && f.Ino == st.Ino }) {
			return p
		}
	}
	return ""
}

// untouched says whether a file of a layer is what is at that path of the host: it was
// opened for writing, or its access was noted, and nothing was changed.
func (s *Session) untouched(f *os.File, at string, d action.Digest, st *unix.Stat_t) bool {
	var old unix.Stat_t
	if unix.Lstat(at, &old) != nil || old.Mode != st.Mode || old.Size != st.Size || old.Mtim != st.Mtim || old.Uid != st.Uid && s.runsAs() == strconv.Itoa(os.Geteuid()) {
		return false
	}
	was, err := s.parts.Hash.Digest(at)
	return err == nil && was.Digest == d && len(ownAttributes(f)) == 0
}

// ofItsOwn returns an error if a file that the run left has something that a result does
// not hold: a time that is not the one at which it was written, or attributes.
func (s *Session) ofItsOwn(f *os.File, at string, st *unix.Stat_t) error {
	const slack = 2e9
	if m := st.Mtim.Nano(); m < int64(s.stamp) || m > time.Now().UnixNano()+slack {
		return fmt.Errorf("%s: %w", at, errTimed)
	}
	if names := ownAttributes(f); len(names) > 0 {
		return fmt.Errorf("%s: it has the extended attribute %s: %w", at, names[0], errKind)
	}
	return nil
}

// ownAttributes are the names of the extended attributes that somebody has given a file.
func ownAttributes(f *os.File) []string {
	var list [4096]byte
	n, err := unix.Flistxattr(int(f.Fd()), list[:])
	if err != nil {
		return nil
	}
	return attributesOf(list[:n])
}

func attributesOf(list []byte) (names []string) {
	for name := range strings.SplitSeq(string(list), "\x00") {
		if strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") || name == "system.posix_acl_access" || name == "security.capability" {
			names = append(names, name)
		}
	}
	return names
}

// hasAttributes says whether a file has extended attributes, which what replaces it would
// not have.
func hasAttributes(p string) bool {
	var list [4096]byte
	n, err := unix.Llistxattr(p, list[:])
	return err == nil && len(attributesOf(list[:n])) > 0
}

// A note says that a call did something that only the program itself can do: when that was
// found out, in seconds since 1970, and what it was. It holds for an hour: until then the
// program, or what it works on, may have become another one.
const plainFor = time.Hour

func (s *Session) plainKey() action.Digest {
	return action.Sum(s.parts.Function, []byte("cc plain\x00"+s.Key().String()))
}

// lasting are the errors that will be the same the next time.
var lasting = []error{errOutside, errMachine, errTimed, errItself, errKind, errMuch, errLeft, errBuilds}

// errEarlier is wrapped by errors that a note has told of.
var errEarlier = errors.New("an earlier call")

// notePlain notes that a call had to be executed because of err.
func (s *Session) notePlain(ctx context.Context, err error) {
	if s.call.Kind != Any || s.told != nil || errors.Is(err, errEarlier) {
		return
	}
	for i, e := range lasting {
		if errors.Is(err, e) {
			_ = s.parts.Notes.PutNote(ctx, s.plainKey(), fmt.Appendf(nil, "%d %d %v", time.Now().Unix(), i, err))
			return
		}
	}
}

// wasPlain returns an error if an earlier call had to be executed.
func (s *Session) wasPlain(ctx context.Context) error {
	if s.call.Kind != Any || s.anew {
		return nil
	}
	data, err := s.parts.Notes.Note(ctx, s.plainKey())
	if err != nil {
		return nil
	}
	at, rest, _ := strings.Cut(string(data), " ")
	kind, why, _ := strings.Cut(rest, " ")
	then, err1 := strconv.ParseInt(at, 10, 64)
	i, err2 := strconv.Atoi(kind)
	if age := time.Since(time.Unix(then, 0)); err1 != nil || err2 != nil || i < 0 || i >= len(lasting) || age < 0 || age > plainFor {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", errEarlier, why, lasting[i])
}

// A saying is what a program has said, of which not more than saysMost is kept.
type saying struct {
	buf   []byte
	abort context.CancelCauseFunc
}

// Write implements [io.Writer].
func (w *saying) Write(p []byte) (int, error) {
	if len(w.buf)+len(p) > saysMost {
		w.abort(errMuch)
		return len(p), nil
	}
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// newDirectory returns an error if a directory has other permissions than a new one.
func (s *Session) newDirectory(fd int, at string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if uint32(st.Mode)&0o777 != 0o777&^s.mask() || st.Mode&(unix.S_ISUID|unix.S_ISVTX) != 0 {
		return fmt.Errorf("%s: a directory with permissions %04o: %w", at, st.Mode&0o7777, errKind)
	}
	return nil
}

// oldDirectory returns an error if the run gave a directory of the host other permissions.
func oldDirectory(fd int, at string) error {
	var st, old unix.Stat_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Stat(at, &old)); err != nil {
		return err
	}
	if st.Mode != old.Mode {
		return fmt.Errorf("%s: a directory that was given permissions %04o: %w", at, st.Mode&0o7777, errKind)
	}
	return nil
}

// consumedKey is of the note that says how much a call read of its standard input, a
// regular file: who reads a list line by line in a shell has each command read from there.
func (s *Session) consumedKey(d *Done) action.Digest {
	return action.Sum(s.parts.Function, []byte("cc consumed\x00"+d.Key.String()))
}

// Consumed returns how much of its standard input the program reads, in bytes.
func (s *Session) Consumed(ctx context.Context, d *Done) (int64, error) {
	if !d.Cached {
		n, err := s.stdin.Seek(0, 1)
		if err == nil && d.Unkept == nil {
			_ = s.parts.Notes.PutNote(ctx, s.consumedKey(d), strconv.AppendInt(nil, n, 10))
		}
		return n, err
	}
	data, err := s.parts.Notes.Note(ctx, s.consumedKey(d))
	if err != nil {
		return 0, fmt.Errorf("nobody knows how much it reads of its standard input: %w", action.ErrMiss)
	}
	return strconv.ParseInt(string(data), 10, 64)
}
