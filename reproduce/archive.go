package reproduce

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Archives are read here and not by the standard library because it does not
// tell at which byte a member is. What is read is hostile: it was made by a
// command. The worst that it can do is to be named wrongly.

var errArchive = errors.New("not an archive")

// symbolTable is the name of ar's table of symbols: no member can have it.
const symbolTable = "the/symbol/table"

// membersMax is how many members are looked at.
const membersMax = 1 << 20

func readAt(r readable, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := r.ReadAt(b, at)
	return b, err
}

// arMembers are the members of an archive of ar, with the names of GNU and BSD.
func arMembers(r readable) (list []member, err error) {
	var names []byte
	for at := int64(8); at < r.Size() && len(list) < membersMax; {
		h, err := readAt(r, at, 60)
		if err != nil || string(h[58:]) != "`\n" {
			return list, errArchive
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
		if err != nil || size < 0 {
			return list, errArchive
		}
		name := strings.TrimRight(string(h[:16]), " ")
		body := at + 60
		switch {
		case name == "//":
			if size < 64<<20 {
				names, _ = readAt(r, body, int(size))
			}
		case strings.HasPrefix(name, "#1/"):
			if n, err := strconv.Atoi(name[3:]); err == nil && n >= 0 && int64(n) <= min(size, 4096) {
				long, _ := readAt(r, body, n)
				name = string(bytes.TrimRight(long, "\x00"))
			}
		case len(name) > 1 && name[0] == '/' && name[1] >= '0' && name[1] <= '9':
			if n, err := strconv.Atoi(name[1:]); err == nil && n < len(names) {
				long, _, _ := bytes.Cut(names[n:], []byte("/\n"))
				name = string(long)
			}
		default:
			if len(name) > 1 {
				name = strings.TrimSuffix(name, "/")
			}
		}
		if name == "/" {
			name = symbolTable
		}
		list = append(list, member{name: strings.ToValidUTF8(name, "?"), head: at, body: body, size: size})
		at = body + size + size&1
	}
	return list, nil
}

// tarMembers are the members of a tar, of any of its dialects. Their headers
// begin where their extended headers do.
func tarMembers(r readable) (list []member, err error) {
	head, long, longSize := int64(-1), "", int64(-1)
	for at := int64(0); at+512 <= r.Size() && len(list) < membersMax; {
		h, err := readAt(r, at, 512)
		if err != nil {
			return list, err
		}
		if h[0] == 0 {
			break
		}
		size, ok := tarNumber(h[124:136])
		if !ok {
			return list, errArchive
		}
		body := at + 512
		next := body + (size+511)&^511
		if head < 0 {
			head = at
		}
		switch h[156] {
		case 'L', 'x', 'g', 'K':
			data, err := readAt(r, body, int(min(size, 1<<20)))
			if err != nil {
				return list, errArchive
			}
			if h[156] == 'L' {
				long = cString(data)
			}
			if h[156] == 'x' {
				if p := paxValue(data, "path"); p != "" {
					long = p
				}
				if n, err := strconv.ParseInt(paxValue(data, "size"), 10, 64); err == nil && n >= 0 {
					longSize = n
				}
			}
			at = next
			continue
		case '1', '2', '3', '4', '5', '6':
			size, next = 0, body
		}
		if longSize >= 0 {
			size, next = longSize, body+(longSize+511)&^511
		}
		name := long
		if name == "" {
			name = cString(h[:100])
			if prefix := cString(h[345:500]); prefix != "" && string(h[257:263]) == "ustar\x00" {
				name = prefix + "/" + name
			}
		}
		list = append(list, member{name: strings.ToValidUTF8(name, "?"), head: head, body: body, size: size})
		head, long, longSize = -1, "", -1
		if next <= at {
			return list, errArchive
		}
		at = next
	}
	return list, nil
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// tarNumber reads octal digits, or GNU's binary form.
func tarNumber(b []byte) (int64, bool) {
	if b[0] == 0x80 {
		n := binary.BigEndian.Uint64(b[len(b)-8:])
		return int64(n), n < 1<<62
	}
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 8, 64)
	return n, err == nil && n >= 0
}

// paxValue is the value of a record "LENGTH KEY=VALUE\n", or "".
func paxValue(data []byte, key string) string {
	for len(data) > 0 {
		digits, _, ok := bytes.Cut(data, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n <= len(digits)+1 || n > len(data) {
			return ""
		}
		k, v, _ := strings.Cut(string(data[len(digits)+1:n-1]), "=")
		if k == key {
			return v
		}
		data = data[n:]
	}
	return ""
}

// zipMembers are the members of a zip, as its central directory lists them, and
// the parts of that.
func zipMembers(r readable) (list []member, err error) {
	tail := min(r.Size(), 22+64<<10)
	end, err := readAt(r, r.Size()-tail, int(tail))
	if err != nil {
		return nil, err
	}
	i := bytes.LastIndex(end, []byte("PK\x05\x06"))
	if i < 0 || i+22 > len(end) {
		return nil, errArchive
	}
	e := binary.LittleEndian
	at, size := int64(e.Uint32(end[i+16:])), int64(e.Uint32(end[i+12:]))
	directory := at
	var heads []int64
	for stop := at + size; at+46 <= stop && len(list) < membersMax; {
		h, err := readAt(r, at, 46)
		if err != nil || string(h[:4]) != "PK\x01\x02" {
			return list, errArchive
		}
		name, err := readAt(r, at+46, int(e.Uint16(h[28:])))
		if err != nil {
			return list, errArchive
		}
		head := int64(e.Uint32(h[42:]))
		local, err := readAt(r, head, 30)
		if err != nil {
			return list, errArchive
		}
		clean := strings.ToValidUTF8(string(name), "?")
		body := head + 30 + int64(e.Uint16(local[26:])) + int64(e.Uint16(local[28:]))
		list = append(list, member{name: clean, head: head, body: body, size: int64(e.Uint32(h[20:]))})
		heads = append(heads, head)
		next := at + 46 + int64(e.Uint16(h[28:])) + int64(e.Uint16(h[30:])) + int64(e.Uint16(h[32:]))
		list = append(list, member{what: "the central directory's entry of " + clean, head: at, body: next})
		at = next
	}
	// Behind the content there may be its size.
	slices.Sort(heads)
	for i, m := range list {
		if n, _ := slices.BinarySearch(heads, m.head+1); m.what == "" && n < len(heads) {
			list[i].size = max(m.size, heads[n]-m.body)
		} else if m.what == "" {
			list[i].size = max(m.size, directory-m.body)
		}
	}
	if len(list) > 0 {
		list = append(list, member{what: "the end of the central directory", head: directory + size, body: r.Size()})
	}
	return list, nil
}

// elfParts names the section. Where what comes first is a table of sizes and
// offsets, it is the first section with another content.
func elfParts(a, b readable, offset int64, _ int) []string {
	f, err := elf.NewFile(a)
	if err != nil {
		return nil
	}
	defer f.Close()
	in := slices.IndexFunc(f.Sections, func(s *elf.Section) bool {
		return inFile(s) && uint64(offset) >= s.Offset && uint64(offset)-s.Offset < s.FileSize
	})
	if in >= 0 {
		s := f.Sections[in]
		return []string{fmt.Sprintf("section %s at byte %d", strings.ToValidUTF8(s.Name, "?"), uint64(offset)-s.Offset)}
	}
	table := "a table of the ELF file"
	if offset < 64 {
		table = "the ELF header"
	}
	if g, err := elf.NewFile(b); err == nil {
		defer g.Close()
		return append([]string{table}, otherSection(f, g, a, b)...)
	}
	return []string{table}
}

func inFile(s *elf.Section) bool { return s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL }

// otherSection names the first section of f that has another content in g.
func otherSection(f, g *elf.File, a, b readable) []string {
	for _, s := range f.Sections {
		if !inFile(s) {
			continue
		}
		t := g.Section(s.Name)
		if t == nil || !inFile(t) {
			return []string{"section " + strings.ToValidUTF8(s.Name, "?") + ", which the other does not have"}
		}
		x, y := part(a, int64(s.Offset), int64(s.FileSize)), part(b, int64(t.Offset), int64(t.FileSize))
		at, _, err := firstDifference(x, y)
		if err == nil && (at < x.Size() || at < y.Size()) {
			return []string{fmt.Sprintf("section %s at byte %d", strings.ToValidUTF8(s.Name, "?"), at)}
		}
	}
	return nil
}
