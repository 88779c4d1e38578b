package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// machine is what the kernel gives this user.
func machine() []finding {
	var u unix.Utsname
	unix.Uname(&u) //nolint:errcheck // cannot fail
	who := "root"
	if os.Geteuid() != 0 {
		who = fmt.Sprintf("user %d", os.Geteuid())
	}
	fs := text("/proc/filesystems")
	has := func(name string) bool { return strings.Contains(fs, "\t"+name+"\n") }
	return []finding{
		{"kernel", stateOK, unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:]) + ", as " + who, ""},
		userNamespaces(),
		found("overlay", has("overlay"), "overlayfs", "as root: modprobe overlay"),
		found("erofs", has("erofs"), "EROFS (only root can use it)", "as root: modprobe erofs"),
		controlGroups(),
		found("seccomp notification", strings.Contains(text("/proc/sys/kernel/seccomp/actions_avail"), "user_notif"), "user_notif", "a kernel since 5.0 with CONFIG_SECCOMP_FILTER"),
		bpf(),
		fuse(),
	}
}

func controlGroups() finding {
	if list := text("/sys/fs/cgroup/cgroup.controllers"); list != "" {
		return finding{"control groups", stateOK, "version 2: " + strings.TrimSpace(list), ""}
	}
	if exists("/sys/fs/cgroup/memory/cgroup.procs") {
		return finding{"control groups", stateOK, "version 1, with memory", ""}
	}
	return finding{"control groups", stateNo, "not mounted", "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup"}
}

func text(name string) string {
	data, _ := os.ReadFile(name)
	return string(data)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// userNamespaces tries it.
func userNamespaces() finding {
	cmd := exec.Command("/proc/self/exe", "version")
	cmd.Args[0] = os.Args[0] // by which some find out what they are
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	err := cmd.Run()
	// Who was started there, but could not go on, was started there.
	if _, started := errors.AsType[*exec.ExitError](err); err == nil || started {
		return finding{"user namespaces", stateOK, "can be made", ""}
	}
	remedy := "as root, run: sysctl user.max_user_namespaces=10000"
	switch {
	case strings.TrimSpace(text("/proc/sys/kernel/unprivileged_userns_clone")) == "0":
		remedy = "as root, run: sysctl kernel.unprivileged_userns_clone=1"
	case strings.TrimSpace(text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")) == "1":
		remedy = "as root, run: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	case exists("/.dockerenv"):
		remedy = "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined, or --privileged"
	}
	return finding{"user namespaces", stateNo, err.Error(), remedy}
}

// bpf makes a map, which is the least that can be asked of it.
func bpf() finding {
	attr := struct{ kind, keySize, valueSize, entries, flags uint32 }{2, 4, 4, 1, 0} // BPF_MAP_TYPE_ARRAY
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return finding{"eBPF", stateNo, errno.Error(), "root, or CAP_BPF and a kernel with CONFIG_BPF_SYSCALL; observation uses seccomp without it"}
	}
	unix.Close(int(fd))
	detail := "maps can be made"
	if exists("/sys/kernel/btf/vmlinux") {
		detail += ", types of the kernel are known"
	}
	return finding{"eBPF", stateOK, detail, ""}
}

func fuse() finding {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		return finding{"FUSE", stateNo, err.Error(), "as root: chmod 666 /dev/fuse"}
	}
	if err != nil {
		return finding{"FUSE", stateNo, err.Error(), "as root: modprobe fuse; apt-get install fuse3"}
	}
	f.Close()
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			return finding{"FUSE", stateNo, "/dev/fuse is there, fusermount3 is not", "as root: apt-get install fuse3"}
		}
	}
	return finding{"FUSE", stateOK, "/dev/fuse", ""}
}

// fileSystem is the kind of a directory's file system, and the bytes that are
// free in it.
func fileSystem(dir string) (kind string, free int64) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "unknown", 0
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.XFS_SUPER_MAGIC: "xfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs",
	}
	kind = names[int64(st.Type)]
	if kind == "" {
		kind = fmt.Sprintf("type %#x", st.Type)
	}
	return kind, int64(st.Bavail) * int64(st.Bsize)
}
