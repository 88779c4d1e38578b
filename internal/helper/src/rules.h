// What the filters of filter.c do with which system calls.
#pragma once
#include "program.h"

// Each list is sorted. X32 is the third ABI of amd64, which nobody uses.
#if defined __x86_64__
static const struct rule native_rules[] = {
	{16, 16, IOCTL}, {41, 41, SOCKET}, {56, 56, CLONE},
	{103, 103, REFUSE}, // syslog
	{134, 134, REFUSE}, // uselib
	{153, 153, REFUSE}, // vhangup
	{155, 155, OURS}, // pivot_root
	{156, 156, REFUSE}, // _sysctl
	{161, 161, OURS}, // chroot
	{163, 164, REFUSE}, // acct, settimeofday
	{165, 166, OURS}, // mount, umount2
	{167, 169, REFUSE}, // swapon, swapoff, reboot
	{170, 170, OURS}, // sethostname
	{171, 180, REFUSE}, // setdomainname to nfsservctl: io ports, modules, quota
	{212, 212, REFUSE}, // lookup_dcookie
	{227, 227, REFUSE}, // clock_settime
	{246, 246, REFUSE}, // kexec_load
	{248, 250, REFUSE}, // add_key, request_key, keyctl
	{272, 272, UNSHARE},
	{298, 298, REFUSE}, // perf_event_open
	{300, 300, REFUSE}, // fanotify_init
	{304, 304, REFUSE}, // open_by_handle_at
	{308, 308, OURS}, // setns
	{313, 313, REFUSE}, // finit_module
	{320, 321, REFUSE}, // kexec_file_load, bpf
	{323, 323, REFUSE}, // userfaultfd
	{425, 427, MISSING}, // io_uring: its requests pass by every filter
	{428, 433, OURS}, // open_tree to fspick
	{435, 435, MISSING}, // clone3: its flags are in memory; libc takes clone
	{442, 442, OURS}, // mount_setattr
	{443, 443, REFUSE}, // quotactl_fd
	{467, 467, REFUSE}, // open_tree_attr
	{0x40000000, 0xffffffff, MISSING}, // x32
};
static const struct rule i386_rules[] = {
	{21, 22, REFUSE}, // mount, umount
	{25, 25, REFUSE}, // stime
	{51, 52, REFUSE}, // acct, umount2
	{54, 54, IOCTL},
	{61, 61, REFUSE}, // chroot
	{74, 74, REFUSE}, // sethostname
	{79, 79, REFUSE}, // settimeofday
	{86, 88, REFUSE}, // uselib, swapon, reboot
	{101, 101, REFUSE}, // ioperm
	{102, 102, SOCKETCALL},
	{103, 103, REFUSE}, // syslog
	{110, 111, REFUSE}, // iopl, vhangup
	{113, 113, REFUSE}, // vm86old
	{115, 115, REFUSE}, // swapoff
	{120, 120, CLONE},
	{121, 121, REFUSE}, // setdomainname
	{127, 131, REFUSE}, // modules, quotactl
	{149, 149, REFUSE}, // _sysctl
	{166, 167, REFUSE}, // vm86, query_module
	{169, 169, REFUSE}, // nfsservctl
	{217, 217, REFUSE}, // pivot_root
	{253, 253, REFUSE}, // lookup_dcookie
	{264, 264, REFUSE}, // clock_settime
	{283, 283, REFUSE}, // kexec_load
	{286, 288, REFUSE}, // keys
	{310, 310, UNSHARE},
	{336, 336, REFUSE}, // perf_event_open
	{338, 338, REFUSE}, // fanotify_init
	{342, 342, REFUSE}, // open_by_handle_at
	{346, 346, REFUSE}, // setns
	{350, 350, REFUSE}, // finit_module
	{357, 357, REFUSE}, // bpf
	{359, 359, SOCKET},
	{374, 374, REFUSE}, // userfaultfd
	{404, 404, REFUSE}, // clock_settime64
	{425, 427, MISSING},
	{428, 433, REFUSE},
	{435, 435, MISSING},
	{442, 443, REFUSE},
	{467, 467, REFUSE},
};
#else
static const struct rule native_rules[] = {
	{18, 18, REFUSE}, // lookup_dcookie
	{29, 29, IOCTL},
	{39, 41, OURS}, // umount2, mount, pivot_root
	{42, 42, REFUSE}, // nfsservctl
	{51, 51, OURS}, // chroot
	{58, 58, REFUSE}, // vhangup
	{60, 60, REFUSE}, // quotactl
	{89, 89, REFUSE}, // acct
	{97, 97, UNSHARE},
	{104, 106, REFUSE}, // kexec_load, modules
	{112, 112, REFUSE}, // clock_settime
	{116, 116, REFUSE}, // syslog
	{142, 142, REFUSE}, // reboot
	{161, 161, OURS}, // sethostname
	{162, 162, REFUSE}, // setdomainname
	{170, 170, REFUSE}, // settimeofday
	{198, 198, SOCKET},
	{217, 219, REFUSE}, // keys
	{220, 220, CLONE},
	{224, 225, REFUSE}, // swapon, swapoff
	{241, 241, REFUSE}, // perf_event_open
	{262, 262, REFUSE}, // fanotify_init
	{265, 265, REFUSE}, // open_by_handle_at
	{268, 268, OURS}, // setns
	{273, 273, REFUSE}, // finit_module
	{280, 280, REFUSE}, // bpf
	{282, 282, REFUSE}, // userfaultfd
	{294, 294, REFUSE}, // kexec_file_load
	{425, 427, MISSING}, // io_uring: its requests pass by every filter
	{428, 433, OURS}, // open_tree to fspick
	{435, 435, MISSING}, // clone3: its flags are in memory; libc takes clone
	{442, 442, OURS}, // mount_setattr
	{443, 443, REFUSE}, // quotactl_fd
	{467, 467, REFUSE}, // open_tree_attr
};
#endif
