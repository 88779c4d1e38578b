//go:build linux && !amd64 && !arm64

package helper

// There is no helper for this machine yet: src/sys.h and src/filter.c need its
// system call numbers, and src/lib.c and src/main.c a few lines of assembler.
const program = ""
