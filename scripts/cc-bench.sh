#!/bin/bash
# Usage: scripts/cc-bench.sh [--misses] [PROJECT…]
#
# Measures "sbx-action cc" against the bare compiler, ccache in both of its modes,
# sccache, and bubblewrap around the compiler, in turn and in one run: whole
# processes that are hits; whole builds with empty caches (CPU and wall time), and
# whole builds that are hits (wall time, without what make takes to find nothing to
# do). Prints two tables in Markdown, with the smallest values. Projects: lua zlib
# zstd jq sqlite3 re2 redis (default: all, a quarter of an hour on two idle cores).
#
# With --misses only builds with empty caches, ours against the bare compiler, as
# root and as a user without privileges (or as whoever calls, who is no root), in
# pairs for BENCH_SECONDS (default: 60) for each row, but two pairs at least. A
# ratio is given of the smallest values, and as the middle of those of the pairs.
# What is left running when make ends is waited for, and counted.
#
# BENCH_DIR is where the files are: on the file system that is to be measured. The
# programs are on a disk, ours as well, in TMPDIR: from a tmpfs, whose pages are mapped one
# by one, it took 0.3 ms more for each miss.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=(ccache:ccache sccache:sccache bwrap:bubblewrap)
for arg; do
	case $arg in
	--misses) peers=() ;;
	-*)
		echo "$0: $arg: no such flag: want --misses, or names of projects" >&2
		exit 2
		;;
	esac
done
scripts/need.sh "${peers[@]}" gcc:gcc g++:g++ make:make dpkg-source:dpkg-dev python3:python3 >&2
work=$(mktemp -d "${BENCH_DIR:-/tmp}/sbx-ccb-XXXXXX")
installed=$(mktemp -d "${TMPDIR:-/tmp}/sbx-ccb-installed-XXXXXX")
export SBX_CACHE=$work/cache SBX_CC_CACHE_LINKS=1 SCCACHE_DIR=$work/sccache SCCACHE_SERVER_UDS= SCCACHE_SERVER_PORT=$((20000 + $$ % 20000)) SCCACHE_IDLE_TIMEOUT=600
trap '[ "${#peers[@]}" = 0 ] || sccache --stop-server >/dev/null 2>&1 || true; rm -rf "$work" "$installed"' EXIT
make -s build
chmod 755 "$installed"
dd if=bin/sbx-action of="$installed/sbx-action" bs=256k status=none # as make build does
chmod 755 "$installed/sbx-action"
python3 scripts/cc-bench.py "$work" "$installed/sbx-action" "$@"
