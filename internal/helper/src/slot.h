// What the files of this program share.
#pragma once
#include "lib.h"
#include "wire.h"

// The descriptors that every mode starts with; 0 to 2 are open, too.
enum {
	FD_SOCKET = 3, // messages
	FD_LIFE = 4, // slot only: cancellations, and SEQ_PREPARE; its end says that our caller is gone
};

// SEQ_PREPARE, in the place of a cancellation, asks for what "begin" does at the
// start of a slot: a sandbox that offers its scratch before there is a request.
#define SEQ_PREPARE (~0ull)

enum {
	SANDBOXES = 8, // of one slot; all but one or two of them are just dying
	STACK = 48 << 10,
};

// States of a sandbox. Both the slot and the sandbox's pid 1 change them, by
// compare-and-swap, so that each request is answered exactly once.
enum {
	FREE,
	READY, // waits for a request
	BUSY, // has one
	REPLIED,
	CONDEMNED, // the slot kills it, and will reply
};

// A sandbox is what one pid 1 and the slot that made it know of one action.
// All of them live in the memory of the slot: pid 1 is made with CLONE_VM,
// which is cheaper by 90 µs than a copy of the page tables, and means that
// nothing in here may be reused before its pid 1 has been reaped.
struct sandbox {
	struct slot *slot;
	s32 pid; // of pid 1, as the slot sees it
	u32 state;
	u64 seq;
	u64 net; // number of the slot's network that it is in; 0: the slot had none yet
	s32 lo_stats; // /proc/net/dev of it
	s32 net_fd; // of a network that the process of the command has to enter itself, or 0
	s32 host_root; // the host's /, in its own mount namespace
	const char *host, *place; // paths of the host's /, and of where to mount what is ours

	// The request, as received.
	struct request *req;
	const char *dir, *data, *scratch_dir, *target, *hide; // the last two mean something else to fence
	const char *host_name, *alias; // of a command that is varied, or empty
	const char *binfmt, *emulator; // of a command of another machine, or empty
	const char *label, *context; // of SELinux: the command's and its mounts'; or empty
	const char *known; // the first string of what is known of owners
	char **argv, **envp;
	const char *lowers, *binds; // the first string of each list
	s32 stdio[3], groups[FDS_MAX], filter; // filter: a file, with REQUEST_FILTER
	s32 tree; // the root, for init to enter; or -1
	void *big; // mapped, if it did not fit into a packet
	size_t big_size;

	// What the command's process leaves here before its exec.
	s32 start_errno, start_flags, setup_errno;
	const char *setup_text;
	u32 listener_ready; // futex
	int denied; // the deny list is in force for pid 1, and so for its children
	int denied_command; // it is for the process of the command, at least
	int placed; // /proc, /dev and /tmp are in /scratch already
	int early; // made before the first request: offers its scratch at once
	u32 nbegun; // what is bound in the scratch since before the request
	s32 begun[BEGUN_MAX];
	s32 dir_fd; // of a watched command
	u32 path_skip; // bytes of its PATH: directories without the program
	s32 searching; // its process looks along that, and executes nothing this instant
	s32 own_proc; // of a /proc that is not read-only, where the command's is; else 0
	int covered; // nobody ever sees what is mounted on in the root
	s32 over; // of /over, if a bind needed it; else 0
	s32 fence; // Landlock rules of a command that has no namespaces, or 0
	s32 emulator_fd; // or 0
	s32 early_child; // the command's process was made before there was a request
	u32 user_asked, user_mapped; // futexes: see own_user
	s32 prepared; // pid of a process that waits for its command, or 0
	int stdio_open; // pid 1 has the command's descriptors, too
	u32 go; // futex: the command is known, and its root built
	s32 listener;

	struct observer *observer;
	struct varied *varied;
	struct owners *owners;
	struct reply reply;
	s32 reply_fds[3];
	u32 reply_nfds;

	u64 message[MESSAGE_MAX / 8];
	char stack[STACK] __attribute__((aligned(16)));
	char child_stack[STACK / 2] __attribute__((aligned(16)));
};

// What is known of the vDSO, of which all processes have the same: see scribe.c.
struct vdso {
	u64 end; // what is behind this is not used; 0: not looked at yet
	u64 at; // where it mostly is, or 0
	u8 head[64]; // how it begins
};

// A site is a place from which programs make a system call. It is known by its code: see
// sites.c.
enum {
	SITE_BEFORE = 24, // bytes of a site's code in front of where its call ends
	SITE = 32,
	SITES = 32,
};

struct site {
	u64 ip; // where its call ends, or would end in the process in which its neighbours were first seen
	s32 nr;
	u8 code[SITE];
};

// Sites are what commands of this slot have called from. Who is killed may leave half of
// one, and nothing of it is believed that the process at hand does not show.
struct sites {
	u32 n; // how many there have been; the last ones are in the list
	struct site list[SITES];

	// The one that was seen last: in which process, where, and how far from site.ip.
	struct site *last;
	u32 tid;
	u64 ip, moved;
};

// A slot makes one sandbox after the other.
struct slot {
	u32 uid, gid; // of our caller
	int unprivileged; // so everything happens in a user namespace
	int as_root; // around: we are root in it
	int nest, name, stdio, child, old; // init: see main.c
	int host_network;
	int sealed; // commands have the host's network, and no way to make a socket
	int begin; // prepare a sandbox before there is a request
	int watch; // its command will be observed
	int no_scribe; // each look-up asks: see scribe.c
	s32 life; // polled by run_command for the end of our caller, or -1
	u64 cancelled; // the last seq that was to be cancelled
	s32 kick; // eventfd: a sandbox has started its command
	s32 alive[2]; // pipe whose writing end only the slot holds
	s32 null; // /dev/null
	u64 net, dirty_net; // number of our network, and of the last one that was used
	s32 lo_stats; // /proc/net/dev of our network
	s32 net_socket[2]; // see make_network
	int denied; // the deny list is in force for us, and all that we make
	u32 sandboxes_made;
	u32 filters[2]; // of system calls, that a pid 1 has, without and with the deny list; 0: not looked at yet
	struct vdso vdso;
	struct sites sites;
	int eager; // the last command had much to write down: see scribe_consider
	struct sandbox sandboxes[SANDBOXES];
};

// main.c
_Noreturn void quit(int code);
_Noreturn void fail(struct sandbox *s, const char *what, const char *name, long err);
void send_reply(struct sandbox *s, u32 kind);
int receive(struct sandbox *s);
_Noreturn void init(struct slot *z, char *name);
const char *next_string(const char *p);

// slot.c
void serve(struct slot *z);
void default_signals(void);
void harden(struct slot *z);
void deny(struct slot *z, struct sandbox *s);
void drop_bounding(void);

// network.c
#define OWN_NETWORK (~0ull) // sandbox.net of one that is not in the slot's
long lo_up(void);
void make_network(struct slot *z);
long slot_network(struct slot *z);
void wait_network(struct sandbox *s);
void note_network_use(struct sandbox *s);
void leave_used_network(struct sandbox *s);

// root.c
void prepare_host(struct slot *z);
void prepare_root(struct sandbox *s);
void offer_scratch(struct sandbox *s);
int begin_root(struct sandbox *s);
void build_root(struct sandbox *s);
void keep_root(struct sandbox *s);

// around.c
_Noreturn void around_root(struct sandbox *s);
void enter_root(struct sandbox *s, const char *at);
void enter_tree(struct sandbox *s);
_Noreturn void nest(struct sandbox *s, char *name);

// start.c
// need ends the command's process, and with it the sandbox, where err is an error.
void need(struct sandbox *s, const char *what, long err);
void prepare_command(struct sandbox *s);
s32 start_command(struct sandbox *s);
void close_stdio(struct sandbox *s);

// run.c
void run_command(struct sandbox *s);
int reap_all(s32 pid, s32 *status);

// filter.c
enum { FILTER_MAX = 1024 };
u32 deny_filter(struct sock_filter *out, int with_cookie, int sealed);
u32 old_filter(struct sock_filter *out);
u32 observe_filter(struct sock_filter *out);
u32 both_filter(struct sock_filter *out, int sealed);
u32 groups_filter(struct sock_filter *out);
u32 socket_filter(struct sock_filter *out, int internet);
u32 owners_filter(struct sock_filter *out, int observed);
u32 vary_filter(struct sock_filter *out, const struct vary *v);
long install(struct sock_filter *filter, u32 n, u32 flags);

// observe.c, places.c and programs.c
struct observer *new_observer(struct sandbox *s);
s32 begin_observing(struct sandbox *s, const char *dir);
void observe(struct sandbox *s, s32 listener);
void finish_observer(struct sandbox *s);
void free_observer(struct sandbox *s);

// guest.c
_Noreturn void guest(struct slot *z);

// fence.c
void make_fence(struct sandbox *s);
long enter_fence(struct sandbox *s);
void kill_descendants(void);
void abandon(struct sandbox *s);

// process.c
long peek_process(u32 tid, u64 at, void *to, size_t n);
s32 poke_process(u32 tid, u64 at, const void *from, size_t n);
int peek_string(u32 tid, u64 at, char buf[static PATH_MAX]);
// read_status reads path, which is a TID/status in the directory proc; field is the number
// behind name, "\nUmask:\t" for example, in what has been read, or -1; status_number is both.
int read_status(s32 proc, const char *path, char *buf, size_t size);
s64 field(const char *status, const char *name, u32 base);
s64 status_number(s32 proc, const char *path, const char *name, u32 base);

// owners.c and owned.c
void owners_begin(struct sandbox *s);
int owners_answer(struct owners *o, const struct seccomp_notif *n, struct seccomp_notif_resp *resp);
void owners_finish(struct sandbox *s);
void owners_free(struct sandbox *s);

// user.c
//
// OWNER_CAPS are what root has over its own files: to pass by their modes, to do
// what their owner may, to keep set-id bits, and to give them capabilities.
#define OWNER_CAPS (1u << 1 | 1u << 3 | 1u << 4 | 1u << 31)
void own_user(struct sandbox *s);
void map_own_user(struct sandbox *s);
void as_caller(struct sandbox *s);
void map_caller(struct sandbox *s);
int own_namespace(struct sandbox *s);
void await(struct sandbox *s, u32 *flag);

// vary.c and clock.c
extern const char *own_vdso;
void vary_sandbox(struct sandbox *s);
int wait_varied(struct sandbox *s, s32 pid, u64 deadline, s32 *status);
void free_varied(struct sandbox *s);
