//go:build linux && !amd64

package probe

import "golang.org/x/sys/unix"

// int80 says that there is no such interface.
func int80(_, _ uint32) int32 { return -int32(unix.ENOSYS) }
