#!/bin/sh
# Builds front_linux_amd64.syso, in the directory $1 or, without it, here, where it
# is checked in.
#
# Go's linker copies the code as it is: without cgo it does not resolve what one
# section says of another. So all of it is linked here, into one piece of bytes
# without relocations and without data that is written to, which begins with
# sbx_front_main, and that becomes an object file of one section.
#
# The compiler is Debian's gcc-12 (bookworm); no header and no library goes in.
set -eu
cd "$(dirname "$0")/src"
out=$(cd "${1:-..}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=x86_64-linux-gnu-gcc-12
$cc -std=gnu11 -O2 -Wall -Wextra -Wno-parentheses -Werror -march=x86-64 -fcf-protection=none -nostdinc \
	-ffreestanding -fno-stack-protector -fno-stack-clash-protection -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
	-ffunction-sections -fpie -fvisibility=hidden -fno-jump-tables -fno-ident -c -o "$work/front.o" front.c
cat >"$work/one" <<'EOF'
ENTRY(sbx_front_main)
SECTIONS {
	.text 0 : { *(.text.sbx_front_main) *(.text .text.*) *(.rodata .rodata.*) }
	.data : { *(.data .data.*) *(.bss .bss.*) *(COMMON) }
	ASSERT(SIZEOF(.data) == 0, "there is data that is written to")
	/DISCARD/ : { *(.note*) *(.comment) *(.eh_frame*) }
}
EOF
ld -m elf_x86_64 -static -nostdlib -z noexecstack --no-dynamic-linker --build-id=none -T "$work/one" -o "$work/front" "$work/front.o"
entry=$(nm "$work/front" | sed -n 's/^0*\([0-9a-f]*\) [Tt] sbx_front_main$/0x\1/p')
objcopy -O binary -j .text "$work/front" "$work/front.bin"
(cd "$work" && ld -m elf_x86_64 -r -b binary -z noexecstack -o raw.o front.bin)
objcopy --rename-section .data=.text,alloc,load,readonly,code,contents --set-section-alignment .data=64 \
	--strip-symbol _binary_front_bin_size --strip-symbol _binary_front_bin_end --strip-symbol _binary_front_bin_start \
	--add-symbol "sbx_front_main=.text:${entry:-0x0},global,function" "$work/raw.o" "$out/front_linux_amd64.syso"
