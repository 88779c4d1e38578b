// Package ownerstate reads and writes what other tools that pretend to be root
// keep of owners: fakeroot's state and pseudo's database.
//
// Both say of inodes, by the number of their device and their own, what a program is
// told of them. We keep paths ([staging.Owners]); so a directory must be there
// whose files these are, in which they are looked for.
//
// # fakeroot
//
// A line for each inode (faked.c, save_database; "fakeroot -s" and "-i"):
//
//	dev=HEX,ino=DECIMAL,mode=OCTAL,uid=DECIMAL,gid=DECIMAL,nlink=DECIMAL,rdev=DECIMAL
//
// mode has the type of the file, as it pretends to be. Extended attributes are not
// kept.
//
// # pseudo
//
// An SQLite database, files.db in PSEUDO_LOCALSTATEDIR, with the tables files (id,
// path, dev, ino, uid, gid, mode, rdev, deleting), xattrs (id, dev, ino, name,
// value) and migrations (id, version, stamp, sql), as versions 1.2 and later of
// pseudo have it: version 8 of the last one. We read it however SQLite has written
// it, and write one that has the tables and none of the indexes, which SQLite then
// does without. See sqlite.go.
package ownerstate
