#!/bin/bash
# Shows what sbx-action does for you, on a real project: Lua 5.4 from Debian's
# source package, built action by action in sandboxes, built again from the
# cache, and built once more after one header changed.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
work=${DEMO_DIR:-$(mktemp -d /tmp/sbx-demo-XXXXXX)}
[ -n "${DEMO_DIR:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
export SBX_CACHE=$work/cache

bold() { [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && printf '\n\033[1m%s\033[0m\n' "$*" || printf '\n%s\n' "$*"; }

bold "1. Fetch Lua 5.4, Debian's source package"
lua=$(scripts/debian-source.sh lua5.4 "$work/source")
echo "$lua"

build() { # build prints how long a build took and what it did
	rm -f "$work/log"
	local start=$(date +%s%N)
	make -s -C "$lua/src" -f "$top/examples/lua/Makefile" -j"$(nproc)" \
		SBX="$top/bin/sbx-action" SBXFLAGS="--log $work/log" all
	local end=$(date +%s%N)
	awk -v ms=$(((end - start) / 1000000)) '
		{ if ($1 == "hit") hits++; else { runs++; if (runs <= 6) names = names " " $3; else more++ } }
		END {
			printf "%d actions: %d run in a sandbox, %d from the cache, %.2f s\n", hits + runs, runs, hits, ms / 1000
			if (runs && runs <= 12) printf "run:%s%s\n", names, more ? sprintf(" and %d more", more) : ""
		}' "$work/log"
}
clean() { make -s -C "$lua/src" -f "$top/examples/lua/Makefile" clean; }

bold "2. Build it: every compile and link in a fresh sandbox without network"
build
first=$(sha256sum <"$lua/src/lua")

bold "3. Remove everything that was built, and build it again"
clean
build
[ "$(sha256sum <"$lua/src/lua")" = "$first" ] || { echo "the two builds differ" >&2; exit 1; }
echo "the program is the same, bit for bit"

bold "4. Change one header (ljumptab.h) and build again from nothing"
echo '/* changed */' >>"$lua/src/ljumptab.h"
clean
build
echo "Only lvm.c includes it. Its object came out the same, so nothing after it had to run."

bold "5. The result works"
"$lua/src/lua" -e 'print(_VERSION .. " says: 2^10 = " .. string.format("%d", 2^10))'
"$top/bin/sbx-action" cache stat
