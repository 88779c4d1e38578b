package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/backends"
)

// complete fills in the rest of spec.
func (f *sandboxFlags) complete(spec *backends.Spec, d *imageDefaults, c backends.Capabilities) error {
	if len(spec.Args) == 0 {
		spec.Args = d.Args
	}
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return errors.New("no command: put it after --, as in 'sbx-action sandbox host -- ls /'")
	}
	for _, a := range spec.Args {
		if strings.ContainsRune(a, 0) {
			return fmt.Errorf("argument %q contains a NUL byte, which no program can be given", a)
		}
	}
	spec.Dir = "/"
	if d.Dir != "" {
		spec.Dir = path.Clean(d.Dir)
	}
	if f.cwd != "" {
		if spec.Dir = path.Clean(f.cwd); !path.IsAbs(spec.Dir) {
			return fmt.Errorf("--cwd %s: want an absolute path of the root", f.cwd)
		}
	}
	var err error
	if spec.Env, err = f.environ(d.Env); err != nil {
		return err
	}
	hasPath := slices.ContainsFunc(spec.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") })
	if !hasPath && !strings.Contains(spec.Args[0], "/") {
		return fmt.Errorf("--clearenv: there is no PATH to find %q: name the program with its directory, or add --env PATH=…", spec.Args[0])
	}
	if user, group := d.ids(); user >= 0 && f.uid < 0 && f.gid < 0 && c.Users {
		spec.Root.As = &user
		if group >= 0 {
			spec.Root.Group = &group
		}
	}
	if f.uid >= 0 {
		spec.Root.As = &f.uid
	}
	if f.gid >= 0 {
		spec.Root.Group = &f.gid
	}
	if spec.Filter, err = f.filter(); err != nil {
		return err
	}
	spec.Network = networkOf(f.network == "host")
	spec.Limits = backends.Limits{Wall: time.Duration(f.timeout), Memory: int64(f.memory), Pids: int64(f.pids)}
	if len(f.writable) > 0 && f.writable[0] != "all" {
		spec.Root.ReadOnly = true
		if f.writable[0] != "none" {
			spec.Root.Writable = f.writable
		}
	}
	spec.Root.Tmpfs = f.tmpfs
	return f.addMounts(spec)
}

// environ is what the image says, and then --env; PATH is there, but with
// --clearenv.
func (f *sandboxFlags) environ(image []string) ([]string, error) {
	env := map[string]string{"PATH": defaultEnv["PATH"]}
	if f.clearEnv {
		env, image = map[string]string{}, nil
	}
	for _, v := range image {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	for _, v := range f.env {
		name, value, given := strings.Cut(v, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE, or NAME to pass the caller's value on", v)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, fmt.Errorf("--env %s: the variable is not set; give a value, as in --env %s=VALUE", name, name)
			}
		}
		env[name] = value
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out, nil
}

// filter reads --seccomp.
func (f *sandboxFlags) filter() ([]byte, error) {
	if f.seccomp == "" {
		return nil, nil
	}
	file, err := os.Open(f.seccomp)
	if err != nil {
		return nil, fmt.Errorf("--seccomp: %w", err)
	}
	defer file.Close()
	const most = backends.FilterMax * 8
	data, err := io.ReadAll(io.LimitReader(file, most+8)) // /dev/zero has no end
	if err != nil {
		return nil, fmt.Errorf("--seccomp: %w", err)
	}
	if err := backends.CheckFilter(data); err != nil {
		return nil, fmt.Errorf("--seccomp %s: %w", f.seccomp, err)
	}
	return data, nil
}

func (f *sandboxFlags) addMounts(spec *backends.Spec) error {
	for _, m := range f.mounts {
		parts := strings.Split(m, ":")
		writable := true
		if len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw") {
			writable = parts[2] == "rw"
			parts = parts[:2]
		}
		if len(parts) != 2 || parts[0] == "" {
			return fmt.Errorf("--mount %s: want SRC:DST or SRC:DST:ro", m)
		}
		source, err := filepath.Abs(parts[0])
		if err == nil {
			_, err = os.Stat(source)
		}
		if err != nil {
			return fmt.Errorf("--mount %s: %w", m, err)
		}
		if !path.IsAbs(parts[1]) || path.Clean(parts[1]) == "/" {
			return fmt.Errorf("--mount %s: %q is not an absolute path below the root", m, parts[1])
		}
		if p := path.Clean(parts[1]); p == "/proc" || p == "/dev" {
			return fmt.Errorf("--mount %s: the sandbox has a %s of its own, which programs rely on: take another place", m, p)
		}
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: source, Target: path.Clean(parts[1]), Writable: writable})
	}
	return nil
}

// redirect opens --stdout and --stderr, and returns what closes them.
func (f *sandboxFlags) redirect(spec *backends.Spec) (func() error, error) {
	var files []*os.File
	closeAll := func() error {
		var errs []error
		for _, file := range files {
			errs = append(errs, file.Close())
		}
		return errors.Join(errs...)
	}
	for _, r := range []struct {
		flag, name string
		to         **os.File
	}{{"--stdout", f.stdout, &spec.Stdout}, {"--stderr", f.stderr, &spec.Stderr}} {
		switch r.name {
		case "":
		case "-":
			*r.to = spec.Stdout
		default:
			file, err := os.Create(r.name)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", r.flag, err), closeAll())
			}
			files = append(files, file)
			*r.to = file
		}
	}
	return closeAll, nil
}
