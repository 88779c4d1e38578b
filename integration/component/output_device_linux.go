package component

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/staging"
)

// device makes a device node or a pipe. Its directory is one of the tree.
func (x *extractor) device(at string, o staging.Owner) error {
	mode := map[staging.NodeType]uint32{staging.TypeChar: unix.S_IFCHR, staging.TypeBlock: unix.S_IFBLK, staging.TypeFIFO: unix.S_IFIFO}[o.Type]
	err := unix.Mknod(at, mode|o.Mode&0o7777, int(unix.Mkdev(uint32(o.Major), uint32(o.Minor))))
	if errors.Is(err, unix.EPERM) {
		x.left++
		return nil
	}
	if err != nil {
		return err
	}
	if !x.privileged {
		return nil
	}
	return cmp.Or(os.Lchown(at, o.UID, o.GID), os.Chmod(at, fileMode(o.Mode)))
}

// beUser starts a command as one who believes to be this user.
func beUser(cmd *exec.Cmd, uid, gid int) {
	if uid == os.Geteuid() && gid == os.Getegid() {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: os.Getegid(), Size: 1}},
	}
}
