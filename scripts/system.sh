#!/bin/bash
# Builds examples/system, a system of seven components from Debian's source
# packages, on a base that mmdebstrap makes: from Baserock definitions and from
# an sbx.yaml, as root and as an unprivileged user, with two backends; and checks
# that the outputs are the same to the bit, that a second build runs nothing, and
# that a change builds what it must and nothing else.
#
# Usage: scripts/system.sh [DIRECTORY]
#
# DIRECTORY keeps the base and the sources; without it, they are fetched anew.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-}
if [ -z "$work" ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
chmod 755 "$work"

say() { printf '\n-- %s\n' "$*"; }
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

say "programs, sources and base"
bin=$work/bin
mkdir -p "$bin"
sources=$work/sources
base=$work/base.tar
[ -f "$base" ] || { # it is made while the rest is fetched
	mmdebstrap --quiet --aptopt='Acquire::Retries "5"' --format=tar --variant=apt --include=build-essential bookworm "$base.new" 2>"$work/mmdebstrap.log" &
	making=$!
}
CGO_ENABLED=0 go build -o "$bin" ./cmd/sbx-action ./cmd/sbx-actiond
for package in zlib bzip2 libffi dash hello lua5.4; do
	scripts/debian-source.sh $package "$sources" >/dev/null
	ln -sf "$(basename "$(ls "$sources/${package}"_*.dsc | tail -n 1)")" "$sources/$package.dsc"
done
rm -rf "$work/system"
cp -r examples/system "$work/system"
ln -s "$sources" "$work/system/sources"
[ -z "${making:-}" ] || {
	wait "$making" || { tail "$work/mmdebstrap.log" >&2; fail "mmdebstrap"; }
	mv "$base.new" "$base"
}
chmod -R a+rX "$work"

# as USER COMMAND…: runs a command as root or as nobody, with a store of its own.
as() {
	local user=$1
	shift
	if [ "$user" = root ] || [ "$(id -u)" != 0 ]; then # who is not root is one user only
		env SBX_CACHE="$(store)" "$@"
	else
		setpriv --reuid=65534 --regid=65534 --clear-groups \
			env HOME="$work/home" TMPDIR="$work/home" SBX_CACHE="$(store)" "$@"
	fi
}
store() {
	if [ "$user" = root ]; then echo "$work/store-root-$backend"; else echo "$work/home/store-$backend"; fi
}
rm -rf "$work/home"
mkdir -p "$work/home"
[ "$(id -u)" != 0 ] || chown 65534:65534 "$work/home"

sbx() { as "$user" "$bin/sbx-action" "$@"; }
definitions=(--definitions "$work/system/definitions" --replace strata/toolchain=bookworm
	--source-map "$work/system/sources.map" systems/mini)
file=(--file "$work/system/sbx.yaml" mini)

# ran LOG NAME…: exactly these components ran.
ran() {
	local log=$1
	shift
	local got want
	got=$(sed -n 's/.*\] run  *\([^ ]*\) .*/\1/p' "$log" | sed 's,.*/,,' | sort | xargs)
	want=$(printf '%s\n' "$@" | sort | xargs)
	[ "$got" = "$want" ] || { cat "$log"; fail "ran [$got], want [$want]"; }
}

# build LOG ARGUMENT…
build() {
	local log=$1
	shift
	sbx build --offline --jobs 2 "$@" 2>"$log" || { cat "$log" >&2; fail "build"; }
	tail -n 2 "$log"
}

number=0
for pair in "root native" "nobody bubblewrap" "root bubblewrap" "nobody native"; do
	read -r user backend <<<"$pair"
	# Each way of writing it down is built by two of the four, each from nothing.
	if [ $((number / 2)) = 0 ]; then what=("${definitions[@]}"); else what=("${file[@]}"); fi
	number=$((number + 1))
	say "as $user, with $backend: ${what[1]}"
	rm -rf "$(store)"
	sbx rootfs import bookworm "$base" >/dev/null 2>&1
	out=$work/home
	[ "$user" = nobody ] || out=$work
	build "$out/log" --backend "$backend" "${what[@]}" --manifest "$out/manifest-$user-$backend"
	ran "$out/log" zlib bzip2 libffi dash hello lua versions
	mv "$out/manifest-$user-$backend" "$work/" 2>/dev/null || true

	build "$out/log" --backend "$backend" "${what[@]}"
	ran "$out/log"
	# Once more from the start: what comes out is the same, and so nothing else runs. Two of
	# the four will do, one of each user and backend: all are compared below.
	if [ "$number" -le 2 ]; then
		build "$out/log" --backend "$backend" "${what[@]}" --rebuild zlib --rebuild bzip2
		ran "$out/log" zlib bzip2
	fi
	# The columns but for that of the component, which has another name.
	cut -f 1-5,7 "$work/manifest-$user-$backend" >"$work/outputs-$user-$backend"
	cmp "$work/outputs-root-native" "$work/outputs-$user-$backend" ||
		{ diff "$work/outputs-root-native" "$work/outputs-$user-$backend" | head; fail "the outputs differ"; }
done
grep -c . "$work/outputs-root-native" | sed 's/$/ lines of the manifest are the same for all four/'
for want in 'file	4755	0:0	.*	usr/bin/versions$' 'dir	1777	0:0	.*	var/spool/versions$' 'char	0666	0:0	0	1:3	.*	dev/null$' \
	'	(integration)	etc/bzip2-version$' 'file	0640	0:42	.*	etc/shadow$'; do
	grep -q "$want" "$work/manifest-root-native" || {
		grep "${want##*	}" "$work/manifest-root-native" >&2 || true
		fail "the manifest has no line like $want"
	}
done
! grep -q '	usr/include/zlib.h$' "$work/manifest-root-native" || fail "the system has what is not of its artifacts"

say "changes"
user=root backend=native log=$work/log
lua=$work/lua
rm -rf "$lua"
cp -r "$sources/lua5.4" "$lua"
rm -rf "$lua/debian"
with=("${definitions[@]}" --source "debian:lua5.4=dir:$lua")
build "$log" "${with[@]}"
ran "$log"
echo '/* a comment */' >>"$lua/src/lapi.c"
build "$log" "${with[@]}"
ran "$log" lua # what it installs is the same
sed -i 's/^#define LUA_VERSION_RELEASE.*/#define LUA_VERSION_RELEASE "99"/' "$lua/src/lua.h"
build "$log" "${with[@]}"
ran "$log" lua versions
sbx build why --definitions "$work/system/definitions" --replace strata/toolchain=bookworm --source-map "$work/system/sources.map" \
	--source "debian:lua5.4=dir:$lua" versions >"$log"
grep -q 'versions is in the cache' "$log" || { cat "$log"; fail "why"; }

say "a bad source, and what does not need it"
echo changed >"$work/changed.tar"
cat >"$work/bad.yaml" <<-EOF
	sbx: 1
	base: bookworm
	components:
	  bad: {source: {tar: changed.tar, sha256: $(echo other | sha256sum | cut -d ' ' -f 1)}, build: "true"}
	  worse: {source: {tar: changed.tar, sha256: $(sha256sum <"$work/changed.tar" | cut -d ' ' -f 1)}, build: "true"}
	  user: {needs: [bad], build: "true"}
	  good: {build: 'echo good >"\$DESTDIR/good"'}
EOF
sbx build --plain --file "$work/bad.yaml" 2>"$log" && fail "a bad source was built"
for want in ':4:3: the source of bad: .* is not what was asked for' ':5:3: the source of worse: .*import archive' 'nothing was built.*--keep-going'; do
	grep -q "$want" "$log" || { cat "$log"; fail "not all bad sources were said: $want"; }
done
ran "$log"
sbx build --plain --file "$work/bad.yaml" --keep-going 2>"$log" && fail "a bad source was built"
ran "$log" good
grep -q '1 run, 2 failed, 1 skipped' "$log" || { cat "$log"; fail "with --keep-going"; }

say "outputs"
rm -rf "$work/out"
mkdir "$work/out"
build "$log" "${definitions[@]}" --output "tar:$work/out/mini.tar" --output "cpio:$work/out/mini.cpio" --sbom "$work/out/sbom.json"
tar -tvf "$work/out/mini.tar" >"$work/out/tar.list"
cpio -itv <"$work/out/mini.cpio" >"$work/out/cpio.list" 2>/dev/null
grep -q '^-rwsr-xr-x 0/0 .* usr/bin/versions$' "$work/out/tar.list" || fail "the tar has no setuid versions"
grep -q '^crw-rw-rw- 0/0 .* dev/null$' "$work/out/tar.list" || fail "the tar has no dev/null"
grep -q '^crw-rw-rw- .* dev/null$' "$work/out/cpio.list" || fail "the cpio has no dev/null"
grep -q '"spdxVersion": "SPDX-2.3"' "$work/out/sbom.json"
echo "a system of seven components: the same from all four"
