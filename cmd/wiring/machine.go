package wiring

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/sbx-action/sbx-action/backends"
)

// EmulatorProperty is the platform property of an action whose programs are
// another machine's: the digest of what executes them.
const EmulatorProperty = "emulator"

// debianArch is the name of a machine as Debian spells it, of what Baserock and the
// kernel call it, too.
func debianArch(name string) string {
	switch name {
	case "x86_64", "x86-64":
		return "amd64"
	case "x86_32", "x86-32", "i686":
		return "i386"
	case "armv8l64", "aarch64", "arm-a64":
		return "arm64"
	case "armv7lhf":
		return "armhf"
	case "armv7l", "armv5l":
		return "armel"
	case "ppc64le":
		return "ppc64el"
	}
	return name
}

// Arch returns the machine of that name, and nil if its programs are this
// machine's. Its emulator is looked for on the PATH.
func Arch(name string) (*backends.Machine, error) {
	name = debianArch(name)
	if name == "" || name == runtime.GOARCH || name == "i386" && runtime.GOARCH == "amd64" {
		return nil, nil
	}
	m, qemu, err := backends.NewMachine(name)
	if err != nil {
		return nil, err
	}
	for _, program := range []string{qemu + "-static", qemu} {
		found, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		if found, err = filepath.Abs(found); err == nil {
			found, err = filepath.EvalSymlinks(found)
		}
		if err == nil && static(found) {
			m.Emulator = found
			return m, nil
		}
	}
	return nil, fmt.Errorf("programs of %s need %s-static, which is not on the PATH: run: apt-get install qemu-user-static (or your system's like)", name, qemu)
}

// static says whether an ELF program of 64 bits, in this machine's order of bytes,
// needs no dynamic loader: it would be looked for in the root.
func static(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [64]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:4]) != "\x7fELF" || head[4] != 2 {
		return false
	}
	e := binary.NativeEndian
	at, size, n := int64(e.Uint64(head[32:])), int64(e.Uint16(head[54:])), int64(e.Uint16(head[56:]))
	for i := range n {
		var kind [4]byte
		if _, err := f.ReadAt(kind[:], at+i*size); err != nil || e.Uint32(kind[:]) == 3 { // PT_INTERP
			return false
		}
	}
	return true
}

// ISA is the name of an architecture as REAPI spells it; of this machine's if name
// is empty.
func ISA(name string) string {
	switch name = debianArch(cmp.Or(name, runtime.GOARCH)); name {
	case "amd64":
		return "x86-64"
	case "arm64":
		return "arm-a64"
	case "i386":
		return "x86-32"
	}
	return name
}
