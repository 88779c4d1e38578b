package cc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// WorkingDirectory returns the working directory without symbolic links, whatever
// PWD says.
func WorkingDirectory() (string, error) {
	dir, err := unix.Getwd()
	if err == nil && !filepath.IsAbs(dir) { // "(unreachable)"
		err = fmt.Errorf("the working directory %s cannot be reached", dir)
	}
	return dir, err
}

// callers names the variable with the scripts by which a call has come to us, one on
// each side of a ':'. A script called gcc that does exec sbx-action cc gcc "$@", or calls a link to us, is
// what we find first for gcc; from it, and for a call that it makes, the next one on
// PATH is meant.
const callers = "SBX_CC_CALLERS"

// maxCallers is how many scripts may call us within each other.
const maxCallers = 8

// Self is this program, for telling links to it from compilers. It is used for one call,
// which looks for its compiler four times: what is found the first time counts, as it
// does for a shell, and so all that is concluded is of one compiler.
type Self struct {
	info    os.FileInfo
	asked   map[string]bool // what Is was asked, and said
	callers []string

	looked  map[string]os.FileInfo // see stat
	scripts map[string]bool        // by the path of a program that Find returned: see isScript
}

// NewSelf returns the program that runs.
func NewSelf() *Self {
	s := &Self{
		asked: map[string]bool{}, callers: filepath.SplitList(os.Getenv(callers)),
		looked: map[string]os.FileInfo{}, scripts: map[string]bool{},
	}
	if info, err := os.Stat("/proc/self/exe"); err == nil {
		s.info = info
	}
	return s
}

// stat is what was at path when that was first asked; nil: nothing that we know of.
func (s *Self) stat(path string) os.FileInfo {
	info, known := s.looked[path]
	if !known {
		info, _ = os.Stat(path) // nil where it fails
		s.looked[path] = info
	}
	return info
}

// isScript says whether the program at path was text when that was first asked.
func (s *Self) isScript(path string) bool {
	is, known := s.scripts[path]
	if !known {
		is = isScript(path)
		s.scripts[path] = is
	}
	return is
}

// Called says whether a script called us that we had started for a compiler.
func (s *Self) Called() bool { return len(s.callers) > 0 }

// IsScript says whether the program that name means is text.
func (s *Self) IsScript(name, path string) bool {
	p, err := s.Find(name, path)
	return err == nil && s.isScript(p)
}

// Mark returns env, and with it, if name is looked for on PATH and means a script, the
// variable that tells calls by that script that it is not what they mean.
func (s *Self) Mark(name, path string, env []string) (marked []string, variable string) {
	p, err := s.Find(name, path)
	if filepath.Base(name) != name && !s.Is(name) || err != nil || !s.isScript(p) {
		return env, ""
	}
	if abs, err := filepath.Abs(p); err == nil {
		p = abs
	}
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, callers+"=") })
	return append(env, callers+"="+strings.Join(append(slices.Clone(s.callers), p), ":")), callers
}

// isOurs says whether path is this program, or a script by which the call came to us.
func (s *Self) isOurs(path string) bool {
	if s.Is(path) {
		return true
	}
	if !s.Called() {
		return false
	}
	abs, err := filepath.Abs(path)
	return err == nil && slices.Contains(s.callers, abs)
}

// Is says whether path is this program, perhaps by way of links.
func (s *Self) Is(path string) bool {
	if s.info == nil {
		return false
	}
	info := s.stat(path)
	is := info != nil && os.SameFile(info, s.info)
	s.asked[path] = is
	return is
}

// Asked is what Is was asked, and what it said.
func (s *Self) Asked() map[string]bool { return s.asked }

// LinksIn returns a function that says whether a directory of PATH holds a link
// to us called name.
func (s *Self) LinksIn(name string) func(dir string) bool {
	base := filepath.Base(name)
	return func(dir string) bool { return dir != "" && s.Is(filepath.Join(dir, base)) }
}

// ErrNotFound says that there is no such program.
var ErrNotFound = errors.New("not found")

// Find returns the program that name means for somebody who knows nothing of
// us: links to this program on PATH are passed over, and scripts by which the call came
// to us.
func (s *Self) Find(name, path string) (string, error) {
	if len(s.callers) > maxCallers {
		return "", fmt.Errorf("%s is a script that calls itself by way of us: name the compiler in it by its whole path", s.callers[len(s.callers)-1])
	}
	if filepath.Base(name) != name {
		if s.Is(name) {
			return s.Find(filepath.Base(name), path)
		}
		return name, nil
	}
	var denied string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		p := filepath.Join(dir, name)
		info := s.stat(p)
		if info == nil || info.IsDir() || s.isOurs(p) {
			continue
		}
		if info.Mode()&0o111 == 0 {
			denied = p
			continue
		}
		if !filepath.IsAbs(p) {
			p = "./" + p
		}
		return p, nil
	}
	if denied != "" {
		return "", fmt.Errorf("%s: %w", denied, os.ErrPermission)
	}
	return "", fmt.Errorf("%s: %w on PATH", name, ErrNotFound)
}

// IsWrapper says whether the program that name means is a link to another wrapper, as
// in the directory of links that ccache has. In a sandbox its cache could not be kept.
func (s *Self) IsWrapper(name, path string) bool {
	p, err := s.Find(name, path)
	if err != nil {
		return false
	}
	for range 8 {
		target, err := os.Readlink(p)
		if err != nil {
			return false
		}
		if slices.Contains(wrappers, filepath.Base(target)) {
			return true
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(p), target)
		}
		p = target
	}
	return false
}

// Alone returns the arguments and the environment with which the program at path
// finds itself where it is, as if there were no links to us. A driver of GCC looks
// for its parts beside where it has been started from, which it finds out from its name
// and PATH: seeing our link first, it would miss all of them. Scripts are told
// where they are, and the programs that they call shall still be ours, but for
// themselves.
func (s *Self) Alone(path string, args, env []string) (alone, environment []string) {
	if s.isScript(path) {
		env, _ = s.Mark(args[0], os.Getenv("PATH"), env)
		return args, env
	}
	if filepath.Base(args[0]) != args[0] {
		if !s.Is(args[0]) {
			return args, env
		}
		args = append([]string{path}, args[1:]...)
	}
	for i, v := range env {
		if dirs, ok := strings.CutPrefix(v, "PATH="); ok {
			env = slices.Clone(env)
			env[i] = "PATH=" + s.past(filepath.Base(args[0]), dirs)
			break // the first counts
		}
	}
	return args, env
}

// past returns the directories of PATH so that the first program called name is none of
// our links. A directory in which there is nothing else is left out; others, where the
// program may find its helpers, are looked at last. That holds for programs, too, that
// look for the next one of their name: ccache, if it is the program that was meant,
// would find us, and we would find ccache, for ever.
func (s *Self) past(name, path string) string {
	var list, last []string
	for _, dir := range filepath.SplitList(path) {
		switch {
		case !s.isOurs(filepath.Join(dir, name)):
			list = append(list, dir)
		case !s.only(dir):
			last = append(last, dir)
		}
	}
	return strings.Join(append(list, last...), ":")
}

// only says whether all that is in dir is links to us and such scripts.
func (s *Self) only(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !s.isOurs(filepath.Join(dir, e.Name()))
	})
}

// Exec replaces this process by the program at path; as execvp does, by a shell
// if it is a script without #!. It only returns when that is not to be had.
func Exec(path string, args, env []string) error {
	err := syscall.Exec(path, args, env)
	if errors.Is(err, syscall.ENOEXEC) {
		err = syscall.Exec("/bin/sh", append([]string{"/bin/sh", path}, args[1:]...), env)
	}
	return fmt.Errorf("%s: %w", path, err)
}
