//go:build unix

package schedule

import "syscall"

// nonblock makes a read that waits one that can be called off.
const nonblock = syscall.O_NONBLOCK
