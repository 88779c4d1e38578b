package probe

// int80 makes a system call through the interface of 32 bit programs.
//
//go:noescape
func int80(nr, arg uint32) int32
