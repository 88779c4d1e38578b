#!/bin/bash
# Usage: scripts/backends-doc.sh [check]
#
# Probes every backend here, as root, and writes the table into docs/backends.md;
# with check, says whether the columns that are there are current: of the backends
# that work both here and where the table was made. A column that differs is
# probed twice more before it counts, and bwrap's and ours must be among those compared.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "$0: be root: most backends work for root only" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ "${1:-}" != check ]; then
	table=$(bin/sbx-action backends --markdown | tr -s ' ')
	awk -v table="$table" '
		/^<!-- table -->/ { print; print table; skip = 1; next }
		/^<!-- end -->/ { skip = 0 }
		!skip' docs/backends.md >"$work/new"
	cat "$work/new" >docs/backends.md
	exit
fi

# column NAME prints what a table says of one backend, a line for each promise.
column() {
	awk -F ' *[|] *' -v name="$1" '
		/^[|] promise / { for (i = 3; i < NF; i++) if ($i == name) at = i }
		/^[|]/ && !/^[|] (promise|---) / { print $2 ": " (at ? $at : "has no column") }'
}
# probe NAME probes one backend. Its exit code says what the table says, too.
probe() { bin/sbx-action backends --markdown "$1" >"$work/$1.table" 2>"$work/$1.said" || [ -s "$work/$1.table" ] || { cat "$work/$1.said" >&2; return 1; }; }
export -f probe
export work

sed -n '/^<!-- table -->/,/^<!-- end -->/p' docs/backends.md >"$work/docs"
names=$(bin/sbx-action backends --list | awk '{ print $1 }')
said=$(grep '^| promise ' "$work/docs" | tr -d '|' | xargs)
[ "$said" = "promise $(echo $names)" ] || { echo "$0: the columns of docs/backends.md are not $names: run scripts/backends-doc.sh" >&2; exit 1; }
printf '%s\n' $names | xargs -P 2 -I NAME bash -c 'probe NAME'
compared=
for name in $names; do
	column "$name" <"$work/docs" >"$work/want"
	for try in 1 2 3; do
		[ "$try" = 1 ] || probe "$name"
		column "$name" <"$work/$name.table" >"$work/have"
		if ! grep -q ': .' "$work/have" || ! grep -q ': .' "$work/want"; then
			echo "$name: not compared: $(cat "$work/$name.said")"
			continue 2
		fi
		if diff "$work/want" "$work/have" >"$work/diff"; then
			compared="$compared $name"
			continue 2
		fi
	done
	cat "$work/$name.said" "$work/diff"
	echo "$0: docs/backends.md does not have what $name does here: run scripts/backends-doc.sh" >&2
	exit 1
done
case "$compared " in
" native bubblewrap "*) echo "current:$compared" ;;
*) echo "$0: native and bubblewrap do not work here" >&2; exit 1 ;;
esac
