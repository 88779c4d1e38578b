// Package vm is the backend whose sandbox is a virtual machine with a kernel of its
// own, made by QEMU: the idea of Clear Containers. What a command can do to the
// kernel, it does to that one. It needs Debian's qemu-system-x86 and any kernel
// with its modules, such as linux-image-cloud-amd64; nothing of a distribution runs
// in the machine, and there is no image to make.
//
// # How
//
// As with every tool of package foreign, our helper makes the whole root on the
// host, in a mount namespace of its own. There virtiofsd shows it to the machine,
// and nothing else of the host; so layers, binds and scratch are the host's, and
// what the command leaves is there when the machine is gone. The machine boots an
// initramfs of our helper and the modules that it needs. The helper is process 1; it
// mounts the root and runs an init, itself again, in namespaces of its own, which
// tells how the command ended, exactly. The request, the answer and the three streams
// go through ports of a virtio-serial device. There is no network device: the
// command has a loopback interface, and the host's network cannot be had.
//
// When QEMU is killed, all is gone; and it is when we are.
//
// KVM is used where it can be: not in a virtual machine, as nested ones fail in too
// many ways, unless [Options.Accel] says so. Else QEMU translates (TCG), which needs
// no right to anything, takes one or two seconds of CPU time to boot, and makes the
// command some ten times slower.
//
// As root, QEMU runs as the user [backends.ID], virtiofsd as root with only the
// root in sight. As another user, all is in a user namespace.
package vm

// Name is the name of the backend.
const Name = "vm"

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is QEMU. Empty: qemu-system-x86_64 is looked up in $PATH.
	Program string

	// Kernel is the kernel, and Modules the directory of its modules. Empty: the
	// first in /boot that has what is needed, Debian's for the cloud before others.
	Kernel, Modules string

	// Accel is "kvm" or "tcg". Empty: KVM where it is likely to work.
	Accel string

	// Memory is how much the machine has, in bytes. Zero: 2 GiB, of which the host
	// only spends what is used.
	Memory int64
}
