#!/bin/bash
# Usage: scripts/backends-doc.sh [check]
#
# Probes every backend here, as root, and writes the table into docs/backends.md;
# with check, says whether the one that is there is current.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "$0: be root: most backends work for root only" >&2; exit 1; }
new=$(mktemp)
trap 'rm -f "$new"' EXIT
table=$(bin/sbx-action backends --markdown | tr -s ' ')
awk -v table="$table" '
	/^<!-- table -->/ { print; print table; skip = 1; next }
	/^<!-- end -->/ { skip = 0 }
	!skip' docs/backends.md >"$new"
if [ "${1:-}" != check ]; then
	cat "$new" >docs/backends.md
elif ! diff docs/backends.md "$new"; then
	echo "$0: docs/backends.md is not what the backends do here: run scripts/backends-doc.sh" >&2
	exit 1
fi
