package staging

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// # Owners
//
// A tree holds names, contents and the right to execute, as REAPI does. What
// an image says of its files besides is kept beside the tree in a blob of its
// own: an mtree(5) specification, in the form that libarchive and gomtree
// read. It has a line for each path that is not as /set says: owner 0:0, mode
// 0644 for files, 0755 for files that can be executed and for directories,
// 0777 for links, no extended attributes; and for each device node and pipe,
// which a tree cannot hold.
//
//	#mtree
//	/set uid=0 gid=0
//	./dev/null type=char mode=0666 device=linux,1,3
//	./etc/shadow type=file mode=0640 gid=42
//	./bin/ping type=file mode=0755 xattr.security.capability=AQAAAg…
//
// A path is written as vis(3) does, every byte that is not plain as a backslash
// and three octal digits. Lines are sorted by path. A reader refuses what it
// does not know; a path that the tree does not have is no error.

// Owners is what an image says of its files beyond what a tree holds: by clean
// relative path, "." for the root.
type Owners map[string]Owner

// An Owner is what is known of one path.
type Owner struct {
	Type         NodeType
	UID, GID     int
	Mode         uint32 // the twelve bits of chmod(2)
	Major, Minor int64  // of a device
	Xattrs       map[string]string
}

// A NodeType is the type of a path as mtree(5) spells it.
type NodeType string

// The types of a path.
const (
	TypeFile  NodeType = "file"
	TypeDir   NodeType = "dir"
	TypeLink  NodeType = "link"
	TypeChar  NodeType = "char"
	TypeBlock NodeType = "block"
	TypeFIFO  NodeType = "fifo"
)

// InTree says whether a tree can hold it.
func (o Owner) InTree() bool {
	return o.Type == TypeFile || o.Type == TypeDir || o.Type == TypeLink
}

// plain says whether o is what a reader takes a path for that is not listed.
func (o Owner) plain() bool {
	usual := o.Mode == usualMode(o.Type) || o.Type == TypeFile && o.Mode == 0o755
	return o.InTree() && usual && o.UID == 0 && o.GID == 0 && len(o.Xattrs) == 0
}

func usualMode(t NodeType) uint32 {
	switch t {
	case TypeDir:
		return 0o755
	case TypeLink:
		return 0o777
	}
	return 0o644
}

// Marshal returns the specification; nil if every path is as usual.
func (list Owners) Marshal() []byte {
	var b bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(list)) {
		o := list[p]
		if o.plain() {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("#mtree\n/set uid=0 gid=0\n")
		}
		name := "./" + p
		if p == "." {
			name = "."
		}
		fmt.Fprintf(&b, "%s type=%s mode=%04o", vis(name), o.Type, o.Mode)
		if o.UID != 0 {
			fmt.Fprintf(&b, " uid=%d", o.UID)
		}
		if o.GID != 0 {
			fmt.Fprintf(&b, " gid=%d", o.GID)
		}
		if o.Type == TypeChar || o.Type == TypeBlock {
			fmt.Fprintf(&b, " device=linux,%d,%d", o.Major, o.Minor)
		}
		for _, k := range slices.Sorted(maps.Keys(o.Xattrs)) {
			fmt.Fprintf(&b, " xattr.%s=%s", vis(k), base64.StdEncoding.EncodeToString([]byte(o.Xattrs[k])))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ParseOwners parses what [Owners.Marshal] wrote.
func ParseOwners(data []byte) (Owners, error) {
	list := Owners{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") || line == "/set uid=0 gid=0" {
			continue
		}
		words := strings.Split(line, " ")
		p, o, err := parseOwner(words[0], words[1:])
		if err != nil {
			return nil, fmt.Errorf("owners, line %d: %w", n, err)
		}
		if _, twice := list[p]; twice {
			return nil, fmt.Errorf("owners, line %d: %q occurs twice", n, p)
		}
		list[p] = o
	}
	return list, lines.Err()
}

func parseOwner(name string, words []string) (string, Owner, error) {
	o := Owner{}
	p, err := unvis(name)
	if err != nil {
		return "", o, err
	}
	if p != "." {
		rest, ok := strings.CutPrefix(p, "./")
		if !ok {
			return "", o, fmt.Errorf("%q: a path begins with ./", p)
		}
		if p, err = cleanEntry(rest); err != nil || p != rest {
			return "", o, cmp.Or(err, fmt.Errorf("%q is not a clean path", rest))
		}
	}
	for _, w := range words {
		if err := o.set(w); err != nil {
			return "", o, fmt.Errorf("%q: %w", p, err)
		}
	}
	switch o.Type {
	case TypeFile, TypeDir, TypeLink, TypeChar, TypeBlock, TypeFIFO:
		return p, o, nil
	}
	return "", o, fmt.Errorf("%q: unknown type %q", p, o.Type)
}

// set sets one keyword.
func (o *Owner) set(word string) error {
	key, value, _ := strings.Cut(word, "=")
	var err error
	switch {
	case key == "type":
		o.Type = NodeType(value)
	case key == "mode":
		var mode uint64
		mode, err = strconv.ParseUint(value, 8, 12)
		o.Mode = uint32(mode)
	case key == "uid":
		o.UID, err = parseID(value)
	case key == "gid":
		o.GID, err = parseID(value)
	case key == "device":
		if n, _ := fmt.Sscanf(value, "linux,%d,%d", &o.Major, &o.Minor); n != 2 {
			err = fmt.Errorf("device %q", value)
		}
	case strings.HasPrefix(key, "xattr."):
		var content []byte
		if key, err = unvis(strings.TrimPrefix(key, "xattr.")); err == nil {
			content, err = base64.StdEncoding.DecodeString(value)
		}
		if o.Xattrs == nil {
			o.Xattrs = map[string]string{}
		}
		o.Xattrs[key] = string(content)
	default:
		err = fmt.Errorf("unknown keyword %q", key)
	}
	return err
}

func parseID(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err
}

// vis writes what is not plain in s as a backslash and three octal digits.
func vis(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == '\\' || c == '#' || c == '=' || c >= 0x7f {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unvis(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if len(s) < i+4 {
			return "", fmt.Errorf("%q: a backslash without three digits", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("%q: a backslash without three digits", s)
		}
		b.WriteByte(byte(c))
		i += 3
	}
	if !utf8.ValidString(b.String()) {
		return "", fmt.Errorf("%q is not UTF-8", s)
	}
	return b.String(), nil
}
