#!/bin/bash
# Usage: scripts/cc-projects.sh [PROJECT…]
#
# Builds real projects from Debian's sources three times in the same place:
# with the bare compiler, through "sbx-action cc" with an empty cache, and once
# more from the cache. Checks that all three make the same bytes, that the
# project's own tests pass on what came from the cache, and that at least 99 %
# of what could be cached came from there; prints how long each took.
#
# Projects: lua zlib jq zstd sqlite re2 (default: the first three, which take two
# minutes; all of them take a quarter of an hour).
set -euo pipefail
cd "$(dirname "$0")/.."
projects=${*:-lua zlib jq}
work=$(mktemp -d /tmp/sbx-ccp-XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
CGO_ENABLED=0 go build -trimpath -ldflags '-E sbx_front' -o "$work/sbx-action" ./cmd/sbx-action
export SBX_CACHE=$work/cache SBX_CC_CACHE_LINKS=1
jobs=$(nproc)
W="$work/sbx-action cc"

needs() {
	case $1 in
	lua | zlib) scripts/need.sh gcc:gcc make:make dpkg-source:dpkg-dev ;;
	jq) scripts/need.sh autoreconf:autoconf automake:automake libtoolize:libtool /usr/include/oniguruma.h:libonig-dev ;;
	zstd) scripts/need.sh gcc:gcc make:make ;;
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

# configure and build are run in the source directory; $1 is the prefix of
# compilers, or empty.
configure() {
	case $2 in
	zlib) CC="$1 gcc" AR="$1 ar" RANLIB="$1 ranlib" ./configure --static ;;
	jq) { [ -f configure ] || autoreconf -fi; } && CC="$1 gcc" AR="$1 ar" ./configure --disable-maintainer-mode --disable-docs --enable-static --disable-shared ;;
	sqlite) { [ -f configure ] || autoreconf -fi; } && CC="$1 gcc" ./configure --disable-tcl --disable-shared ;;
	re2) # Its tables are made of Debian's Unicode data, as Debian does.
		sed -i 's|^_UNICODE_DIR = .*|_UNICODE_DIR = "/usr/share/unicode"|' re2/unicode.py
		PATH=/usr/bin:$PATH make REBUILD_TABLES=1 re2/perl_groups.cc re2/unicode_casefold.cc re2/unicode_groups.cc
		mkdir -p b && cd b && cmake -G Ninja -DCMAKE_BUILD_TYPE=Release -DRE2_BUILD_TESTING=ON ${1:+-DCMAKE_CXX_COMPILER_LAUNCHER="${1/ /;}" -DCMAKE_CXX_LINKER_LAUNCHER="${1/ /;}"} .. ;;
	esac
}
build() {
	case $2 in
	lua) make -j"$jobs" linux CC="$1 gcc -std=gnu99" AR="$1 ar rcu" RANLIB="$1 ranlib" ;;
	zlib) make -j"$jobs" ;;
	jq) make -j"$jobs" ;;
	zstd) make -j"$jobs" zstd CC="$1 gcc" AR="$1 ar" ;;
	sqlite) make -j"$jobs" sqlite3 ;;
	re2) ninja -C b -j"$jobs" ;;
	esac
}
artifacts() {
	case $1 in
	lua) echo src/lua src/luac src/liblua.a ;;
	zlib) echo libz.a example minigzip ;;
	jq) echo jq .libs/libjq.a ;;
	zstd) echo programs/zstd ;;
	sqlite) echo sqlite3 ;;
	zstd) echo libzstd ;;
	re2) (find b -name '*.o' && echo b/libre2.a) | sort ;;
	esac
}
check() {
	case $1 in
	lua) make test && [ "$(src/lua -e 'print(6*7)')" = 42 ] ;;
	zlib) make test ;;
	jq) NO_VALGRIND=1 make check ;;
	zstd) make -C tests datagen zstreamtest && tests/datagen -g2000000 | programs/zstd -19 | programs/zstd -d | cmp - <(tests/datagen -g2000000) && tests/zstreamtest -T5s ;;
	sqlite) [ "$(./sqlite3 :memory: 'create table t(a); insert into t values(41); select a+1 from t; pragma integrity_check;' | tr '\n' ' ')" = "42 ok " ] ;;
	re2) (cd b && ctest --output-on-failure -R 'charclass|compile|filtered|mimics|parse|possible|prefilter|regexp|search|simplify|string|re2_test|re2_arg') ;;
	esac
}

round() { # round PROJECT KIND PREFIX
	local dir=$work/$1 log=$work/log-$1-$2
	rm -rf "$dir"
	cp -r "$work/source/$(source_of "$1")" "$dir"
	(cd "$dir" && configure "$3" "$1") >"$log" 2>&1 || { tail -50 "$log" >&2; echo "$1, $2: configure failed" >&2; exit 1; }
	[ "$2" = plain ] || $W --zero
	local start=$(date +%s%N)
	(cd "$dir" && build "$3" "$1") >>"$log" 2>&1 || { tail -50 "$log" >&2; echo "$1, $2: the build failed" >&2; exit 1; }
	seconds=$(awk -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.2f", ns / 1e9 }')
	(cd "$dir" && sha256sum $(artifacts "$1")) >"$work/sums-$1-$2"
}

for p in $projects; do
	needs "$p"
	scripts/debian-source.sh "$(source_of "$p")" "$work/source" >/dev/null
	round "$p" plain "" && plain=$seconds
	round "$p" cold "$W" && cold=$seconds
	round "$p" hot "$W" && hot=$seconds
	for kind in cold hot; do
		diff "$work/sums-$p-plain" "$work/sums-$p-$kind" >&2 || { echo "$p: the $kind build made other bytes than the plain one" >&2; exit 1; }
	done
	$W --stats --json >"$work/stats"
	hits=$(sed -n 's/.*"hits":\([0-9]*\).*/\1/p' "$work/stats") misses=$(sed -n 's/.*"misses":\([0-9]*\).*/\1/p' "$work/stats")
	(cd "$work/$p" && check "$p") >"$work/log-$p-check" 2>&1 || { tail -50 "$work/log-$p-check" >&2; echo "$p: its own tests fail" >&2; exit 1; }
	echo "$p: plain $plain s, cold $cold s, hot $hot s; hot: $hits hits, $misses misses; same bytes, tests pass"
	if [ "$hits" -lt $((99 * (hits + misses) / 100)) ] || [ "$hits" = 0 ]; then
		$W --stats >&2
		echo "$p: fewer than 99 % were hits" >&2
		exit 1
	fi
done
