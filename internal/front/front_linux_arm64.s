#include "textflag.h"

// There is no front for this machine: Go starts at once.
TEXT sbx_front(SB),NOSPLIT|NOFRAME,$0
	JMP _rt0_arm64_linux(SB)
