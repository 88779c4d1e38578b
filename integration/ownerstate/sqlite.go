package ownerstate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// The part of SQLite's file format (https://sqlite.org/fileformat2.html) that
// tables of numbers and texts need. A database is a sequence of pages; the first
// begins with a header of 100 bytes, behind which is the root of a table of all
// tables. A table is a B-tree: its leaves (0x0d) hold rows, its other pages (0x05)
// the numbers of pages. A row is its id and a record: the types of its columns, and
// their values.

const (
	sqliteMagic = "SQLite format 3\x00"
	leafPage    = 0x0d
	innerPage   = 0x05
)

var errDamaged = errors.New("the SQLite database is damaged")

// A value is a column of a row. NULL is the zero value.
type value struct {
	kind   byte // 'n', 't', or 0 for NULL
	number int64
	text   string
}

var null value

func number(n int64) value { return value{kind: 'n', number: n} }
func text(s string) value  { return value{kind: 't', text: s} }

type database struct {
	data     []byte
	page     int // size
	usable   int // of each
	roots    map[string]int
	walked   int // pages: each is looked at once
	followed int // pages of what did not fit: each is a part of one row
	numPages int
}

func openSQLite(data []byte) (*database, error) {
	if len(data) < 512 || string(data[:16]) != sqliteMagic {
		return nil, errors.New("not an SQLite database")
	}
	d := &database{data: data, page: int(binary.BigEndian.Uint16(data[16:])), roots: map[string]int{}}
	if d.page == 1 {
		d.page = 65536
	}
	if d.page < 512 || d.page&(d.page-1) != 0 {
		return nil, fmt.Errorf("%w: its pages have %d bytes", errDamaged, d.page)
	}
	if encoding := binary.BigEndian.Uint32(data[56:]); encoding > 1 {
		return nil, errors.New("the SQLite database is not in UTF-8")
	}
	d.usable, d.numPages = d.page-int(data[20]), len(data)/d.page
	if d.usable < 480 {
		return nil, fmt.Errorf("%w: no room in its pages", errDamaged)
	}
	err := d.walk(1, 5, func(v []value) error {
		if v[0].text == "table" {
			d.roots[v[1].text] = int(v[3].number)
		}
		return nil
	}, 0)
	return d, err
}

// rows calls f for each row of a table, which must have that many columns. The
// first, the id, is NULL.
func (d *database) rows(name string, columns int, f func([]value) error) error {
	root, ok := d.roots[name]
	if !ok {
		return fmt.Errorf("the SQLite database has no table %q: it is not pseudo's", name)
	}
	if err := d.walk(root, columns, f, 0); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	return nil
}

func (d *database) at(page int) ([]byte, error) {
	if page < 1 || page > d.numPages {
		return nil, fmt.Errorf("%w: there is no page %d", errDamaged, page)
	}
	return d.data[(page-1)*d.page : page*d.page], nil
}

func (d *database) walk(page, columns int, f func([]value) error, depth int) error {
	b, err := d.at(page)
	if err != nil {
		return err
	}
	if d.walked++; d.walked > 2*d.numPages || depth > 40 {
		return fmt.Errorf("%w: its pages go round in circles", errDamaged)
	}
	head := 0
	if page == 1 {
		head = 100
	}
	kind, cells := b[head], int(binary.BigEndian.Uint16(b[head+3:]))
	size := 8
	if kind == innerPage {
		size = 12
	} else if kind != leafPage {
		return fmt.Errorf("%w: page %d is none of a table", errDamaged, page)
	}
	if head+size+2*cells > d.usable {
		return fmt.Errorf("%w: page %d has too many rows", errDamaged, page)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(b[head+size+2*i:]))
		if at+4 > d.usable {
			return fmt.Errorf("%w: page %d, row %d", errDamaged, page, i)
		}
		if kind == innerPage {
			err = d.walk(int(binary.BigEndian.Uint32(b[at:])), columns, f, depth+1)
		} else {
			err = d.row(b[at:d.usable], columns, f)
		}
		if err != nil {
			return err
		}
	}
	if kind == innerPage {
		return d.walk(int(binary.BigEndian.Uint32(b[head+8:])), columns, f, depth+1)
	}
	return nil
}

// row decodes the cell b.
func (d *database) row(b []byte, columns int, f func([]value) error) error {
	size, n := varint(b)
	if n == 0 || size > uint64(len(d.data)) {
		return errDamaged
	}
	b = b[n:]
	if _, n = varint(b); n == 0 { // the id
		return errDamaged
	}
	record, err := d.payload(b[n:], int(size))
	if err != nil {
		return err
	}
	values, err := decodeRecord(record)
	if err != nil {
		return err
	}
	if len(values) < columns {
		return fmt.Errorf("%w: a row has %d columns, not %d", errDamaged, len(values), columns)
	}
	return f(values)
}

// payload collects what does not fit into a cell from a chain of pages.
func (d *database) payload(b []byte, size int) ([]byte, error) {
	most := d.usable - 35
	if size <= most {
		if size > len(b) {
			return nil, errDamaged
		}
		return b[:size], nil
	}
	least := (d.usable-12)*32/255 - 23
	local := least + (size-least)%(d.usable-4)
	if local > most {
		local = least
	}
	if local+4 > len(b) {
		return nil, errDamaged
	}
	out := slices.Clone(b[:local])
	next := int(binary.BigEndian.Uint32(b[local:]))
	for len(out) < size {
		if d.followed++; d.followed > 2*d.numPages {
			return nil, fmt.Errorf("%w: rows share pages", errDamaged)
		}
		p, err := d.at(next)
		if err != nil {
			return nil, err
		}
		out = append(out, p[4:4+min(size-len(out), d.usable-4)]...)
		next = int(binary.BigEndian.Uint32(p))
	}
	return out, nil
}

func decodeRecord(b []byte) ([]value, error) {
	head, n := varint(b)
	if n == 0 || head < uint64(n) || head > uint64(len(b)) {
		return nil, errDamaged
	}
	types, body := b[n:head], b[head:]
	var list []value
	for len(types) > 0 {
		t, n := varint(types)
		if n == 0 {
			return nil, errDamaged
		}
		types = types[n:]
		size := uint64(0)
		switch {
		case t >= 12:
			size = (t - 12) / 2
		case t >= 1 && t <= 7:
			size = uint64([]int{1, 2, 3, 4, 6, 8, 8}[t-1])
		}
		if size > uint64(len(body)) {
			return nil, errDamaged
		}
		content := body[:size]
		body = body[size:]
		switch {
		case t == 0 || t == 7 || t == 10 || t == 11: // NULL, and what is not to be expected
			list = append(list, null)
		case t <= 6:
			v := int64(int8(content[0]))
			for _, c := range content[1:] {
				v = v<<8 | int64(c)
			}
			list = append(list, number(v))
		case t <= 9:
			list = append(list, number(int64(t-8)))
		default:
			list = append(list, text(string(content)))
		}
	}
	return list, nil
}

// varint decodes 7 bits of each byte, the first ones first; a ninth byte has 8. It
// returns 0 bytes for what is cut off.
func varint(b []byte) (v uint64, n int) {
	for n < len(b) && n < 9 {
		c := b[n]
		n++
		if n == 9 {
			return v<<8 | uint64(c), n
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}

func appendVarint(b []byte, v uint64) []byte {
	if v >= 1<<56 {
		for shift := 57; shift >= 8; shift -= 7 {
			b = append(b, byte(v>>(shift-0)&0x7f)|0x80)
		}
		return append(b, byte(v))
	}
	var reversed [9]byte
	n := 0
	for {
		reversed[n] = byte(v & 0x7f)
		n++
		if v >>= 7; v == 0 {
			break
		}
	}
	for n--; n > 0; n-- {
		b = append(b, reversed[n]|0x80)
	}
	return append(b, reversed[0])
}

// Writing.

// A table is one that is to be written. Rows are numbered from 1.
type table struct {
	sql  string
	rows [][]byte // records
}

func (t *table) add(values ...value) {
	var types, body []byte
	for _, v := range values {
		switch v.kind {
		case 't':
			types = appendVarint(types, uint64(13+2*len(v.text)))
			body = append(body, v.text...)
		case 'n':
			types = append(types, 6)
			body = binary.BigEndian.AppendUint64(body, uint64(v.number))
		default:
			types = append(types, 0)
		}
	}
	head := 1 + len(types) // the length of itself is one byte, or two
	if head > 127 {
		head++
	}
	t.rows = append(t.rows, slices.Concat(appendVarint(nil, uint64(head)), types, body))
}

const writtenPage = 16384

// writeSQLite returns a database with these tables.
func writeSQLite(tables map[string]*table) ([]byte, error) {
	w := &writer{pages: make([][]byte, 1)} // the first comes last
	schema := &table{}
	for _, name := range sortedKeys(tables) {
		root, err := w.tree(tables[name].rows, 0)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		schema.add(text("table"), text(name), text(name), number(int64(root)), text(tables[name].sql))
	}
	cells := make([][]byte, len(schema.rows))
	for i, r := range schema.rows {
		cells[i] = leafCell(r, i+1)
	}
	first := page(leafPage, cells, 100, 0)
	copy(first, sqliteMagic)
	binary.BigEndian.PutUint16(first[16:], writtenPage)
	first[18], first[19] = 1, 1                                  // not WAL
	first[21], first[22], first[23] = 64, 32, 32                 // constants
	binary.BigEndian.PutUint32(first[24:], 1)                    // changes
	binary.BigEndian.PutUint32(first[28:], uint32(len(w.pages))) // size in pages
	binary.BigEndian.PutUint32(first[40:], 1)                    // changes of the schema
	binary.BigEndian.PutUint32(first[44:], 4)                    // format of the schema
	binary.BigEndian.PutUint32(first[56:], 1)                    // UTF-8
	binary.BigEndian.PutUint32(first[92:], 1)
	binary.BigEndian.PutUint32(first[96:], 3040000) // the version of SQLite
	w.pages[0] = first
	return slices.Concat(w.pages...), nil
}

type writer struct{ pages [][]byte }

func (w *writer) put(p []byte) int {
	w.pages = append(w.pages, p)
	return len(w.pages)
}

func leafCell(record []byte, id int) []byte {
	return slices.Concat(appendVarint(nil, uint64(len(record))), appendVarint(nil, uint64(id)), record)
}

// tree writes a table and returns its root.
func (w *writer) tree(rows [][]byte, _ int) (int, error) {
	type child struct{ page, last int } // the id of its last row
	var level []child
	var cells [][]byte
	room := writtenPage - 8
	flush := func(last int) {
		level = append(level, child{w.put(page(leafPage, cells, 0, 0)), last})
		cells, room = nil, writtenPage-8
	}
	for i, r := range rows {
		c := leafCell(r, i+1)
		if len(r) > writtenPage-35 {
			return 0, fmt.Errorf("a row of %d bytes is too long", len(r))
		}
		if len(c)+2 > room {
			flush(i)
		}
		cells, room = append(cells, c), room-len(c)-2
	}
	flush(len(rows))
	for len(level) > 1 {
		var above []child
		const most = (writtenPage - 12) / (4 + 9 + 2)
		for part := range slices.Chunk(level, most) {
			var cells [][]byte
			for _, c := range part[:len(part)-1] {
				cells = append(cells, appendVarint(binary.BigEndian.AppendUint32(nil, uint32(c.page)), uint64(c.last)))
			}
			right := part[len(part)-1]
			above = append(above, child{w.put(page(innerPage, cells, 0, right.page)), right.last})
		}
		level = above
	}
	return level[0].page, nil
}

// page makes a page of cells, which fit into it. head bytes stay free before it.
func page(kind byte, cells [][]byte, head, right int) []byte {
	p := make([]byte, writtenPage)
	h := p[head:]
	h[0] = kind
	binary.BigEndian.PutUint16(h[3:], uint16(len(cells)))
	size := 8
	if kind == innerPage {
		size = 12
		binary.BigEndian.PutUint32(h[8:], uint32(right))
	}
	end := len(p)
	for i, c := range cells {
		end -= len(c)
		copy(p[end:], c)
		binary.BigEndian.PutUint16(h[size+2*i:], uint16(end))
	}
	binary.BigEndian.PutUint16(h[5:], uint16(end))
	return p
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
