package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

func doctorCommand() command {
	return command{
		Name: "doctor", Args: "[FLAGS]",
		Short: "say what this machine can do, and how to get the rest",
		Long: `
Looks at what sbx-action needs of this machine, as this user: user namespaces,
overlayfs and its options, EROFS, control groups, seccomp notification, eBPF,
FUSE, each sandbox, and the disk of the store; tries and times what can be tried;
and says for what is missing or slow which command or setting gets it.

  ok     it is there
  slow   it is there, and costs time
  no     it is not there; the rest works without it

--bundle writes all of it, with the kernel's own files about it and the last runs,
into a tar for a bug report: no file of any workspace is in it, but command lines
and paths are. Exits with 1 if no sandbox works.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var d doctor
			d.declareCache(flags)
			flags.BoolVar(&d.json, "json", false, "print JSON")
			flags.Var((*given)(&d.bundle), "bundle", "`FILE`.tar to write for a bug report")
			return d.run
		},
	}
}

// A finding is what was found out about one thing.
type finding struct {
	Name   string `json:"name"`
	State  string `json:"state"` // ok, slow or no
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"` // the command or setting that gets it
}

const (
	stateOK   = "ok"
	stateSlow = "slow"
	stateNo   = "no"
)

// found is ok, or no and what to do about it.
func found(name string, ok bool, detail, remedy string) finding {
	if ok {
		return finding{name, stateOK, detail, ""}
	}
	return finding{name, stateNo, detail, remedy}
}

type doctor struct {
	wiringFlags
	json   bool
	bundle string
	works  bool
}

func (d *doctor) run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	interruptible(ctx)
	var list []finding
	var out bytes.Buffer
	// Some sandboxes take seconds: each is told when it is known, and a signal
	// counts after it.
	tell := func(found ...finding) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		list = append(list, found...)
		if d.json {
			return nil
		}
		text := lines(found)
		out.WriteString(text)
		_, err := io.WriteString(os.Stdout, text)
		return err
	}
	if err := tell(machine()...); err != nil {
		return err
	}
	for _, name := range wiring.BackendNames() {
		if err := tell(d.sandbox(ctx, name)...); err != nil {
			return err
		}
	}
	if err := tell(d.disk()...); err != nil {
		return err
	}
	if d.json {
		data, err := json.Marshal(list)
		if err != nil {
			return err
		}
		out.Write(append(data, '\n'))
		if _, err := os.Stdout.Write(out.Bytes()); err != nil {
			return err
		}
	}
	if d.bundle != "" {
		if err := commandline.WriteWhole(d.bundle, func(w io.Writer) error { return d.writeBundle(ctx, out.Bytes(), w) }); err != nil {
			return fmt.Errorf("--bundle: %w", err)
		}
		say("wrote %s", d.bundle)
	}
	if !d.works {
		return exitCode(1)
	}
	return nil
}

// lines are findings for people.
func lines(list []finding) string {
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%-5s %-25s %s\n", f.State, f.Name, f.Detail)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "      %-25s -> %s\n", "", f.Remedy)
		}
	}
	return b.String()
}

// sandbox tries a backend, and says what native, the best one, can do.
func (d *doctor) sandbox(ctx context.Context, name string) []finding {
	b, err := wiring.OpenBackend(name, native.Options{})
	if err != nil {
		return []finding{{"backend " + name, stateNo, "", err.Error()}}
	}
	defer b.Close()
	c := b.Capabilities()
	d.works = d.works || c.Works
	f := found("backend "+name, c.Works, "works", c.Reason)
	if !c.Works {
		f.Detail = "does not work"
	} else if took, err := trial(ctx, b); err == nil {
		f.Detail = fmt.Sprintf("works; an empty sandbox takes %.1f ms", float64(took.Microseconds())/1000)
		if took > 20*time.Millisecond {
			f.State, f.Remedy = stateSlow, "another backend, or a machine with less to do"
		}
	}
	if name == "native" && c.Works {
		return append([]finding{f}, abilities(&c)...)
	}
	return []finding{f}
}

// trial is how long the fastest of some commands that are not there take.
func trial(ctx context.Context, b backends.Backend) (best time.Duration, err error) {
	for i := range 5 {
		start := time.Now()
		st, err := b.Run(ctx, &backends.Spec{Args: []string{"/nothing"}, Dir: "/"})
		if err != nil {
			return 0, err
		}
		if st.Root != nil {
			st.Root.Close()
		}
		took := time.Since(start)
		if i == 0 || took < best {
			best = took
		}
		if took > 200*time.Millisecond { // a machine that boots: once tells enough
			break
		}
	}
	return best, nil
}

// abilities are what the native backend can do here.
func abilities(c *backends.Capabilities) []finding {
	limits := func(name string, p backends.Precision) finding {
		remedy := "run it where the control group is yours: systemd-run --user --scope -p Delegate=yes sbx-action …"
		switch p {
		case backends.Exact:
			return finding{name, stateOK, "of the whole process tree (control group)", ""}
		case backends.PerProc:
			return finding{name, stateNo, "only of each process, or of the user", remedy}
		}
		return finding{name, stateNo, "cannot be limited", remedy}
	}
	return []finding{
		found("overlay layers", c.Overlay, "large trees are shared, not copied", "a kernel since 6.7"),
		found("data-only layers", c.DataLayers, "files come from the store without a copy", "a kernel since 6.16 (6.7 for root)"),
		found("EROFS images", c.Images, "for root: 100,000 inputs in a millisecond", "root, a kernel since 6.12, and: modprobe erofs"),
		found("observation", c.Observe, "what a command reads is in the key", "a kernel since 5.5 with CONFIG_SECCOMP_FILTER"),
		found("--verify", c.Vary, "can change what a command sees of the world", "a kernel since 5.6"),
		found("--shell", c.Terminal, "has terminals", "the backend native"),
		limits("--memory", c.MemoryLimit), limits("--pids", c.PidsLimit),
	}
}

// disk times what the store and the scratch cost.
func (d *doctor) disk() (list []finding) {
	dir, err := wiring.CacheDir(d.cache)
	if err != nil {
		return []finding{{"store", stateNo, "", err.Error()}}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return []finding{{"store", stateNo, err.Error(), "another directory: --cache DIR or SBX_CACHE"}}
	}
	list = append(list, storePlace(dir), place("TMPDIR", os.TempDir()))
	return list
}

// storePlace is what there is to say of the store in dir.
func storePlace(dir string) finding {
	if err := storeProblem(dir); err != nil {
		return finding{"store", stateNo, err.Error(), "another directory: --cache DIR or SBX_CACHE"}
	}
	f := place("store", dir)
	if f.State == stateOK && !filepath.IsAbs(dir) {
		f.State, f.Remedy = stateSlow, "each working directory has a store of its own: give --cache or SBX_CACHE a name that begins with /"
	}
	return f
}

// place is how long it takes to make small files in a directory.
func place(name, dir string) finding {
	kind, free := fileSystem(dir)
	detail := fmt.Sprintf("%s (%s, %s free)", dir, kind, commandline.HumanSize(free))
	tmp, err := os.MkdirTemp(dir, "doctor-")
	if err != nil {
		return finding{name, stateNo, detail, err.Error()}
	}
	defer os.RemoveAll(tmp)
	const files = 200
	start := time.Now()
	for i := range files {
		if err := os.WriteFile(filepath.Join(tmp, fmt.Sprint(i)), make([]byte, 1000), 0o644); err != nil {
			return finding{name, stateNo, detail, err.Error()}
		}
	}
	each := time.Since(start) / files
	detail = fmt.Sprintf("%s: %d µs for a small file", detail, each.Microseconds())
	switch {
	case free < 1<<30:
		return finding{name, stateSlow, detail, "less than 1 GiB is free: sbx-action cache trim, or another directory"}
	case each > 300*time.Microsecond:
		return finding{name, stateSlow, detail, "a faster disk: --cache DIR or SBX_CACHE for the store, TMPDIR for the other"}
	}
	return finding{name, stateOK, detail, ""}
}

// writeBundle writes what somebody who looks at a bug report asks for first.
func (d *doctor) writeBundle(ctx context.Context, findings []byte, to io.Writer) error {
	w := tar.NewWriter(to)
	var err error
	add := func(name string, data []byte) {
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: "sbx-doctor/" + name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Now()})
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	add("findings", findings)
	add("version", fmt.Appendf(nil, "sbx-action %s\n%s %s/%s, %d processors, uid %d\n", commandline.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), os.Getuid()))
	add("history", d.lastRuns(ctx))
	for _, name := range bundled {
		data, err := readSome(name)
		if err != nil {
			data = []byte(err.Error() + "\n")
		}
		add("files"+name, data)
	}
	if err != nil {
		return err
	}
	return w.Close()
}

// bundled are the files of the system that are in a bundle.
var bundled = []string{
	"/proc/version", "/proc/cmdline", "/proc/filesystems", "/proc/self/status", "/proc/self/mountinfo", "/proc/self/cgroup",
	"/proc/meminfo", "/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone",
	"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "/proc/sys/kernel/unprivileged_bpf_disabled",
	"/proc/sys/kernel/seccomp/actions_avail", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/vm/memfd_noexec", "/etc/os-release",
}

func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// lastRuns are the last runs of the store, as far as they can be read.
func (d *doctor) lastRuns(ctx context.Context) []byte {
	var out bytes.Buffer
	f := bookFlags{wiringFlags: d.wiringFlags}
	book, err := f.open()
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	defer book.Store.Close()
	runs := book.Runs
	for _, r := range runs[max(0, len(runs)-50):] {
		fmt.Fprintf(&out, "%s %s exit %d took %s %v miss %q unkept %q\n", r.Time.Format(time.RFC3339), r.Verdict, r.ExitCode, r.Took, r.Key, r.Miss, r.Unkept)
		if _, c, err := book.Origin(ctx, r); err == nil && c != nil {
			fmt.Fprintf(&out, "  %q\n", c.Arguments)
		}
	}
	return out.Bytes()
}
