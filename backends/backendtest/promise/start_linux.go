package promise

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

// oddNames are file names that programs get wrong.
var oddNames = []string{"with space", "with\nnewline", "\xff\xfe not UTF-8", "-dash", "ünï", "quote'\"$(x)`y`\\", "*?[a]"}

func startPromises() []Promise {
	return []Promise{
		{Name: "start/arguments", Says: "the command gets exactly its arguments, whatever bytes they hold", check: checkArguments},
		{Name: "start/environment", Says: "the environment is exactly what was asked for, in that order: nothing added, dropped or merged", check: checkEnvironment},
		{Name: "start/environment-empty", Says: "an empty environment stays empty", check: checkEnvironmentEmpty},
		own(Promise{Name: "start/directory", Says: "the command begins in the directory that was asked for", check: checkDirectory}),
		{Name: "start/directory-missing", Says: "a command whose directory does not exist does not run somewhere else", check: checkDirectoryMissing},
		own(Promise{Name: "start/path", Says: "a name without a slash is looked up in the PATH of the environment, and nowhere else", needs: hasExactStatus, check: checkPath}),
		own(Promise{Name: "start/interpreter", Says: "a script runs with the interpreter that its first line names", check: checkInterpreter}),
		{Name: "start/large", Says: "arguments and environment may be as large as the kernel takes, and too large ones are an error of the command", check: checkLarge},
		{Name: "start/ids", Says: "user and group are 65000 in every way, and there are no other groups", needs: hasFixedID, check: checkIDs},
		{Name: "start/umask", Says: "the file mode creation mask is 022", check: checkUmask},
		{Name: "start/no-core", Says: "no core dumps are written", check: checkNoCore},
		{Name: "start/signals", Says: "no signal is ignored or blocked at the start, whatever the caller ignores", needs: underHost(nil), check: checkSignalsDefault},
		{Name: "start/descriptors", Says: "no descriptor beyond 0, 1 and 2 is inherited", check: checkDescriptors},
		{Name: "start/hostname", Says: "the host name is always the same", needs: hasUTSNamespace, check: checkHostname},
		own(Promise{Name: "start/names", Says: "files and directories may have any name, in the root, as program and as directory", check: checkNames}),
	}
}

func checkArguments(t *trial) error {
	args := append([]string{"args", "", "--", "-x", "--help", "a=b", "--bind", "/", "/"}, oddNames...)
	spec := t.spec(args...)
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	return equal("arguments", got, strings.Join(spec.Args, "\x00")+"\x00")
}

func checkEnvironment(t *trial) error {
	spec := t.spec("environ")
	spec.Env = []string{
		"Z=last letter first", "PATH=/nowhere", "A=", "A=twice", "EMPTY=", "EQUALS==a=b=",
		"LINES=a\nb\n", "BYTES=\xff\xfe", "LD_LIBRARY_PATH=/nowhere", "lower=x", "HOME=/nowhere",
	}
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	return equal("environment", got, strings.Join(spec.Env, "\x00")+"\x00")
}

func checkEnvironmentEmpty(t *trial) error {
	spec := t.spec("environ")
	spec.Env = nil
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	return equal("environment", got, "")
}

func checkDirectory(t *trial) error {
	for _, dir := range []string{"/", "/build/a b/c", "/build/\xff", "/tmp"} {
		spec := t.spec("cwd")
		spec.Root.Fill = t.fill(file{path: "/build/a b/c/"}, file{path: "/build/\xff/"})
		spec.Dir = dir
		got, err := t.succeed(spec)
		if err != nil {
			return err
		}
		if err := equal("directory", got, dir); err != nil {
			return err
		}
	}
	return nil
}

func checkDirectoryMissing(t *trial) error {
	spec := t.spec("cwd")
	spec.Root.Fill = t.fill(file{path: "/build/file"})
	for _, dir := range []string{"/build/missing", "/build/file"} {
		spec.Dir = dir
		o, err := t.run(spec)
		if err == nil && (o.Start == nil || o.out != "") {
			return fmt.Errorf("in %s the command ran: %v", dir, o)
		}
	}
	return nil
}

func checkPath(t *trial) error {
	// A program's own name is all that differs, so the look-up shows in it.
	const script = "#!" + probePath + " args\n"
	spec := t.spec()
	spec.Root.Fill = t.fill(
		file{path: "/one/tool/"},                           // a directory is passed over
		file{path: "/two/tool", text: script, mode: 0o644}, // so is what cannot be executed
		file{path: "/three/tool", text: script, mode: 0o755},
		file{path: "/four/tool", text: script, mode: 0o755},
		file{path: "/build/local", text: script, mode: 0o755},
	)
	for _, c := range []struct {
		env  []string
		name string
		code int
		out  string
	}{
		{[]string{"PATH=/none:/one:/two:/three:/four"}, "tool", 0, "/three/tool\x00"},
		{[]string{"PATH=/four:/three"}, "tool", 0, "/four/tool\x00"},
		{[]string{"PATH=/four"}, "no-tool", 127, ""},
		{[]string{"PATH=/four"}, "local", 127, ""},
		{[]string{"PATH=/four"}, "./local", 0, "./local\x00"},
		{nil, "tool", 127, ""},
		{[]string{"PATH="}, "tool", 127, ""},
		{[]string{"PATH=/two"}, "tool", 126, ""},
	} {
		spec.Env, spec.Args = c.env, []string{c.name}
		o, err := t.run(spec)
		if err != nil {
			return fmt.Errorf("%q with %q: %w", c.name, c.env, err)
		}
		started := o.Start == nil
		if started != (c.code == 0) || o.Code != c.code || !strings.HasSuffix(o.out, c.out) {
			return fmt.Errorf("%q with %q: got %v; want code %d, output %q", c.name, c.env, o, c.code, c.out)
		}
	}
	return nil
}

func checkInterpreter(t *trial) error {
	spec := t.spec()
	spec.Root.Fill = t.fill(file{path: "/build/script", text: "#!" + probePath + " args\n", mode: 0o755})
	spec.Args = []string{"/build/script", "x y"}
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	return equal("arguments", o.out, strings.Join([]string{probePath, "args", "/build/script", "x y"}, "\x00")+"\x00")
}

// checkLarge knows the kernel's limits: a string may have 128 KiB with its
// zero byte, and all of them with their pointers a quarter of the stack's
// limit, which is 8 MiB nearly everywhere.
func checkLarge(t *trial) error {
	large := strings.Repeat("x", 128<<10-1)
	fits := func() *backends.Spec {
		spec := t.spec("args", large, large, large, large, large, large)
		spec.Env = nil
		for i := range 7 {
			spec.Env = append(spec.Env, fmt.Sprintf("V%d=%s", i, large[3:]))
		}
		return spec
	}
	spec := fits()
	got, err := t.succeed(spec)
	if err != nil {
		return fmt.Errorf("1.6 MiB: %w", err)
	}
	if err := equal("arguments", got, strings.Join(spec.Args, "\x00")+"\x00"); err != nil {
		return err
	}
	spec.Args[1] = "environ"
	if got, err = t.succeed(spec); err != nil {
		return err
	}
	if err := equal("environment", got, strings.Join(spec.Env, "\x00")+"\x00"); err != nil {
		return err
	}

	many := t.spec(slices.Concat([]string{"say", "I ran"}, slices.Repeat([]string{large}, 40))...)
	one := t.spec("say", "I ran", "", large+"x")
	for _, spec := range []*backends.Spec{many, one} {
		o, err := t.run(spec)
		if err != nil {
			return fmt.Errorf("more than the kernel takes is the command's error, not ours: %w", err)
		}
		if o.Start == nil || o.Code != 126 {
			return fmt.Errorf("more than the kernel takes: %v; want code 126, not started", o)
		}
	}
	return nil
}

func checkIDs(t *trial) error {
	got, err := t.inside("ids")
	if err != nil {
		return err
	}
	want := fmt.Sprintf("uid %d %d %d\ngid %d %d %d\n", backends.ID, backends.ID, backends.ID, backends.ID, backends.ID, backends.ID)
	if groups, err := os.Getgroups(); err == nil && os.Geteuid() != 0 {
		// A user cannot give up groups; in a user namespace they have no
		// number of their own.
		for _, g := range groups {
			if g != os.Getegid() && strings.Contains(got, "group 65534\n") {
				got = strings.Replace(got, "group 65534\n", "", 1)
			} else if g == os.Getegid() {
				got = strings.Replace(got, fmt.Sprintf("group %d\n", backends.ID), "", 1)
			}
		}
	}
	return equal("ids", got, want)
}

func checkUmask(t *trial) error {
	got, err := t.inside("umask")
	if err != nil {
		return err
	}
	return equal("umask", got, "022\n")
}

func checkNoCore(t *trial) error {
	got, err := t.inside("limits")
	if err != nil {
		return err
	}
	return equal("limit", got, "core 0 0\n")
}

// checkSignalsDefault needs a program that has no handlers, as Go's have.
func checkSignalsDefault(t *trial) error {
	spec := t.spec()
	t.hostRoot(spec)
	spec.Args = []string{"/bin/sh", "-c", "while read line; do echo \"$line\"; done < /proc/self/status"}
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	for line := range strings.Lines(got) {
		key, mask, _ := strings.Cut(strings.TrimSpace(line), ":")
		if key == "SigIgn" || key == "SigBlk" {
			if err := equal(key, strings.TrimSpace(mask), "0000000000000000"); err != nil {
				return err
			}
		}
	}
	if !strings.Contains(got, "SigIgn:") {
		return fmt.Errorf("no SigIgn in %.300q", got)
	}
	return nil
}

func checkHostname(t *trial) error {
	got, err := t.inside("hostname")
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(got, "\n")
	if err := equal("host name", name, backends.HostName); err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"hostname-to"}, root: true})
}

func checkNames(t *trial) error {
	for _, name := range oddNames {
		spec := t.spec("cwd")
		spec.Root.Fill = t.fill(
			file{path: "/build/" + name + "/" + name, text: "#!" + probePath + "\n", mode: 0o755},
			file{path: "/build/" + name + "/link", link: name},
		)
		spec.Dir = "/build/" + name
		got, err := t.succeed(spec)
		if err != nil {
			return err
		}
		if err := equal("directory", got, spec.Dir); err != nil {
			return err
		}
		spec.Args = probe("content", name, "link")
		if got, err = t.succeed(spec); err != nil {
			return err
		}
		if err := equal("contents", got, strings.Repeat("#!"+probePath+"\n", 2)); err != nil {
			return err
		}
		spec.Args = []string{spec.Dir + "/" + name}
		if o, err := t.run(spec); err != nil || o.Start != nil {
			return fmt.Errorf("program %q: %v, %v", name, o, err)
		}
	}
	return nil
}

// checkDescriptors opens some that are inherited. A caller may have inherited
// such ones itself, before it opened the backend: package backendtest sees to
// that.
func checkDescriptors(t *trial) error {
	f, err := os.Open(t.Probe)
	if err != nil {
		return err
	}
	defer f.Close()
	var first int
	for _, least := range []int{77, 251, 900} { // not just these: one may be a descriptor of the backend's
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, least)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnproven, err)
		}
		defer unix.Close(fd)
		if first == 0 {
			first = fd
		}
	}
	outside, err := t.outside("fds")
	if err != nil {
		return err
	}
	if !strings.Contains(outside, fmt.Sprintf("\n%d ", first)) {
		return fmt.Errorf("%w: outside, descriptor %d is not inherited either", errUnproven, first)
	}
	for range 2 {
		got, err := t.inside("fds")
		if err != nil {
			return err
		}
		var numbers []string
		for line := range strings.Lines(got) {
			number, _, _ := strings.Cut(line, " ")
			numbers = append(numbers, number)
		}
		if strings.Join(numbers, " ") != "0 1 2" {
			return fmt.Errorf("descriptors: %s", got)
		}
	}
	return nil
}
