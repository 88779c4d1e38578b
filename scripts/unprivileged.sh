#!/bin/bash
# Runs the tests as a user without privileges: compiles them as we are, and
# runs them as nobody, two packages at a time, in a copy of the checkout that
# belongs to nobody. Each has a temporary directory of its own. Those above it are
# not nobody's: their permissions are inputs of what is compiled there, and no test
# can change them while another one runs. Names are short, for the sockets below.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
home=$(mktemp -d /tmp/sbx-u-XXXXXX)
trap 'rm -rf "$home"' EXIT
chmod 755 "$home"
mkdir "$home/src" "$home/tests" "$home/logs" "$home/t"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$home/src" 2>/dev/null || true
export home GOCACHE=${GOCACHE:-$(go env GOCACHE)} GOMODCACHE=${GOMODCACHE:-$(go env GOMODCACHE)}
CGO_ENABLED=0 go build -o "$home/sbx-probe" ./backends/backendtest/probe/sbx-probe
CGO_ENABLED=0 go build -ldflags '-E sbx_front' -o "$home/sbx-action" ./cmd/sbx-action
CGO_ENABLED=0 go build -o "$home/sbx-actiond" ./cmd/sbx-actiond

# What is the same for every user is left out: archtest reads the module's source;
# the others neither open files nor start anything; and backends/native runs itself
# as nobody (TestUnprivileged), under the race detector.
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | sed "s|^$(go list -m)|.|" |
	grep -vxE './(internal/(archtest|sha256tree|strictyaml|blake3)|integration/reapi/(fastcdc|metrics|tracing)|progress|backends/native)' >"$home/packages"
# Of PATH what nobody can search: where root's home is on it, whatever is written there
# would be a change of what is looked up by the compilers under test.
path=$(tr : '\n' <<<"$PATH" | while read -r dir; do
	if setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$dir"; then echo "$dir"; fi
done | paste -sd:)
export path
(cd "$home/t" && seq "$(wc -l <"$home/packages")" | xargs mkdir)
name() { echo "$1" | tr / _; }
compile() { go test -c -o "$home/tests/$(name "$1").test" "$1"; }
run() {
	local log=$home/logs/$(name "$1") tmp begun=$SECONDS code=0
	tmp=$home/t/$(grep -nxF "$1" "$home/packages" | cut -d: -f1)
	(cd "$home/src/$1" && setpriv --reuid=65534 --regid=65534 --clear-groups \
		env -i PATH="$path" HOME="$tmp" TMPDIR="$tmp" SBX_WARM=off SBX_TEST_PROBE="$home/sbx-probe" SBX_TEST_COMMAND="$home/sbx-action" \
		SBX_TEST_ACTIOND="$home/sbx-actiond" \
		"$home/tests/$(name "$1").test" -test.timeout 20m) >"$log" 2>&1 || code=$?
	if [ "$code" = 0 ]; then
		echo "$1: $(tail -n 1 "$log"), $((SECONDS - begun)) s"
	else
		tail -n 1000 "$log"
		scripts/failed.sh "$log"
		echo "$1: FAILED as nobody, exit code $code"
		return 255 # xargs starts no more
	fi
}
export -f name compile run
xargs -P 2 -I DIR bash -c 'compile DIR || exit 255' <"$home/packages"
chown -R 65534:65534 "$home/src" "$home/t"/*
xargs -P 2 -I DIR bash -c 'run DIR' <"$home/packages"
