package backends

import (
	"fmt"
	"strings"
)

// An Owned is a file that does not belong to 0:0, or a device, as a command with
// Spec.Owners has made it, or sees it.
//
// Such a command runs as user 0 of a user namespace of its own, which can do with
// its files what root may. What it gives away, and the devices that it makes, is
// written down, and stat tells of it; everything else belongs to 0:0. A device is
// an empty file, and gives no access to anything. So nothing that the command
// makes is dangerous for the host: all files are [ID]'s, or the caller's.
type Owned struct {
	Path string // absolute in the root: one of its names; empty if that is not known

	Device, Inode uint64 // as stat(2) has them, of the file in Status.Root

	UID, GID     uint32
	Kind         uint32 // of a device: S_IFCHR or S_IFBLK; else 0
	Major, Minor uint32
}

// A Machine is one whose programs this one executes through an emulator.
type Machine struct {
	Name     string // as Debian spells it
	Emulator string // absolute path, on the host, of a static program

	magic, mask string // of the head of an ELF file
}

// elf is what the head of a machine's programs says.
type elf struct {
	class, order byte
	code         uint16 // e_machine
	qemu         string
}

func elfOf(name string) elf {
	switch name { // no table: it would be made each time that a program of ours starts
	case "amd64":
		return elf{2, 1, 0x3e, "x86_64"}
	case "arm64":
		return elf{2, 1, 0xb7, "aarch64"}
	case "armel", "armhf":
		return elf{1, 1, 0x28, "arm"}
	case "i386":
		return elf{1, 1, 0x03, "i386"}
	case "ppc64el":
		return elf{2, 1, 0x15, "ppc64le"}
	case "riscv64":
		return elf{2, 1, 0xf3, "riscv64"}
	case "s390x":
		return elf{2, 2, 0x16, "s390x"}
	}
	return elf{}
}

// MachineNames are those that [NewMachine] knows.
func MachineNames() []string {
	return []string{"amd64", "arm64", "armel", "armhf", "i386", "ppc64el", "riscv64", "s390x"}
}

// NewMachine returns the machine of that name, and the name of the program that
// emulates it, qemu-NAME; Emulator is not set.
func NewMachine(name string) (m *Machine, qemu string, err error) {
	d := elfOf(name)
	if d.qemu == "" {
		return nil, "", fmt.Errorf("machine %q is not one of %s", name, strings.Join(MachineNames(), ", "))
	}
	code := []byte{byte(d.code), byte(d.code >> 8)}
	exec := []byte{2, 0}
	mask := []byte{0xfe, 0xff} // e_type 2 and 3: with and without fixed addresses
	if d.order == 2 {
		code[0], code[1] = code[1], code[0]
		exec[0], exec[1], mask[0], mask[1] = 0, 2, 0xff, 0xfe
	}
	magic := "\x7fELF" + string([]byte{d.class, d.order, 1}) + strings.Repeat("\x00", 9) + string(exec) + string(code)
	full := strings.Repeat("\xff", 7) + "\x00" + strings.Repeat("\xff", 8) + string(mask) + "\xff\xff"
	return &Machine{Name: name, magic: magic, mask: full}, "qemu-" + d.qemu, nil
}

// Binfmt is what binfmt_misc is told of programs of m, up to the emulator.
func (m *Machine) Binfmt() string {
	hex := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, `\x%02x`, s[i])
		}
		return b.String()
	}
	return ":sbx:M::" + hex(m.magic) + ":" + hex(m.mask) + ":"
}
