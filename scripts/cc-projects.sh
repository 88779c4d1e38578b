#!/bin/bash
# Usage: scripts/cc-projects.sh [--at-once N] [PROJECT…]
#
# Builds real projects from Debian's sources three times in the same place:
# with the bare compiler, through "sbx-action cc" with an empty cache, and once
# more from the cache. Checks that all three make the same bytes, that the
# project's own tests pass on what came from the cache, and that at least 99 %
# of what could be cached came from there; prints how long each took. With
# --at-once, so many projects are built beside each other, which is sooner done
# and makes the times longer; the end of each log of those that failed is printed
# last.
#
# Projects: re2 sqlite zstd jq lua zlib (default: all, long ones first).
set -euo pipefail
cd "$(dirname "$0")/.."
at_once=1
if [ "${1:-}" = --at-once ]; then
	at_once=$2
	shift 2
fi
projects=${*:-re2 sqlite zstd jq lua zlib}
work=$(mktemp -d /tmp/sbx-ccp-XXXXXX)
declare -A running=()
cleanup() {
	for pid in "${!running[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work"
CGO_ENABLED=0 go build -trimpath -ldflags '-E sbx_front' -o "$work/sbx-action" ./cmd/sbx-action
export SBX_CC_CACHE_LINKS=1
jobs=$(nproc)
W="$work/sbx-action cc"
# The tests of re2 but for those that look at everything there is.
re2_tests="charclass_test compile_test filtered_re2_test mimics_pcre_test parse_test possible_match_test re2_test re2_arg_test regexp_test required_prefix_test search_test set_test simplify_test string_generator_test"

needs() {
	case $1 in
	lua | zlib) scripts/need.sh gcc:gcc make:make dpkg-source:dpkg-dev ;;
	jq) scripts/need.sh autoreconf:autoconf automake:automake libtoolize:libtool /usr/include/oniguruma.h:libonig-dev ;;
	zstd) scripts/need.sh gcc:gcc make:make /usr/bin/python3:python3 ;;
	sqlite) scripts/need.sh autoreconf:autoconf libtoolize:libtool tclsh:tcl ;;
	re2) scripts/need.sh g++:g++ cmake:cmake ninja:ninja-build perl:perl /usr/share/unicode/UnicodeData.txt:unicode-data /usr/lib/python3/dist-packages/six.py:python3-six ;;
	esac >&2
}

source_of() {
	case $1 in
	lua) echo lua5.4 ;;
	sqlite) echo sqlite3 ;;
	zstd) echo libzstd ;;
	*) echo "$1" ;;
	esac
}

# prepare, configure, build and check are run in the source directory; prepare
# once, the others of each copy. $1 is the prefix of compilers, or empty.
prepare() {
	case $1 in
	jq | sqlite) [ -f configure ] || autoreconf -fi ;;
	re2) # Its tables are made of Debian's Unicode data, as Debian does.
		sed -i 's|^_UNICODE_DIR = .*|_UNICODE_DIR = "/usr/share/unicode"|' re2/unicode.py
		PATH=/usr/bin:$PATH make REBUILD_TABLES=1 re2/perl_groups.cc re2/unicode_casefold.cc re2/unicode_groups.cc
		;;
	esac
}
configure() {
	case $2 in
	zlib) CC="$1 gcc" AR="$1 ar" RANLIB="$1 ranlib" ./configure --static ;;
	jq) CC="$1 gcc" AR="$1 ar" ./configure --disable-maintainer-mode --disable-docs --enable-static --disable-shared ;;
	sqlite) CC="$1 gcc" ./configure --disable-tcl --disable-shared ;;
	re2) mkdir -p b && cd b && cmake -G Ninja -DCMAKE_BUILD_TYPE=Release -DRE2_BUILD_TESTING=ON ${1:+-DCMAKE_CXX_COMPILER_LAUNCHER="${1/ /;}" -DCMAKE_CXX_LINKER_LAUNCHER="${1/ /;}"} .. ;;
	esac
}
build() {
	case $2 in
	lua) make -j"$jobs" linux CC="$1 gcc -std=gnu99" AR="$1 ar rcu" RANLIB="$1 ranlib" ;;
	zlib) make -j"$jobs" ;;
	jq) make -j"$jobs" ;;
	zstd) make -j"$jobs" zstd CC="$1 gcc" AR="$1 ar" ;;
	sqlite) make -j"$jobs" sqlite3 ;;
	re2) ninja -C b -j"$jobs" re2 $re2_tests ;;
	esac
}
artifacts() {
	case $1 in
	lua) echo src/lua src/luac src/liblua.a ;;
	zlib) echo libz.a example minigzip ;;
	jq) echo jq .libs/libjq.a ;;
	zstd) echo programs/zstd ;;
	sqlite) echo sqlite3 ;;
	re2) (find b -name '*.o' && echo b/libre2.a) | sort ;;
	esac
}
check() {
	case $1 in
	lua) make test && [ "$(src/lua -e 'print(6*7)')" = 42 ] ;;
	zlib) make test ;;
	jq) make check NO_VALGRIND=1 ;;
	zstd) make -C tests datagen && cd tests && /usr/bin/python3 ./cli-tests/run.py --zstd=../programs/zstd --datagen=./datagen ;;
	# Its program that replays what fuzzing found is made by our compilers, too, once
	# from the cache, and is sooner there with -O1.
	sqlite) [ "$(./sqlite3 :memory: 'create table t(a); insert into t values(41); select a+1 from t; pragma integrity_check;' | tr '\n' ' ')" = "42 ok " ] &&
		make CFLAGS=-O1 fuzzcheck && mv fuzzcheck cold && make CFLAGS=-O1 fuzzcheck && cmp fuzzcheck cold && ./fuzzcheck test/fuzzdata?.db ;;
	re2) (cd b && ctest --output-on-failure -R "^(${re2_tests// /|})\$") ;;
	esac
}

round() { # round PROJECT KIND PREFIX: says in $seconds how long the build took
	local dir=$work/$1 log=$work/log-$1
	rm -rf "$dir"
	cp -a "$work/prepared/$1" "$dir"
	echo "== $1, $2" >>"$log"
	(cd "$dir" && configure "$3" "$1") >>"$log" 2>&1 || { echo "$1, $2: configure failed"; return 1; }
	[ "$2" = plain ] || $W --zero >>"$log" 2>&1
	local start=$(date +%s%N)
	(cd "$dir" && build "$3" "$1") >>"$log" 2>&1 || { echo "$1, $2: the build failed"; return 1; }
	seconds=$(awk -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.2f", ns / 1e9 }')
	(cd "$dir" && sha256sum $(artifacts "$1")) >"$work/sums-$1-$2" 2>>"$log" || { echo "$1, $2: the build did not make what it should"; return 1; }
	[ "$2" = plain ] || $W --stats >>"$log"
}

# project NAME does all for one and prints a line, which says what failed where
# something did.
project() {
	local p=$1 begun=$SECONDS plain cold hot hits misses kind log=$work/log-$1
	export SBX_CACHE=$work/cache-$p
	mkdir -p "$work/prepared"
	cp -a "$work/source/$(source_of "$p")" "$work/prepared/$p"
	(cd "$work/prepared/$p" && prepare "$p") >"$log" 2>&1 || { echo "$p: its sources cannot be prepared"; return 1; }
	round "$p" plain "" || return 1
	plain=$seconds
	round "$p" cold "$W" || return 1
	cold=$seconds
	round "$p" hot "$W" || return 1
	hot=$seconds
	for kind in cold hot; do
		diff "$work/sums-$p-plain" "$work/sums-$p-$kind" >>"$log" || { echo "$p: the $kind build made other bytes than the plain one"; return 1; }
	done
	$W --stats --json >"$work/stats-$p"
	hits=$(sed -n 's/.*"hits":\([0-9]*\).*/\1/p' "$work/stats-$p") misses=$(sed -n 's/.*"misses":\([0-9]*\).*/\1/p' "$work/stats-$p")
	if [ "$hits" = 0 ] || [ $((100 * hits)) -lt $((99 * (hits + misses))) ]; then
		echo "$p: $hits hits and $misses misses: fewer than 99 % were hits"
		return 1
	fi
	echo "== $p, its own tests" >>"$log"
	(cd "$work/$p" && check "$p") >>"$log" 2>&1 || { echo "$p: its own tests fail"; return 1; }
	echo "$p: plain $plain s, cold $cold s, hot $hot s; hot: $hits hits, $misses misses; same bytes, tests pass; $((SECONDS - begun)) s in all"
}

for p in $projects; do
	needs "$p"
	scripts/debian-source.sh "$(source_of "$p")" "$work/source" >/dev/null
done
# Each has a process group of its own, which ends with us.
set -m
failed=
over() { # waits for one of those that run
	local pid=
	wait -n -p pid "${!running[@]}" || failed="$failed ${running[$pid]}"
	unset "running[$pid]"
}
for p in $projects; do
	[ ${#running[@]} -lt "$at_once" ] || over
	[ -z "$failed" ] || break
	project "$p" </dev/null &
	running[$!]=$p
done
while [ ${#running[@]} -gt 0 ]; do over; done
[ -z "$failed" ] || {
	for p in $failed; do
		echo "-- the end of the log of $p:" >&2
		tail -n 40 "$work/log-$p" >&2
	done
	echo "FAILED:$failed" >&2
	exit 1
}
