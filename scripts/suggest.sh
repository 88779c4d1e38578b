#!/bin/bash
# Finds the inputs of real projects with run --suggest-inputs, and builds them
# with what it prints, at the first try, in a checkout that holds nothing else.
# Lua and zlib from Debian's sources; a generator in Python is in the tests of
# cmd/sbx-action.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d /tmp/sbx-suggest-XXXXXX)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$work/bin/sbx-action" ./cmd/sbx-action
export PATH=$work/bin:$PATH SBX_CACHE=$work/cache

# one DIR OUTPUTS COMMAND…: suggests the inputs of COMMAND, run in DIR.
one() {
	local dir=$1 outputs=$2
	shift 2
	(cd "$dir" && sbx-action run --suggest-inputs $outputs -- "$@" >"$work/inputs" 2>"$work/said") || { cat "$work/said" >&2; exit 1; }
	tail -n 1 "$work/said"
	mkdir "$work/only"
	sed 's/^-i //' "$work/inputs" | (cd "$dir" && xargs cp -r --parents -t "$work/only")
	(cd "$work/only" && sbx-action run $(cat "$work/inputs") $outputs -- "$@" >"$work/said" 2>&1) || { cat "$work/said" >&2; exit 1; }
	for file in ${outputs//-o /}; do
		cmp "$dir/$file" "$work/only/$file"
	done
	rm -rf "$work/only"
	echo "$(wc -l <"$work/inputs") inputs of $(find "$dir" -type f | wc -l) files build ${outputs//-o /}"
}

lua=$(scripts/debian-source.sh lua5.4 "$work/source")
one "$lua/src" "-o lua -o liblua.a" make -s -j2 CC=gcc lua
[ "$(cd "$lua/src" && ./lua -e 'print(6*7)')" = 42 ]
zlib=$(scripts/debian-source.sh zlib "$work/source")
one "$zlib" "-o libz.a -o zlib.pc" sh -c './configure --static && make -s -j2 libz.a'
