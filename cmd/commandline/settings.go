package commandline

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// # Settings
//
// What a flag is when the command line does not say so comes from, the first
// that has it:
//
//  1. the variable SBX_NAME of the environment, for a flag --name ("-" is "_"),
//  2. the file .sbx-action of the project: of the workspace, or the nearest
//     directory above that has one,
//  3. the file sbx-action/settings of the user, in $XDG_CONFIG_HOME or ~/.config.
//
// A file is lines of text, NAME = VALUE, where NAME is that of a flag. Lines that
// are empty or begin with "#" say nothing. A value is the rest of the line,
// without spaces around it; on or off is true or false. A name that is there
// twice, or is no setting, is an error with file and line. Anything else than
// UTF-8, and a file of more than 64 KiB, is refused.
//
// A project's file comes with the project, from whoever wrote that. So it may
// set only what makes an action no less hermetic and writes nowhere else
// ([Setting.Project]), its root file system must be a name or within the
// project, and in a directory above the workspace it must belong to the user,
// to root, or to the owner of the workspace.

// A Setting is a flag that has a value without being given.
type Setting struct {
	Name    string
	Project bool // the project's file may set it
	Env     string
}

// Settings are all of them, sorted by name.
func Settings() []Setting {
	list := []Setting{
		{Name: "backend"},
		{Name: "cache"},
		{Name: "cache-max"},
		{Name: "color"},
		{Name: "digest", Project: true},
		{Name: "jobs", Project: true},
		{Name: "keep-going", Project: true},
		{Name: "log"},
		{Name: "memory", Project: true},
		{Name: "memory-budget", Project: true},
		{Name: "network"},
		{Name: "pids", Project: true},
		{Name: "progress", Project: true},
		{Name: "prune", Project: true},
		{Name: "read-only"},
		{Name: "rootfs", Project: true},
		{Name: "scratch", Project: true},
		{Name: "show", Project: true},
		{Name: "timeout", Project: true},
		{Name: "verbose"},
	}
	for i := range list {
		list[i].Env = "SBX_" + strings.ToUpper(strings.ReplaceAll(list[i].Name, "-", "_"))
	}
	return list
}

// A Value is a setting with where it came from: a variable's name, or a file
// with the line.
type Value struct{ Name, Value, Origin string }

// projectSettings is the name of a project's file.
const projectSettings = ".sbx-action"

// maxSettings is the largest size of a file of settings.
const maxSettings = 64 << 10

// GivenSettings returns the settings that are given, for a workspace; without one
// no project's.
func GivenSettings(workspace string) ([]Value, error) {
	user, err1 := userSettings()
	var project []Value
	var err2 error
	if workspace != "" {
		project, err2 = readProject(workspace)
	}
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var list []Value
	for _, s := range Settings() {
		if v, ok := os.LookupEnv(s.Env); ok && v != "" {
			list = append(list, Value{s.Name, v, s.Env})
			continue
		}
		for _, from := range [][]Value{project, user} {
			if i := slices.IndexFunc(from, func(v Value) bool { return v.Name == s.Name }); i >= 0 {
				list = append(list, from[i])
				break
			}
		}
	}
	return list, nil
}

// OwnSetting returns a setting that no project has: of the environment, or of the
// user's file; the zero Value if it is not given.
func OwnSetting(name string) (Value, error) {
	for _, s := range Settings() {
		if v := os.Getenv(s.Env); s.Name == name && v != "" {
			return Value{name, v, s.Env}, nil
		}
	}
	list, err := userSettings()
	if i := slices.IndexFunc(list, func(v Value) bool { return v.Name == name }); err == nil && i >= 0 {
		return list[i], nil
	}
	return Value{}, err
}

// UserSettings is the user's file, "" if there can be none.
func UserSettings() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "sbx-action", "settings")
}

func userSettings() ([]Value, error) {
	name := UserSettings()
	if name == "" {
		return nil, nil
	}
	list, err := readSettings(name)
	if err != nil {
		if _, err := os.Lstat(name); err != nil { // it is not there, or nobody can get there
			return nil, nil
		}
	}
	for i, v := range list {
		if home, err := os.UserHomeDir(); err == nil && (v.Name == "cache" || v.Name == "log") {
			if rest, ok := strings.CutPrefix(v.Value, "~/"); ok {
				list[i].Value = filepath.Join(home, rest)
			}
			if !filepath.IsAbs(list[i].Value) {
				return nil, fmt.Errorf("%s: %s must be an absolute path, or begin with ~/", v.Origin, v.Name)
			}
		}
	}
	return list, err
}

// settingsOf is the file of the project that dir is in, "" if there is none.
func settingsOf(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		name := filepath.Join(dir, projectSettings)
		if _, err := os.Lstat(name); err == nil {
			return name
		}
		if filepath.Dir(dir) == dir {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

func readProject(workspace string) ([]Value, error) {
	name := settingsOf(workspace)
	if name == "" {
		return nil, nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, nil // something else that has the name
	}
	if err := trusted(name, workspace); err != nil {
		return nil, err
	}
	list, err := readSettings(name)
	if err != nil && !Within(name, filepath.Dir(name)) { // what is there is not to be quoted in somebody's log
		return nil, fmt.Errorf("%s is a link out of the project, to what is no file of settings: remove it", name)
	}
	if err != nil {
		return nil, err
	}
	for i, v := range list {
		known := Settings()
		if k := slices.IndexFunc(known, func(s Setting) bool { return s.Name == v.Name }); !known[k].Project {
			return nil, fmt.Errorf("%s: a project must not set %s: use the flag, %s, or your own file %s", v.Origin, v.Name, known[k].Env, UserSettings())
		}
		if v.Name == "rootfs" && strings.ContainsAny(v.Value, "/.") && !strings.Contains(v.Value, ":") {
			dir := filepath.Dir(name)
			at := filepath.Join(dir, v.Value)
			if filepath.IsAbs(v.Value) || !filepath.IsLocal(v.Value) {
				return nil, fmt.Errorf("%s: a project's rootfs must be a name, a digest or a path within the project", v.Origin)
			}
			if _, err := os.Stat(at); err == nil { // else a name with a dot
				if !Within(at, dir) {
					return nil, fmt.Errorf("%s: a project's rootfs must be a path within the project, and %s leads out of it through a link: give that a name with 'sbx-action rootfs import', or use --rootfs", v.Origin, v.Value)
				}
				list[i].Value = at
			}
		}
	}
	return list, nil
}

// Within says whether what is at name, whatever links lead there, is in dir.
func Within(name, dir string) bool {
	real, err1 := filepath.EvalSymlinks(name)
	in, err2 := filepath.EvalSymlinks(dir)
	rel, err3 := filepath.Rel(in, real)
	return errors.Join(err1, err2, err3) == nil && filepath.IsLocal(rel)
}

// trusted refuses a file above the workspace that somebody else has put there.
func trusted(name, workspace string) error {
	owner := func(name string) int {
		info, err := os.Stat(name)
		if err != nil {
			return -1
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return int(st.Uid)
		}
		return -1
	}
	o := owner(name)
	if o == 0 || o == os.Geteuid() || o == owner(workspace) {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, and the workspace %s does not: remove it, or work elsewhere", name, o, workspace)
}

// readSettings reads one file.
func readSettings(name string) ([]Value, error) {
	if info, err := os.Stat(name); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		return nil, fmt.Errorf("%s is a pipe, not a file: remove it", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 0, 1024)
	for len(buf) <= maxSettings {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, len(buf))
		}
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if len(buf) > maxSettings {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxSettings)
	}
	return parseSettings(name, string(buf))
}

func parseSettings(name, text string) (list []Value, err error) {
	line := 0
	for raw := range strings.Lines(text) {
		line++
		at := fmt.Sprintf("%s:%d", name, line)
		s := strings.TrimSpace(raw)
		if s == "" || s[0] == '#' {
			continue
		}
		if strings.ToValidUTF8(s, "") != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("%s: this is not a line of text", at)
		}
		key, value, ok := strings.Cut(s, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %q has no \"=\": want NAME = VALUE", at, s)
		case value == "":
			return nil, fmt.Errorf("%s: %s has no value: leave the line out", at, key)
		case !slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Name == key }):
			return nil, fmt.Errorf("%s: %q is no setting: 'sbx-action config list' lists them", at, key)
		case slices.ContainsFunc(list, func(v Value) bool { return v.Name == key }):
			return nil, fmt.Errorf("%s: %s is there twice", at, key)
		}
		list = append(list, Value{key, value, at})
	}
	return list, nil
}

// applySettings sets those flags of a command that are settings and were not
// given.
func (c Command) applySettings(flags *flag.FlagSet) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	workspace := ""
	if !c.Alone {
		workspace = workspaceOf(flags)
	}
	if given["j"] {
		given["jobs"] = true
	}
	if given["k"] {
		given["keep-going"] = true
	}
	values, err := GivenSettings(workspace)
	if err != nil {
		return err
	}
	for _, v := range values {
		name := v.Name
		if other, ok := c.SettingFlags[name]; ok {
			name = other
		}
		f := flags.Lookup(name)
		if f == nil || given[name] {
			continue
		}
		// Not by flags.Set: what is set here was not given.
		if err := f.Value.Set(v.Value); err != nil {
			return fmt.Errorf("%s: %s = %q: %w", v.Origin, v.Name, v.Value, err)
		}
	}
	if f := flags.Lookup("cache"); f == nil { // it uses the store all the same
		return shareStore()
	}
	return nil
}

// workspaceOf is the directory whose project a command is about.
func workspaceOf(flags *flag.FlagSet) string {
	for _, name := range []string{"workspace", "definitions"} {
		if f := flags.Lookup(name); f != nil && f.Value.String() != "" {
			return f.Value.String()
		}
	}
	for _, name := range []string{"f", "file"} {
		if f := flags.Lookup(name); f != nil && f.Value.String() != "" {
			return filepath.Dir(f.Value.String())
		}
	}
	return "."
}

// shareStore lets a command that has no settings, and the other program, find
// the store where the user's file says it is.
func shareStore() error {
	if os.Getenv("SBX_CACHE") != "" {
		return nil
	}
	list, err := userSettings()
	if err != nil {
		return err
	}
	for _, v := range list {
		if v.Name == "cache" {
			return os.Setenv("SBX_CACHE", v.Value)
		}
	}
	return nil
}
