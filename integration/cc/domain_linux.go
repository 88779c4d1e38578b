package cc

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Restricted says whether Landlock may keep us from files. A hit only looks at files that
// the compiler would read, and Landlock lets everybody look; so what it gave might be what
// the compiler is refused. Nobody can be asked whether a process is in such a domain. But
// there are at most sixteen of them, one in another, so a thread can only enter that many
// if it was in none. Who entered one without privileges can get none later either, and
// that can be asked.
func Restricted() bool {
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || set == 0 {
		return false
	}
	found := make(chan bool)
	go func() {
		runtime.LockOSThread() // for ever: nothing else is to run in this thread
		found <- inDomain()
	}()
	return <-found
}

// domainsMost is in how many domains of Landlock's a thread can be.
const domainsMost = 16

// inDomain leaves the thread in domains that forbid everything that is executed.
func inDomain() bool {
	handled := uint64(unix.LANDLOCK_ACCESS_FS_EXECUTE)
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return false
	}
	if errno != 0 {
		return true
	}
	defer unix.Close(int(rules))
	for range domainsMost {
		if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0); errno != 0 {
			return true
		}
	}
	return false
}
