//go:build !purego

#include "textflag.h"

// 16 compressions at once: lane i of each register belongs to input i. Z0 to
// Z15 have the state, Z16 to Z31 the message. All of it is in AVX512F: the variants
// for narrower registers are not.

// HALF is four quarter rounds, with the words x and y of the message.
#define HALF(a0, b0, c0, d0, x0, y0, a1, b1, c1, d1, x1, y1, a2, b2, c2, d2, x2, y2, a3, b3, c3, d3, x3, y3) \
	VPADDD x0, a0, a0; \
	VPADDD x1, a1, a1; \
	VPADDD x2, a2, a2; \
	VPADDD x3, a3, a3; \
	VPADDD b0, a0, a0; \
	VPADDD b1, a1, a1; \
	VPADDD b2, a2, a2; \
	VPADDD b3, a3, a3; \
	VPXORD a0, d0, d0; \
	VPXORD a1, d1, d1; \
	VPXORD a2, d2, d2; \
	VPXORD a3, d3, d3; \
	VPRORD $16, d0, d0; \
	VPRORD $16, d1, d1; \
	VPRORD $16, d2, d2; \
	VPRORD $16, d3, d3; \
	VPADDD d0, c0, c0; \
	VPADDD d1, c1, c1; \
	VPADDD d2, c2, c2; \
	VPADDD d3, c3, c3; \
	VPXORD c0, b0, b0; \
	VPXORD c1, b1, b1; \
	VPXORD c2, b2, b2; \
	VPXORD c3, b3, b3; \
	VPRORD $12, b0, b0; \
	VPRORD $12, b1, b1; \
	VPRORD $12, b2, b2; \
	VPRORD $12, b3, b3; \
	VPADDD y0, a0, a0; \
	VPADDD y1, a1, a1; \
	VPADDD y2, a2, a2; \
	VPADDD y3, a3, a3; \
	VPADDD b0, a0, a0; \
	VPADDD b1, a1, a1; \
	VPADDD b2, a2, a2; \
	VPADDD b3, a3, a3; \
	VPXORD a0, d0, d0; \
	VPXORD a1, d1, d1; \
	VPXORD a2, d2, d2; \
	VPXORD a3, d3, d3; \
	VPRORD $8, d0, d0; \
	VPRORD $8, d1, d1; \
	VPRORD $8, d2, d2; \
	VPRORD $8, d3, d3; \
	VPADDD d0, c0, c0; \
	VPADDD d1, c1, c1; \
	VPADDD d2, c2, c2; \
	VPADDD d3, c3, c3; \
	VPXORD c0, b0, b0; \
	VPXORD c1, b1, b1; \
	VPXORD c2, b2, b2; \
	VPXORD c3, b3, b3; \
	VPRORD $7, b0, b0; \
	VPRORD $7, b1, b1; \
	VPRORD $7, b2, b2; \
	VPRORD $7, b3, b3

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf) \
	HALF(Z0, Z4, Z8, Z12, m0, m1, Z1, Z5, Z9, Z13, m2, m3, Z2, Z6, Z10, Z14, m4, m5, Z3, Z7, Z11, Z15, m6, m7); \
	HALF(Z0, Z5, Z10, Z15, m8, m9, Z1, Z6, Z11, Z12, ma, mb, Z2, Z7, Z8, Z13, mc, md, Z3, Z4, Z9, Z14, me, mf)

// LOAD4 loads the blocks of four inputs, from the one whose offset is n-th in
// the table on, and transposes each 4 by 4 words: then
// quarter q of r0, r1, … has word 4q, 4q+1, … of each input. Z8 to Z11 are lost.
#define LOAD4(n, r0, r1, r2, r3) \
	MOVQ (8*n+0)(BX), R8; \
	MOVQ (8*n+8)(BX), R9; \
	MOVQ (8*n+16)(BX), R10; \
	MOVQ (8*n+24)(BX), R11; \
	VMOVDQU32 (SI)(R8*1), r0; \
	VMOVDQU32 (SI)(R9*1), r1; \
	VMOVDQU32 (SI)(R10*1), r2; \
	VMOVDQU32 (SI)(R11*1), r3; \
	VPUNPCKLDQ r1, r0, Z8; \
	VPUNPCKHDQ r1, r0, Z9; \
	VPUNPCKLDQ r3, r2, Z10; \
	VPUNPCKHDQ r3, r2, Z11; \
	VPUNPCKLQDQ Z10, Z8, r0; \
	VPUNPCKHQDQ Z10, Z8, r1; \
	VPUNPCKLQDQ Z11, Z9, r2; \
	VPUNPCKHQDQ Z11, Z9, r3

// QUARTERS transposes 4 by 4 quarters of registers. Z8 to Z11 are lost.
#define QUARTERS(r0, r1, r2, r3) \
	VSHUFI32X4 $0x88, r1, r0, Z8; \
	VSHUFI32X4 $0xDD, r1, r0, Z9; \
	VSHUFI32X4 $0x88, r3, r2, Z10; \
	VSHUFI32X4 $0xDD, r3, r2, Z11; \
	VSHUFI32X4 $0x88, Z10, Z8, r0; \
	VSHUFI32X4 $0x88, Z11, Z9, r1; \
	VSHUFI32X4 $0xDD, Z10, Z8, r2; \
	VSHUFI32X4 $0xDD, Z11, Z9, r3

// func hash16(out, in unsafe.Pointer, l *lanes, blocks int, m marks)
TEXT ·hash16(SB), NOSPLIT, $0-44
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ l+16(FP), BX
	MOVQ blocks+24(FP), CX
	MOVL m_all+32(FP), DX
	MOVL m_first+36(FP), AX
	ORL  DX, AX
	MOVL m_last+40(FP), R13

	VPBROADCASTD iv<>+0(SB), Z0
	VPBROADCASTD iv<>+4(SB), Z1
	VPBROADCASTD iv<>+8(SB), Z2
	VPBROADCASTD iv<>+12(SB), Z3
	VPBROADCASTD iv<>+16(SB), Z4
	VPBROADCASTD iv<>+20(SB), Z5
	VPBROADCASTD iv<>+24(SB), Z6
	VPBROADCASTD iv<>+28(SB), Z7

block:
	CMPQ CX, $1
	JNE  load
	ORL  R13, AX

load:
	LOAD4(0, Z16, Z17, Z18, Z19)
	LOAD4(4, Z20, Z21, Z22, Z23)
	LOAD4(8, Z24, Z25, Z26, Z27)
	LOAD4(12, Z28, Z29, Z30, Z31)
	QUARTERS(Z16, Z20, Z24, Z28)
	QUARTERS(Z17, Z21, Z25, Z29)
	QUARTERS(Z18, Z22, Z26, Z30)
	QUARTERS(Z19, Z23, Z27, Z31)

	VPBROADCASTD iv<>+0(SB), Z8
	VPBROADCASTD iv<>+4(SB), Z9
	VPBROADCASTD iv<>+8(SB), Z10
	VPBROADCASTD iv<>+12(SB), Z11
	VMOVDQU32 128(BX), Z12
	VMOVDQU32 192(BX), Z13
	VPBROADCASTD iv<>+32(SB), Z14
	VPBROADCASTD AX, Z15

	ROUND(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31)
	ROUND(Z18, Z22, Z19, Z26, Z23, Z16, Z20, Z29, Z17, Z27, Z28, Z21, Z25, Z30, Z31, Z24)
	ROUND(Z19, Z20, Z26, Z28, Z29, Z18, Z23, Z30, Z22, Z21, Z25, Z16, Z27, Z31, Z24, Z17)
	ROUND(Z26, Z23, Z28, Z25, Z30, Z19, Z29, Z31, Z20, Z16, Z27, Z18, Z21, Z24, Z17, Z22)
	ROUND(Z28, Z29, Z25, Z27, Z31, Z26, Z30, Z24, Z23, Z18, Z21, Z19, Z16, Z17, Z22, Z20)
	ROUND(Z25, Z30, Z27, Z21, Z24, Z28, Z31, Z17, Z29, Z19, Z16, Z26, Z18, Z22, Z20, Z23)
	ROUND(Z27, Z31, Z21, Z16, Z17, Z25, Z24, Z22, Z30, Z26, Z18, Z28, Z19, Z20, Z23, Z29)

	VPXORD Z8, Z0, Z0
	VPXORD Z9, Z1, Z1
	VPXORD Z10, Z2, Z2
	VPXORD Z11, Z3, Z3
	VPXORD Z12, Z4, Z4
	VPXORD Z13, Z5, Z5
	VPXORD Z14, Z6, Z6
	VPXORD Z15, Z7, Z7

	MOVL DX, AX
	ADDQ $64, SI
	DECQ CX
	JNZ  block

	// Words 0 to 3 of four inputs each in Z0 to Z3, words 4 to 7 in Z4 to Z7.

	VPUNPCKLDQ Z1, Z0, Z8
	VPUNPCKHDQ Z1, Z0, Z9
	VPUNPCKLDQ Z3, Z2, Z10
	VPUNPCKHDQ Z3, Z2, Z11
	VPUNPCKLQDQ Z10, Z8, Z0
	VPUNPCKHQDQ Z10, Z8, Z1
	VPUNPCKLQDQ Z11, Z9, Z2
	VPUNPCKHQDQ Z11, Z9, Z3
	VPUNPCKLDQ Z5, Z4, Z8
	VPUNPCKHDQ Z5, Z4, Z9
	VPUNPCKLDQ Z7, Z6, Z10
	VPUNPCKHDQ Z7, Z6, Z11
	VPUNPCKLQDQ Z10, Z8, Z4
	VPUNPCKHQDQ Z10, Z8, Z5
	VPUNPCKLQDQ Z11, Z9, Z6
	VPUNPCKHQDQ Z11, Z9, Z7

	VMOVDQU X0, 0(DI)
	VEXTRACTI32X4 $1, Z0, 128(DI)
	VEXTRACTI32X4 $2, Z0, 256(DI)
	VEXTRACTI32X4 $3, Z0, 384(DI)
	VMOVDQU X4, 16(DI)
	VEXTRACTI32X4 $1, Z4, 144(DI)
	VEXTRACTI32X4 $2, Z4, 272(DI)
	VEXTRACTI32X4 $3, Z4, 400(DI)
	VMOVDQU X1, 32(DI)
	VEXTRACTI32X4 $1, Z1, 160(DI)
	VEXTRACTI32X4 $2, Z1, 288(DI)
	VEXTRACTI32X4 $3, Z1, 416(DI)
	VMOVDQU X5, 48(DI)
	VEXTRACTI32X4 $1, Z5, 176(DI)
	VEXTRACTI32X4 $2, Z5, 304(DI)
	VEXTRACTI32X4 $3, Z5, 432(DI)
	VMOVDQU X2, 64(DI)
	VEXTRACTI32X4 $1, Z2, 192(DI)
	VEXTRACTI32X4 $2, Z2, 320(DI)
	VEXTRACTI32X4 $3, Z2, 448(DI)
	VMOVDQU X6, 80(DI)
	VEXTRACTI32X4 $1, Z6, 208(DI)
	VEXTRACTI32X4 $2, Z6, 336(DI)
	VEXTRACTI32X4 $3, Z6, 464(DI)
	VMOVDQU X3, 96(DI)
	VEXTRACTI32X4 $1, Z3, 224(DI)
	VEXTRACTI32X4 $2, Z3, 352(DI)
	VEXTRACTI32X4 $3, Z3, 480(DI)
	VMOVDQU X7, 112(DI)
	VEXTRACTI32X4 $1, Z7, 240(DI)
	VEXTRACTI32X4 $2, Z7, 368(DI)
	VEXTRACTI32X4 $3, Z7, 496(DI)

	VZEROUPPER
	RET

// The initial chaining value, and the size of a block.
DATA iv<>+0(SB)/4, $0x6A09E667
DATA iv<>+4(SB)/4, $0xBB67AE85
DATA iv<>+8(SB)/4, $0x3C6EF372
DATA iv<>+12(SB)/4, $0xA54FF53A
DATA iv<>+16(SB)/4, $0x510E527F
DATA iv<>+20(SB)/4, $0x9B05688C
DATA iv<>+24(SB)/4, $0x1F83D9AB
DATA iv<>+28(SB)/4, $0x5BE0CD19
DATA iv<>+32(SB)/4, $0x00000040
GLOBL iv<>(SB), RODATA|NOPTR, $36
