package native

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/helper"
)

// groups makes control groups for commands with limits, and keeps them for the
// next command.
//
// A group is a directory sbx-PID-N (with version 1, one in each of the two
// hierarchies). Whoever made it holds a lock on it, which the kernel drops when
// that process dies; whoever finds a group that it can lock removes it.
type groups struct {
	parent string // Options.CgroupParent

	once   sync.Once
	memory hierarchy // these two are the same with version 2
	pids   hierarchy

	mu   sync.Mutex
	idle []*group // guarded by mu
}

// A hierarchy is a directory in which groups can be made; "" where there is
// none that we may write to.
type hierarchy struct {
	dir string
	v2  bool
}

// A group is owned by the run that uses it.
type group struct {
	dirs  []*os.File // locked
	procs []*os.File
	owner *groups
	kills int // of the memory killer, before the run
}

var groupNumber atomic.Int64

// find looks for hierarchies once.
func (g *groups) find() {
	g.once.Do(func() {
		for _, h := range cgroupMounts() {
			dir := h.dir
			if g.parent != "" {
				dir = filepath.Join(h.mount, g.parent)
			}
			if h.v2 {
				// A group with processes, such as ours, cannot have children
				// with controllers; only the root can.
				if g.parent == "" && dir != h.mount {
					dir = filepath.Dir(dir)
				}
				enable(dir)
			}
			in := hierarchy{dir, h.v2}
			for controller, to := range map[string]*hierarchy{"memory": &g.memory, "pids": &g.pids} {
				if to.dir == "" && h.controllers[controller] && in.usable(controller) {
					*to = in
				}
			}
		}
	})
}

// usable says whether groups with this controller can be made below h, and
// removes what dead processes have left there.
func (h hierarchy) usable(controller string) bool {
	if unix.Access(h.dir, unix.W_OK) != nil {
		return false
	}
	if h.v2 { // what is listed there is what children have
		have, _ := os.ReadFile(filepath.Join(h.dir, "cgroup.subtree_control"))
		if !slices.Contains(strings.Fields(string(have)), controller) {
			return false
		}
	}
	left, _ := filepath.Glob(filepath.Join(h.dir, "sbx-*"))
	for _, l := range left {
		if f, err := lockGroup(l); err == nil {
			os.Remove(l)
			f.Close()
		}
	}
	return true
}

func newGroupName() string {
	return fmt.Sprintf("sbx-%d-%d", os.Getpid(), groupNumber.Add(1))
}

// enable gives the children of dir the controllers, if nobody has yet and we
// may.
func enable(dir string) {
	file := filepath.Join(dir, "cgroup.subtree_control")
	have, _ := os.ReadFile(file)
	for _, c := range []string{"memory", "pids"} {
		if !slices.Contains(strings.Fields(string(have)), c) {
			os.WriteFile(file, []byte("+"+c), 0) //nolint:errcheck // usable finds out
		}
	}
}

func lockGroup(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// limit takes a group for the limits that need one, or puts what comes nearest
// into req.
func (b *Backend) limit(l backends.Limits, req *helper.Request) (*group, error) {
	if l.Memory == 0 && l.Pids == 0 {
		return nil, nil
	}
	b.groups.find()
	needMemory, needPids := l.Memory > 0 && b.groups.memory.dir != "", l.Pids > 0 && b.groups.pids.dir != ""
	if l.Memory > 0 && !needMemory {
		req.Memory = l.Memory
	}
	if l.Pids > 0 && !needPids {
		if !b.unprivileged {
			return nil, fmt.Errorf("limit the number of processes: no control group %q can be made: %w", "pids", backends.ErrUnsupported)
		}
		// Counted in the slot's user namespace, in which the slot itself and
		// the inits of all its sandboxes are.
		inits := int64(helper.Sandboxes)
		if b.once {
			inits = 1
		}
		req.Procs = l.Pids + inits + 1
	}
	if !needMemory && !needPids {
		return nil, nil
	}
	g, err := b.groups.take(l)
	if err != nil {
		return nil, err
	}
	req.Groups = g.procs
	return g, nil
}

// take returns a group with these limits.
func (g *groups) take(l backends.Limits) (*group, error) {
	g.mu.Lock()
	var c *group
	if n := len(g.idle); n > 0 {
		c, g.idle = g.idle[n-1], g.idle[:n-1]
	}
	g.mu.Unlock()
	if c != nil {
		if c.set(l) == nil {
			return c, nil
		}
		c.remove() // what is left in it does not let the limit be lowered
	}
	c, err := g.make()
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	if err := c.set(l); err != nil {
		c.remove()
		return nil, fmt.Errorf("limit a control group: %w", err)
	}
	return c, nil
}

func (g *groups) make() (*group, error) {
	c, name := &group{owner: g}, newGroupName()
	for i, h := range []hierarchy{g.memory, g.pids} {
		if h.dir == "" || i == 1 && h.dir == g.memory.dir {
			continue
		}
		dir := filepath.Join(h.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			c.remove()
			return nil, err
		}
		f, err := lockGroup(dir)
		if err != nil {
			os.Remove(dir)
			c.remove()
			return nil, err
		}
		c.dirs = append(c.dirs, f)
		procs, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			c.remove()
			return nil, err
		}
		c.procs = append(c.procs, procs)
	}
	return c, nil
}

func (c *group) remove() error {
	var errs []error
	for _, f := range c.dirs {
		errs = append(errs, os.Remove(f.Name()), f.Close())
	}
	for _, f := range c.procs {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// in returns a file of the group in h's hierarchy.
func (c *group) in(h hierarchy, file string) string {
	return filepath.Join(h.dir, filepath.Base(c.dirs[0].Name()), file)
}

// set sets the limits and notes how often memory has run out so far.
func (c *group) set(l backends.Limits) error {
	m, p := c.owner.memory, c.owner.pids
	if m.dir != "" {
		if err := c.setMemory(l.Memory); err != nil {
			return err
		}
		var err error
		if c.kills, err = c.oomKills(); err != nil {
			return err
		}
	}
	if p.dir != "" {
		return write(c.in(p, "pids.max"), number(l.Pids, "max"))
	}
	return nil
}

func (c *group) setMemory(limit int64) error {
	m := c.owner.memory
	if m.v2 {
		if err := write(c.in(m, "memory.swap.max"), "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return write(c.in(m, "memory.max"), number(limit, "max"))
	}
	// The sum with swap may never be the smaller one.
	sum := c.in(m, "memory.memsw.limit_in_bytes")
	_, err := os.Stat(sum)
	if err == nil {
		if err := write(sum, "-1"); err != nil {
			return err
		}
	}
	if err := write(c.in(m, "memory.limit_in_bytes"), number(limit, "-1")); err != nil {
		return err
	}
	if err == nil {
		return write(sum, number(limit, "-1"))
	}
	return nil
}

func number(n int64, none string) string {
	if n == 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// oomKills is how many processes of the group the kernel has killed for want
// of memory.
func (c *group) oomKills() (int, error) {
	file := "memory.oom_control"
	if c.owner.memory.v2 {
		file = "memory.events"
	}
	n, err := readStat(c.in(c.owner.memory, file), "oom_kill")
	return int(n), err
}

func (c *group) outOfMemory() (bool, error) {
	if c.owner.memory.dir == "" {
		return false, nil
	}
	n, err := c.oomKills()
	return n > c.kills, err
}

// readStat adds up the values of names in a file of lines "name value".
func readStat(file string, names ...string) (sum int64, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, want := range names {
			if name == want {
				n, _ := strconv.ParseInt(value, 10, 64)
				sum += n
			}
		}
	}
	return sum, nil
}

// put keeps a group for the next run. If memory is still charged to it that
// cannot be reclaimed, such as a scratch that the caller has not closed yet,
// it would be missing there, so then the group goes.
func (g *groups) put(c *group) {
	if g.memory.dir != "" {
		names := []string{"rss", "shmem"}
		if g.memory.v2 {
			names[0] = "anon"
		}
		if n, err := readStat(c.in(g.memory, "memory.stat"), names...); err != nil || n > 1<<20 {
			c.remove() //nolint:errcheck // a later process of ours sweeps
			return
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = append(g.idle, c)
}

func (g *groups) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, c := range g.idle {
		errs = append(errs, c.remove())
	}
	g.idle = nil
	return errors.Join(errs...)
}

// A cgroupMount is a mounted hierarchy and this process's directory in it.
type cgroupMount struct {
	mount, dir  string
	v2          bool
	controllers map[string]bool
}

// cgroupMounts lists the hierarchies that are mounted.
func cgroupMounts() []cgroupMount {
	own := map[string]string{} // controller, or "" for version 2: path of our group
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 {
			for c := range strings.SplitSeq(f[1], ",") {
				own[c] = f[2]
			}
		}
	}
	info, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer info.Close()
	var mounts []cgroupMount
	for s := bufio.NewScanner(info); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 3 || !strings.HasPrefix(g[0], "cgroup") {
			continue
		}
		m := cgroupMount{mount: f[4], v2: g[0] == "cgroup2", controllers: map[string]bool{}}
		path, list := own[""], g[2]
		if m.v2 {
			have, _ := os.ReadFile(filepath.Join(m.mount, "cgroup.controllers"))
			list = strings.Join(strings.Fields(string(have)), ",")
		}
		for c := range strings.SplitSeq(list, ",") {
			m.controllers[c] = true
			if p, ok := own[c]; ok && !m.v2 {
				path = p
			}
		}
		rel, err := filepath.Rel(f[3], path)
		if err != nil || strings.HasPrefix(rel, "..") {
			continue
		}
		m.dir = filepath.Join(m.mount, rel)
		mounts = append(mounts, m)
	}
	return mounts
}
