#!/bin/sh
# Builds the program that carries out a plan, for both machines: sbx-bwrap-amd64
# and sbx-bwrap-arm64, in the directory $1 or, without it, here, where they are
# checked in. As internal/helper/build.sh does, of which it takes a few files:
# the same compiler makes the same bytes anywhere, and TestRebuild compares.
set -eu
cd "$(dirname "$0")/src"
out=${1:-..}
base=../../../internal/helper/src
for arch in amd64 arm64; do
	case $arch in
	amd64) cc=x86_64-linux-gnu-gcc-12 flags="-march=x86-64 -fcf-protection=none" ;;
	arm64) cc=aarch64-linux-gnu-gcc-12 flags="-march=armv8-a -mno-outline-atomics -mbranch-protection=none" ;;
	esac
	# shellcheck disable=SC2086
	$cc -std=gnu11 -Os -Wall -Wextra -Wno-missing-field-initializers -Wno-unused-parameter -Werror \
		$flags -nostdinc -isystem "$($cc -print-file-name=include)" -I "$base" \
		-ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
		-fno-pic -no-pie -fno-ident -ffile-prefix-map="$PWD=." -ffunction-sections \
		-static -nostdlib -Wl,--build-id=none,-z,noexecstack,-z,norelro,-s,--gc-sections \
		-o "$out/sbx-bwrap-$arch" main.c monitor.c child.c plan.c setup.c exec.c text.c "$base/lib.c"
done
