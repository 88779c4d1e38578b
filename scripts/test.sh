#!/bin/bash
# Runs every test: installs what they need, then format, vet, staticcheck, the
# race detector, short fuzzing, the scripts as root and as an unprivileged
# user, the cross-builds, real projects and real clients. About half an hour on
# two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
# Who starts us in the background may have us ignore Ctrl-C, and with us all that
# the tests start.
[ -n "${SBX_TEST_SIGNALS:-}" ] || SBX_TEST_SIGNALS=1 exec env --default-signal=INT,QUIT scripts/test.sh

tools=$(mktemp -d)
export SBX_TEST_SOURCES=$tools/sources # Debian's, fetched once
# A program with the race detector waits a second at its end, by default: the tests
# start hundreds.
export GORACE=atexit_sleep_ms=20
# What is tested is a call; tests of sessions that begin by themselves clear it, and real
# projects are built as users build them.
export SBX_WARM=off
# One way of building, that of 'make build', for all but the race detector: what Go
# has compiled once is used by each step after it.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath"
installing= now= since=0
declare -A lanes=()
step() {
	over
	now=$* since=$SECONDS
	printf '\n== %s\n' "$now"
}
over() {
	[ -z "$now" ] || printf '%5d s  %s\n' $((SECONDS - since)) "$now" >>"$tools/took"
	now=
}
# whole STEP COMMAND…: a step of a lane. What it says is printed when it is over.
whole() {
	local name=$1 log=$tools/lane.$BASHPID since=$SECONDS code=0
	shift
	"$@" >"$log" 2>&1 || code=$?
	printf '%5d s  %s, beside others\n' $((SECONDS - since)) "$name" >>"$tools/took"
	printf '\n== %s\n%s\n' "$name" "$(<"$log")"
	[ "$code" = 0 ] || printf 'FAILED: %s\n' "$name"
	return "$code"
}
# beside FUNCTION…: runs these lanes beside each other, since one waits for the network,
# for a server or for the one process of a build while another one works. Each is a
# process group, which report ends where another lane has failed.
beside() {
	local lane pid code
	step "beside each other: $*"
	set -m
	for lane; do
		"$lane" </dev/null &
		lanes[$!]=$lane
	done
	set +m
	while [ ${#lanes[@]} -gt 0 ]; do
		pid= code=0
		wait -n -p pid "${!lanes[@]}" || code=$?
		unset "lanes[$pid]"
		[ "$code" = 0 ] || exit "$code"
	done
}
# tested COMMAND…: runs Go's tests; what fails is printed once more by report.
tested() { "$@" 2>&1 | tee "$tools/tested"; }
# At the end, and where it fails: how long each step took, and what failed.
report() {
	local code=$? last=$now pid
	[ -z "$installing" ] || wait "$installing" || true # or it would leave apt's locks
	for pid in "${!lanes[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
	wait
	over
	printf '\n== how long it took\n'
	cat "$tools/took"
	printf '%5d s  in all\n' "$SECONDS"
	if [ "$code" != 0 ]; then
		[ ! -e "$tools/tested" ] || scripts/failed.sh "$tools/tested" >&2
		printf 'FAILED: %s\n' "$last" >&2
	fi
	chmod -R u+w "$tools"
	rm -rf "$tools"
	exit "$code"
}
trap report EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The module proxy has bad moments, too.
retry() {
	local pause
	for pause in 5 20 0; do
		if "$@"; then return 0; fi
		sleep $pause
	done
	return 1
}

# What the tests need. All is asked for here, while what needs nothing but Go is
# looked at; the scripts below ask again for what they need, for who runs one alone.
install_all() {
	scripts/need.sh gcc:gcc g++:g++ /usr/include/stdio.h:libc6-dev aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu \
		/usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross make:make dpkg-source:dpkg-dev \
		bwrap:bubblewrap ccache:ccache setpriv:util-linux script:bsdutils fsck.erofs:erofs-utils git:git busybox:busybox-static bzip2:bzip2 perl:perl \
		ssh-keygen:openssh-client openssl:openssl pgrep:procps xz:xz-utils zstd:zstd \
		umoci:umoci skopeo:skopeo mmdebstrap:mmdebstrap sqfstar:squashfs-tools mke2fs:e2fsprogs cpio:cpio patch:patch clang:clang autoconf:autoconf python3:python3 \
		runc:runc crun:crun runsc:runsc lxc-start:lxc systemd-nspawn:systemd-container firejail:firejail podman:podman dockerd:docker.io proot:proot schroot:schroot /usr/share/bazel/linux-sandbox:bazel-bootstrap protoc:protobuf-compiler \
		fakeroot:fakeroot pseudo:pseudo sqlite3:sqlite3 setcap:libcap2-bin qemu-aarch64-static:qemu-user-static \
		zsh:zsh fish:fish man:man-db dot:graphviz chromium:chromium \
		bazel:bazel-bootstrap /usr/share/bazel/rules/java:bazel-rules-java /usr/share/bazel/rules/proto:bazel-rules-proto \
		/usr/share/bazel/tools/platforms:bazel-platforms /usr/share/bazel/tools/skylib:bazel-skylib bst:buildstream npm:npm autoreconf:autoconf automake:automake libtoolize:libtool /usr/include/oniguruma.h:libonig-dev \
		cmake:cmake ninja:ninja-build tclsh:tcl bison:bison setfattr:attr /usr/share/unicode/UnicodeData.txt:unicode-data /usr/lib/python3/dist-packages/six.py:python3-six
	NEED_ONLY=1 scripts/need.sh qemu-system-x86_64:qemu-system-x86 /usr/lib/qemu/virtiofsd:qemu-system-common /usr/share/doc/linux-image-cloud-amd64:linux-image-cloud-amd64
}

step "format, vet, staticcheck, fix, tidy"
command -v go >/dev/null || { echo "Go 1.26 or newer is missing" >&2; exit 1; }
cc= # not one that is half there
if command -v gcc >/dev/null && [ -e /usr/include/stdio.h ]; then cc=yes; fi
install_all >"$tools/installed" 2>&1 &
installing=$!
retry go mod download
GOBIN=$tools retry go install mvdan.cc/gofumpt@v0.12.0
GOBIN=$tools retry go install honnef.co/go/tools/cmd/staticcheck@v0.8.2
unformatted=$("$tools/gofumpt" -l .)
[ -z "$unformatted" ] || { echo "gofumpt would change: $unformatted" >&2; exit 1; }
go vet ./...
"$tools/staticcheck" ./...
fixes=$(go fix -diff ./... 2>&1) || { echo "$fixes"; exit 1; }
[ -z "$fixes" ] || { echo "$fixes"; exit 1; }
go mod tidy -diff

step "cross-builds"
for target in linux/arm64 darwin/arm64; do
	GOOS=${target%/*} GOARCH=${target#*/} go vet ./...
	GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/sbx-action
	GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/sbx-actiond
done
# Code of these alone there is none: what may be wrong in them is a type.
go run ./internal/typecheck darwin/amd64 freebsd/amd64

# While packages may still be coming. Where a C compiler is one of them, that is later.
if [ -n "$cc" ]; then
	step "compiling the tests"
	CGO_ENABLED=1 go list -race -test -deps -export ./... >/dev/null
fi

step "waiting for what the tests need"
code=0
wait "$installing" || code=$?
installing=
cat "$tools/installed"
[ "$code" = 0 ] || exit 1

step "generated code"
scripts/proto.sh --check

# Three packages at a time on two cores: many a test waits.
step "tests with the race detector, as $(id -un)"
# Without vet, which has seen it all.
tested env CGO_ENABLED=1 go test -race -vet=off -p 3 -timeout 40m ./...
tested go test -vet=off -tags purego ./internal/blake3 # without assembly
rm "$tools/tested"

if [ "$(id -u)" = 0 ]; then
	step "tests as an unprivileged user"
	tested scripts/unprivileged.sh
	rm "$tools/tested"
fi

others() {
	whole "a real project with each build-system" scripts/buildsystems.sh
	whole "real clients of the server" scripts/clients.sh
	if [ "$(id -u)" = 0 ]; then
		whole "docs/backends.md is what the backends do here" bash -ec 'make -s build; scripts/backends-doc.sh check'
	fi
	whole "fuzzing, a few seconds each" scripts/fuzz.sh 2s
	whole "BuildStream builds on our bwrap" scripts/bwrap-client.sh
	whole "sandboxlib" scripts/sandboxlib.sh
}
projects() {
	whole "a system of components, as root and not, with two backends" scripts/system.sh
	whole "real projects, through the compiler wrapper" env -u SBX_WARM scripts/cc-projects.sh --at-once 2
	whole "real projects" env -u SBX_WARM scripts/real.sh
	whole "their inputs" scripts/suggest.sh
	whole "what is known of their runs" scripts/insight.sh
}
beside others projects
