#!/bin/bash
# Runs the tests as a user without privileges: compiles them as we are, and
# runs them as nobody, in a copy of the checkout that belongs to nobody.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$(mktemp -d /tmp/sbx-unprivileged-XXXXXX)
trap 'rm -rf "$home"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$home" 2>/dev/null || true
mkdir -p "$home/tests" "$home/tmp"
export GOCACHE=${GOCACHE:-$(go env GOCACHE)} GOMODCACHE=${GOMODCACHE:-$(go env GOMODCACHE)}
CGO_ENABLED=0 go build -o "$home/sbx-probe" ./backends/backendtest/probe/sbx-probe
CGO_ENABLED=0 go build -ldflags '-E sbx_front' -o "$home/sbx-action" ./cmd/sbx-action
CGO_ENABLED=0 go build -o "$home/sbx-actiond" ./cmd/sbx-actiond
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	dir=${package#github.com/sbx-action/sbx-action}
	dir=.${dir}
	case $dir in */archtest) continue ;; esac # reads the module's source, whoever runs it
	go test -c -o "$home/tests/$(echo "$dir" | tr / _).test" "$dir"
	echo "$dir" >>"$home/packages"
done
chown -R 65534:65534 "$home"
failed=0
while read -r dir; do
	(cd "$home/$dir" && setpriv --reuid=65534 --regid=65534 --clear-groups \
		env -i PATH="$PATH" HOME="$home/tmp" TMPDIR="$home/tmp" SBX_TEST_PROBE="$home/sbx-probe" SBX_TEST_COMMAND="$home/sbx-action" \
		SBX_TEST_ACTIOND="$home/sbx-actiond" \
		"$home/tests/$(echo "$dir" | tr / _).test" -test.timeout 15m) >"$home/log" 2>&1 || failed=1
	tail -n 1 "$home/log" | sed "s|^|$dir: |"
	[ "$failed" = 0 ] || { cat "$home/log"; exit 1; }
done <"$home/packages"
