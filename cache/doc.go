// Package cache keeps blobs, results, notes and layers in a directory: the
// [Store]. Any number of processes use one directory at the same time.
//
// # On-disk format, version 1
//
//	VERSION            the line "sbx-action cache 1"
//	CACHEDIR.TAG       tells backup programs to pass by
//	blob/F/ab/ab12…    the contents of a blob; F is the digest function
//	result/F/cd/cd34…  a record: the canonical bytes of an action.Result
//	note/F/ef/ef56…    a record: bytes that mean nothing to the store
//	layer/NAME/data    a file or directory that staging made
//	layer/NAME/refs    a record: its size, and the blobs that it needs
//	tmp/               drafts and the dead, one directory for each process
//	locks              no meaning but its byte-range locks; see [Store.Lock]
//	synced             what is known to have reached the disk; see below
//	log, index, …      help trim to find what is old; see index.go
//	size               how much there was when it was last counted; see limit.go
//	history, …         what ran and what was removed; see history.go
//	stat/, stat-UID/, rootfs/
//	                   not of this package: the stat caches of inputs, and the
//	                   names of root file systems
//	serve/             of a server, which keeps small blobs there: see [Packed]
//
// A record is 4 bytes that name its kind and version, the SHA-256 of its name
// and its payload, and the payload. A name with ".new-" in it is a draft that
// lives for an instant.
//
// Invariants, which hold at every instant and after SIGKILL:
//
//   - A file is never visible under its final name before it is complete.
//   - A result is written after the blobs that it names.
//   - Trim removes a result before its blobs, a layer before its, and nothing
//     that was used within the last hour or since the oldest running action
//     began.
//   - A blob's contents never change. Blobs have mode 0444.
//
// So a reader needs no lock: what it finds is whole and outlives its use. What
// is found to be damaged or missing is a miss with a reason, and the next Put
// replaces it, also where it has become a directory or a link, or where a file has the
// place of its directory. A VERSION that says nothing, or is gone, is written again
// beside a CACHEDIR.TAG of ours.
//
// # After a power cut
//
// Nothing is synced when it is written, because that costs more than writing.
// Instead the modification time of a blob (and of a layer's refs) says in its
// nanoseconds during which boot of the machine it was written: a hash of the
// boot's id. What was written during this boot is as its writer left it,
// whatever happened to processes since. What was written during another boot
// is trusted only if it is older than the last [Store.Sync] of that boot; else
// its digest is verified before the first use, once, and it is stamped with
// this boot. A layer, which has no digest, is made again. So a power cut costs
// the last files, never yields a wrong one, and short-lived processes never
// wait for a disk. The same rule covers a store that was copied here from
// another machine.
//
// # Several users
//
// A store whose directory its group may write, and which hands its group on (mode
// 2770), is that group's: directories, the log, the history, the index and the file
// "locks" are made for the group to write, and everything for it to read, whatever the
// umask. Blobs and records nobody writes: they are replaced. Marks of use and of boots
// only the owner of a file can set; the kernel's own of reads stand for the former, and
// without the latter a blob of another boot is verified by each process. Drafts and
// layers are left to those who made them.
//
// # Times
//
// The access time says when something was last used: [Store.Result], Has,
// Open, and every Put set it when it is off by more than ten minutes. Times in
// the future, after a clock went back, count as now and are set to it.
package cache
