// How something is mounted: what root.c, binds.c and around.c share.
#pragma once
#include "slot.h"

// Staged files have this time, so mount points do, too: 2011-11-11 11:11:11 UTC.
enum { CONSTANT_TIME = 1321009871 };

static const struct timespec constant_times[2] = {{CONSTANT_TIME, 0}, {CONSTANT_TIME, 0}};

// mounts.c

// A new_fs is a file system that is being configured; mistakes end the sandbox
// with what the kernel has to say about them.
struct new_fs {
	struct sandbox *s;
	const char *type;
	long fd;
};

void must(struct sandbox *s, const char *what, const char *name, long err);

// map_user makes the user of the outer namespace the command's.
void map_user(struct sandbox *s, u32 uid, u32 gid);

void user_namespace(struct sandbox *s);

long mount(const char *type, const char *at, u64 flags, const char *options);

// make_dev fills a fresh /dev with the devices of s->host.
void make_dev(struct sandbox *s, s32 dev);

void open_host(struct sandbox *s, const char *host, const char *place);

// host_path opens a path of the host. Symbolic links are the host's, so they
// must not be followed from our own root.
long try_host_path(struct sandbox *s, const char *path, u32 flags);

s32 host_path(struct sandbox *s, const char *path);

// proc_name is a name for a descriptor where the kernel wants a path. It goes
// through the host's /proc, because it must work before ours is in place.
const char *proc_name(struct sandbox *s, char buf[static 48], s32 fd);

// place_name is the path of something that only stands somewhere because the
// kernel wants it to.
const char *place_name(struct sandbox *s, char buf[static PATH_MAX], const char *name);

struct new_fs fs_open(struct sandbox *s, const char *type);

void fs_set(struct new_fs *f, const char *key, const char *value);

// in_memory is how much one file system in memory may hold, in bytes; 0: no limit of
// ours. What is written there is memory, which "data" limits where no control group
// does: it would count for no process.
u64 in_memory(struct sandbox *s);

// fs_set_size bounds a file system in memory as in_memory says.
void fs_set_size(struct new_fs *f);

s32 fs_mount(struct new_fs *f, u32 attributes);

void attach(struct sandbox *s, s32 tree, const char *at);

// put_size adds the options of a file system in memory of so many bytes. Empty files use
// no page, but memory all the same.
void put_size(struct text *t, u64 bytes, u64 files);

void make_dir(struct sandbox *s, const char *name);

long open_in(s32 root, const char *path);

// make_in makes name in the directory dir, for something to be mounted there.
long make_in(struct sandbox *s, s32 dir, const char *name, int directory);

// mount_point opens path, which is absolute and clean, below root, and makes
// what is missing of it.
s32 mount_point(struct sandbox *s, s32 root, const char *path, int directory);

// mount_in puts the tree, which may be a descriptor with a path below it, at target
// below root. In the usual case that is a new name in the root, quickly.
void mount_in(struct sandbox *s, s32 tree, const char *path, s32 root, const char *target, int directory);

// root.c

#define SCRATCH_OPTIONS "mode=755,uid=65000,gid=65000"

// await_go waits until our caller lets us go on.
void await_go(struct sandbox *s, const char *what);

// mount_root mounts what the command may write to and the layers, if any, below
// it, and returns where.
const char *mount_root(struct sandbox *s, const char *scratch, const char *root);

void own(struct sandbox *s, const char *dir);

// finish_root gives the root the time that it had before mount points were made
// in it, as the command may not see the time of day, and protects it.
void finish_root(struct sandbox *s, s32 root, const struct statx *before);

// keep adds the root at path, as the command leaves it, to the reply: without what is
// mounted on it, and good for longer than this sandbox. The clone that it
// stands on is not closed here, as that would wait for a grace period; it goes
// with our process.
void keep(struct sandbox *s, const char *path);

// binds.c

// bind_in shows source, of the host, at target below root: read-only, unless writable is
// set.
void bind_in(struct sandbox *s, s32 root, const char *source, const char *target, int writable);
s32 bind_tree(struct sandbox *s, s32 root, const char *source, const char *target, int writable, u64 propagation);
void protect_tree(struct sandbox *s, const char *source, s32 tree, int writable, u64 propagation);
void alias_in(struct sandbox *s, s32 root, const char *source);

// has_over says whether the request shows a directory below a fresh one.
int has_over(struct sandbox *s);

// bind_all mounts what the request wants in the root: the first byte of a source
// that is no slash says what else than a read-only bind it is.
void bind_all(struct sandbox *s, s32 root);
