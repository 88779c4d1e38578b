#!/bin/bash
# Builds the components of examples/corpus by 'sbx-action build' and, beside it,
# by the same commands in one plain bubblewrap each, on the same base, and prints
# the processor time and the time of both as a table of Markdown, with the total.
# Each pair runs one after the other, so that a busy machine disturbs both alike;
# who is first changes from pair to pair. Both must install as many files.
#
# Usage: scripts/corpus.sh DIRECTORY [COMPONENT…]
#
# DIRECTORY keeps the base and the sources. Needs root, for mmdebstrap. All
# fifteen take about eight minutes on two cores that have nothing else to do.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mkdir -p "$1" && cd "$1" && pwd)
shift
list=examples/corpus/components
jobs=2 # of make, in both
[ $# -gt 0 ] || set -- $(cut -f 1 $list | grep -v '^#')
bin=$work/bin
mkdir -p "$bin"
fail() {
	echo "FAILED: $*" >&2
	exit 1
}
field() { grep "^$1	" $list | cut -f "$2"; } # of a component: 2 package, 3 what it needs, 4 command

base=$work/base.tar
[ -f "$base" ] || {
	echo "making the base" >&2
	mmdebstrap --quiet --format=tar --variant=apt --include=build-essential bookworm "$base.new" 2>"$work/mmdebstrap.log" &
	making=$!
}
CGO_ENABLED=0 go build -o "$bin" ./cmd/sbx-action ./cmd/sbx-actiond
echo "fetching the sources" >&2
for name; do
	[ -n "$(field "$name" 2)" ] || fail "$list has no component $name"
	for one in $name $(field "$name" 3); do
		[[ " $* " == *" $one "* ]] || fail "$name needs $one: name it, too, before"
	done
	scripts/debian-source.sh "$(field "$name" 2)" "$work/sources" >/dev/null
done
[ -z "${making:-}" ] || {
	wait "$making" || { tail "$work/mmdebstrap.log" >&2; fail "mmdebstrap"; }
	mv "$base.new" "$base"
}
export SBX_CACHE=$work/store-corpus
rm -rf "$SBX_CACHE" "$work/root"
"$bin/sbx-action" rootfs import bookworm "$base" >/dev/null 2>&1
mkdir "$work/root"
tar -C "$work/root" -xf "$base" --exclude='./dev/*' --no-same-owner

{
	printf 'sbx: 1\nbase: bookworm\ncomponents:\n'
	for name; do
		needs=$(field "$name" 3)
		dsc=$(ls "$work/sources/$(field "$name" 2)"_*.dsc | tail -n 1)
		printf '  %s:\n    source: {dsc: "%s"}\n    needs: [%s]\n    max-jobs: %s\n    build: |\n      %s\n' \
			"$name" "$dsc" "${needs// /, }" $jobs "$(field "$name" 4)"
	done
} >"$work/corpus.yaml"

# timed COMMAND…: runs it; sets $cpu and $wall to its processor time and time.
timed() {
	local TIMEFORMAT='%U %S %R' user system
	{ time "$@" >"$work/corpus.log" 2>&1; } 2>"$work/corpus.time" || {
		tail "$work/corpus.log" >&2
		fail "$name: $1"
	}
	read -r user system wall <"$work/corpus.time"
	cpu=$(awk "BEGIN { print $user + $system }")
}

ours() {
	timed "$bin/sbx-action" build --plain --backend native --offline --file "$work/corpus.yaml" "$name"
	grep -q "\] run  $name " "$work/corpus.log" || fail "$name did not run"
	ours="$cpu $wall"
}

# The same, by hand: the source is copied as a person would unpack it, and the
# result is installed into the root for those that need it.
plain() {
	cat >"$work/plain.sh" <<-EOF
		set -e
		rm -rf '$work/plain.build' '$work/plain.inst'
		cp -a '$work/sources/$(field "$name" 2)' '$work/plain.build'
		rm -rf '$work/plain.build/debian'
		find '$work/plain.build' -exec touch -h -d @1321009871 {} + # or make would find that something is newer
		mkdir '$work/plain.inst'
		mkdir -p '$work/root/$name.build' '$work/root/$name.inst'
		bwrap --unshare-all --die-with-parent --clearenv --uid 65000 --gid 65000 --bind '$work/root' / --proc /proc --dev /dev --tmpfs /tmp \\
			--bind '$work/plain.build' '/$name.build' --bind '$work/plain.inst' '/$name.inst' --chdir '/$name.build' \\
			--setenv DESTDIR '/$name.inst' --setenv HOME /tmp --setenv LC_ALL C --setenv PATH /usr/bin:/bin:/usr/sbin:/sbin \\
			--setenv PREFIX /usr --setenv SHELL /bin/sh --setenv TERM dumb --setenv TZ UTC --setenv MAKEFLAGS -j$jobs --setenv SOURCE_DATE_EPOCH 1321009871 \\
			sh -c -e "\$PLAIN"
		(cd '$work/plain.inst' && find . -type l) | while read -r link; do # where there is a directory, tar would stop
			[ -L '$work/root'/"\$link" ] || rm -rf '$work/root'/"\$link"
		done
		tar -C '$work/plain.inst' -cf - . | tar -C '$work/root' --keep-directory-symlink -xf - # /bin is a link there
	EOF
	PLAIN="{ $(field "$name" 4); } || exit 1; times" timed bash "$work/plain.sh"
	# Nobody waits for what runs in bubblewrap: it says itself what it took.
	inside=$(tail -n 1 "$work/corpus.log" | sed 's/m/ /g; s/s//g' | awk '{ print $1 * 60 + $2 + $3 * 60 + $4 }')
	plain="$(awk "BEGIN { print $cpu + $inside }") $wall"
}

row='| %s | %.1f | %.1f | %.2f | %.1f | %.1f | %.2f |\n'
echo '| component | ours, CPU s | plain, CPU s | ratio | ours, s | plain, s | ratio |'
echo '|---|---|---|---|---|---|---|'
total=() number=0
for name; do
	number=$((number + 1))
	if [ $((number % 2)) = 1 ]; then
		ours
		plain
	else
		plain
		ours
	fi
	"$bin/sbx-action" build --plain --offline --file "$work/corpus.yaml" "$name" --manifest "$work/corpus.manifest" >"$work/corpus.log" 2>&1 || fail "$name: its manifest"
	mine=$(grep -vc '^#\|^dir' "$work/corpus.manifest" || true)
	theirs=$(find "$work/plain.inst" ! -type d | wc -l)
	[ "$mine" = "$theirs" ] || fail "$name: $mine files, and $theirs by hand"
	echo "$name $ours $plain" | awk -v row="$row" '{ printf row, $1, $2, $4, $2 / $4, $3, $5, $3 / $5 }'
	total+=("$ours $plain")
done
printf '%s\n' "${total[@]}" | awk -v row="$row" '{ a += $1; b += $2; c += $3; d += $4 } END { printf row, "total", a, c, a / c, b, d, b / d }'
