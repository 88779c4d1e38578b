package promise

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
)

func observePromises() []Promise {
	observe := func(p Promise) Promise {
		p.needs = func(c backends.Capabilities) bool { return c.Observe }
		p.asks = func(s *backends.Spec) { s.Observe = true }
		return p
	}
	linked := observe(Promise{Name: "observe/links", Says: "where a link led that the command made and removed again is told, also in a directory of the host that it may write to", check: checkVanishedLinks})
	linked.needs = func(c backends.Capabilities) bool { return c.Observe && c.Mounts }
	return []Promise{
		observe(Promise{Name: "observe/paths", Says: "every path that was named in a system call is told, found or not, and made absolute", check: checkLookups}),
		observe(Promise{Name: "observe/programs", Says: "programs are told with their interpreters and dynamic loaders", check: checkExecLookups}),
		observe(Promise{Name: "observe/often", Says: "a process that looks up many paths is told of as completely as one that looks up few", check: checkManyLookups}),
		linked,
		observe(Promise{Name: "observe/same", Says: "a command that is observed behaves as any other", check: checkObservedSame}),
		{Name: "observe/not-asked", Says: "nothing is observed when nobody asked for it", check: checkNotObserved},
	}
}

// saw checks that all of want are among the look-ups of o.
func saw(o *outcome, want ...backends.Lookup) error {
	if !o.Complete {
		return fmt.Errorf("the look-ups are not complete: %v", o)
	}
	have := map[backends.Lookup]bool{}
	for _, l := range o.Lookups {
		if !strings.HasPrefix(l.Path, "/") {
			return fmt.Errorf("%q is not absolute", l.Path)
		}
		have[backends.Lookup{Path: l.Path, Op: l.Op}] = true
	}
	var missing []string
	for _, w := range want {
		if !have[w] {
			missing = append(missing, fmt.Sprintf("%q (%d)", w.Path, w.Op))
		}
	}
	if missing != nil {
		return fmt.Errorf("not told: %s; of %d: %.3000s", strings.Join(missing, ", "), len(o.Lookups), fmt.Sprint(o.Lookups))
	}
	return nil
}

func checkLookups(t *trial) error {
	spec := t.spec("lookups", "/build/script")
	spec.Root.Fill = t.fill(
		file{path: "/build/in.txt", text: "in"},
		file{path: "/build/sub/rel.txt", text: "rel"},
		file{path: "/build/script", text: "#!" + probePath + " ls\n", mode: 0o755},
	)
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Code != 0 {
		return fmt.Errorf("ended with %v", o)
	}
	want := []backends.Lookup{
		{Path: "/build/in.txt", Op: backends.Open},
		{Path: "/build/../absent-above", Op: backends.Stat},
		{Path: "/build/absent-open", Op: backends.Open},
		{Path: "/build/absent-openat2", Op: backends.Open},
		{Path: "/build/sub/rel.txt", Op: backends.Open},
		{Path: "/build/sub/../sub/absent-dots", Op: backends.Open},
		{Path: "/build/sub/absent-not-empty-at", Op: backends.Stat},
		{Path: "/build/link/rel.txt", Op: backends.Open},
		{Path: "/build/sub/absent-after-chdir", Op: backends.Open},
		{Path: "/absent-at-root", Op: backends.Open},
		{Path: "/build/script", Op: backends.Exec},
		{Path: probePath, Op: backends.Exec},
		{Path: "/absent-argument", Op: backends.Stat}, // by the script, which began in /
	}
	for _, name := range []string{
		"absent.h", "absent-statx", "absent-not-empty", "absent-access", "absent-faccessat", "absent-readlink", "absent-unlink",
		"absent-chmod", "absent-truncate", "absent-getxattr", "made", "link",
	} {
		want = append(want, backends.Lookup{Path: "/build/" + name, Op: backends.Stat})
	}
	for _, name := range []string{"absent-rename-from", "absent-rename-to"} {
		want = append(want, backends.Lookup{Path: "/build/" + name, Op: backends.Move})
	}
	return saw(o, want...)
}

// checkExecLookups runs a program of the host that has a dynamic loader.
func checkExecLookups(t *trial) error {
	const shell = "/bin/sh"
	loader, err := interpreter(shell)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnproven, err)
	}
	spec := t.spec()
	t.hostRoot(spec, file{path: "/build/script", text: "#!" + shell + "\nread x < /build/script\nexec /absent-program\n", mode: 0o755})
	spec.Args = []string{"/build/script"}
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	return saw(
		o,
		backends.Lookup{Path: "/build/script", Op: backends.Exec},
		backends.Lookup{Path: shell, Op: backends.Exec},
		backends.Lookup{Path: loader, Op: backends.Exec},
		backends.Lookup{Path: "/build/script", Op: backends.Open},
		backends.Lookup{Path: "/absent-program", Op: backends.Exec},
		backends.Lookup{Path: "/etc/ld.so.cache", Op: backends.Open},
	)
}

// checkManyLookups lets a shell of the host, and a child of it, look for many
// files: a backend may find a cheaper way to be told after the first few.
func checkManyLookups(t *trial) error {
	const n = 300
	spec := t.spec()
	t.hostRoot(spec)
	script := fmt.Sprintf(`
look() { i=0; while [ $i -lt %d ]; do [ -e /usr/absent-$1-$i ] || [ -e absent-$1-$i ]; i=$((i+1)); done; }
look first; (look second; : < /usr/absent-open) 2>/dev/null; true
`, n)
	spec.Args = []string{"/bin/sh", "-c", script}
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	var want []backends.Lookup
	for i := range n {
		for _, who := range []string{"first", "second"} {
			want = append(want,
				backends.Lookup{Path: fmt.Sprintf("/usr/absent-%s-%d", who, i), Op: backends.Stat},
				backends.Lookup{Path: fmt.Sprintf("%s/absent-%s-%d", spec.Dir, who, i), Op: backends.Stat})
		}
	}
	return saw(o, append(want, backends.Lookup{Path: "/usr/absent-open", Op: backends.Open})...)
}

// checkVanishedLinks looks through links that are gone when the command ends.
func checkVanishedLinks(t *trial) error {
	dir, err := t.tree(nil)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o777); err != nil { // the command is another user
		return err
	}
	spec := t.spec()
	t.hostRoot(spec)
	spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: dir, Target: "/shared", Writable: true})
	const n = 20 // often enough for every way of being told
	spec.Args = []string{"/bin/sh", "-c", fmt.Sprintf(`set -e
i=0; while [ $i -lt %d ]; do
	for d in /shared /build; do
		ln -s /usr/absent-behind$d-$i $d/link
		! [ -e $d/link/$i ]
		rm $d/link
	done
	i=$((i+1))
done`, n)}
	spec.Env = append(spec.Env, "PATH=/usr/bin:/bin")
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Code != 0 {
		return fmt.Errorf("ended with %v", o)
	}
	var want []backends.Lookup
	for i := range n {
		for _, d := range []string{"/shared", "/build"} {
			want = append(want, backends.Lookup{Path: fmt.Sprintf("/usr/absent-behind%s-%d/%d", d, i, i), Op: backends.Stat})
		}
	}
	return saw(o, want...)
}

// interpreter is the dynamic loader of a program of the host. Package debug/elf
// would be linked into the program that users call, and slow down its start.
func interpreter(name string) (string, error) {
	const (
		headerSize, programSize = 64, 56 // of 64-bit programs
		interp                  = 3
	)
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if len(data) < headerSize || string(data[:5]) != "\x7fELF\x02" {
		return "", errors.New(name + " is no 64-bit program")
	}
	n := binary.NativeEndian
	for at := n.Uint64(data[32:]); at+programSize <= uint64(len(data)); at += programSize {
		if n.Uint32(data[at:]) != interp {
			continue
		}
		from, size := n.Uint64(data[at+8:]), n.Uint64(data[at+32:])
		if from+size > uint64(len(data)) {
			break
		}
		return strings.TrimRight(string(data[from:from+size]), "\x00"), nil
	}
	return "", errors.New(name + " has no dynamic loader")
}

func checkObservedSame(t *trial) error {
	spec := t.spec("say", "out", "err")
	spec.Observe = true
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.out != "out" || o.err != "err" || o.Code != 0 || o.Start != nil {
		return fmt.Errorf("got %v", o)
	}
	spec.Args = []string{"/build/absent"}
	if err := t.notStarted(spec, 127); err != nil {
		return err
	}
	// One that is not found is looked for all the same.
	if o, err = t.run(spec); err != nil {
		return err
	}
	if err := saw(o, backends.Lookup{Path: "/build/absent", Op: backends.Exec}); err != nil {
		return err
	}
	spec.Args = probe("die", "9")
	if o, err = t.run(spec); err != nil {
		return err
	}
	if o.Signal != 9 {
		return fmt.Errorf("SIGKILL: %v", o)
	}
	return nil
}

func checkNotObserved(t *trial) error {
	o, err := t.run(t.spec("exit", "0"))
	if err != nil {
		return err
	}
	if len(o.Lookups) > 0 {
		return fmt.Errorf("%d look-ups are told", len(o.Lookups))
	}
	return nil
}
