#!/bin/sh
# Builds the helper for both machines: sbx-helper-amd64 and sbx-helper-arm64,
# in the directory $1 or, without it, here, where they are checked in.
#
# The compilers are Debian's gcc-12 and gcc-12-aarch64-linux-gnu (bookworm). No
# header and no library of the system goes in, so the same compiler makes the
# same bytes anywhere; TestRebuild compares.
set -eu
cd "$(dirname "$0")/src"
out=${1:-..}
for arch in amd64 arm64; do
	case $arch in
	amd64) cc=x86_64-linux-gnu-gcc-12 flags="-march=x86-64 -fcf-protection=none" ;;
	arm64) cc=aarch64-linux-gnu-gcc-12 flags="-march=armv8-a -mno-outline-atomics -mbranch-protection=none" ;;
	esac
	# shellcheck disable=SC2086
	$cc -std=gnu11 -Os -Wall -Wextra -Wno-missing-field-initializers -Wno-unused-parameter -Werror \
		$flags -nostdinc -isystem "$($cc -print-file-name=include)" \
		-ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns \
		-fno-pic -no-pie -fno-ident -ffile-prefix-map="$PWD=." \
		-static -nostdlib -Wl,--build-id=none,-z,noexecstack,-z,norelro,-s \
		-o "$out/sbx-helper-$arch" main.c slot.c network.c mounts.c root.c binds.c around.c start.c run.c user.c program.c filter.c observe.c peek.c places.c programs.c later.c owners.c owned.c told.c process.c scribe.c enter.c sites.c inside.c scribed.c vary.c clock.c order.c turns.c fence.c guest.c lib.c
done
