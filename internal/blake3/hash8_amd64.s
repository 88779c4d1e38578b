//go:build !purego

#include "textflag.h"

// 8 compressions at once: lane i of each register belongs to input i. Y0 to Y15
// have the state, but for word 11, which is in memory, so that Y11 is free for
// the rotations. The message is in memory too, before it.
#define VB 512(R12)
#define M(i) (32*i)(R12)

// ROTATE rotates b right by n; m is 32-n.
#define ROTATE(n, m, b) \
	VPSRLD $n, b, Y11; \
	VPSLLD $m, b, b; \
	VPOR Y11, b, b

// HALF is four quarter rounds, with the words x and y of the message; c3 is in
// memory.
#define HALF(a0, b0, c0, d0, x0, y0, a1, b1, c1, d1, x1, y1, a2, b2, c2, d2, x2, y2, a3, b3, d3, x3, y3) \
	VPADDD M(x0), a0, a0; \
	VPADDD M(x1), a1, a1; \
	VPADDD M(x2), a2, a2; \
	VPADDD M(x3), a3, a3; \
	VPADDD b0, a0, a0; \
	VPADDD b1, a1, a1; \
	VPADDD b2, a2, a2; \
	VPADDD b3, a3, a3; \
	VPXOR a0, d0, d0; \
	VPXOR a1, d1, d1; \
	VPXOR a2, d2, d2; \
	VPXOR a3, d3, d3; \
	VPSHUFB ror16<>(SB), d0, d0; \
	VPSHUFB ror16<>(SB), d1, d1; \
	VPSHUFB ror16<>(SB), d2, d2; \
	VPSHUFB ror16<>(SB), d3, d3; \
	VPADDD d0, c0, c0; \
	VPADDD d1, c1, c1; \
	VPADDD d2, c2, c2; \
	VPADDD VB, d3, Y11; \
	VMOVDQU Y11, VB; \
	VPXOR Y11, b3, b3; \
	VPXOR c0, b0, b0; \
	VPXOR c1, b1, b1; \
	VPXOR c2, b2, b2; \
	ROTATE(12, 20, b0); \
	ROTATE(12, 20, b1); \
	ROTATE(12, 20, b2); \
	ROTATE(12, 20, b3); \
	VPADDD M(y0), a0, a0; \
	VPADDD M(y1), a1, a1; \
	VPADDD M(y2), a2, a2; \
	VPADDD M(y3), a3, a3; \
	VPADDD b0, a0, a0; \
	VPADDD b1, a1, a1; \
	VPADDD b2, a2, a2; \
	VPADDD b3, a3, a3; \
	VPXOR a0, d0, d0; \
	VPXOR a1, d1, d1; \
	VPXOR a2, d2, d2; \
	VPXOR a3, d3, d3; \
	VPSHUFB ror8<>(SB), d0, d0; \
	VPSHUFB ror8<>(SB), d1, d1; \
	VPSHUFB ror8<>(SB), d2, d2; \
	VPSHUFB ror8<>(SB), d3, d3; \
	VPADDD d0, c0, c0; \
	VPADDD d1, c1, c1; \
	VPADDD d2, c2, c2; \
	VPADDD VB, d3, Y11; \
	VMOVDQU Y11, VB; \
	VPXOR Y11, b3, b3; \
	VPXOR c0, b0, b0; \
	VPXOR c1, b1, b1; \
	VPXOR c2, b2, b2; \
	ROTATE(7, 25, b0); \
	ROTATE(7, 25, b1); \
	ROTATE(7, 25, b2); \
	ROTATE(7, 25, b3)

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf) \
	HALF(Y0, Y4, Y8, Y12, m0, m1, Y1, Y5, Y9, Y13, m2, m3, Y2, Y6, Y10, Y14, m4, m5, Y3, Y7, Y15, m6, m7); \
	HALF(Y0, Y5, Y10, Y15, m8, m9, Y2, Y7, Y8, Y13, mc, md, Y3, Y4, Y9, Y14, me, mf, Y1, Y6, Y12, ma, mb)

// TRANSPOSE transposes 4 by 4 words in each half of the registers. Y12 to Y15
// are lost.
#define TRANSPOSE(r0, r1, r2, r3) \
	VPUNPCKLDQ r1, r0, Y12; \
	VPUNPCKHDQ r1, r0, Y13; \
	VPUNPCKLDQ r3, r2, Y14; \
	VPUNPCKHDQ r3, r2, Y15; \
	VPUNPCKLQDQ Y14, Y12, r0; \
	VPUNPCKHQDQ Y14, Y12, r1; \
	VPUNPCKLQDQ Y15, Y13, r2; \
	VPUNPCKHQDQ Y15, Y13, r3

// LOAD4 makes the words from n to n+3 of the message, of the inputs at AX, R8 to
// R11, R13, R14 and R15.
#define LOAD4(n) \
	VMOVDQU (4*n)(AX), X8; \
	VMOVDQU (4*n)(R8), X9; \
	VMOVDQU (4*n)(R9), X10; \
	VMOVDQU (4*n)(R10), X11; \
	VINSERTI128 $1, (4*n)(R11), Y8, Y8; \
	VINSERTI128 $1, (4*n)(R13), Y9, Y9; \
	VINSERTI128 $1, (4*n)(R14), Y10, Y10; \
	VINSERTI128 $1, (4*n)(R15), Y11, Y11; \
	TRANSPOSE(Y8, Y9, Y10, Y11); \
	VMOVDQU Y8, M((n+0)); \
	VMOVDQU Y9, M((n+1)); \
	VMOVDQU Y10, M((n+2)); \
	VMOVDQU Y11, M((n+3))

// func hash8(out, in unsafe.Pointer, l *lanes, blocks int, m marks)
TEXT ·hash8(SB), NOSPLIT, $640-44
	LEAQ 63(SP), R12 // so that no word of the message is in two cache lines
	ANDQ $~63, R12
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ l+16(FP), BX
	MOVQ blocks+24(FP), CX
	MOVL m_first+36(FP), DX
	ORL  m_all+32(FP), DX

	VPBROADCASTD iv8<>+0(SB), Y0
	VPBROADCASTD iv8<>+4(SB), Y1
	VPBROADCASTD iv8<>+8(SB), Y2
	VPBROADCASTD iv8<>+12(SB), Y3
	VPBROADCASTD iv8<>+16(SB), Y4
	VPBROADCASTD iv8<>+20(SB), Y5
	VPBROADCASTD iv8<>+24(SB), Y6
	VPBROADCASTD iv8<>+28(SB), Y7

block:
	CMPQ CX, $1
	JNE  load
	ORL  m_last+40(FP), DX

load:
	MOVQ 0(BX), AX
	MOVQ 8(BX), R8
	MOVQ 16(BX), R9
	MOVQ 24(BX), R10
	MOVQ 32(BX), R11
	MOVQ 40(BX), R13
	MOVQ 48(BX), R14
	MOVQ 56(BX), R15
	ADDQ SI, AX
	ADDQ SI, R8
	ADDQ SI, R9
	ADDQ SI, R10
	ADDQ SI, R11
	ADDQ SI, R13
	ADDQ SI, R14
	ADDQ SI, R15
	LOAD4(0)
	LOAD4(4)
	LOAD4(8)
	LOAD4(12)

	VPBROADCASTD iv8<>+12(SB), Y11
	VMOVDQU Y11, VB
	VPBROADCASTD iv8<>+0(SB), Y8
	VPBROADCASTD iv8<>+4(SB), Y9
	VPBROADCASTD iv8<>+8(SB), Y10
	VMOVDQU 128(BX), Y12
	VMOVDQU 192(BX), Y13
	VPBROADCASTD iv8<>+32(SB), Y14
	VMOVD DX, X15
	VPBROADCASTD X15, Y15

	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
	ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
	ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)
	ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)
	ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)
	ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)
	ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)

	VPXOR Y8, Y0, Y0
	VPXOR Y9, Y1, Y1
	VPXOR Y10, Y2, Y2
	VPXOR VB, Y3, Y3
	VPXOR Y12, Y4, Y4
	VPXOR Y13, Y5, Y5
	VPXOR Y14, Y6, Y6
	VPXOR Y15, Y7, Y7

	MOVL m_all+32(FP), DX
	ADDQ $64, SI
	DECQ CX
	JNZ  block

	// Words 0 to 3 of two inputs each in Y0 to Y3, words 4 to 7 in Y4 to Y7.
	TRANSPOSE(Y0, Y1, Y2, Y3)
	TRANSPOSE(Y4, Y5, Y6, Y7)
	VMOVDQU X0, 0(DI)
	VEXTRACTI128 $1, Y0, 128(DI)
	VMOVDQU X4, 16(DI)
	VEXTRACTI128 $1, Y4, 144(DI)
	VMOVDQU X1, 32(DI)
	VEXTRACTI128 $1, Y1, 160(DI)
	VMOVDQU X5, 48(DI)
	VEXTRACTI128 $1, Y5, 176(DI)
	VMOVDQU X2, 64(DI)
	VEXTRACTI128 $1, Y2, 192(DI)
	VMOVDQU X6, 80(DI)
	VEXTRACTI128 $1, Y6, 208(DI)
	VMOVDQU X3, 96(DI)
	VEXTRACTI128 $1, Y3, 224(DI)
	VMOVDQU X7, 112(DI)
	VEXTRACTI128 $1, Y7, 240(DI)

	VZEROUPPER
	RET

// The initial chaining value, and the size of a block.
DATA iv8<>+0(SB)/4, $0x6A09E667
DATA iv8<>+4(SB)/4, $0xBB67AE85
DATA iv8<>+8(SB)/4, $0x3C6EF372
DATA iv8<>+12(SB)/4, $0xA54FF53A
DATA iv8<>+16(SB)/4, $0x510E527F
DATA iv8<>+20(SB)/4, $0x9B05688C
DATA iv8<>+24(SB)/4, $0x1F83D9AB
DATA iv8<>+28(SB)/4, $0x5BE0CD19
DATA iv8<>+32(SB)/4, $0x00000040
GLOBL iv8<>(SB), RODATA|NOPTR, $36

// Rotations of each word to the right, as shuffles of bytes.
DATA ror16<>+0(SB)/4, $0x01000302
DATA ror16<>+4(SB)/4, $0x05040706
DATA ror16<>+8(SB)/4, $0x09080B0A
DATA ror16<>+12(SB)/4, $0x0D0C0F0E
DATA ror16<>+16(SB)/4, $0x01000302
DATA ror16<>+20(SB)/4, $0x05040706
DATA ror16<>+24(SB)/4, $0x09080B0A
DATA ror16<>+28(SB)/4, $0x0D0C0F0E
GLOBL ror16<>(SB), RODATA|NOPTR, $32

DATA ror8<>+0(SB)/4, $0x00030201
DATA ror8<>+4(SB)/4, $0x04070605
DATA ror8<>+8(SB)/4, $0x080B0A09
DATA ror8<>+12(SB)/4, $0x0C0F0E0D
DATA ror8<>+16(SB)/4, $0x00030201
DATA ror8<>+20(SB)/4, $0x04070605
DATA ror8<>+24(SB)/4, $0x080B0A09
DATA ror8<>+28(SB)/4, $0x0C0F0E0D
GLOBL ror8<>(SB), RODATA|NOPTR, $32
