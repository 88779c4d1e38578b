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

step() { printf '\n== %s\n' "$*"; }

step "what the tests need"
scripts/need.sh gcc:gcc aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu make:make dpkg-source:dpkg-dev \
	bwrap:bubblewrap ccache:ccache setpriv:util-linux script:bsdutils fsck.erofs:erofs-utils git:git busybox:busybox-static bzip2:bzip2 perl:perl \
	ssh-keygen:openssh-client openssl:openssl pgrep:procps xz:xz-utils zstd:zstd \
	umoci:umoci skopeo:skopeo mmdebstrap:mmdebstrap sqfstar:squashfs-tools mke2fs:e2fsprogs cpio:cpio patch:patch clang:clang autoconf:autoconf python3:python3 \
	runc:runc crun:crun runsc:runsc lxc-start:lxc systemd-nspawn:systemd-container firejail:firejail podman:podman dockerd:docker.io proot:proot schroot:schroot /usr/share/bazel/linux-sandbox:bazel-bootstrap protoc:protobuf-compiler pgrep:procps
scripts/need.sh python3:python3 # for what script/suggest observes
scripts/need.sh fakeroot:fakeroot pseudo:pseudo sqlite3:sqlite3 setcap:libcap2-bin qemu-aarch64-static:qemu-user-static # owners, and other machines
scripts/need.sh zsh:zsh fish:fish man:man-db # whose completion is tried, and what reads the pages
NEED_ONLY=1 scripts/need.sh qemu-system-x86_64:qemu-system-x86 /usr/lib/qemu/virtiofsd:qemu-system-common /usr/share/doc/linux-image-cloud-amd64:linux-image-cloud-amd64
scripts/need.sh dot:graphviz # which reads what graph prints
scripts/need.sh chromium:chromium # which looks at the server's pages
command -v go >/dev/null || { echo "Go 1.26 or newer is missing" >&2; exit 1; }
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
GOBIN=$tools go install mvdan.cc/gofumpt@v0.12.0
GOBIN=$tools go install honnef.co/go/tools/cmd/staticcheck@v0.8.2

step "format, vet, staticcheck, fix, tidy"
unformatted=$("$tools/gofumpt" -l .)
[ -z "$unformatted" ] || { echo "gofumpt would change: $unformatted" >&2; exit 1; }
go vet ./...
"$tools/staticcheck" ./...
fixes=$(go fix -diff ./... 2>&1) || { echo "$fixes"; exit 1; }
[ -z "$fixes" ] || { echo "$fixes"; exit 1; }
go mod tidy -diff

step "generated code"
scripts/proto.sh --check

step "cross-builds"
for target in linux/arm64 darwin/arm64 darwin/amd64 freebsd/amd64; do
	GOOS=${target%/*} GOARCH=${target#*/} go vet ./...
	GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/sbx-action
	GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/sbx-actiond
done

step "tests with the race detector, as $(id -un)"
go test -race -timeout 20m ./...
go test -tags purego ./internal/blake3 # without assembly

if [ "$(id -u)" = 0 ]; then
	step "tests as an unprivileged user"
	scripts/unprivileged.sh
fi

step "fuzzing, a few seconds each"
scripts/fuzz.sh 2s

if [ "$(id -u)" = 0 ]; then
	step "docs/backends.md is what the backends do here"
	make -s build
	scripts/backends-doc.sh check
fi

step "real projects"
scripts/real.sh
scripts/suggest.sh
scripts/insight.sh

step "real clients of the server"
scripts/clients.sh

step "BuildStream builds on our bwrap"
scripts/bwrap-client.sh

step "sandboxlib"
scripts/sandboxlib.sh

step "real projects, through the compiler wrapper"
scripts/cc-projects.sh lua zlib jq

step "a system of components, as root and not, with two backends"
scripts/system.sh

step "a real project with each build-system"
scripts/buildsystems.sh
