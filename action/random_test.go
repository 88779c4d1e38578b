package action

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A source makes messages out of bytes, so that the fuzzer steers them. When
// the bytes are used up, everything it makes is empty.
type source struct {
	data []byte
	// valid asks for messages that Check accepts; others need only be what
	// the generated code can marshal.
	valid bool
}

func (s *source) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *source) below(n int) int { return int(s.byte()) % n }

func (s *source) bool() bool { return s.byte()&1 == 1 }

// number makes numbers of every length of a varint, negative ones too.
func (s *source) number() int64 {
	var b [8]byte
	for i := range s.below(9) {
		b[i] = s.byte()
	}
	return int64(binary.LittleEndian.Uint64(b[:]))
}

func (s *source) text() string {
	var b strings.Builder
	for range s.below(40) {
		b.WriteRune([]rune("aZ09 ._-\n/=€😀\x01")[s.below(14)])
	}
	if s.byte() == 0xff { // lengths of two and three bytes
		b.WriteString(strings.Repeat("x", 100+int(s.byte())*100))
	}
	return b.String()
}

// bytes makes what a protobuf field of bytes holds; never an empty slice.
func (s *source) bytes() []byte {
	b := []byte(s.text())
	if len(b) > 0 {
		b[0] = s.byte()
		return b
	}
	return nil
}

func (s *source) filled() string {
	if t := s.text(); t != "" {
		return t
	}
	return "x"
}

// name makes what [CheckName] accepts; distinct ones, from a counter.
func (s *source) name(i int) string {
	if !s.valid {
		return s.text()
	}
	return fmt.Sprintf("%s%d", strings.ReplaceAll(s.text(), "/", "_"), i)
}

func (s *source) path(i int) string {
	if !s.valid {
		return s.text()
	}
	return strings.Repeat("d/", s.below(3)) + s.name(i)
}

func (s *source) digest() Digest {
	if !s.valid && s.bool() {
		return Digest{}
	}
	d := Digest{function: BLAKE3, size: s.number()}
	if s.valid && d.size < 0 {
		d.size = ^d.size
	}
	for i := range 4 {
		d.sum[s.below(32)] = s.byte() + byte(i)
	}
	return d
}

func (s *source) time() *Timestamp {
	if s.bool() {
		return nil
	}
	t := &Timestamp{s.number(), int32(s.number())}
	if s.valid {
		t.Seconds %= 62135596800
		t.Nanos = int32(uint32(t.Nanos) % 1e9)
	}
	return t
}

func many[T any](s *source, one func(i int) T) (out []T) {
	for i := range s.below(4) {
		out = append(out, one(i))
	}
	return out
}

// sorted sorts by key, and keeps one of each, where s is to make valid things.
func sorted[T any, K cmp.Ordered](s *source, list []T, key func(T) K) []T {
	if !s.valid {
		return list
	}
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return slices.CompactFunc(list, func(a, b T) bool { return key(a) == key(b) })
}

func itself(s string) string { return s }

func (s *source) platform() []Property {
	list := many(s, func(i int) Property { return Property{s.name(i), s.text()} })
	return sorted(s, list, func(p Property) string { return p.Name })
}

func (s *source) properties() *NodeProperties {
	if s.bool() {
		return nil
	}
	p := &NodeProperties{Properties: s.platform(), MTime: s.time()}
	if s.bool() {
		mode := uint32(s.number())
		p.UnixMode = &mode
	}
	return p
}

func (s *source) directory() Directory {
	return Directory{
		Files: sorted(s, many(s, func(i int) FileNode {
			return FileNode{"f" + s.name(i), s.digest(), s.bool(), s.properties()}
		}), func(n FileNode) string { return n.Name }),
		Directories: sorted(s, many(s, func(i int) DirectoryNode {
			return DirectoryNode{"d" + s.name(i), s.digest()}
		}), func(n DirectoryNode) string { return n.Name }),
		Symlinks: sorted(s, many(s, func(i int) SymlinkNode {
			return SymlinkNode{"l" + s.name(i), s.filled(), s.properties()}
		}), func(n SymlinkNode) string { return n.Name }),
		Properties: s.properties(),
	}
}

func (s *source) tree() Tree {
	return Tree{Root: s.directory(), Children: many(s, func(int) Directory { return s.directory() })}
}

func (s *source) command() Command {
	c := Command{
		Arguments: append([]string{s.filled()}, many(s, func(int) string { return s.text() })...),
		Environment: sorted(s, many(s, func(i int) EnvironmentVariable {
			return EnvironmentVariable{strings.ReplaceAll(s.name(i), "=", "_"), s.text()}
		}), func(v EnvironmentVariable) string { return v.Name }),
		OutputFiles:           sorted(s, many(s, s.path), itself),
		OutputDirectories:     sorted(s, many(s, s.path), itself),
		Platform:              s.platform(),
		OutputPaths:           sorted(s, many(s, s.path), itself),
		OutputNodeProperties:  sorted(s, many(s, s.name), itself),
		OutputDirectoryFormat: int32(s.number()),
	}
	if s.bool() {
		c.WorkingDirectory = s.path(0)
		c.OutputPaths = append([]string{".."}, c.OutputPaths...)
		c.OutputPaths = sorted(s, c.OutputPaths, itself)
	}
	return c
}

func (s *source) action() Action {
	a := Action{
		Command: s.digest(), InputRoot: s.digest(), Timeout: time.Duration(s.number()),
		DoNotCache: s.bool(), Salt: s.bytes(), Platform: s.platform(),
	}
	if s.valid && a.Timeout < 0 {
		a.Timeout = ^a.Timeout
	}
	return a
}

func (s *source) link(i int) OutputSymlink {
	return OutputSymlink{"l" + s.path(i), s.filled(), s.properties()}
}

func (s *source) result() Result {
	r := Result{
		Files: many(s, func(i int) OutputFile {
			f := OutputFile{"f" + s.path(i), s.digest(), s.bool(), s.bytes(), s.properties()}
			if s.valid && f.Contents != nil {
				f.Digest = Sum(BLAKE3, f.Contents)
			}
			return f
		}),
		Directories: many(s, func(i int) OutputDirectory {
			return OutputDirectory{"d" + s.path(i), s.digest(), s.bool(), s.digest()}
		}),
		FileSymlinks: many(s, s.link), DirSymlinks: many(s, s.link), Symlinks: many(s, s.link),
		ExitCode:  int32(s.number()),
		StdoutRaw: s.bytes(), Stdout: s.digest(), StderrRaw: s.bytes(), Stderr: s.digest(),
	}
	if s.bool() {
		r.Metadata = s.metadata()
	}
	return r
}

func (s *source) metadata() *Metadata {
	m := &Metadata{Worker: s.text(), Auxiliary: many(s, func(int) Any { return Any{s.text(), s.bytes()} })}
	for _, t := range m.times() {
		*t = s.time()
	}
	if s.bool() {
		d := time.Duration(s.number())
		m.VirtualExecutionDuration = &d
	}
	return m
}
