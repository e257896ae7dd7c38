//go:build !purego

#include "textflag.h"

// Both kernels take four rows at a time, so that the question is loaded once for four and four sums are added up together;
// then what is left row by row.
//
// DI out, SI row, DX question, BX stride, CX rows left, R8 three strides, R9 place in the first of the rows,
// R10 bytes of the row left, R11 place in the question.

// FOUR_SUMS adds up the eight sums of each of four rows, in Y0 to Y3, and writes one of each in the order of the rows.
#define FOUR_SUMS \
	VPHADDD      Y1, Y0, Y0;  \
	VPHADDD      Y3, Y2, Y2;  \
	VPHADDD      Y2, Y0, Y0;  \
	VEXTRACTI128 $1, Y0, X1;  \
	VPADDD       X1, X0, X0;  \
	VMOVDQU      X0, (DI)

// ONE_SUM does the same for one row, in Y0.
#define ONE_SUM \
	VEXTRACTI128 $1, Y0, X1;  \
	VPADDD       X1, X0, X0;  \
	VPHADDD      X0, X0, X0;  \
	VPHADDD      X0, X0, X0;  \
	VMOVD        X0, (DI)

// func dotsVNNI(out *int32, rows *byte, question *int8, stride, n int)
TEXT ·dotsVNNI(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ rows+8(FP), SI
	MOVQ question+16(FP), DX
	MOVQ stride+24(FP), BX
	MOVQ n+32(FP), CX
	LEAQ (BX)(BX*2), R8

four:
	CMPQ   CX, $4
	JLT    rest
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	MOVQ   SI, R9
	MOVQ   DX, R11
	MOVQ   BX, R10

fourLoop:
	VMOVDQU64 (R11), Z4
	VMOVDQU64 (R9), Z5
	VMOVDQU64 (R9)(BX*1), Z6
	VMOVDQU64 (R9)(BX*2), Z7
	VMOVDQU64 (R9)(R8*1), Z8
	VPDPBUSD  Z4, Z5, Z0
	VPDPBUSD  Z4, Z6, Z1
	VPDPBUSD  Z4, Z7, Z2
	VPDPBUSD  Z4, Z8, Z3
	ADDQ      $64, R9
	ADDQ      $64, R11
	SUBQ      $64, R10
	JNZ       fourLoop

	// Sixteen sums of each row become eight.
	VEXTRACTI64X4 $1, Z0, Y5
	VEXTRACTI64X4 $1, Z1, Y6
	VEXTRACTI64X4 $1, Z2, Y7
	VEXTRACTI64X4 $1, Z3, Y8
	VPADDD        Y5, Y0, Y0
	VPADDD        Y6, Y1, Y1
	VPADDD        Y7, Y2, Y2
	VPADDD        Y8, Y3, Y3
	FOUR_SUMS
	ADDQ          $16, DI
	LEAQ          (SI)(BX*4), SI
	SUBQ          $4, CX
	JMP           four

rest:
	TESTQ CX, CX
	JZ    done

one:
	VPXORQ Z0, Z0, Z0
	MOVQ   SI, R9
	MOVQ   DX, R11
	MOVQ   BX, R10

oneLoop:
	VMOVDQU64 (R9), Z5
	VPDPBUSD  (R11), Z5, Z0
	ADDQ      $64, R9
	ADDQ      $64, R11
	SUBQ      $64, R10
	JNZ       oneLoop

	VEXTRACTI64X4 $1, Z0, Y5
	VPADDD        Y5, Y0, Y0
	ONE_SUM
	ADDQ          $4, DI
	ADDQ          BX, SI
	DECQ          CX
	JNZ           one

done:
	VZEROUPPER
	RET

// func dotsAVX2(out *int32, rows *byte, question *int16, stride, n int)
//
// VPMADDUBSW would take bytes at once, but its 16-bit sums don't hold 2 × 255 × 128: rows are widened instead.
TEXT ·dotsAVX2(SB), NOSPLIT, $0-40
	MOVQ out+0(FP), DI
	MOVQ rows+8(FP), SI
	MOVQ question+16(FP), DX
	MOVQ stride+24(FP), BX
	MOVQ n+32(FP), CX
	LEAQ (BX)(BX*2), R8

four:
	CMPQ  CX, $4
	JLT   rest
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	MOVQ  SI, R9
	MOVQ  DX, R11
	MOVQ  BX, R10

fourLoop:
	VMOVDQU   (R11), Y4
	VPMOVZXBW (R9), Y5
	VPMOVZXBW (R9)(BX*1), Y6
	VPMOVZXBW (R9)(BX*2), Y7
	VPMOVZXBW (R9)(R8*1), Y8
	VPMADDWD  Y4, Y5, Y5
	VPMADDWD  Y4, Y6, Y6
	VPMADDWD  Y4, Y7, Y7
	VPMADDWD  Y4, Y8, Y8
	VPADDD    Y5, Y0, Y0
	VPADDD    Y6, Y1, Y1
	VPADDD    Y7, Y2, Y2
	VPADDD    Y8, Y3, Y3
	ADDQ      $16, R9
	ADDQ      $32, R11
	SUBQ      $16, R10
	JNZ       fourLoop

	FOUR_SUMS
	ADDQ         $16, DI
	LEAQ         (SI)(BX*4), SI
	SUBQ         $4, CX
	JMP          four

rest:
	TESTQ CX, CX
	JZ    done

one:
	VPXOR Y0, Y0, Y0
	MOVQ  SI, R9
	MOVQ  DX, R11
	MOVQ  BX, R10

oneLoop:
	VPMOVZXBW (R9), Y5
	VPMADDWD  (R11), Y5, Y5
	VPADDD    Y5, Y0, Y0
	ADDQ      $16, R9
	ADDQ      $32, R11
	SUBQ      $16, R10
	JNZ       oneLoop

	ONE_SUM
	ADDQ         $4, DI
	ADDQ         BX, SI
	DECQ         CX
	JNZ          one

done:
	VZEROUPPER
	RET
