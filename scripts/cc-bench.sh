#!/bin/bash
# Measures "sbx-action cc" against ccache, in turn and in one run: whole processes
# that are hits, and whole builds that are (make -j2, without what make takes to
# find nothing to do); then what a miss costs against the bare compiler, in CPU
# seconds. Prints the smallest and the middle values, and the ratios of both.
# BENCH_DIR is where the files are: on the file system that is to be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/need.sh ccache:ccache gcc:gcc make:make dpkg-source:dpkg-dev python3:python3
work=$(mktemp -d "${BENCH_DIR:-/tmp}/sbx-ccb-XXXXXX")
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/sbx-action" ./cmd/sbx-action
for p in lua5.4 zlib redis; do
	scripts/debian-source.sh $p "$work/source" >/dev/null
	cp -r "$work/source/$p" "$work/$p"
done
(cd "$work/zlib" && ./configure --static >/dev/null)
make -s -C "$work/redis/deps" hiredis linenoise lua hdr_histogram >/dev/null 2>&1
(cd "$work/redis/src" && sh mkreleasehdr.sh >/dev/null)
export SBX_CACHE=$work/cache CCACHE_DIR=$work/ccache SBX_CC_CACHE_LINKS=1
python3 - "$work" <<'EOF'
import os, resource, statistics, subprocess, sys, time
work = sys.argv[1]
sbx = [work + "/sbx-action", "cc"]
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def wall(args, cwd, env=None):
    start = time.perf_counter()
    subprocess.run(args, cwd=cwd, env={**os.environ, **(env or {})}, check=True, **quiet)
    return 1000 * (time.perf_counter() - start)

def cpu(args, cwd):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(args, cwd=cwd, check=True, **quiet)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start

def compare(name, ours, theirs, n, minus=0.0):
    a, b = [], []
    for _ in range(n):
        a.append(ours() - minus)
        b.append(theirs() - minus)
    print("%-44s ours %7.2f (%.2f)  ccache %7.2f (%.2f)  ratio %.2f (%.2f)" % (
        name, statistics.median(a), min(a), statistics.median(b), min(b),
        statistics.median(a) / statistics.median(b), min(a) / min(b)))

print("hits, one process, ms: the middle (the smallest)")
for name, cwd, call in [
    ("lua, lvm.c", "lua5.4/src", "gcc -std=gnu99 -O2 -Wall -Wextra -DLUA_COMPAT_5_3 -DLUA_USE_LINUX -c lvm.c -o lvm.o"),
    ("zlib, deflate.c", "zlib", "gcc -O3 -D_LARGEFILE64_SOURCE=1 -DHAVE_HIDDEN -c deflate.c -o deflate.o"),
    ("redis, server.c", "redis/src", "gcc -pedantic -DREDIS_STATIC= -std=c11 -Wall -W -Wno-missing-field-initializers -O2 -g -ggdb"
     " -I../deps/hiredis -I../deps/linenoise -I../deps/lua/src -I../deps/hdr_histogram -MMD -o server.o -c server.c"),
]:
    cwd = work + "/" + cwd
    for mode, env in [("direct", {}), ("depend", {"CCACHE_DEPEND": "1", "CCACHE_DIR": work + "/ccache-depend"})]:
        args = call.split() if mode == "direct" or "-MMD" in call else call.split() + ["-MMD"]
        for _ in range(4):
            wall(sbx + args, cwd)
            wall(["ccache"] + args, cwd, env)
        compare("%s, against %s" % (name, mode), lambda: wall(sbx + args, cwd), lambda: wall(["ccache"] + args, cwd, env), 60)

print("hits, make -j2 of all, ms, net of a make with nothing to do")
def project(name, cwd, make, clean):
    cwd = work + "/" + cwd
    def build(prefix):
        subprocess.run(clean, cwd=cwd, check=True, shell=True, **quiet)
        return wall(make(prefix), cwd)
    ours, theirs = " ".join(sbx) + " ", "ccache "
    for p in (ours, theirs, ours, theirs):
        build(p)
    idle = min(wall(make(theirs), cwd) for _ in range(5))
    compare(name, lambda: build(ours), lambda: build(theirs), 9, idle)
def tools(p, std=""):
    plain = "" if p.startswith("ccache") else p
    return ["CC=%sgcc%s" % (p, std), "AR=%sar" % plain, "RANLIB=%sranlib" % plain]
lua = lambda p: ["make", "-s", "-j2", "linux"] + tools(p, " -std=gnu99")[:1] + ["AR=%sar rcu" % ("" if p.startswith("ccache") else p), "RANLIB=true"]
project("lua", "lua5.4", lua, "make -s clean")
project("zlib", "zlib", lambda p: ["make", "-s", "-j2", "static"] + tools(p)[:1], "make -s clean; rm -f libz.a")

print("misses against the bare compiler, make -j2, CPU s and wall s")
for name, cwd, make, clean in [("lua", "lua5.4", lua, "make -s clean")]:
    cwd, plain, cold = work + "/" + cwd, [], []
    for _ in range(3):
        subprocess.run(clean, cwd=cwd, check=True, shell=True, **quiet)
        plain.append(cpu(make(""), cwd))
        subprocess.run(clean + "; rm -rf " + work + "/cache", cwd=cwd, check=True, shell=True, **quiet)
        cold.append(cpu(make(" ".join(sbx) + " "), cwd))
    for i, what in enumerate(("CPU", "wall")):
        a, b = min(c[i] for c in cold), min(p[i] for p in plain)
        print("%-44s ours %7.2f  bare %7.2f  ratio %.2f" % (name + ", " + what, a, b, a / b))
EOF
