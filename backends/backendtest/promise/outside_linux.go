package promise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// asNamespaceRoot makes cmd root of a user namespace, with namespaces that it
// may do to as it likes.
func asNamespaceRoot(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// alive finds the processes that have mark on their command line.
func (t *trial) alive(mark string) []int {
	var pids []int
	if t.caps.OwnKernel || t.caps.Boots { // which hides them: then those are meant that it consists of
		for pid := range descendants() {
			pids = append(pids, pid)
		}
		return pids
	}
	for _, pid := range processes() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if bytes.Contains(line, []byte(mark)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func processes() []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually waits for something that another process brings about.
func (t *trial) eventually(limit time.Duration, what string, f func() bool) error {
	for end := time.Now().Add(limit); ; time.Sleep(2 * time.Millisecond) {
		if f() {
			return nil
		}
		if time.Now().After(end) || t.ctx.Err() != nil {
			return fmt.Errorf("%s: not within %v", what, limit)
		}
	}
}

// descendants are the processes that are below us, without those that ended.
// As a subreaper we are also the parent of those whose parents have died.
func descendants() map[int]string {
	parent, name := map[int]int{}, map[int]string{}
	for _, pid := range processes() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		// The name, in brackets, may have brackets and spaces of its own.
		i, j := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if i < 0 || j < i {
			continue
		}
		f := strings.Fields(string(text[j+1:]))
		if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
			continue
		}
		parent[pid], _ = strconv.Atoi(f[1])
		name[pid] = string(text[i+1 : j])
	}
	below := map[int]string{}
	for pid := range parent {
		for p := parent[pid]; p > 1; p = parent[p] {
			if p == os.Getpid() {
				below[pid] = name[pid]
				break
			}
		}
	}
	return below
}

// A scene is what a backend may leave behind.
type scene struct {
	processes map[int]string
	mounts    map[string]bool
	temps     map[string]bool
	fds       map[string]bool
	cgroups   map[string]bool
}

func (t *trial) scene() scene {
	s := scene{
		processes: descendants(),
		mounts:    map[string]bool{}, temps: map[string]bool{}, fds: map[string]bool{}, cgroups: map[string]bool{},
	}
	text, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		s.mounts[line] = true
	}
	if t.TempDir != "" {
		entries, _ := os.ReadDir(t.TempDir)
		for _, e := range entries {
			s.temps[e.Name()] = true
		}
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			s.fds[e.Name()+" "+link] = true
		}
	}
	for _, dir := range cgroups() {
		s.cgroups[dir] = true
	}
	return s
}

// cgroups are the directories below those of the control groups that we are in.
func cgroups() []string {
	var dirs []string
	for _, top := range cgroupTops() {
		filepath.WalkDir(top, func(p string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
	}
	return dirs
}

func cgroupTops() []string {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		tops = []string{"/sys/fs/cgroup"}
	}
	return tops
}

// onlyMounts is the error of left where there is nothing but mounts.
type onlyMounts struct{ error }

// byOthersToo tries check again where it found nothing but mounts. Other programs
// make some beside us, but hardly each time; who leaves one behind does each time.
func byOthersToo(check func() error) error {
	for tries := 3; ; tries-- {
		err := check()
		if _, only := errors.AsType[onlyMounts](err); !only || tries == 1 {
			return err
		}
	}
}

// names says whether a path has a process's number in it, as a word: others have
// names of hexadecimal digits, which have every number somewhere.
func names(path string, pid int) bool {
	return slices.Contains(strings.FieldsFunc(path, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), strconv.Itoa(pid))
}

// left says what is in after and was not in s. Control groups count where the
// process that made them is named by their path: other programs make some too.
func (s scene) left(after scene, by ...int) error {
	var all []string
	for pid, name := range after.processes {
		if _, ok := s.processes[pid]; !ok {
			all = append(all, fmt.Sprintf("process %d (%s)", pid, name))
		}
	}
	add := func(what string, before, after map[string]bool) {
		for x := range after {
			if !before[x] {
				all = append(all, what+" "+x)
			}
		}
	}
	add("temporary file", s.temps, after.temps)
	add("descriptor", s.fds, after.fds)
	ours := map[string]bool{}
	for dir := range after.cgroups {
		for _, pid := range by {
			if names(dir, pid) {
				ours[dir] = true
			}
		}
	}
	add("control group", s.cgroups, ours)
	rest := len(all)
	add("mount", s.mounts, after.mounts)
	if all == nil {
		return nil
	}
	sort.Strings(all)
	err := errors.New("left behind: " + strings.Join(all, ", "))
	if rest == 0 {
		return onlyMounts{err}
	}
	return err
}

// onTerminal runs a probe outside that has tty as its controlling terminal.
func (t *trial) onTerminal(tty *os.File, args ...string) (string, error) {
	cmd := t.probeOutside(args)
	cmd.Stdin = tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("control outside: %q: %w", args, err)
	}
	return string(out), nil
}
