#!/bin/bash
# Builds the components of examples/corpus by 'sbx-action build' and, beside it,
# by the same commands in one plain bubblewrap each, on the same base, and prints
# the processor time and the time of both. Each pair runs one after the other, so
# that a busy machine disturbs both alike.
#
# Usage: scripts/corpus.sh DIRECTORY [COMPONENT…]
#
# DIRECTORY keeps the base and the sources. Needs root, for mmdebstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mkdir -p "$1" && cd "$1" && pwd)
shift
list=examples/corpus/components
[ $# -gt 0 ] || set -- $(cut -f 1 $list | grep -v '^#')
bin=$work/bin
mkdir -p "$bin"
CGO_ENABLED=0 go build -o "$bin" ./cmd/sbx-action ./cmd/sbx-actiond
base=$work/base.tar
[ -f "$base" ] || { mmdebstrap --quiet --variant=apt --include=build-essential bookworm "$base.new" && mv "$base.new" "$base"; }
export SBX_CACHE=$work/store-corpus
rm -rf "$SBX_CACHE" "$work/root" "$work/corpus.yaml"
"$bin/sbx-action" rootfs import bookworm "$base" >/dev/null 2>&1
mkdir "$work/root"
tar -C "$work/root" -xf "$base" --exclude='./dev/*' --no-same-owner

# The file, in the order of the list: what is needed comes first.
{
	printf 'sbx: 1\nbase: bookworm\ncomponents:\n'
	for name; do
		IFS=$'\x1f' read -r package needs command < <(grep "^$name	" $list | tr '\t' '\037' | cut -d $'\x1f' -f 2-)
		scripts/debian-source.sh "$package" "$work/sources" >/dev/null
		dsc=$(ls "$work/sources/${package}"_*.dsc | tail -n 1)
		printf '  %s:\n    source: {dsc: "%s"}\n    needs: [%s]\n    max-jobs: 1\n    build: |\n      %s\n' "$name" "$dsc" "${needs// /, }" "$command"
	done
} >"$work/corpus.yaml"

# seconds COMMAND…: runs it; sets $cpu and $wall to its processor time and time.
seconds() {
	local TIMEFORMAT='%U %S %R' user system
	{ time "$@" >"$work/corpus.log" 2>&1; } 2>"$work/corpus.time" || {
		tail "$work/corpus.log" >&2
		exit 1
	}
	read -r user system wall <"$work/corpus.time"
	cpu=$(awk "BEGIN { print $user + $system }")
}

printf '%-10s %8s %8s %6s   %8s %8s %6s\n' component cpu plain ratio time plain ratio
total=()
for name; do
	command=$(grep "^$name	" $list | cut -f 4)
	seconds "$bin/sbx-action" build --plain --backend native --file "$work/corpus.yaml" "$name"
	ours="$cpu $wall"
	# The same, by hand: the source is unpacked as a person would, the result is
	# installed into the root for those that need it.
	package=$(grep "^$name	" $list | cut -f 2)
	cat >"$work/plain.sh" <<-EOF
		set -e
		rm -rf '$work/plain.build' '$work/plain.inst'
		cp -a '$work/sources/$package' '$work/plain.build'
		rm -rf '$work/plain.build/debian'
		find '$work/plain.build' -exec touch -h -d @1321009871 {} + # or make would find that something is newer
		mkdir '$work/plain.inst'
		mkdir -p '$work/root/$name.build' '$work/root/$name.inst'
		bwrap --unshare-all --die-with-parent --clearenv --uid 65000 --gid 65000 --bind '$work/root' / --proc /proc --dev /dev --tmpfs /tmp \\
			--bind '$work/plain.build' '/$name.build' --bind '$work/plain.inst' '/$name.inst' --chdir '/$name.build' \\
			--setenv DESTDIR '/$name.inst' --setenv HOME /tmp --setenv LC_ALL C --setenv PATH /usr/bin:/bin:/usr/sbin:/sbin \\
			--setenv PREFIX /usr --setenv SHELL /bin/sh --setenv TERM dumb --setenv TZ UTC --setenv MAKEFLAGS -j1 --setenv SOURCE_DATE_EPOCH 1321009871 \\
			sh -c -e "\$PLAIN"
		(cd '$work/plain.inst' && find . -type l) | while read -r link; do # where there is a directory, cp would stop
			[ -L '$work/root'/"\$link" ] || rm -rf '$work/root'/"\$link"
		done
		cp -a '$work/plain.inst/.' '$work/root/'
	EOF
	export PLAIN="{ $command; } || exit 1; times"
	seconds bash "$work/plain.sh"
	# Nobody waits for what runs in bubblewrap: it says itself what it took.
	inside=$(tail -n 1 "$work/corpus.log" | sed 's/m/ /g; s/s//g' | awk '{ print $1 * 60 + $2 + $3 * 60 + $4 }')
	cpu=$(awk "BEGIN { print $cpu + $inside }")
	echo "$name $ours $cpu $wall" | awk '{ printf "%-10s %8.1f %8.1f %6.2f   %8.1f %8.1f %6.2f\n", $1, $2, $4, $2 / $4, $3, $5, $3 / $5 }'
	total+=("$ours $cpu $wall")
done
printf '%s\n' "${total[@]}" | awk '{ a += $1; c += $2; b += $3; d += $4 }
	END { printf "%-10s %8.1f %8.1f %6.2f   %8.1f %8.1f %6.2f\n", "total", a, b, a / b, c, d, c / d }'
