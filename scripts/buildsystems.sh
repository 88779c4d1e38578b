#!/bin/bash
# Builds examples/buildsystems: a small real project with each build-system of
# sbx.yaml, offline, on a base that mmdebstrap makes, and its tests; and once more,
# which must run nothing.
#
# Usage: scripts/buildsystems.sh [DIRECTORY]
#
# DIRECTORY keeps the base and the sources; without it, they are fetched anew.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-}
if [ -z "$work" ]; then
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work/bin" "$work/sources"
work=$(cd "$work" && pwd)
sources=$work/sources
fail() {
	echo "FAILED: $*" >&2
	exit 1
}
CGO_ENABLED=0 go build -o "$work/bin" ./cmd/sbx-action ./cmd/sbx-actiond

# The base is made while the sources are fetched.
base=$work/buildsystems.tar
[ -f "$base" ] || {
	mmdebstrap --quiet --aptopt='Acquire::Retries "5"' --format=tar --variant=apt bookworm "$base.new" \
		--include=build-essential,cmake,meson,python3-pip,golang-go,cargo,librust-itoa-dev 2>"$work/mmdebstrap.log" &
	making=$!
}
for package in xxhash tinyxml2 pkgconf libclone-perl file; do
	scripts/debian-source.sh $package "$sources" >/dev/null
	ln -sf "$(basename "$(ls "$sources/${package}"_*.dsc | tail -n 1)")" "$sources/$package.dsc"
done
# What go and cargo build must have what it needs in vendor/: 'go mod vendor' puts
# it there; Debian's packages of crates are what 'cargo vendor' would make.
[ -d "$sources/prettybench" ] || {
	for pause in 5 20 0; do # the module proxy has bad moments
		module=$(GOFLAGS=-mod=mod go mod download -json github.com/cespare/prettybench@v0.1.0 | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || module=
		[ -z "$module" ] || break
		[ $pause != 0 ] || fail "go mod download"
		sleep $pause
	done
	cp -r "$module" "$sources/prettybench.new"
	chmod -R u+w "$sources/prettybench.new"
	for pause in 5 20 0; do
		if (cd "$sources/prettybench.new" && go mod vendor); then break; fi
		[ $pause != 0 ] || fail "go mod vendor"
		sleep $pause
	done
	mv "$sources/prettybench.new" "$sources/prettybench"
}
[ -z "${making:-}" ] || {
	wait "$making" || { tail "$work/mmdebstrap.log" >&2; fail "mmdebstrap"; }
	mv "$base.new" "$base"
}
rm -rf "$sources/digits" "$work/itoa"
cp -r examples/buildsystems/digits "$sources/digits"
mkdir "$work/itoa" "$sources/digits/vendor"
tar -C "$work/itoa" -xf "$base" ./usr/share/cargo/registry
mv "$work"/itoa/usr/share/cargo/registry/itoa-* "$sources/digits/vendor/itoa"
rm -rf "$work/itoa"

cp examples/buildsystems/sbx.yaml "$work/sbx.yaml"
export SBX_CACHE=$work/store-buildsystems
rm -rf "$SBX_CACHE"
"$work/bin/sbx-action" rootfs import buildsystems "$base" >/dev/null 2>&1
# again LOG: builds everything.
again() { "$work/bin/sbx-action" build --plain --offline --keep-going --jobs 2 --file "$work/sbx.yaml" 2>"$1" || { cat "$1" >&2; fail "build"; }; }
again "$work/log"
cat "$work/log"
for name in xxhash/sum tinyxml2/links pkgconf/version magic/finds clone/clones prettybench/aligns digits/counts; do
	grep -q "\] run  $name " "$work/log" || fail "the test $name did not run"
done
again "$work/log2"
grep -q '14 components: 14 hit' "$work/log2" || { cat "$work/log2" >&2; fail "the second build ran something"; }
