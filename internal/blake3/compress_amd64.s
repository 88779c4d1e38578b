//go:build !purego

#include "textflag.h"

// One compression in the general registers: a quarter round is short, and the
// four of a half round do not depend on each other, so the processor has enough
// to do. Of the 16 words of the state, AX BX CX DX have 0 to 3, SI DI R8 R9 have
// 4 to 7, R10 R11 R12 R13 have 12 to 15, R14 has 8, and the stack 9 to 11.
#define V9 0(SP)
#define VA 4(SP)
#define VB 8(SP)

// MIX is the quarter round, of the words x and y of the message at R15.
#define MIX(a, b, c, d, x, y) \
	ADDL (4*x)(R15), a; \
	ADDL b, a; \
	XORL a, d; \
	ROLL $16, d; \
	ADDL d, c; \
	XORL c, b; \
	ROLL $20, b; \
	ADDL (4*y)(R15), a; \
	ADDL b, a; \
	XORL a, d; \
	ROLL $24, d; \
	ADDL d, c; \
	XORL c, b; \
	ROLL $25, b

// MIXM is MIX where c is in memory.
#define MIXM(a, b, c, d, x, y) \
	ADDL (4*x)(R15), a; \
	ADDL b, a; \
	XORL a, d; \
	ROLL $16, d; \
	MOVL c, BP; \
	ADDL d, BP; \
	XORL BP, b; \
	ROLL $20, b; \
	ADDL (4*y)(R15), a; \
	ADDL b, a; \
	XORL a, d; \
	ROLL $24, d; \
	ADDL d, BP; \
	XORL BP, b; \
	ROLL $25, b; \
	MOVL BP, c

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf) \
	MIX(AX, SI, R14, R10, m0, m1); \
	MIXM(BX, DI, V9, R11, m2, m3); \
	MIXM(CX, R8, VA, R12, m4, m5); \
	MIXM(DX, R9, VB, R13, m6, m7); \
	MIXM(AX, DI, VA, R13, m8, m9); \
	MIXM(BX, R8, VB, R10, ma, mb); \
	MIX(CX, R9, R14, R11, mc, md); \
	MIXM(DX, SI, V9, R12, me, mf)

// func compressBlock(cv *chain, block unsafe.Pointer, counter uint64, size, flags uint32)
TEXT ·compressBlock(SB), NOSPLIT, $16-32
	MOVQ cv+0(FP), R14
	MOVQ block+8(FP), R15
	MOVL 0(R14), AX
	MOVL 4(R14), BX
	MOVL 8(R14), CX
	MOVL 12(R14), DX
	MOVL 16(R14), SI
	MOVL 20(R14), DI
	MOVL 24(R14), R8
	MOVL 28(R14), R9
	MOVL $0x6A09E667, R14
	MOVL $0xBB67AE85, V9
	MOVL $0x3C6EF372, VA
	MOVL $0xA54FF53A, VB
	MOVQ counter+16(FP), R10
	MOVQ R10, R11
	SHRQ $32, R11
	MOVL size+24(FP), R12
	MOVL flags+28(FP), R13

	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
	ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
	ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)
	ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)
	ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)
	ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)
	ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)

	MOVQ cv+0(FP), BP
	XORL R14, AX
	XORL V9, BX
	XORL VA, CX
	XORL VB, DX
	XORL R10, SI
	XORL R11, DI
	XORL R12, R8
	XORL R13, R9
	MOVL AX, 0(BP)
	MOVL BX, 4(BP)
	MOVL CX, 8(BP)
	MOVL DX, 12(BP)
	MOVL SI, 16(BP)
	MOVL DI, 20(BP)
	MOVL R8, 24(BP)
	MOVL R9, 28(BP)
	RET

// func cpuid(leaf uint32) (eax, ebx, ecx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-20
	MOVL leaf+0(FP), AX
	XORL CX, CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	RET

// func xgetbv() uint32
TEXT ·xgetbv(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
