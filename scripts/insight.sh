#!/bin/bash
# Asks everything that can be asked of a build, on a real one: Lua of Debian's
# sources, built by its action file; as root where we are root, and as an
# unprivileged user.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d /tmp/sbx-insight-XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/bin"
CGO_ENABLED=0 go build -trimpath -o "$work/bin/" ./cmd/sbx-action ./cmd/sbx-actiond
cp examples/lua/build.yaml "$work"
lua=$(scripts/debian-source.sh lua5.4 "$work/source")

cat >"$work/steps" <<'STEPS'
set -euo pipefail
# has TEXT COMMAND…: the command's output, of which the exit code is not looked at, has a line that matches TEXT.
has() {
	local want=$1
	shift
	"$@" >"$HOME/said" 2>&1 || true
	grep -Eq -- "$want" "$HOME/said" || {
		echo "'$*' did not say '$want' but:" >&2
		cat "$HOME/said" >&2
		exit 1
	}
}
compile=(-o lmathlib.o -- gcc -O2 -c lmathlib.c -o lmathlib.o)

has '38 run ' sbx-action run -f "$1" --workspace . --trace "$HOME/trace.json"
has '"traceEvents"' cat "$HOME/trace.json"
echo 'int added;' >>lmathlib.c
has '33 hit, 5 run' sbx-action run -f "$1" --workspace .
has 'input lmathlib.c changed: 1 line added' sbx-action why lmathlib.o
has 'input liblua.a changed: [0-9]+ bytes became' sbx-action why lua
has 'input lmathlib.c changed: 1 line added' sbx-action diff lmathlib.o~1 lmathlib.o
has '^76 runs, 33 hits ' sbx-action history
has 'command +gcc -O2 .* lmathlib.c$' sbx-action show lmathlib.o
has ' lprefix.h$' sbx-action ls lmathlib.o
sbx-action cat lua | cmp - lua

has '^-i luaconf.h$' sbx-action run --suggest-inputs "${compile[@]}"
has 'never read: lgc.h$' sbx-action run --unused -i '*.h' -i lmathlib.c "${compile[@]}"
sbx-action run --prune -i '*.h' -i lmathlib.c -o pruned.o -- gcc -O1 -c lmathlib.c -o pruned.o
echo '/* more */' >>lgc.h
sbx-action run --prune --log "$HOME/log" -i '*.h' -i lmathlib.c -o pruned.o -- gcc -O1 -c lmathlib.c -o pruned.o
has '^hit ' cat "$HOME/log"

has 'reproducible: one more run gave the same' sbx-action run --verify -i '*.h' -i lmathlib.c "${compile[@]}"
echo 'const char *when = __DATE__ __TIME__;' >when.c
has 'not reproducible: x.a differs at .* in member when.o .*: when the time differs' \
	sbx-action run --verify -i when.c -i lctype.o -o x.a -- sh -c 'unset SOURCE_DATE_EPOCH; gcc -c when.c; ar rcD x.a when.o lctype.o'

has '^added +lmathlib.o$' sbx-action run --changes -i '*.h' -i lmathlib.c "${compile[@]}"
has '^lmathlib.c$' sbx-action enter lmathlib.o -- ls
sbx-action export lua "$HOME/lua.tar"
has 'it gave the same as before' env SBX_CACHE="$HOME/elsewhere" sbx-action rerun "$HOME/lua.tar"
ssh-keygen -q -t ed25519 -N '' -f "$HOME/key"
sbx-action attest --key "$HOME/key" -o "$HOME/lua.json" lua
has '^lua: as signed by' sbx-action attest --verify --key "$HOME/key.pub" "$HOME/lua.json"
STEPS

one() {
	local user=$1 dir=$work/$1 as=()
	mkdir -p "$dir"
	cp -r "$lua/src" "$dir/src"
	if [ "$user" != "$(id -u)" ]; then
		chown -R "$user:$user" "$dir"
		as=(setpriv "--reuid=$user" "--regid=$user" --clear-groups)
	fi
	(cd "$dir/src" && "${as[@]}" env HOME="$dir" SBX_CACHE="$dir/cache" PATH="$work/bin:$PATH" bash "$work/steps" "$work/build.yaml")
	echo "user $user: every question was answered"
}
one "$(id -u)"
[ "$(id -u)" != 0 ] || one 65534
