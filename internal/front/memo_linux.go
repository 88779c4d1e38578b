package front

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/internal/durable"
)

// # Memos
//
// A memo is a note of the store (so it is trimmed, verified and counted like any
// other), under a name that is made of the call's key. Numbers are little-endian;
// uN is a number of N bits.
//
//	"sbxmemo2"
//	u64   sum of everything that follows
//	36    the boot in which it was written, as in /proc/sys/kernel/random/boot_id
//	5 u64 device, inode, size, mtime and ctime of the program that wrote it
//	u32   lengths of key, facts, records and outputs
//	key, facts, records, outputs
//	u32   length of standard output, and it
//	u32   length of standard error, and it
//	u8    number of files that something is appended to; for each
//	      u16 length, and its path in the store
//	      u64 how large it may be already; else Go has to tidy it
//	      u8  1: it is a record of the history, which gets the time of now
//	      u32 length of what is appended, and it
//
// The key is what [Key] gives. A fact is
//
//	u8  kind
//	u16 how many bytes the path shares with that of the fact before
//	u16 length of the rest of the path, and it
//	what the kind has: see the methods of Memo
//
// A record is a file of the store that the answer depends on, or that a hit marks
// as used: u8 kind, u16 length and its path in the store, and for kinds other than
// 't' u64 device, inode, size, mtime. 'k' must be as it was, 't' there, 'r' both,
// and 't' and 'r' are marked as used if they have not been for ten minutes.
//
// The outputs are u16 length and the path of a directory, and for each output
//
//	u8  kind: 'b' a blob, 'i' its bytes are here
//	u8  1: it is executable
//	u16 length and path below that directory
//	'b': u16 length and path in the store, u64 device, inode, size, mtime, and
//	     u64 [tally] of its bytes
//	'i': u32 length, and the bytes
//
// # Why it may be believed
//
//   - It is of this user and nobody else can write it; the bytes are those that
//     were written (the sum, and nothing of an earlier boot: after a power cut a
//     file may hold something else under the same stat data).
//   - It is of this very call: all arguments, the working directory, the
//     environment but for what [Ignored] names, and whether standard error is a
//     terminal are compared byte by byte. The name of its file decides nothing.
//   - It is of somebody who may read the same: user, group, supplementary groups and
//     capabilities are compared, too, and what else decides is in the facts, because
//     permissions, owners and access lists change the ctime.
//   - It was written by this very program: another version may have other rules.
//   - Facts are compared as [staging.HostWitness] does, with stat data that could
//     be trusted when they were written down: see there about the clock. The order
//     of looking does not matter, because each fact alone would make it stale.
//   - The names that are not in a directory need not be looked for one by one if
//     the directory is unchanged (its ctime included): the kernel changes that with
//     each name that comes, and what is mounted over the directory is another one.
//     Mount points below it are names that are there. The path to it is looked up
//     each time, and the links on the way are facts of their own.
//   - The result that it stands for is there, and was not replaced; each blob is
//     the file that the store trusted. Both belong to this user or to root: the owner
//     of a file can change it under the same stat data.
//   - The bytes of a blob are counted while they are copied: what a disk did to them,
//     or somebody who put the times back, is left to Go, which looks at the digest.

const (
	memoMagic = "sbxmemo2"

	// The limits of front.c.
	keyMax     = 256 << 10
	memoMax    = 4<<20 - 64
	pathMax    = 4095
	outputsMax = 64
	appendsMax = 4
	datedMax   = 64 << 10
	groupsMax  = 64
)

// An ID is a staging.StatID.
type ID struct {
	Dev, Ino     uint64
	Size         int64
	MTime, CTime int64
	Mode         uint32
}

// A Memo is put together by its methods, and then encoded. Limits that it meets on
// the way are reported at the end.
type Memo struct {
	Root           string // the directory that outputs are below
	Stdout, Stderr []byte

	key, facts, records, outputs, appends []byte
	last                                  string // the path of the last fact
	nOutputs, nAppends                    int
	err                                   error
	exe                                   string // the program that will read it
}

// NewMemo returns a memo for the call of this process.
func NewMemo(args, env []string, dir string) *Memo {
	_, err := unix.IoctlGetTermios(2, unix.TCGETS)
	return &Memo{key: Key(args, env, dir, err == nil), exe: "/proc/self/exe", facts: make([]byte, 0, 16<<10)}
}

// Name is the hash that the memo's note is under.
func (m *Memo) Name() [32]byte { return Name(m.key) }

// Size is the size of the digest that the memo's note is under.
func (m *Memo) Size() int64 { return int64(len(m.key)) }

// Key is what tells calls apart: u32 number of arguments, u8 1 if standard error is
// a terminal, and who we are (u32 user, u32 group, u64 capabilities, u32 number of
// supplementary groups, u32 each, all of them the effective ones); and, each with a NUL
// behind it, the working directory, the arguments, and the variables that are not
// [Ignored], in their order. It is nil for somebody with too many groups.
func Key(args, env []string, dir string, terminal bool) []byte {
	size := 512 + len(dir)
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			size += len(s) + 1
		}
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, size), uint32(len(args)))
	t := byte(0)
	if terminal {
		t = 1
	}
	b = appendWho(append(b, t))
	if b == nil {
		return nil
	}
	b = append(append(b, dir...), 0)
	for _, a := range args {
		b = append(append(b, a...), 0)
	}
	for _, v := range env {
		if !Ignored(v) {
			b = append(append(b, v...), 0)
		}
	}
	return b
}

// appendWho appends what decides which files a process may read. It returns nil if
// that is too much.
func appendWho(b []byte) []byte {
	groups, err := unix.Getgroups()
	if err != nil || len(groups) > groupsMax {
		return nil
	}
	of, caps := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
	if err := unix.Capget(&of, &caps[0]); err != nil {
		return nil
	}
	for _, n := range []uint32{uint32(unix.Geteuid()), uint32(unix.Getegid()), caps[0].Effective, caps[1].Effective, uint32(len(groups))} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	for _, g := range groups {
		b = binary.LittleEndian.AppendUint32(b, uint32(g))
	}
	return b
}

// Name is the hash that the memo of the call with that key is under.
func Name(key []byte) (name [32]byte) {
	h := sum(key)
	for i := range name {
		name[i] = byte(h>>(8*(i%8))) ^ byte(i/8*0x55)
	}
	return name
}

// ignoredNames are the beginnings of variables that say nothing of what a call gives:
// no compiler is given them (integration/cc), and no command that does not ask for
// them by name.
var ignoredNames = []string{
	"COLORTERM=", "DISPLAY=", "HISTFILE=", "HISTSIZE=", "INVOCATION_ID=", "JOURNAL_STREAM=", "LS_COLORS=", "MAIL=",
	"MAKEFLAGS=", "MAKELEVEL=", "MAKE_TERMERR=", "MAKE_TERMOUT=", "MFLAGS=", "OLDPWD=", "PS1=", "PS2=", "SBX_WARM=", "SHLVL=", "STY=", "TMP=", "TEMP=", "TMPDIR=",
	"TMUX=", "TMUX_PANE=", "WAYLAND_DISPLAY=", "WINDOWID=", "XAUTHORITY=", "_=",
	"DBUS_", "GPG_", "NINJA_", "SSH_", "SUDO_", "VTE_", "XDG_SESSION_",
}

// Ignored says whether a variable, "NAME=VALUE" or "NAME=", is not in the key.
func Ignored(variable string) bool {
	for _, name := range ignoredNames {
		if strings.HasPrefix(variable, name) {
			return true
		}
	}
	return false
}

// sum tells keys apart, and finds damage. It is no protection from anybody.
func sum(b []byte) uint64 {
	h := uint64(len(b)) * 0x9e3779b97f4a7c15
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	var last [8]byte
	copy(last[:], b)
	h = (h ^ binary.LittleEndian.Uint64(last[:])) * 0xff51afd7ed558ccd
	return h ^ h>>29
}

func (m *Memo) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *Memo) fact(kind byte, path string) {
	if len(path) > pathMax || path == "" || strings.ContainsRune(path, 0) {
		m.fail("the path %.60q… cannot be in a memo", path)
		return
	}
	n := 0
	for n < len(m.last) && n < len(path) && m.last[n] == path[n] {
		n++
	}
	m.facts = append(m.facts, kind)
	m.facts = binary.LittleEndian.AppendUint16(m.facts, uint16(n))
	m.facts = binary.LittleEndian.AppendUint16(m.facts, uint16(len(path)-n))
	m.facts = append(m.facts, path[n:]...)
	m.last = path
}

func appendNumbers[T int64 | uint64](b []byte, numbers ...T) []byte {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func (m *Memo) id(id ID) {
	m.facts = appendNumbers(m.facts, id.Dev, id.Ino, uint64(id.Size), uint64(id.MTime), uint64(id.CTime))
	m.facts = binary.LittleEndian.AppendUint32(m.facts, id.Mode)
}

// Unchanged: what is at path, and no link is followed, has the stat data id, which
// must have been trusted. Kind 'i': u64 device, inode, size, mtime, ctime, u32 mode.
func (m *Memo) Unchanged(path string, id ID) {
	m.fact('i', path)
	m.id(id)
}

// Directory: a directory with these permissions is at path. Kind 'd': u32.
func (m *Memo) Directory(path string, perm uint32) {
	m.fact('d', path)
	m.facts = binary.LittleEndian.AppendUint32(m.facts, perm)
}

// Meta: something with this mode is at path, of this size if it is a regular file.
// Kind 'm': u32 mode, u64 size.
func (m *Memo) Meta(path string, mode uint32, size int64) {
	m.fact('m', path)
	m.facts = binary.LittleEndian.AppendUint32(m.facts, mode)
	m.facts = appendNumbers(m.facts, size)
}

// Nothing: nothing is at path. Kind 'a'.
func (m *Memo) Nothing(path string) { m.fact('a', path) }

// Without: the directory, where it is one, has none of these names. With id, which
// must have been trusted before the names were looked for, one look at the directory
// is enough if it has it. Kind 'g': as 'i', and u32 length of the names, each with a
// NUL behind it; kind 'n': without id. Kind 'p' is a [Memo.Directory], too: u32
// permissions, and then as 'g'.
func (m *Memo) Without(dir string, id *ID, perm *uint32, names []string) {
	switch {
	case id == nil:
		if perm != nil {
			m.Directory(dir, *perm)
		}
		m.fact('n', dir)
	case perm != nil:
		m.fact('p', dir)
		m.facts = binary.LittleEndian.AppendUint32(m.facts, *perm)
		m.id(*id)
	default:
		m.fact('g', dir)
		m.id(*id)
	}
	var b []byte
	for _, n := range names {
		if n == "" || strings.ContainsAny(n, "/\x00") || len(dir)+1+len(n) > pathMax {
			m.fail("the name %.60q… cannot be in a memo", n)
			return
		}
		b = append(append(b, n...), 0)
	}
	m.facts = binary.LittleEndian.AppendUint32(m.facts, uint32(len(b)))
	m.facts = append(m.facts, b...)
}

// Something: something is at path. Kind 'e'.
func (m *Memo) Something(path string) { m.fact('e', path) }

// Ordinary: at path is nothing, or a regular file. Kind 'o'.
func (m *Memo) Ordinary(path string) { m.fact('o', path) }

// Self: what is at path, links followed, is this program, or not. Kind 's': u8.
func (m *Memo) Self(path string, is bool) {
	m.fact('s', path)
	b := byte(0)
	if is {
		b = 1
	}
	m.facts = append(m.facts, b)
}

// Elsewhere: at path, links followed, is not the working directory. Kind 'w'.
func (m *Memo) Elsewhere(path string) { m.fact('w', path) }

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendFile appends what stays of the stat data of a file of the store when it is
// marked as used.
func (m *Memo) appendFile(b []byte, path string) []byte {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		m.fail("%s: %v", path, err)
		return b
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		m.fail("%s belongs to user %d, who can change it", path, st.Uid)
		return b
	}
	return appendNumbers(b, st.Dev, st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()))
}

// Result: the file at the path name of the store is as it is now; a hit marks it as
// used.
func (m *Memo) Result(store, name string) { m.record('r', store, name) }

// Kept: the file at the path name of the store is as it is now.
func (m *Memo) Kept(store, name string) { m.record('k', store, name) }

// Used: the file at the path name of the store is there, and marked as used.
func (m *Memo) Used(name string) { m.record('t', "", name) }

func (m *Memo) record(kind byte, store, name string) {
	if len(name) > 128 {
		m.fail("%q is too long", name)
		return
	}
	m.records = appendText(append(m.records, kind), name)
	if kind != 't' {
		m.records = m.appendFile(m.records, store+"/"+name)
	}
}

// An Output is a regular file that the call makes.
type Output struct {
	Path       string // below Memo.Root
	Executable bool
	Blob       string // its blob's path in the store, and
	Size       int64  // its size; or
	Data       []byte // its bytes
}

// Output adds an output.
func (m *Memo) Output(store string, o Output) {
	if m.nOutputs++; m.nOutputs > outputsMax || len(o.Path) > pathMax || o.Path == "" || strings.HasPrefix(o.Path, "/") {
		m.fail("%d outputs, the last %.60q…", m.nOutputs, o.Path)
		return
	}
	x := byte(0)
	if o.Executable {
		x = 1
	}
	if o.Blob != "" {
		m.outputs = appendText(append(m.outputs, 'b', x), o.Path)
		m.outputs = m.appendFile(appendText(m.outputs, o.Blob), store+"/"+o.Blob)
		count, err := tallyOf(store+"/"+o.Blob, o.Size)
		if err != nil {
			m.fail("%v", err)
		}
		m.outputs = appendNumbers(m.outputs, count)
		return
	}
	m.outputs = appendText(append(m.outputs, 'i', x), o.Path)
	m.outputs = append(binary.LittleEndian.AppendUint32(m.outputs, uint32(len(o.Data))), o.Data...)
}

// An Append is what a hit appends to a file of the store.
type Append struct {
	File  string // its path in the store
	Most  int64  // if it is larger already, Go answers the call
	Dated bool   // a record of the history: see cache.Store.AddRun
	Data  []byte
}

// Append adds a file that is appended to.
func (m *Memo) Append(a Append) {
	if m.nAppends++; m.nAppends > appendsMax || a.Dated && (len(a.Data) < 22 || len(a.Data) > datedMax) {
		m.fail("%s cannot be appended to", a.File)
		return
	}
	dated := byte(0)
	if a.Dated {
		dated = 1
	}
	m.appends = appendNumbers(appendText(m.appends, a.File), a.Most)
	m.appends = binary.LittleEndian.AppendUint32(append(m.appends, dated), uint32(len(a.Data)))
	m.appends = append(m.appends, a.Data...)
}

// Encode returns the memo's bytes, or why there cannot be one.
func (m *Memo) Encode() ([]byte, error) {
	if m.err != nil {
		return nil, m.err
	}
	boot := durable.BootID()
	if len(boot) != 36 {
		return nil, errors.New("boots cannot be told apart")
	}
	var self unix.Stat_t
	if err := unix.Stat(m.exe, &self); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: m.exe, Err: err}
	}
	outputs := append(appendText(nil, m.Root), m.outputs...)
	b := append(make([]byte, 0, 256+len(m.key)+len(m.facts)+len(m.records)+len(outputs)+len(m.Stdout)+len(m.Stderr)), memoMagic...)
	b = append(append(b, make([]byte, 8)...), boot...)
	b = appendNumbers(b, self.Dev, self.Ino, uint64(self.Size), uint64(self.Mtim.Nano()), uint64(self.Ctim.Nano()))
	for _, p := range [][]byte{m.key, m.facts, m.records, outputs} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	}
	for _, p := range [][]byte{m.key, m.facts, m.records, outputs} {
		b = append(b, p...)
	}
	for _, p := range [][]byte{m.Stdout, m.Stderr} {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	b = append(append(b, byte(m.nAppends)), m.appends...)
	if len(m.key) == 0 {
		return nil, fmt.Errorf("it cannot be said for whom the memo is: there are more than %d groups", groupsMax)
	}
	if len(b) > memoMax || len(m.key) > keyMax {
		return nil, fmt.Errorf("a memo of %d bytes is too large", len(b))
	}
	binary.LittleEndian.PutUint64(b[8:], sum(b[16:]))
	return b, nil
}
