package ownerstate

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// An Entry is what a state says of an inode.
type Entry struct {
	Path            string // as pseudo has it: absolute on the host; else empty
	Dev, Ino, Nlink uint64
	Mode            uint32 // with its type
	UID, GID        uint32
	Rdev            uint64
	Xattrs          map[string]string
}

// mostEntries bounds what is read.
const mostEntries = 10 << 20

// ReadFakeroot reads the state that fakeroot has saved.
func ReadFakeroot(r io.Reader) ([]Entry, error) {
	var list []Entry
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		var e Entry
		if got, _ := fmt.Sscanf(line, "dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=%d,rdev=%d", &e.Dev, &e.Ino, &e.Mode, &e.UID, &e.GID, &e.Nlink, &e.Rdev); got != 7 {
			return nil, fmt.Errorf("line %d is none of fakeroot's state: %.60q", n, line)
		}
		if list = append(list, e); len(list) > mostEntries {
			return nil, fmt.Errorf("more than %d lines", mostEntries)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("not fakeroot's state: %w", err)
	}
	return list, nil
}

// WriteFakeroot writes a state as fakeroot does. Names of one inode are one line.
func WriteFakeroot(w io.Writer, list []Entry) error {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	out := bufio.NewWriter(w)
	for _, e := range list {
		if i := (inode{e.Dev, e.Ino}); !seen[i] {
			seen[i] = true
			fmt.Fprintf(out, "dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=%d,rdev=%d\n", e.Dev, e.Ino, e.Mode, e.UID, e.GID, e.Nlink, e.Rdev)
		}
	}
	return out.Flush()
}

// ReadPseudo reads pseudo's database.
func ReadPseudo(data []byte) ([]Entry, error) {
	db, err := openSQLite(data)
	if err != nil {
		return nil, err
	}
	type inode struct{ dev, ino int64 }
	xattrs := map[inode]map[string]string{}
	if err := db.rows("xattrs", 5, func(v []value) error {
		i := inode{v[1].number, v[2].number}
		if xattrs[i] == nil {
			xattrs[i] = map[string]string{}
		}
		xattrs[i][v[3].text] = v[4].text
		return nil
	}); err != nil {
		return nil, err
	}
	var list []Entry
	err = db.rows("files", 9, func(v []value) error {
		if v[8].number != 0 { // is being deleted
			return nil
		}
		list = append(list, Entry{
			Path: v[1].text, Dev: uint64(v[2].number), Ino: uint64(v[3].number), UID: uint32(v[4].number), GID: uint32(v[5].number),
			Mode: uint32(v[6].number), Rdev: uint64(v[7].number), Xattrs: xattrs[inode{v[2].number, v[3].number}],
		})
		if len(list) > mostEntries {
			return fmt.Errorf("more than %d files", mostEntries)
		}
		return nil
	})
	return list, err
}

// WritePseudo returns a database for pseudo. Each entry must have its Path.
func WritePseudo(list []Entry) ([]byte, error) {
	files := table{sql: "CREATE TABLE files ( id INTEGER PRIMARY KEY, path VARCHAR, dev INTEGER, ino INTEGER, uid INTEGER, gid INTEGER, mode INTEGER, rdev INTEGER, deleting INTEGER )"}
	xattrs := table{sql: "CREATE TABLE xattrs ( id INTEGER PRIMARY KEY, dev INTEGER, ino INTEGER, name VARCHAR, value VARCHAR )"}
	migrations := table{sql: "CREATE TABLE migrations ( id INTEGER PRIMARY KEY, version INTEGER, stamp INTEGER, sql VARCHAR )"}
	migrations.add(null, number(8), number(-1), text("N/A (initial setup)"))
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	for _, e := range list {
		files.add(null, text(e.Path), number(int64(e.Dev)), number(int64(e.Ino)), number(int64(e.UID)), number(int64(e.GID)),
			number(int64(e.Mode)), number(int64(e.Rdev)), number(0))
		if i := (inode{e.Dev, e.Ino}); !seen[i] {
			seen[i] = true
			for _, k := range sortedKeys(e.Xattrs) {
				xattrs.add(null, number(int64(e.Dev)), number(int64(e.Ino)), text(k), text(e.Xattrs[k]))
			}
		}
	}
	return writeSQLite(map[string]*table{"files": &files, "xattrs": &xattrs, "migrations": &migrations})
}
