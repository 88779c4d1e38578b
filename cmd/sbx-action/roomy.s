// func roomy()
//
// A frame of 40 KiB that nothing is written into: only its size counts.
TEXT ·roomy(SB), 0, $40960-0
	RET
