package cc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// toldProperty is in the key of calls whose inputs are what the compiler told.
const toldProperty = "inputs-as-told"

// Told returns a session for a call whose inputs the compiler is asked for, and which
// runs in no sandbox. It says false of a call that is not simple enough for that.
func Told(p *Parts, c *Call, w Want) (*Session, bool) {
	q, ok := c.ask()
	if !ok || len(w.Limits) > 0 || len(w.Front) > 0 {
		return nil, false
	}
	for _, v := range w.Env {
		if slices.Contains(untoldEnv, v.Name) {
			return nil, false
		}
	}
	w.Place = Here
	w.Told = q
	return NewSession(p, c, w)
}

// bare is a Backend that has no sandbox: it executes commands as they are.
type bare struct{ parts *Parts }

// Name implements [backends.Backend].
func (bare) Name() string { return "none" }

// Capabilities implements [backends.Backend].
func (bare) Capabilities() backends.Capabilities { return backends.Capabilities{Works: true} }

// Close implements [backends.Backend].
func (bare) Close() error { return nil }

// Run implements [backends.Backend].
func (b bare) Run(ctx context.Context, spec *backends.Spec) (*backends.Status, error) {
	cmd, err := b.command(ctx, spec.Args, spec.Env, spec.Dir)
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, spec.Stdout, spec.Stderr
	err = b.run(cmd)
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return nil, err
	}
	st := &backends.Status{Code: cmd.ProcessState.ExitCode()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		st.Signal = int(ws.Signal())
		st.Code = 128 + st.Signal
	}
	// Collect wants a root to look at.
	st.Root, err = os.Open("/")
	return st, err
}

// run runs cmd, and whoever kills us kills it.
func (b bare) run(cmd *exec.Cmd) error {
	runtime.LockOSThread() // it is our thread's death that counts
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if b.parts.Bare != nil {
		b.parts.Bare()
	}
	return cmd.Run()
}

func (b bare) command(ctx context.Context, args, env []string, dir string) (*exec.Cmd, error) {
	search := ""
	for _, v := range env {
		if s, ok := strings.CutPrefix(v, "PATH="); ok {
			search = s
		}
	}
	program, err := b.parts.Find(args[0], search)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(program) {
		program = filepath.Join(dir, program)
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Args, cmd.Env, cmd.Dir = args, env, dir
	return cmd, nil
}

// collectTold stores the outputs that the call is known to make.
func (s *Session) collectTold(ctx context.Context) (*action.Result, error) {
	k := &collector{ctx: ctx, s: s, res: &action.Result{}}
	for _, o := range s.told.outputs {
		at := s.call.abs(o)
		dir, err := unix.Open(path.Dir(at), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it failed
		}
		if err != nil {
			return nil, err
		}
		err = k.told(dir, at)
		unix.Close(dir)
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(k.res.Files, func(a, b action.OutputFile) int { return strings.Compare(a.Path, b.Path) })
	return k.res, nil
}

func (k *collector) told(dir int, at string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, path.Base(at), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s: not a file: %w", at, ErrPlain)
	}
	k.s.written[at] = true
	return k.file(dir, path.Base(at), at, &st)
}

// lookupsTold asks the compiler what the call depends on. What it says is turned into
// look-ups, as if they had been observed.
func (s *Session) lookupsTold(ctx context.Context) ([]backends.Lookup, error) {
	tmp, err := os.MkdirTemp("", "sbx-cc-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	rule := filepath.Join(tmp, "d")
	env := []string{"LC_ALL=C"} // the first one counts
	for _, v := range s.command.Environment {
		if v.Name != "LC_ALL" && v.Name != "DEPENDENCIES_OUTPUT" && v.Name != "SUNPRO_DEPENDENCIES" {
			env = append(env, v.Name+"="+v.Value)
		}
	}
	b := bare{s.parts}
	cmd, err := b.command(ctx, slices.Concat(s.told.args, []string{"-w", "-M", "-MF", rule, "-v", "-H"}), env, s.call.Dir)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := b.run(cmd); err != nil {
		return nil, fmt.Errorf("ask the compiler what it depends on: %w", err)
	}
	deps, err := os.ReadFile(rule)
	if err != nil {
		return nil, err
	}
	a := readAnswer(said.String())
	a.files = append(a.files, readDependencies(string(deps))...)
	if len(a.angle) == 0 || len(a.programs) == 0 && !s.call.Clang || len(a.files) == 0 {
		return nil, errors.New("the compiler does not say what it depends on")
	}
	if a.precompiled {
		return nil, errors.New("it reads a precompiled header, and nothing was observed")
	}
	t := &teller{s: s, a: a, once: map[backends.Lookup]bool{}}
	if err := t.files(); err != nil {
		return nil, err
	}
	if err := t.programs(ctx, b, env); err != nil {
		return nil, err
	}
	return t.list, nil
}

// A teller turns an answer into look-ups.
type teller struct {
	s    *Session
	a    *answer
	list []backends.Lookup
	once map[backends.Lookup]bool
}

func (t *teller) add(op backends.Op, names ...string) {
	for _, n := range names {
		if !path.IsAbs(n) {
			n = t.s.call.Dir + "/" + n
		}
		if l := (backends.Lookup{Path: n, Op: op}); !t.once[l] {
			t.once[l] = true
			t.list = append(t.list, l)
		}
	}
}

// files adds what was included, where it would have been found first, and what was
// only asked for.
func (t *teller) files() error {
	t.add(backends.Stat, t.a.absent...)
	t.add(backends.Stat, t.a.quote...)
	t.add(backends.Stat, t.a.angle...)
	t.add(backends.Open, t.a.listed...)
	search := slices.Concat(t.a.quote, t.a.angle)
	var beside []string // directories of files with an #include in quotes
	var names []string
	var w twins
	for _, f := range t.a.files {
		t.add(backends.Open, f)
		if precompiled(f) {
			return fmt.Errorf("%s is precompiled, and only observation tells what it depends on", f)
		}
		for _, end := range []string{".gch", ".pch"} {
			t.add(backends.Stat, f+end)
			if _, err := os.Lstat(t.s.call.abs(f + end)); err == nil {
				return fmt.Errorf("%s%s may be read in the place of %s, and only observation tells", f, end, f)
			}
		}
		if d := path.Dir(f); !slices.Contains(beside, d) {
			beside = append(beside, d)
		}
		text, err := readText(t.s.call.abs(f))
		if err != nil {
			return err
		}
		more, ok := tested(text)
		first, _, _ := strings.Cut(strings.TrimPrefix(t.s.call.abs(f), "/"), "/")
		if !ok || !t.s.view.system(first) && strings.Contains(text, "asm") { // .incbin can be made of pieces
			return fmt.Errorf("%s asks for files in a way that only observation tells", f)
		}
		names = append(names, more...)
		if !t.s.view.system(first) {
			w.read(t.s.call.abs(f), text)
		}
	}
	if err := w.unread(t, slices.Concat(beside, search)); err != nil {
		return err
	}
	for _, f := range t.a.files {
		for i, d := range search {
			if rest, ok := under(f, d); ok && rest != "" {
				t.earlier(rest[1:], beside, search[:i])
			} else if d == "." && !path.IsAbs(f) {
				t.earlier(strings.TrimPrefix(f, "./"), beside, search[:i])
			}
		}
	}
	for _, n := range names {
		if path.IsAbs(n) {
			t.add(backends.Stat, n)
			continue
		}
		t.earlier(n, beside, search)
	}
	return nil
}

// earlier adds the places where something else called name would have been found.
func (t *teller) earlier(name string, lists ...[]string) {
	for _, dirs := range lists {
		for _, d := range dirs {
			t.add(backends.Stat, d+"/"+name, d+"/"+name+".gch")
		}
	}
}

func readText(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, clockMax))
	return string(data), err
}

// programs adds the driver, what it executes, their libraries, and where others of
// the same names would have been found.
func (t *teller) programs(ctx context.Context, b bare, env []string) error {
	var search []string
	for _, v := range env {
		if s, ok := strings.CutPrefix(v, "PATH="); ok {
			search = filepath.SplitList(s)
		}
	}
	for _, d := range t.a.parts {
		t.add(backends.Open, path.Clean(d)+"/specs")
	}
	programs := slices.Clone(t.a.programs)
	var err error
	for _, name := range []string{t.s.call.Args[0], "as"} {
		dirs := search
		if name == "as" {
			dirs = slices.Concat(t.a.parts, search)
		}
		var found string
		if strings.Contains(name, "/") {
			found = t.s.call.abs(name)
		} else if found, err = t.first(dirs, name); err != nil && name != "as" {
			return err
		}
		if found != "" {
			programs = append(programs, found)
		}
	}
	for _, p := range t.a.programs {
		if base := path.Base(p); strings.HasPrefix(base, "cc1") {
			_, _ = t.first(t.a.parts, base)
		}
	}
	loader := loaderOf()
	for _, p := range programs {
		t.add(backends.Exec, p)
		if head, _ := headOf(t.s.call.abs(p)); !strings.HasPrefix(head, "\x7fELF") {
			if !t.s.call.Script {
				t.s.judged, t.s.foreign = true, p
			}
			return fmt.Errorf("%s is a script, or cannot be read: only observation tells what it does", p)
		}
		if loader != "" {
			t.libraries(ctx, loader, p, env)
		}
	}
	return nil
}

// libraries adds what the loader opens for a program, which may need none.
func (t *teller) libraries(ctx context.Context, loader, program string, env []string) {
	cmd := exec.CommandContext(ctx, loader, "--list", program)
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		return
	}
	t.add(backends.Open, loader, "/etc/ld.so.cache")
	t.add(backends.Stat, "/etc/ld.so.preload")
	for line := range strings.Lines(string(out)) {
		if _, lib, ok := strings.Cut(line, " => "); ok {
			lib, _, _ = strings.Cut(lib, " (")
			t.add(backends.Open, strings.TrimSpace(lib))
		}
	}
}

// first adds the places up to the first one that has an executable file of the name.
func (t *teller) first(dirs []string, name string) (string, error) {
	for _, d := range dirs {
		p := path.Join(t.s.call.abs(d), name)
		t.add(backends.Stat, p)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w on PATH", name, ErrNotFound)
}

// loaderOf is the dynamic loader of this machine, or "".
func loaderOf() string {
	for _, pattern := range []string{"/lib64/ld-linux*.so.*", "/lib/ld-linux*.so.*"} {
		if list, _ := filepath.Glob(pattern); len(list) > 0 {
			return list[0]
		}
	}
	return ""
}
