#!/bin/bash
# Usage: scripts/cc-bench.sh [PROJECT…]
#
# Measures "sbx-action cc" against the bare compiler, ccache in both of its modes,
# sccache, and bubblewrap around the compiler, in turn and in one run: whole
# processes that are hits; whole builds with empty caches (CPU and wall time), and
# whole builds that are hits (wall time, without what make takes to find nothing to
# do). Prints two tables in Markdown, with the smallest values. Projects: lua zlib
# zstd jq sqlite re2 redis (default: all, a quarter of an hour on two idle cores).
# BENCH_DIR is where the files are: on the file system that is to be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh ccache:ccache sccache:sccache bwrap:bubblewrap gcc:gcc g++:g++ make:make dpkg-source:dpkg-dev python3:python3 >&2
work=$(mktemp -d "${BENCH_DIR:-/tmp}/sbx-ccb-XXXXXX")
export SBX_CACHE=$work/cache SBX_CC_CACHE_LINKS=1 SCCACHE_DIR=$work/sccache SCCACHE_SERVER_UDS= SCCACHE_SERVER_PORT=$((20000 + $$ % 20000)) SCCACHE_IDLE_TIMEOUT=600
trap 'sccache --stop-server >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -E sbx_front' -o "$work/sbx-action" ./cmd/sbx-action
python3 scripts/cc-bench.py "$work" "$@"
