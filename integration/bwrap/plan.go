package bwrap

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// An op is one operation on the root, in the order of the command line.
type op struct {
	kind   opKind
	source string // as it was given
	dest   string
	work   string   // of an overlay
	lowers []string // of an overlay, the topmost first
	fd     int      // if hasFD
	hasFD  bool
	perms  int
	size   uint64 // bytes, or 0
	try    bool   // nothing to do if the source is not there
	exists bool   // the parents of dest are there
	made   bool   // dest is there
}

type opKind uint32

// The kinds are known to src/setup.c by these numbers.
const (
	opBind opKind = iota + 1
	opROBind
	opDevBind
	opOverlay
	opTmpOverlay
	opROOverlay
	opProc
	opDev
	opTmpfs
	opMqueue
	opDir
	opFile
	opBindData
	opROBindData
	opSymlink
	opRemountRO
	opHostname
	opChmod
	opReadOnly // dest, with all that is mounted below
)

// A plan is what the C program reads: see src/plan.h, which describes it.
type plan struct {
	words []uint32 // the header and the operations
	text  []byte   // strings, each ended by a NUL
}

// planVersion is in the first word, so that a program of another build is told
// so.
const planVersion = 0x73627731

// string adds a string and its place; an empty one has the place 0.
func (p *plan) string(s string) {
	if s == "" {
		p.words = append(p.words, 0)
		return
	}
	p.words = append(p.words, uint32(len(p.text)))
	p.text = append(append(p.text, s...), 0)
}

// strings adds a number, and a string for each.
func (p *plan) strings(list []string) {
	p.words = append(p.words, uint32(len(list)))
	for _, s := range list {
		p.string(s)
	}
}

func (p *plan) number(n int) { p.words = append(p.words, uint32(n)) }

func (p *plan) long(n uint64) { p.words = append(p.words, uint32(n), uint32(n>>32)) }

// The flags are known to src/plan.h by these numbers.
func (s *settings) flags() int {
	flags := 0
	for i, on := range []bool{
		s.user, s.ipc, s.pid, s.net, s.uts, s.cgroup, s.disableUserns, s.assertUsernsDisabled,
		s.newSession, s.dieWithParent, s.asPid1, s.level, s.devpts, s.capsGiven, s.keepPWD, s.endWithCommand, s.signalsAre1,
	} {
		if on {
			flags |= 1 << i
		}
	}
	return flags
}

// outside is what the plan says of the world outside.
type outside struct {
	dir, home, tty string
	uid, gid       int
}

// encode writes the plan.
func (s *settings) encode(o outside) []byte {
	p := &plan{text: []byte{0}}
	p.number(planVersion)
	p.number(0) // the place of the text
	p.number(s.flags())
	for _, n := range []int{s.syncFD, s.blockFD, s.usernsBlockFD, s.infoFD, s.jsonFD, s.seccompFD, s.usernsFD, s.userns2FD, s.pidnsFD, s.uid, s.gid, o.uid, o.gid} {
		p.number(n)
	}
	p.number(s.tmpOverlays)
	p.long(s.caps)
	argv := append([]string{}, s.command...)
	program := argv[0]
	if s.argv0 != nil {
		argv[0] = *s.argv0
	}
	for _, v := range []string{s.name, o.dir, o.home, o.tty, s.chdir, s.execLabel, s.fileLabel, program} {
		p.string(v)
	}
	p.strings(argv)
	p.strings(s.env)
	p.strings(s.locks)
	p.number(len(s.filters))
	for _, f := range s.filters {
		p.number(len(f) / 8)
		for len(p.text)%8 != 0 {
			p.text = append(p.text, 0)
		}
		p.words = append(p.words, uint32(len(p.text)))
		p.text = append(p.text, f...)
	}
	p.number(len(s.ops))
	for i := range s.ops {
		s.ops[i].encode(p)
	}
	for len(p.words)%2 != 0 {
		p.number(0)
	}
	p.words[1] = uint32(4 * len(p.words))
	var out []byte
	for _, w := range p.words {
		out = binary.NativeEndian.AppendUint32(out, w)
	}
	return append(out, p.text...)
}

func (o *op) encode(p *plan) {
	flags := 0
	if o.try {
		flags |= 1
	}
	if o.exists {
		flags |= 2
	}
	if o.made {
		flags |= 4
	}
	source, failed, err := o.resolve()
	fd := -1
	if o.hasFD {
		fd = o.fd
	}
	for _, n := range []int{int(o.kind), flags, fd, o.perms, int(err)} {
		p.number(n)
	}
	p.long(o.size)
	p.string(source)
	p.string(o.dest)
	p.string(o.source)
	p.string(failed)
}

// resolve follows the links of what is to be shown of the host, while absolute
// links mean what they say. For overlays it returns their mount options.
// A path that is not there is told when its turn has come.
func (o *op) resolve() (source, failed string, err syscall.Errno) {
	one := func(name string) string {
		real, problem := realpath(name)
		if problem == 0 || err != 0 {
			return real
		}
		if o.try && problem == syscall.ENOENT {
			return name
		}
		failed, err = name, problem
		return name
	}
	switch o.kind {
	case opBind, opROBind, opDevBind:
		return one(o.source), failed, err
	case opOverlay:
		source = "upperdir=/oldroot" + escape(one(o.source)) + ",workdir=/oldroot" + escape(one(o.work)) + ","
	case opTmpOverlay, opROOverlay: // setup.c knows the upper directories
	default:
		return o.source, "", 0
	}
	for i, l := range o.lowers {
		between := ":/oldroot"
		if i == 0 {
			between = "lowerdir=/oldroot"
		}
		source += between + escape(one(l))
	}
	return source + ",userxattr", failed, err
}

// realpath is the name without links, from the root.
func realpath(name string) (string, syscall.Errno) {
	if name == "" {
		return "", syscall.ENOENT
	}
	full := name
	if !filepath.IsAbs(name) { // not Join: ".." after a link is not what it seems
		dir, err := os.Getwd()
		if err != nil {
			return "", errno(err)
		}
		full = dir + "/" + name
	}
	real, err := filepath.EvalSymlinks(full)
	if err == nil && strings.HasSuffix(name, "/") && real != "/" {
		if info, bad := os.Stat(real); bad == nil && !info.IsDir() {
			return "", syscall.ENOTDIR
		}
	}
	return real, errno(err)
}

// escape is for a path in mount options.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(s)
}

// errno is the number of the error of a system call.
func errno(err error) syscall.Errno {
	for err != nil {
		if n, ok := err.(syscall.Errno); ok {
			return n
		}
		wrapped, ok := err.(interface{ Unwrap() error })
		if !ok {
			return syscall.ELOOP // of EvalSymlinks, which has no other of its own
		}
		err = wrapped.Unwrap()
	}
	return 0
}
