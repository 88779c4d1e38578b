#include "textflag.h"

// func int80(nr, arg uint32) int32
TEXT ·int80(SB), NOSPLIT, $0-12
	MOVL nr+0(FP), AX
	MOVL arg+4(FP), BX
	MOVL $0, CX
	MOVL $0, DX
	MOVL $0, SI
	MOVL $0, DI
	INT  $0x80
	MOVL AX, ret+8(FP)
	RET
