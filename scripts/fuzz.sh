#!/bin/bash
# Usage: scripts/fuzz.sh TIME [PACKAGE…]
# Runs every fuzz test of the module, or of some of its directories, for TIME each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-5s}
shift || true
work=$(mktemp -d /tmp/sbx-fuzz-XXXXXX)
trap 'rm -rf "$work"' EXIT
corpus=$(go env GOCACHE)/fuzz/$(go list -m)
[ $# -gt 0 ] || set -- $(git ls-files --cached --others --exclude-standard '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u)

# fuzz DIR NAME: once. Go's fuzzer may take the end of its own time for an error
# (golang.org/issue/75804), which finds nothing and says so in two lines; only
# then, and only so often, is the test run again.
fuzz() {
	local try log=$work/log
	for try in 1 2 3 4 5; do
		if (cd "$1" && "$work/test" -test.run='^$' -test.fuzz="^$2\$" -test.fuzztime="$time" -test.fuzzminimizetime=1s -test.parallel=2 \
			-test.fuzzcachedir="$corpus/$1") >"$log" 2>&1; then
			grep -q '^fuzz: elapsed' "$log" || { cat "$log"; echo "$1 $2 did not fuzz" >&2; return 1; }
			return 0
		fi
		[ "$(grep -v '^fuzz: elapsed' "$log" | sed 's/ ([0-9.]*s)$//')" = "--- FAIL: $2"$'\n    context deadline exceeded\nFAIL' ] || break
		echo "$1 $2: Go's fuzzer took the end of its time for an error, try $try"
	done
	cat "$log"
	# What failed is of more use in a log than in a file of a machine that is gone.
	sed -n 's/.*Failing input written to //p' "$log" | while read -r input; do
		echo "$1/$input:"
		cat "$1/$input"
	done
	return 1
}

for dir; do
	go test -c -fuzz=. -o "$work/test" "./$dir"
	for name in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
		echo "$dir $name"
		fuzz "$dir" "$name" || exit 1
	done
done
