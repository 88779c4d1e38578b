#!/bin/bash
# Runs the tests as a user without privileges: go test compiles them as we are, and
# has this script, with --run, run each as nobody, in a copy of the checkout that
# belongs to nobody. Each has a temporary directory of its own. Those above it are
# not nobody's: their permissions are inputs of what is compiled there, and no test
# can change them while another one runs. Names are short, for the sockets below.
set -euo pipefail
if [ "${1:-}" = --run ]; then # in the directory of the package
	package=.${PWD#"$top"} code=0
	n=$(grep -nxF "$package" "$home/packages" | cut -d: -f1)
	mv "$2" "$home/tests/$n" # where nobody may execute it
	shift 2
	cd "$home/src/$package"
	setpriv --reuid=65534 --regid=65534 --clear-groups \
		env -i PATH="$path" HOME="$home/t/$n" TMPDIR="$home/t/$n" SBX_WARM=off SBX_TEST_PROBE="$home/sbx-probe" \
		SBX_TEST_COMMAND="$home/sbx-action" SBX_TEST_ACTIOND="$home/sbx-actiond" \
		"$home/tests/$n" "$@" >"$home/logs/$n" 2>&1 || code=$?
	cat "$home/logs/$n"
	exit "$code"
fi
cd "$(dirname "$0")/.."
umask 022
home=$(mktemp -d /tmp/sbx-u-XXXXXX)
trap 'rm -rf "$home"' EXIT
chmod 755 "$home"
mkdir "$home/src" "$home/tests" "$home/logs" "$home/t"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$home/src" 2>/dev/null || true
export home top=$PWD CGO_ENABLED=0
go build -o "$home/sbx-probe" ./backends/backendtest/probe/sbx-probe
go build -ldflags '-E sbx_front' -o "$home/sbx-action" ./cmd/sbx-action
go build -o "$home/sbx-actiond" ./cmd/sbx-actiond

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
chown -R 65534:65534 "$home/src" "$home/t"/*
xargs go test -vet=off -count=1 -p 3 -timeout 20m -exec "'$PWD/scripts/unprivileged.sh' --run" <"$home/packages"
