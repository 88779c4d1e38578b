#!/bin/bash
# Runs the tests of contrib/sandboxlib, as we are and, if that is root, as nobody.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh python3:python3 busybox:busybox-static setpriv:util-linux
work=$(mktemp -d /tmp/sbx-sandboxlib-XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
CGO_ENABLED=0 go build -o "$work/" ./cmd/sbx-action ./cmd/sbx-actiond
cp -r contrib/sandboxlib contrib/test_sandboxlib.py "$work"
chmod -R a+rX "$work"
mkdir -m 1777 "$work/home"
tests=(env HOME="$work/home" PYTHONDONTWRITEBYTECODE=1 SBX_ACTION="$work/sbx-action" /usr/bin/python3 -m unittest -b test_sandboxlib)
cd "$work"
"${tests[@]}"
[ "$(id -u)" != 0 ] || setpriv --reuid=65534 --regid=65534 --clear-groups "${tests[@]}"
