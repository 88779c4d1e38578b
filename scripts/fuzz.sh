#!/bin/bash
# Usage: scripts/fuzz.sh TIME
# Runs every fuzz test of the module for TIME each.
set -euo pipefail
cd "$(dirname "$0")/.."
for dir in $(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
	for name in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
		echo "$dir $name"
		go test -run='^$' -fuzz="^$name\$" -fuzztime="${1:-5s}" -fuzzminimizetime=1s -parallel=2 "./$dir" >/tmp/fuzz.$$ 2>&1 || { cat /tmp/fuzz.$$; rm -f /tmp/fuzz.$$; exit 1; }
	done
done
rm -f /tmp/fuzz.$$
