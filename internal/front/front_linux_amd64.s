#include "textflag.h"

// sbx_front is where the kernel starts the program, if the linker was told so
// (-ldflags "-E sbx_front"). What C leaves undone, Go does: its start finds the
// stack as the kernel made it.
TEXT sbx_front(SB),NOSPLIT|NOFRAME,$0
	MOVQ SP, DI
	MOVQ SP, BX
	MOVQ DX, R12
	SUBQ $16, SP
	ANDQ $~15, SP
	CALL sbx_front_main(SB)
	MOVL AX, CX
	ANDL $0xff, AX
	MOVL AX, ·reason(SB)
	SHRL $8, CX
	MOVL CX, ·lone(SB)
	SHLQ $4, CX
	SUBQ CX, BX
	MOVQ BX, SP
	MOVQ R12, DX
	JMP _rt0_amd64_linux(SB)
