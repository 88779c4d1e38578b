#!/bin/sh
# Makes the .pb.go files of integration/reapi/worker/proto from the .proto files
# beside them. With --check it makes them elsewhere and compares: CI runs that.
# Needs protoc (Debian: protobuf-compiler); its plug-ins come from the module
# proxy.
set -eu
cd "$(dirname "$0")/.."
scripts/need.sh protoc:protobuf-compiler
here=integration/reapi/worker/proto
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for plugin in google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1 mvdan.cc/gofumpt@v0.12.0; do
	# The module proxy has bad moments.
	for pause in 5 20 0; do
		if GOBIN=$work go install $plugin; then break; fi
		[ $pause != 0 ] || exit 1
		sleep $pause
	done
done
go run ./$here/depset "$work/deps.binpb"
for f in $here/*/*.proto; do
	PATH="$work:$PATH" protoc -I . --descriptor_set_in="$work/deps.binpb" \
		--go_out="$work" --go_opt=paths=source_relative \
		--go-grpc_out="$work" --go-grpc_opt=paths=source_relative "$f"
done
# protoc's own version is in a comment: another one makes the same code.
find "$work/$here" -name '*.pb.go' -exec sed -i '\|^// *-*[[:space:]]*protoc[[:space:]]*v|d' {} +
find "$work/$here" -name '*.pb.go' -exec "$work/gofumpt" -w {} +
if [ "${1-}" = --check ]; then
	for f in $here/*/*.pb.go; do
		cmp "$f" "$work/$f" || { echo "$f is not what scripts/proto.sh makes: run it" >&2; exit 1; }
	done
	exit 0
fi
(cd "$work" && find $here -name '*.pb.go') | while read -r f; do cp "$work/$f" "$f"; done
