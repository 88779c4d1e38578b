#!/bin/bash
# BuildStream 1.6 builds an element in sandboxes that it has bwrap make, and we
# are that: a program of ours by that name comes first on the PATH. A few seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh bst:buildstream bwrap:bubblewrap busybox:busybox-static

work=$(mktemp -d /tmp/sbx-bwrap-client-XXXXXX)
trap 'rm -rf "$work"' EXIT
fail() {
	echo "FAILED: $*" >&2
	[ ! -e "$work/log" ] || tail -n 40 "$work/log" >&2
	exit 1
}

CGO_ENABLED=0 go build -o "$work/sbx-action" ./cmd/sbx-action
mkdir -p "$work/bin" "$work/project/elements" "$work/project/base/bin" "$work/project/src"
# The script only writes down that it was called: BuildStream wants a program
# whose name is bwrap, and a link would do.
cat >"$work/bin/bwrap" <<EOF
#!/bin/sh
echo "\$*" >>"$work/calls"
exec "$work/sbx-action" bwrap "\$@"
EOF
chmod +x "$work/bin/bwrap"
cp "$(command -v busybox)" "$work/project/base/bin/busybox"
for tool in sh cat cp mkdir id ls; do ln -s busybox "$work/project/base/bin/$tool"; done
echo hello >"$work/project/src/greeting"
cat >"$work/project/project.conf" <<'EOF'
name: sandboxed
element-path: elements
EOF
cat >"$work/project/elements/base.bst" <<'EOF'
kind: import
sources:
- kind: local
  path: base
EOF
cat >"$work/project/elements/made.bst" <<'EOF'
kind: manual
depends:
- filename: base.bst
  type: build
sources:
- kind: local
  path: src
config:
  build-commands:
  - cat greeting >out; id -u >>out; cat /proc/1/comm >>out; ls -d /usr /buildstream >>out 2>&1 || true
  install-commands:
  - mkdir -p %{install-root}/share
  - cp out %{install-root}/share/greeting
  strip-commands: []
EOF
cat >"$work/project/elements/fails.bst" <<'EOF'
kind: manual
depends:
- filename: base.bst
  type: build
config:
  build-commands:
  - exit 7
EOF
cat >"$work/bst.conf" <<EOF
sourcedir: $work/cache/sources
builddir: $work/cache/build
artifactdir: $work/cache/artifacts
logdir: $work/cache/logs
EOF
bst() {
	(cd "$work/project" && PATH=$work/bin:$PATH LC_ALL=C.UTF-8 command bst -c "$work/bst.conf" --no-interactive --no-colors --on-error terminate "$@" >"$work/log" 2>&1)
}
bst build made.bst || fail "bst build"
bst checkout made.bst "$work/out" || fail "bst checkout"
printf '%s\n' hello 0 bwrap "ls: /usr: No such file or directory" /buildstream >"$work/want"
diff "$work/want" "$work/out/share/greeting" || fail "BuildStream made something else with our bwrap"
grep -q -- --unshare-pid "$work/calls" || fail "BuildStream did not call our bwrap: $(cat "$work/calls")"
! bst build fails.bst || fail "a command that fails did not fail the build"
grep -q "exitcode 7" "$work/log" || fail "BuildStream does not know the exit code"
# Our own backend bubblewrap, on our bwrap.
mkdir "$work/link"
ln -s "$work/sbx-action" "$work/link/bwrap"
PATH=$work/link:$PATH go test -count 1 ./backends/bubblewrap -run TestPromises >"$work/log" 2>&1 || fail "the backend bubblewrap with our bwrap"
echo "BuildStream 1.6: built in sandboxes of our bwrap, called $(wc -l <"$work/calls") times"
