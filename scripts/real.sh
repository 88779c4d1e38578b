#!/bin/bash
# Builds real projects from Debian's sources with every recipe as an action:
# twice, as root where we are root and as an unprivileged user, and checks that
# the project's own tests pass, that the second build takes everything from the
# cache, and that all builds make the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
work=$(mktemp -d /tmp/sbx-real-XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
CGO_ENABLED=0 go build -trimpath -ldflags '-E sbx_front' -o "$work/sbx-action" ./cmd/sbx-action
cp -r examples "$work/examples"

lua=$(scripts/debian-source.sh lua5.4 "$work/source")
zlib=$(scripts/debian-source.sh zlib "$work/source")

# one USER: builds both projects twice, in a copy that belongs to USER.
one() {
	local user=$1 dir=$work/$1
	mkdir -p "$dir"
	cp -r "$lua" "$dir/lua"
	cp -r "$zlib" "$dir/zlib"
	[ "$user" = "$(id -u)" ] || chown -R "$user:$user" "$dir"
	as() {
		if [ "$user" = "$(id -u)" ]; then "$@"; else (cd "$dir" && setpriv --reuid="$user" --regid="$user" --clear-groups "$@"); fi
	}
	for backend in native bubblewrap; do
		for round in first second; do
			log=$dir/log-$backend-$round
			build() {
				as env HOME="$dir" SBX_CACHE="$dir/cache-$backend" make -s -j2 -C "$1" -f "$work/examples/$2/Makefile" \
					SBX="$work/sbx-action" SBXFLAGS="--backend $backend --log $log" "$3" >"$dir/out" 2>&1 || {
					cat "$dir/out" >&2
					exit 1
				}
			}
			as make -s -C "$dir/lua/src" -f "$work/examples/lua/Makefile" clean
			as make -s -C "$dir/zlib" -f "$work/examples/zlib/Makefile" clean
			build "$dir/lua/src" lua all
			build "$dir/zlib" zlib check
			grep -q 'zlib test OK' "$dir/out" || { echo "zlib's tests failed" >&2; exit 1; }
			[ "$(as "$dir/lua/src/lua" -e 'print(6*7)')" = 42 ] || { echo "lua does not work" >&2; exit 1; }
			echo "user $user, $backend, $round: $(grep -c '^run' "$log" || true) run, $(grep -c '^hit' "$log" || true) hits"
			(cd "$dir" && sha256sum lua/src/*.o lua/src/lua lua/src/liblua.a zlib/libz.a zlib/libz.so.1 zlib/example) >"$dir/sums-$backend-$round"
		done
		if grep -q '^run' "$dir/log-$backend-second"; then
			echo "the second build ran something:" >&2
			grep '^run' "$dir/log-$backend-second" >&2
			exit 1
		fi
	done
}

# The same project by an action file, in a fresh copy: the same objects (its
# archive has them in another order), and the second time nothing runs.
by_file() {
	local dir=$work/file
	mkdir -p "$dir"
	cp -r "$lua" "$dir/lua"
	for round in first second; do
		SBX_CACHE=$dir/cache "$work/sbx-action" run -f "$work/examples/lua/build.yaml" --workspace "$dir/lua/src" --json --progress none >"$dir/$round"
	done
	if grep -v '"cached":true' "$dir/second"; then echo "the second run of build.yaml ran something" >&2; exit 1; fi
	(cd "$dir" && sha256sum lua/src/*.o) >"$dir/sums-file"
	echo "build.yaml: $(wc -l <"$dir/first") actions"
}

one "$(id -u)"
by_file
[ "$(id -u)" != 0 ] || one 65534
sort -u "$work"/*/sums-* | awk '{ n[$2]++ } END { for (f in n) if (n[f] > 1) { print f " is not the same in all builds"; bad = 1 } exit bad }'
echo "all builds made the same bytes"
