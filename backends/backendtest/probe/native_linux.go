package probe

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

func native32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func nativeBytes(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// call makes a system call with up to six arguments.
func call(nr uintptr, a ...uintptr) (uintptr, error) {
	var b [6]uintptr
	copy(b[:], a)
	r, _, errno := unix.RawSyscall6(nr, b[0], b[1], b[2], b[3], b[4], b[5])
	if errno != 0 {
		return r, errno
	}
	return r, nil
}

// cstring is the address of s with a zero byte behind it. The collector does
// not know of it: whoever calls this is a process that ends soon, and keeps
// every such string alive.
func cstring(s string) uintptr {
	b := append([]byte(s), 0)
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

var kept [][]byte

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
