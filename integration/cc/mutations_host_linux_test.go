package cc_test

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hostMutations are changes after which what is looked at seems to be as it was: of
// what is mounted, of names, links and inodes, with times put back.
func hostMutations() []mutation {
	one := map[string]string{"p/a": "1\n"}
	two := map[string]string{"p/a": "1\n", "q/a": "2\n"}
	reads := func(name string, files map[string]string, what string, change, back func(*world)) mutation {
		return mutation{name: name, files: files, call: "--any ./x", change: change, back: back, make: func(w *world) {
			w.env["SBX_CC_NO_STDIN"] = "1"
			w.script("x", what+" >o 2>/dev/null || echo nothing >o")
		}}
	}
	mounts := func(name string, files map[string]string, what, source, target string) mutation {
		m := reads(name, files, what, func(w *world) {
			w.must(unix.Mount(w.path(source), w.path(target), "", unix.MS_BIND, ""))
			w.t.Cleanup(func() { _ = unix.Unmount(w.path(target), unix.MNT_DETACH) })
		}, func(w *world) { w.must(unix.Unmount(w.path(target), 0)) })
		m.root = true
		return m
	}
	// kept makes a change and puts the times of a file or directory back.
	kept := func(name string, change func(*world)) func(*world) {
		return func(w *world) {
			var st unix.Stat_t
			w.must(unix.Stat(w.path(name), &st))
			change(w)
			w.must(unix.UtimesNanoAt(unix.AT_FDCWD, w.path(name), []unix.Timespec{st.Atim, st.Mtim}, 0))
		}
	}
	rename := func(from, to string) func(*world) {
		return func(w *world) { w.must(os.Rename(w.path(from), w.path(to))) }
	}
	link := func(target, name string) func(*world) { return func(w *world) { w.link(target, name) } }
	prepared := func(m mutation, prepare ...func(*world)) mutation {
		m.make = steps(append([]func(*world){m.make}, prepare...)...)
		return m
	}
	tool := func(name, says string) func(*world) {
		return func(w *world) { w.script(name, "echo "+says+" >o") }
	}
	onPath := func(w *world) { w.env["PATH"] = w.path("p") + ":" + w.path("q") + ":" + os.Getenv("PATH") }
	called := func(name, call string, make, change, back func(*world)) mutation {
		return mutation{name: name, call: "--any " + call, change: change, back: back, make: steps(make, func(w *world) { w.env["SBX_CC_NO_STDIN"] = "1" })}
	}
	return []mutation{
		mounts("a file is mounted over another", two, "cat p/a", "q/a", "p/a"),
		mounts("a directory is mounted over another", two, "cat p/a", "q", "p"),
		mounts("a directory with the missing file is mounted over another", map[string]string{"p/x": "", "q/a": "2\n"}, "cat p/a", "q", "p"),
		prepared(reads("a link in the middle of a path", two, "cat m/../m/a", link("q", "m"), link("p", "m")), link("p", "m")),
		prepared(reads("up through a link", map[string]string{"p/a": "1\n", "p/s/x": "", "q/a": "2\n", "q/s/x": ""}, "cat m/../a", link("q/s", "m"), link("p/s", "m")), link("p/s", "m")),
		reads("several directories above a missing file appear", nil, "cat n/r/s/a", text("n/r/s/a", "2\n"), gone("n")),
		reads("a link appears above a missing file", map[string]string{"q/r/a": "2\n"}, "cat n/r/a", link("q", "n"), gone("n")),
		reads("a file above a missing one becomes a directory", map[string]string{"n": "\n"}, "cat n/a", steps(gone("n"), text("n/a", "2\n")), steps(gone("n"), text("n", "\n"))),
		reads("names are exchanged and the directory's time kept", map[string]string{"p/a": "1\n", "p/b": "2\n"}, "cat p/a", kept("p", steps(rename("p/a", "p/c"), rename("p/b", "p/a"))), kept("p", steps(rename("p/a", "p/b"), rename("p/c", "p/a")))),
		reads("a listed directory's time is kept", one, "ls p", kept("p", rename("p/a", "p/c")), kept("p", rename("p/c", "p/a"))),
		reads("a name in a listed directory becomes a directory", map[string]string{"p/a": "", "p/b/x": ""}, "ls -F p", kept("p", steps(rename("p/a", "p/x"), rename("p/b", "p/a"))), kept("p", steps(rename("p/a", "p/b"), rename("p/x", "p/a")))),
		reads("another file is linked in the place", two, "cat p/a", steps(gone("p/a"), func(w *world) { w.must(os.Link(w.path("q/a"), w.path("p/a"))) }), steps(gone("p/a"), text("p/a", "1\n"))),
		reads("a new file with the old times", one, "cat p/a", func(w *world) {
			var st unix.Stat_t
			w.must(unix.Stat(w.path("p/a"), &st))
			w.remove("p/a") // ext4 gives the next file its inode
			w.write("p/a", "2\n")
			w.must(unix.UtimesNanoAt(unix.AT_FDCWD, w.path("p/a"), []unix.Timespec{st.Atim, st.Mtim}, 0))
		}, text("p/a", "1\n")),
		reads("written through a mapping", one, "cat p/a", kept("p/a", mapped("2\n")), kept("p/a", mapped("1\n"))),
		reads("permission to execute", one, "test -x p/a && echo yes", func(w *world) { w.must(os.Chmod(w.path("p/a"), 0o755)) }, func(w *world) { w.must(os.Chmod(w.path("p/a"), 0o644)) }),
		called("the program, earlier on PATH", "sbx-tool", steps(tool("q/sbx-tool", "1"), func(w *world) { w.mkdir("p") }, onPath), tool("p/sbx-tool", "2"), gone("p/sbx-tool")),
		called("the program in a relative directory of PATH", "sbx-tool", steps(tool("q/sbx-tool", "1"), func(w *world) { w.env["PATH"] = "p:q:" + os.Getenv("PATH") }), tool("p/sbx-tool", "2"), gone("p")),
		called("a program earlier on PATH may be executed now", "sbx-tool", steps(tool("q/sbx-tool", "1"), tool("p/sbx-tool", "2"), onPath, func(w *world) { w.must(os.Chmod(w.path("p/sbx-tool"), 0o644)) }),
			func(w *world) { w.must(os.Chmod(w.path("p/sbx-tool"), 0o755)) }, func(w *world) { w.must(os.Chmod(w.path("p/sbx-tool"), 0o644)) }),
		called("the link that chooses an alternative", "./tool", steps(tool("one", "1"), tool("two", "2"), func(w *world) {
			w.mkdir("etc")
			w.link("../one", "etc/tool")
			w.link("etc/tool", "tool")
		}), link("../two", "etc/tool"), link("../one", "etc/tool")),
		called("the interpreter of a script", "./tool", func(w *world) {
			w.script("sh", `exec /bin/sh "$@"`)
			w.host("sh", "-c", `printf '#!%s\necho 1 >o\n' "$1" >tool; chmod 755 tool`, "sh", filepath.Join(w.dir, "sh"))
		}, func(w *world) { w.script("sh", "echo 2 >o") }, func(w *world) { w.script("sh", `exec /bin/sh "$@"`) }),
	}
}

// mapped writes into a file through a mapping.
func mapped(text string) func(*world) {
	return func(w *world) {
		f, err := os.OpenFile(w.path("p/a"), os.O_RDWR, 0)
		w.must(err)
		defer f.Close()
		data, err := unix.Mmap(int(f.Fd()), 0, len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		w.must(err)
		if copy(data, text) != len(text) {
			w.t.Error("not written")
		}
		w.must(unix.Munmap(data))
	}
}
