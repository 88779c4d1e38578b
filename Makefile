# make demo   builds Lua in sandboxes, then from the cache; shows what it does
# make test   installs what the tests need, and runs all of them
# make check  format, vet, build and the short tests of sbx-action, for a working loop
# make bench  measures against the peers and prints ratios
# make cc-projects  builds six projects through the compiler wrapper
# make cc-bench     measures the compiler wrapper against ccache
# make corpus       builds fifteen components, beside the same by hand
# make helper rebuilds the sandbox's helper program, and the front, from C
SHELL := /bin/bash
GO ?= go
BIN := $(CURDIR)/bin
FRONT = $(if $(filter linux/amd64 linux/arm64,$(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH)),-E sbx_front)

# The flags of 'make build', for other commands of Go: with others it would compile
# everything once more.
AS_BUILT = CGO_ENABLED=0 GOFLAGS='$(shell $(GO) env GOFLAGS) -trimpath'
# For commands that only compile, which take a fifth less of the processors so.
ROOMY := GOGC=off GOMEMLIMIT=512MiB
# What 'make check' tests: the packages that sbx-action consists of. What only
# sbx-actiond has, and the sandboxes that are others' programs, are left to 'make test'.
CHECKED = ./internal/archtest ./backends/native ./backends/landlock ./backends/foreign \
	$$($(GO) list -deps ./cmd/sbx-action | grep "^$$($(GO) list -m)/" | grep -v /backends/)

.PHONY: build demo test check bench cc-projects cc-bench corpus lint fuzz cross helper clean tools user-test race

build: $(BIN)/sbx-action $(BIN)/sbx-actiond

$(BIN)/sbx-action $(BIN)/sbx-actiond: FORCE
	@command -v $(GO) >/dev/null || { echo "make: Go is missing: install Go 1.26 or newer from your distribution or go.dev" >&2; exit 1; }
	@mkdir -p $(BIN)/linked
	@# A static program starts 0.5 ms faster, and runs in roots without libraries.
	@# Hits are answered before Go starts, where there is a front: see internal/front.
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(if $(filter sbx-action,$(@F)),$(FRONT))' -o $(BIN)/linked/$(@F) ./cmd/$(@F)
	@# A copy starts faster, and each miss takes 0.1 ms less: what the linker has written
	@# through a mapping, or cp within a file system, is in the page cache in pieces of a
	@# page. Written 256 KiB at a time it is mapped in 33 page faults, not 96; with more at
	@# a time hits, which use a few pages only, take longer.
	@cmp -s $(BIN)/linked/$(@F) $@ || { dd if=$(BIN)/linked/$(@F) of=$@.new bs=256k status=none && chmod +x $@.new && mv -f $@.new $@; }
.PHONY: FORCE
FORCE:

demo: build
	@scripts/need.sh gcc:gcc make:make dpkg-source:dpkg-dev
	@scripts/demo.sh

test:
	@scripts/test.sh

check:
	@scripts/need.sh zsh:zsh fish:fish man:man-db dot:graphviz
	@scripts/need.sh gcc:gcc bwrap:bubblewrap busybox:busybox-static perl:perl fsck.erofs:erofs-utils ssh-keygen:openssh-client openssl:openssl pgrep:procps \
		bzip2:bzip2 zstd:zstd xz:xz-utils skopeo:skopeo clang:clang python3:python3
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt would change:" $$unformatted >&2; exit 1; }
	$(ROOMY) $(MAKE) build
	$(ROOMY) $(AS_BUILT) $(GO) vet ./...
	@$(ROOMY) $(AS_BUILT) $(GO) list -test -export $(CHECKED) >/dev/null
	$(AS_BUILT) SBX_WARM=off SBX_TEST_COMMAND=$(BIN)/sbx-action SBX_TEST_ACTIOND=$(BIN)/sbx-actiond $(GO) test -short -vet=off $(CHECKED)

bench: build
	@scripts/need.sh ccache:ccache bwrap:bubblewrap gcc:gcc
	$(GO) run ./bench

cc-projects:
	@scripts/cc-projects.sh

corpus:
	@scripts/need.sh mmdebstrap:mmdebstrap bwrap:bubblewrap dpkg-source:dpkg-dev
	@scripts/corpus.sh $(CURDIR)/corpus

cc-bench: build
	@scripts/cc-bench.sh

helper:
	internal/helper/build.sh
	internal/front/build.sh

clean:
	rm -rf $(BIN)
