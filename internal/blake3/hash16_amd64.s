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

// OUT writes 16 chaining values: first are words 0 to 3 of four inputs each in Z0 to Z3,
// words 4 to 7 in Z4 to Z7. Z8 to Z11 are lost.
#define OUT(at) \
	VPUNPCKLDQ Z1, Z0, Z8; \
	VPUNPCKHDQ Z1, Z0, Z9; \
	VPUNPCKLDQ Z3, Z2, Z10; \
	VPUNPCKHDQ Z3, Z2, Z11; \
	VPUNPCKLQDQ Z10, Z8, Z0; \
	VPUNPCKHQDQ Z10, Z8, Z1; \
	VPUNPCKLQDQ Z11, Z9, Z2; \
	VPUNPCKHQDQ Z11, Z9, Z3; \
	VPUNPCKLDQ Z5, Z4, Z8; \
	VPUNPCKHDQ Z5, Z4, Z9; \
	VPUNPCKLDQ Z7, Z6, Z10; \
	VPUNPCKHDQ Z7, Z6, Z11; \
	VPUNPCKLQDQ Z10, Z8, Z4; \
	VPUNPCKHQDQ Z10, Z8, Z5; \
	VPUNPCKLQDQ Z11, Z9, Z6; \
	VPUNPCKHQDQ Z11, Z9, Z7; \
	VMOVDQU X0, (0+at)(DI); \
	VEXTRACTI32X4 $1, Z0, (128+at)(DI); \
	VEXTRACTI32X4 $2, Z0, (256+at)(DI); \
	VEXTRACTI32X4 $3, Z0, (384+at)(DI); \
	VMOVDQU X4, (16+at)(DI); \
	VEXTRACTI32X4 $1, Z4, (144+at)(DI); \
	VEXTRACTI32X4 $2, Z4, (272+at)(DI); \
	VEXTRACTI32X4 $3, Z4, (400+at)(DI); \
	VMOVDQU X1, (32+at)(DI); \
	VEXTRACTI32X4 $1, Z1, (160+at)(DI); \
	VEXTRACTI32X4 $2, Z1, (288+at)(DI); \
	VEXTRACTI32X4 $3, Z1, (416+at)(DI); \
	VMOVDQU X5, (48+at)(DI); \
	VEXTRACTI32X4 $1, Z5, (176+at)(DI); \
	VEXTRACTI32X4 $2, Z5, (304+at)(DI); \
	VEXTRACTI32X4 $3, Z5, (432+at)(DI); \
	VMOVDQU X2, (64+at)(DI); \
	VEXTRACTI32X4 $1, Z2, (192+at)(DI); \
	VEXTRACTI32X4 $2, Z2, (320+at)(DI); \
	VEXTRACTI32X4 $3, Z2, (448+at)(DI); \
	VMOVDQU X6, (80+at)(DI); \
	VEXTRACTI32X4 $1, Z6, (208+at)(DI); \
	VEXTRACTI32X4 $2, Z6, (336+at)(DI); \
	VEXTRACTI32X4 $3, Z6, (464+at)(DI); \
	VMOVDQU X3, (96+at)(DI); \
	VEXTRACTI32X4 $1, Z3, (224+at)(DI); \
	VEXTRACTI32X4 $2, Z3, (352+at)(DI); \
	VEXTRACTI32X4 $3, Z3, (480+at)(DI); \
	VMOVDQU X7, (112+at)(DI); \
	VEXTRACTI32X4 $1, Z7, (240+at)(DI); \
	VEXTRACTI32X4 $2, Z7, (368+at)(DI); \
	VEXTRACTI32X4 $3, Z7, (496+at)(DI)

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

	OUT(0)
	VZEROUPPER
	RET

// MIX is a round of the 16 inputs whose state is in Z0 to Z15, with the message at R12;
// MIXB is one of those in Z16 to Z31, with the message 1 KiB further.
#define MIX(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, ma, mb, mc, md, me, mf) \
	HALF(Z0, Z4, Z8, Z12, (64*m0)(R12), (64*m1)(R12), Z1, Z5, Z9, Z13, (64*m2)(R12), (64*m3)(R12), Z2, Z6, Z10, Z14, (64*m4)(R12), (64*m5)(R12), Z3, Z7, Z11, Z15, (64*m6)(R12), (64*m7)(R12)); \
	HALF(Z16, Z20, Z24, Z28, (64*m0+1024)(R12), (64*m1+1024)(R12), Z17, Z21, Z25, Z29, (64*m2+1024)(R12), (64*m3+1024)(R12), Z18, Z22, Z26, Z30, (64*m4+1024)(R12), (64*m5+1024)(R12), Z19, Z23, Z27, Z31, (64*m6+1024)(R12), (64*m7+1024)(R12)); \
	HALF(Z0, Z5, Z10, Z15, (64*m8)(R12), (64*m9)(R12), Z1, Z6, Z11, Z12, (64*ma)(R12), (64*mb)(R12), Z2, Z7, Z8, Z13, (64*mc)(R12), (64*md)(R12), Z3, Z4, Z9, Z14, (64*me)(R12), (64*mf)(R12)); \
	HALF(Z16, Z21, Z26, Z31, (64*m8+1024)(R12), (64*m9+1024)(R12), Z17, Z22, Z27, Z28, (64*ma+1024)(R12), (64*mb+1024)(R12), Z18, Z23, Z24, Z29, (64*mc+1024)(R12), (64*md+1024)(R12), Z19, Z20, Z25, Z30, (64*me+1024)(R12), (64*mf+1024)(R12))

// TURN loads the blocks of 16 inputs, and stores their words: the first of each, and so
// on. Z8 to Z11 and Z16 to Z31 are lost.
#define TURN(at) \
	LOAD4(0, Z16, Z17, Z18, Z19); \
	LOAD4(4, Z20, Z21, Z22, Z23); \
	LOAD4(8, Z24, Z25, Z26, Z27); \
	LOAD4(12, Z28, Z29, Z30, Z31); \
	QUARTERS(Z16, Z20, Z24, Z28); \
	QUARTERS(Z17, Z21, Z25, Z29); \
	QUARTERS(Z18, Z22, Z26, Z30); \
	QUARTERS(Z19, Z23, Z27, Z31); \
	VMOVDQU32 Z16, (0+at)(R12); \
	VMOVDQU32 Z17, (64+at)(R12); \
	VMOVDQU32 Z18, (128+at)(R12); \
	VMOVDQU32 Z19, (192+at)(R12); \
	VMOVDQU32 Z20, (256+at)(R12); \
	VMOVDQU32 Z21, (320+at)(R12); \
	VMOVDQU32 Z22, (384+at)(R12); \
	VMOVDQU32 Z23, (448+at)(R12); \
	VMOVDQU32 Z24, (512+at)(R12); \
	VMOVDQU32 Z25, (576+at)(R12); \
	VMOVDQU32 Z26, (640+at)(R12); \
	VMOVDQU32 Z27, (704+at)(R12); \
	VMOVDQU32 Z28, (768+at)(R12); \
	VMOVDQU32 Z29, (832+at)(R12); \
	VMOVDQU32 Z30, (896+at)(R12); \
	VMOVDQU32 Z31, (960+at)(R12)

// func hash32(out, in unsafe.Pointer, l *[2]lanes, room *words, blocks int, m marks)
//
// It is hash16 of two times 16 inputs: a processor whose instructions take two cycles
// works at the ones while the others wait. Their messages are in memory, and during
// TURN the second chaining values are, too.
TEXT ·hash32(SB), NOSPLIT, $0-52
	MOVQ out+0(FP), DI
	MOVQ in+8(FP), SI
	MOVQ l+16(FP), BX
	MOVQ room+24(FP), R12
	MOVQ blocks+32(FP), CX
	MOVL m_all+40(FP), DX
	MOVL m_first+44(FP), AX
	ORL  DX, AX
	MOVL m_last+48(FP), R13
	ADDQ $63, R12
	ANDQ $~63, R12

	VPBROADCASTD iv<>+0(SB), Z0
	VPBROADCASTD iv<>+4(SB), Z1
	VPBROADCASTD iv<>+8(SB), Z2
	VPBROADCASTD iv<>+12(SB), Z3
	VPBROADCASTD iv<>+16(SB), Z4
	VPBROADCASTD iv<>+20(SB), Z5
	VPBROADCASTD iv<>+24(SB), Z6
	VPBROADCASTD iv<>+28(SB), Z7
	VMOVDQA32 Z0, Z16
	VMOVDQA32 Z1, Z17
	VMOVDQA32 Z2, Z18
	VMOVDQA32 Z3, Z19
	VMOVDQA32 Z4, Z20
	VMOVDQA32 Z5, Z21
	VMOVDQA32 Z6, Z22
	VMOVDQA32 Z7, Z23

pair:
	CMPQ CX, $1
	JNE  turn
	ORL  R13, AX

turn:
	VMOVDQU32 Z16, 2048(R12)
	VMOVDQU32 Z17, 2112(R12)
	VMOVDQU32 Z18, 2176(R12)
	VMOVDQU32 Z19, 2240(R12)
	VMOVDQU32 Z20, 2304(R12)
	VMOVDQU32 Z21, 2368(R12)
	VMOVDQU32 Z22, 2432(R12)
	VMOVDQU32 Z23, 2496(R12)
	TURN(0)
	ADDQ $256, BX
	TURN(1024)
	SUBQ $256, BX
	VMOVDQU32 2048(R12), Z16
	VMOVDQU32 2112(R12), Z17
	VMOVDQU32 2176(R12), Z18
	VMOVDQU32 2240(R12), Z19
	VMOVDQU32 2304(R12), Z20
	VMOVDQU32 2368(R12), Z21
	VMOVDQU32 2432(R12), Z22
	VMOVDQU32 2496(R12), Z23

	VPBROADCASTD iv<>+0(SB), Z8
	VMOVDQA32 Z8, Z24
	VPBROADCASTD iv<>+4(SB), Z9
	VMOVDQA32 Z9, Z25
	VPBROADCASTD iv<>+8(SB), Z10
	VMOVDQA32 Z10, Z26
	VPBROADCASTD iv<>+12(SB), Z11
	VMOVDQA32 Z11, Z27
	VMOVDQU32 128(BX), Z12
	VMOVDQU32 192(BX), Z13
	VMOVDQU32 384(BX), Z28
	VMOVDQU32 448(BX), Z29
	VPBROADCASTD iv<>+32(SB), Z14
	VMOVDQA32 Z14, Z30
	VPBROADCASTD AX, Z15
	VMOVDQA32 Z15, Z31

	MIX(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
	MIX(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
	MIX(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)
	MIX(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)
	MIX(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)
	MIX(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)
	MIX(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)

	VPXORD Z8, Z0, Z0
	VPXORD Z9, Z1, Z1
	VPXORD Z10, Z2, Z2
	VPXORD Z11, Z3, Z3
	VPXORD Z12, Z4, Z4
	VPXORD Z13, Z5, Z5
	VPXORD Z14, Z6, Z6
	VPXORD Z15, Z7, Z7
	VPXORD Z24, Z16, Z16
	VPXORD Z25, Z17, Z17
	VPXORD Z26, Z18, Z18
	VPXORD Z27, Z19, Z19
	VPXORD Z28, Z20, Z20
	VPXORD Z29, Z21, Z21
	VPXORD Z30, Z22, Z22
	VPXORD Z31, Z23, Z23

	MOVL DX, AX
	ADDQ $64, SI
	DECQ CX
	JNZ  pair

	OUT(0)
	VMOVDQA32 Z16, Z0
	VMOVDQA32 Z17, Z1
	VMOVDQA32 Z18, Z2
	VMOVDQA32 Z19, Z3
	VMOVDQA32 Z20, Z4
	VMOVDQA32 Z21, Z5
	VMOVDQA32 Z22, Z6
	VMOVDQA32 Z23, Z7
	OUT(512)
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
