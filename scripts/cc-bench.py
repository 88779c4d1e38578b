"""What scripts/cc-bench.sh measures: see there."""
import ctypes, os, resource, shutil, statistics, subprocess, sys, time

work, program, wanted = sys.argv[1], sys.argv[2], [a for a in sys.argv[3:] if a != "--misses"]
only_misses = "--misses" in sys.argv[3:]
log = open(work + "/log", "ab")
began = time.monotonic()
ROUNDS_UNTIL = 15 * 60  # after that nothing is measured more than once
BWRAP = ("bwrap --unshare-all --die-with-parent --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind %s %s" % (work, work))
OURS = program + " cc"
TOOLS = {  # name: (words in front of the compiler, environment)
    "plain": ("", {}),
    "bwrap": (BWRAP, {}),
    "ours": (OURS, {}),
    "ccache": ("ccache", {"CCACHE_DIR": work + "/ccache"}),
    "depend": ("ccache", {"CCACHE_DIR": work + "/ccache-depend", "CCACHE_DEPEND": "1"}),
    "sccache": ("sccache", {}),
}
CACHES = ["ours", "ccache", "depend", "sccache"]


def say(*words):
    print("[%4d s]" % (time.monotonic() - began), *words, file=sys.stderr, flush=True)


def run(args, cwd, env=None, shell=False, user=None, orphans=False):
    """Runs a command, as one that is typed: in a process group of its own, with which the
    warm processes end that it has started. Returns its CPU seconds (with its children) and
    wall seconds. With orphans, those too that end after it: nobody else may have any then
    that live, and what others have left that is dead is not counted."""
    if orphans:
        reap(os.WNOHANG)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(args, cwd=cwd, env={**os.environ, **(env or {})}, check=True, shell=shell, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                   process_group=0, user=user, group=user, extra_groups=None if user is None else [])
    wall = time.perf_counter() - start
    if orphans:
        reap(0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def reap(options):
    """Waits for all children, or with WNOHANG for those that have ended."""
    try:
        while os.waitpid(-1, options)[0]:
            pass
    except ChildProcessError:
        pass


def adopt(yes):
    """Says whether what a build leaves behind becomes our child, and its CPU time ours to count."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, int(yes), 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        sys.exit("prctl(PR_SET_CHILD_SUBREAPER): %s" % os.strerror(ctypes.get_errno()))


def need(*pairs):
    subprocess.run(["scripts/need.sh", *pairs], check=True, stdout=sys.stderr)


def source(package, name):
    subprocess.run(["scripts/debian-source.sh", package, work + "/source"], check=True, stdout=log)
    shutil.copytree("%s/source/%s" % (work, package), "%s/%s" % (work, name), symlinks=True)
    return "%s/%s" % (work, name)


# A project: what it needs, its source package, how it is set up, how it is built with
# words in front of the compiler, and how that is undone. {W} are the words with a
# blank behind them, {A} those in front of ar, which only we cache.
PROJECTS = {
    "lua": dict(package="lua5.4", build="make -s -j2 linux CC='{W}gcc -std=gnu99' AR='{A}ar rcu' RANLIB=true", clean="make -s clean"),
    "zlib": dict(package="zlib", setup="./configure --static", build="make -s -j2 static CC='{W}gcc' AR='{A}ar'", clean="make -s clean; rm -f libz.a"),
    "zstd": dict(package="libzstd", build="make -s -C lib -j2 libzstd.a CC='{W}gcc' AR='{A}ar'", clean="make -s -C lib clean"),
    "jq": dict(
        package="jq", need=["autoreconf:autoconf", "automake:automake", "libtoolize:libtool", "/usr/include/oniguruma.h:libonig-dev"],
        setup="autoreconf -fi && ./configure --disable-maintainer-mode --disable-docs --enable-static --disable-shared && make -s",
        build="make -s -j2 CC='{W}gcc' AR='{A}ar'", clean="make -s clean"),
    "sqlite3": dict(
        package="sqlite3", need=["autoreconf:autoconf", "libtoolize:libtool", "tclsh:tcl"],
        setup="autoreconf -fi && ./configure --disable-tcl --disable-shared && make -s sqlite3.c shell.c",
        build="make -s -j2 sqlite3 CC='{W}gcc'", clean="rm -rf sqlite3 *.o *.lo *.la .libs/*.o .libs/*.a"),
    "re2": dict(
        package="re2", need=["cmake:cmake", "ninja:ninja-build", "perl:perl", "/usr/share/unicode/UnicodeData.txt:unicode-data", "/usr/lib/python3/dist-packages/six.py:python3-six"],
        setup="sed -i 's|^_UNICODE_DIR = .*|_UNICODE_DIR = \"/usr/share/unicode\"|' re2/unicode.py && "
        "PATH=/usr/bin:$PATH make REBUILD_TABLES=1 re2/perl_groups.cc re2/unicode_casefold.cc re2/unicode_groups.cc",
        each="cmake -G Ninja -S . -B b-{T} -DCMAKE_BUILD_TYPE=Release -DRE2_BUILD_TESTING=OFF -DCMAKE_CXX_COMPILER_LAUNCHER='{L}' -DCMAKE_CXX_LINKER_LAUNCHER='{K}'",
        build="ninja -C b-{T} -j2", clean="ninja -C b-{T} clean"),
    "redis": dict(
        package="redis",
        setup="make -C deps hiredis linenoise lua hdr_histogram && cd src && sh mkreleasehdr.sh && "
        "make -pn | sed -n 's/^REDIS_SERVER_OBJ *:\\?= *//p' | head -1 | tr ' ' '\\n' | grep '[.]o$' | tr '\\n' ' ' >objects && "
        "printf 'all: %s\\n%%.o: %%.c\\n\\t$(CC) -pedantic -DREDIS_STATIC= -std=c11 -Wall -W -Wno-missing-field-initializers -O2 -g -ggdb"
        " -I../deps/hiredis -I../deps/linenoise -I../deps/lua/src -I../deps/hdr_histogram -MMD -o $@ -c $<\\n' \"$(cat objects)\" >bench.mk",
        build="make -s -C src -f bench.mk -j2 CC='{W}gcc'", clean="rm -f src/*.o src/*.d"),
}


class Project:
    def __init__(self, name):
        self.name, self.how = name, PROJECTS[name]
        if self.how.get("need"):
            need(*self.how["need"])
        self.dir = source(self.how["package"], name)
        if "setup" in self.how:
            run(self.how["setup"], self.dir, shell=True)
        if "each" in self.how:
            for tool in TOOLS:
                run(self.words("each", tool), self.dir, shell=True)

    def words(self, key, tool):
        front = TOOLS[tool][0]
        ours = front if tool == "ours" else ""
        return (self.how[key].replace("{W}", front + " " if front else "").replace("{A}", ours + " " if ours else "")
                .replace("{T}", tool).replace("{L}", front.replace(" ", ";")).replace("{K}", ours.replace(" ", ";")))

    def build(self, tool):
        run(self.words("clean", tool), self.dir, shell=True)
        return run(self.words("build", tool), self.dir, TOOLS[tool][1], shell=True, orphans=tool == "ours")

    def idle(self, tool):
        return min(run(self.words("build", tool), self.dir, TOOLS[tool][1], shell=True)[1] for _ in range(3))


def forget(tool):
    """Empties a cache."""
    for d in {"ours": ["cache"], "ccache": ["ccache"], "depend": ["ccache-depend"]}.get(tool, []):
        shutil.rmtree(work + "/" + d, ignore_errors=True)
    if tool == "sccache":
        subprocess.run(["sccache", "--stop-server"], stdout=log, stderr=log)
        shutil.rmtree(work + "/sccache", ignore_errors=True)
        adopt(False)  # the server stays
        subprocess.run(["sccache", "--start-server"], stdout=log, stderr=log)
        adopt(True)


def attempt(times, tool, what):
    """Adds what a build took, or None once and for all if it does not work."""
    if times.get(tool, []) is None:
        return
    try:
        times.setdefault(tool, []).append(what(tool))
    except subprocess.CalledProcessError as e:
        say("%s: does not work: %s; see the log's end" % (tool, e))
        times[tool] = None


def best(times, tool, i):
    return min(t[i] for t in times[tool]) if times.get(tool) else None


def cell(v, form="%.2f"):
    return "does not work" if v is None else form % v


def ratio(a, b):
    return "" if a is None or not b else "%.2f" % (a / b)


def bold(s):
    return "**%s**" % s if s else s


def measure(p):
    cold, hot, idle = {}, {}, {}
    tools, rounds = list(TOOLS), 0
    while rounds == 0 or rounds < 3 and sum(best(cold, "plain", 1) for _ in tools) < 30 and time.monotonic() - began < ROUNDS_UNTIL:
        for tool in tools[rounds % len(tools):] + tools[:rounds % len(tools)]:  # nobody is always first
            forget(tool)
            attempt(cold, tool, p.build)
        rounds += 1
    for tool in CACHES:  # what is compiled once more: a cache may only take what is old enough
        attempt({}, tool, p.build)
        attempt(idle, tool, p.idle)
    for _ in range(9 if time.monotonic() - began < ROUNDS_UNTIL else 3):
        for tool in CACHES:
            if idle.get(tool):
                attempt(hot, tool, lambda t: (0, p.build(t)[1] - idle[t][0]))
    return cold, hot, idle


def one_process():
    say("hits, one process")
    print("One process, a hit, ms (in brackets: the middle):\n")
    print("| what | ours | ccache direct | ratio | ccache depend | ratio |\n|---|---|---|---|---|---|")
    flags = "-I../deps/hiredis -I../deps/linenoise -I../deps/lua/src -I../deps/hdr_histogram"
    for name, project, cwd, call in [
        ("lua, lvm.c", "lua", "src", "gcc -std=gnu99 -O2 -Wall -Wextra -DLUA_COMPAT_5_3 -DLUA_USE_LINUX -c lvm.c -o lvm.o"),
        ("zlib, deflate.c", "zlib", ".", "gcc -O3 -D_LARGEFILE64_SOURCE=1 -DHAVE_HIDDEN -c deflate.c -o deflate.o"),
        ("redis, server.c", "redis", "src", "gcc -pedantic -DREDIS_STATIC= -std=c11 -Wall -W -Wno-missing-field-initializers -O2 -g -ggdb " + flags + " -MMD -o server.o -c server.c"),
    ]:
        if project not in projects:
            continue
        cwd, times = "%s/%s/%s" % (work, project, cwd), {}
        run(PROJECTS[project]["clean"], "%s/%s" % (work, project), shell=True)  # sccache gives .d files a mode of their own
        for n in range(64):
            for tool in ["ours", "ccache", "depend"]:
                front, env = TOOLS[tool]
                args = front.split() + call.split()
                if tool == "depend" and "-MMD" not in call:
                    args.append("-MMD")
                t = 1000 * run(args, cwd, env)[1]
                if n >= 4:
                    times.setdefault(tool, []).append(t)
        low = {t: min(v) for t, v in times.items()}
        mid = {t: statistics.median(v) for t, v in times.items()}
        print("| %s | %.2f (%.2f) | %.2f (%.2f) | %s | %.2f (%.2f) | %s |" % (
            name, low["ours"], mid["ours"], low["ccache"], mid["ccache"], bold(ratio(low["ours"], low["ccache"])),
            low["depend"], mid["depend"], ratio(low["ours"], low["depend"])), flush=True)


NOBODY = 65534


def copy_for(p, user):
    """Lets a user without privileges build a project: a copy that belongs to it."""
    copy = object.__new__(Project)
    copy.name, copy.how, copy.dir = p.name, p.how, "%s/nobody/%s" % (work, p.name)
    shutil.copytree(p.dir, copy.dir, symlinks=True)
    subprocess.run(["chown", "-hR", "%d:%d" % (user, user), work + "/nobody"], check=True)
    if "each" in p.how:
        for tool in ("plain", "ours"):
            run("rm -rf b-" + tool, copy.dir, shell=True)
            run(copy.words("each", tool), copy.dir, {"HOME": work + "/nobody"}, shell=True, user=user)
    return copy


def misses(name, budget):
    """Prints a row for each kind of user: builds with an empty cache against the bare
    compiler, in pairs that take turns, for budget seconds but two pairs at least."""
    p = Project(name)
    for who in (["root", "unprivileged"] if os.geteuid() == 0 else ["unprivileged"]):
        user = NOBODY if who == "unprivileged" and os.geteuid() == 0 else None
        q = copy_for(p, user) if user else p
        home = work + "/nobody" if user else work
        env = {"SBX_CACHE": home + "/cache", "HOME": home}
        say(name, who)

        def build(tool):
            shutil.rmtree(env["SBX_CACHE"], ignore_errors=True)
            run(q.words("clean", tool), q.dir, env, shell=True, user=user)
            return run(q.words("build", tool), q.dir, env, shell=True, user=user, orphans=True)

        build("plain")  # into the page cache
        times, start = {"plain": [], "ours": []}, time.monotonic()
        while len(times["ours"]) < 2 or time.monotonic() - start < budget and len(times["ours"]) < 40:
            for tool in ["plain", "ours"][::1 if len(times["plain"]) % 2 else -1]:  # neither is always first
                times[tool].append(build(tool))
        cells = []
        for i in (0, 1):
            low = {t: min(x[i] for x in times[t]) for t in times}
            pairs = statistics.median(o[i] / q[i] for o, q in zip(times["ours"], times["plain"]))
            cells += ["%.2f" % low["plain"], bold("%.3f" % (low["ours"] / low["plain"])), "%.3f" % pairs]
        print("| %s | %s | %d | %s | %s |" % (name, who, len(times["ours"]), " | ".join(cells), "≤ 1.05" if who == "root" else "≤ 1.15"), flush=True)


def all_misses():
    os.makedirs(work + "/nobody")
    os.chmod(work, 0o755)
    print("| project | user | pairs | plain, CPU s | ours, least | middle | plain, wall s | ours, least | middle | target |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in projects:
        say(name)
        try:
            misses(name, float(os.environ.get("BENCH_SECONDS", "60")))
        except subprocess.CalledProcessError as e:
            say("%s cannot be built here: %s" % (name, e))
        shutil.rmtree("%s/%s" % (work, name), ignore_errors=True)
        shutil.rmtree("%s/nobody/%s" % (work, name), ignore_errors=True)
    say("done")


projects = [{"sqlite": "sqlite3"}.get(n, n) for n in wanted] or list(PROJECTS)
for name in projects:
    if name not in PROJECTS:
        sys.exit("%s: no such project: want some of %s" % (name, " ".join(PROJECTS)))
adopt(True)
if only_misses:
    all_misses()
    sys.exit()
rows_cold, rows_hot, ready = [], [], {}
for name in projects:
    say(name)
    try:
        p = ready[name] = Project(name)
        cold, hot, idle = measure(p)
    except subprocess.CalledProcessError as e:
        say("%s cannot be built here: %s" % (name, e))
        continue
    plain = [best(cold, "plain", i) for i in (0, 1)]
    rows_cold.append("| %s | %.2f | %.2f | %s | %s | %s | %s | %s | %s |" % (
        name, *plain, *[bold(ratio(best(cold, "ours", i), plain[i])) for i in (0, 1)],
        *[ratio(best(cold, t, 1), plain[1]) for t in ("bwrap", "ccache", "depend", "sccache")]))
    ours = best(hot, "ours", 1)
    rows_hot.append("| %s | %s | %s | %s | %s | %s | %s | %s | %.3f |" % (
        name, cell(best(cold, "plain", 1)), cell(ours, "%.3f"), cell(best(hot, "ccache", 1), "%.3f"), bold(ratio(ours, best(hot, "ccache", 1))),
        cell(best(hot, "depend", 1), "%.3f"), cell(best(hot, "sccache", 1), "%.3f"), ratio(ours, best(hot, "sccache", 1)), idle["ours"][0] if idle.get("ours") else 0))

one_process()
print("\n`-j2` with empty caches, against the bare compiler, by wall time, and for ours by CPU (of the others the CPU cannot be told: not all that they start is their child):\n")
print("| project | plain, CPU s | wall s | ours, CPU | wall | bwrap | ccache direct | ccache depend | sccache |\n|---|---|---|---|---|---|---|---|---|")
print("\n".join(rows_cold))
print("\n`-j2` from the caches, wall seconds, without what make or ninja takes to find nothing to do (the last column):\n")
print("| project | plain | ours | ccache direct | ratio | ccache depend | sccache | ratio | make |\n|---|---|---|---|---|---|---|---|---|")
print("\n".join(rows_hot))
say("done")
