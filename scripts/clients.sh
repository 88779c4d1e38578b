#!/bin/bash
# Real clients against our server: Bazel 4.2.3 and 2.1.0 build and test a C
# workspace by remote execution and with the caches over gRPC and HTTP, twice:
# the second time everything is a hit. BuildStream 1.6 pushes an artifact and
# pulls it again. About a minute on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
scripts/need.sh bazel:bazel-bootstrap bst:buildstream npm:npm gcc:gcc \
	/usr/share/bazel/rules/java:bazel-rules-java /usr/share/bazel/rules/proto:bazel-rules-proto \
	/usr/share/bazel/tools/platforms:bazel-platforms /usr/share/bazel/tools/skylib:bazel-skylib

work=$(mktemp -d /tmp/sbx-clients-XXXXXX)
server= grpc= http=
bazels=()
cleanup() {
	for b in "${bazels[@]}"; do
		$b shutdown >/dev/null 2>&1 || true
	done
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	wait
	chmod -R u+w "$work" # Bazel makes things read-only
	rm -rf "$work"
}
trap cleanup EXIT

fail() {
	echo "FAILED: $*" >&2
	[ ! -e "$work/log" ] || tail -n 40 "$work/log" >&2
	[ ! -e "$work/server.log" ] || tail -n 20 "$work/server.log" >&2
	exit 1
}

CGO_ENABLED=0 go build -o "$work/sbx-actiond" ./cmd/sbx-actiond

# serve starts a server of an empty store and finds out where it listens.
serve() {
	[ -z "$server" ] || { kill "$server"; wait "$server" || fail "the server ended with $?"; }
	rm -rf "$work/cache" "$work/server.log" # or the old address would be found
	"$work/sbx-actiond" serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --cache "$work/cache" 2>"$work/server.log" &
	server=$!
	for _ in $(seq 1200); do
		grpc=$(sed -n 's/.*msg=serving address=\([^ ]*\).*/\1/p' "$work/server.log" 2>/dev/null || true)
		http=$(sed -n 's/.*msg="serving HTTP" address=\([^ ]*\).*/\1/p' "$work/server.log" 2>/dev/null || true)
		[ -n "$grpc" ] && [ -n "$http" ] && return # they may have come between the two looks
		sleep 0.1
	done
	fail "the server did not start"
}

# workspace makes a copy for one Bazel: each leaves links in it.
workspace() {
	cp -r integration/reapi/testdata/bazel "$work/$1"
	overrides=()
	for repository in "rules_cc=$work/$1/stubs/rules_cc" "remote_coverage_tools=$work/$1/stubs/coverage" \
		rules_java=/usr/share/bazel/rules/java rules_proto=/usr/share/bazel/rules/proto \
		platforms=/usr/share/bazel/tools/platforms bazel_skylib=/usr/share/bazel/tools/skylib; do
		overrides+=("--override_repository=$repository")
	done
	bazel="$2 --output_user_root=$work/$1-root --max_idle_secs=60 --host_jvm_args=-Xmx512m"
	bazels+=("$bazel")
	cd "$work/$1"
}

# build runs Bazel's tests from clean and wants them to pass, with so many of the
# 13 actions from the cache.
build() {
	local what=$1 hits=$2
	shift 2
	$bazel clean >/dev/null 2>&1
	$bazel "$@" "${overrides[@]}" --noshow_progress --color=no >"$work/log" 2>&1 || fail "$what"
	local summary
	summary=$(grep -o 'INFO: [0-9]* processes.*' "$work/log" | tail -n 1)
	if [ "$hits" = all ]; then
		grep -q '[0-9] remote cache hit' <<<"$summary" || fail "$what: nothing came from the cache: $summary"
		! grep -qE '[0-9] (remote|linux-sandbox|processwrapper-sandbox|local)[,.]' <<<"$summary" || fail "$what: not everything came from the cache: $summary"
	else
		! grep -q '[0-9] remote cache hit' <<<"$summary" || fail "$what: something came from an empty cache: $summary"
	fi
	echo "$what: $summary"
}

execute() { build "$1, remote execution" "$2" test --remote_executor="grpc://$grpc" --spawn_strategy=remote //...; }

serve
workspace bazel4 /usr/bin/bazel
execute "Bazel 4.2.3" none
execute "Bazel 4.2.3" all
# Bazel 4 has no links in what it does not download: not the target "files".
build "Bazel 4.2.3, remote_download_minimal" all test --remote_executor="grpc://$grpc" --spawn_strategy=remote --remote_download_minimal //:greet_test
cd "$top"
serve
cd "$work/bazel4"
build "Bazel 4.2.3, cache over gRPC" none test --remote_cache="grpc://$grpc" //...
build "Bazel 4.2.3, cache over gRPC" all test --remote_cache="grpc://$grpc" //...
cd "$top"
serve
cd "$work/bazel4"
build "Bazel 4.2.3, cache over HTTP" none test --remote_cache="http://$http" //...
build "Bazel 4.2.3, cache over HTTP" all test --remote_cache="http://$http" //...
$bazel shutdown

cd "$work"
for pause in 5 20 0; do
	if npm pack --silent @bazel/bazel-linux_x64@2.1.0 >/dev/null; then break; fi
	sleep $pause
done
[ -f bazel-bazel-linux_x64-2.1.0.tgz ] || fail "npm has no Bazel 2.1.0"
tar xzf bazel-bazel-linux_x64-2.1.0.tgz
chmod +x package/bazel-2.1.0-linux-x86_64
cd "$top"
serve
workspace bazel2 "$work/package/bazel-2.1.0-linux-x86_64"
execute "Bazel 2.1.0" none
execute "Bazel 2.1.0" all
$bazel shutdown
cd "$top"

# BuildStream: push, forget, pull, and the files are the same.
mkdir -p "$work/bst/elements" "$work/bst/files/sub"
cat >"$work/bst/project.conf" <<'END'
name: sbx
element-path: elements
END
cat >"$work/bst/elements/hello.bst" <<'END'
kind: import
sources:
- kind: local
  path: files
END
printf 'hello\n' >"$work/bst/files/a"
head -c 3000000 /dev/urandom >"$work/bst/files/large"
printf '#!/bin/sh\n' >"$work/bst/files/sub/tool"
chmod +x "$work/bst/files/sub/tool"
ln -s a "$work/bst/files/link"
cat >"$work/bst.conf" <<END
sourcedir: $work/bst-cache/sources
builddir: $work/bst-cache/build
artifactdir: $work/bst-cache/artifacts
logdir: $work/bst-cache/logs
artifacts:
  url: http://$grpc
  push: true
END
bst() { (cd "$work/bst" && LC_ALL=C.UTF-8 command bst -c "$work/bst.conf" --no-interactive --no-colors "$@" >"$work/log" 2>&1) || fail "bst $*"; }
bst build hello.bst
grep -q "Pushed artifact" "$work/log" || fail "BuildStream did not push"
rm -rf "$work/bst-cache"
bst pull hello.bst
grep -q "Pulled artifact" "$work/log" || fail "BuildStream did not pull"
bst checkout hello.bst "$work/out"
diff -r --no-dereference "$work/bst/files" "$work/out" || fail "BuildStream got other files back"
echo "BuildStream 1.6: pushed and pulled"
