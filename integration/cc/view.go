package cc

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A view is what a call sees of the host: every directory at its own place, but
// for those that are different in each sandbox. It holds no state of the host: what
// is shown depends on the call alone, and so is in its key.
type view struct {
	zones  []string  // directories around those in which it may write; no one is below another
	dirs   []string  // those in which it may write, with all that is below them
	shown  []string  // directories of hidden places that the call names
	limits []string  // strict: nothing else of the host is shown but the systems's directories; nil: everything
	base   string    // the directory that the next one stands for; or ""
	names  *Renaming // of a call that has a base for the names that were made for it, or nil
	files  []string  // its outputs and inputs, absolute
	stand  string    // what base is called in facts and results: fixedRoot, asideRoot or baseRoot
	told   bool      // nothing is hidden: the call runs in no sandbox
	empty  string    // strict: an empty directory of the host, below the layers that it writes to
}

// fixedRoot is where the project is for a call with --path fixed. baseRoot is what
// it is called where it is at its own place, but the call does not depend on which
// place that is; nothing is ever shown there.
const (
	fixedRoot = "/build"
	baseRoot  = staging.BaseRoot
)

// viewVersion changes with everything below that a call can see.
const viewVersion = "5"

// hidden are directories of the root that a sandbox has of its own, or that tell
// of the state of the machine.
var hidden = []string{"dev", "proc", "sys", "run", "tmp", "lost+found"}

// system are the directories that are shown to a strict call, too.
var system = []string{"usr", "bin", "sbin", "opt", "etc", "nix", "gnu"}

func (v *view) top(name string) bool {
	if v.limits == nil {
		return !slices.Contains(hidden, name)
	}
	return slices.Contains(system, name) || strings.HasPrefix(name, "lib")
}

// host returns where on the host is what the call sees at p.
func (v *view) host(p string) (string, bool) {
	if v.names != nil {
		p = v.names.real(p)
	} else if v.base != "" {
		if rest, ok := under(p, v.stand); ok {
			return v.base + rest, true
		}
	}
	if p == "/" {
		return p, false
	}
	first, _, _ := strings.Cut(p[1:], "/")
	if v.told {
		return p, !slices.Contains([]string{"dev", "proc", "sys"}, first) || strings.HasPrefix(p, "/dev/shm/")
	}
	if v.top(first) {
		return p, true
	}
	lists := [][]string{v.zones, v.shown}
	if v.limits != nil {
		lists = [][]string{v.limits}
	}
	for _, list := range lists {
		for _, dir := range list {
			if _, ok := under(p, dir); ok {
				return p, true
			}
		}
	}
	return "", false
}

// fixed says whether the project is at fixedRoot.
func (v *view) fixed() bool { return v.stand == fixedRoot }

// elsewhere says whether the directory that base is the name of on the host has another
// one for the call.
func (v *view) elsewhere() bool {
	return v.stand == fixedRoot || v.stand == asideRoot || v.names != nil
}

// name is the opposite of host: what a path of the host is called in facts and
// results.
func (v *view) name(p string) string {
	if v.base != "" {
		if rest, ok := under(p, v.base); ok {
			if v.names != nil {
				rest = v.names.other(rest)
			}
			return v.stand + rest
		}
	}
	return p
}

// under returns what is left of p below dir, with a slash in front or empty.
func under(p, dir string) (string, bool) {
	rest, ok := strings.CutPrefix(p, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// zone returns the directory that may be made writable for somebody who writes
// into dir, a clean path: one that is large enough for "../lib/x.o", and not so
// large that the system is in it.
func zone(dir string) string {
	names := strings.Split(strings.Trim(dir, "/"), "/")
	depth := 2
	switch names[0] {
	case "usr", "var", "opt", "run", "etc", "home", "dev":
		depth = 3
	}
	return "/" + strings.Join(names[:min(depth, len(names))], "/")
}

// newView returns what the call sees, and false where it cannot be run in a
// sandbox.
func newView(c *Call, w Want) (*view, bool) {
	v := &view{limits: w.Limits, told: w.Told != nil}
	dirs := []string{c.Dir}
	for _, o := range c.Outputs {
		dir, err := filepath.Dir(c.abs(o)), error(nil)
		if dir != c.Dir { // which has no links
			dir, err = realPath(dir)
		}
		if err == nil && dir != "/dev" {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		z := zone(dir)
		switch first, _, below := strings.Cut(z[1:], "/"); {
		case z == "/", first == "proc", first == "sys", first == "dev" && !strings.HasPrefix(z, "/dev/shm/"):
			return nil, false
		case !below && v.system(first):
			return nil, false
		}
		v.zones = append(v.zones, z)
		v.dirs = append(v.dirs, dir)
	}
	v.zones = topmost(v.zones)
	// What is named of a place that is hidden.
	for _, list := range [][]string{c.Args, c.expanded} {
		for _, a := range list {
			v.show(a)
		}
	}
	for _, list := range [][]string{c.Search, c.Inputs} {
		for _, p := range list {
			v.show(c.abs(p)) // "../src"
		}
	}
	for _, e := range w.Env {
		v.show(e.Value)
	}
	v.shown = slices.DeleteFunc(topmost(v.shown), func(d string) bool {
		return slices.ContainsFunc(v.zones, func(z string) bool { _, ok := under(d, z); return ok })
	})
	return v, true
}

func (v *view) system(name string) bool {
	return slices.Contains(system, name) || strings.HasPrefix(name, "lib")
}

// show adds the directories of /tmp and /run that an argument names. The whole
// of /tmp is never shown: that would be everybody's.
func (v *view) show(arg string) {
	if v.limits != nil {
		return
	}
	for _, place := range []string{"/tmp/", "/run/", "/dev/shm/"} {
		for rest := arg; ; {
			i := strings.Index(rest, place)
			if i < 0 {
				break
			}
			rest = rest[i+len(place):]
			name := rest[:strings.IndexFunc(rest+"/", func(r rune) bool { return strings.ContainsRune("/,:;= \t\"'", r) })]
			if name != "" && name != "." && name != ".." {
				v.shown = append(v.shown, place+name)
			}
		}
	}
}

// topmost returns list sorted, without what is below another one.
func topmost(list []string) []string {
	slices.Sort(list)
	var out []string
	for _, d := range list {
		if len(out) > 0 {
			if _, ok := under(d, out[len(out)-1]); ok {
				continue
			}
		}
		out = append(out, d)
	}
	return out
}

// writable returns the directories that get a fresh layer: for each in which the
// call may write the highest one around it, in its zone, below which every
// directory on the way can be copied into a layer. fits says whether one can: in
// a user namespace, only what belongs to the user.
func (v *view) writable(fits func(dir string) bool) []string {
	var list []string
	for _, dir := range v.dirs {
		if _, ok := under(dir, v.base); ok && v.elsewhere() {
			continue
		}
		top := zone(dir)
		for dir != top && fits(dir) {
			dir = filepath.Dir(dir)
		}
		list = append(list, dir)
	}
	slices.Sort(list)
	var out []string
	for _, dir := range slices.Compact(list) {
		if !slices.ContainsFunc(out, func(z string) bool { return reaches(z, dir, fits) }) {
			out = append(out, dir)
		}
	}
	return out
}

// reaches says whether dir is below z, and can be copied into a layer there, with all
// directories on the way.
func reaches(z, dir string, fits func(dir string) bool) bool {
	if _, ok := under(dir, z); !ok {
		return false
	}
	for ; dir != z; dir = filepath.Dir(dir) {
		if !fits(dir) {
			return false
		}
	}
	return true
}

// root returns the binds that make up the view and the links in the root directory, in
// which top is. below are the mount points of the host, sorted; fits is that of writable.
func (v *view) root(top []staging.HostEntry, below []string, fits func(string) bool) (binds []backends.Bind, links map[string]string) {
	links = map[string]string{}
	for _, e := range top {
		switch p := "/" + e.Name; {
		case !v.top(e.Name), v.elsewhere() && p == v.stand:
		case e.Type == os.ModeSymlink:
			links[p] = e.Target
		case e.Type.IsDir() && !slices.Contains(v.zones, p):
			binds = append(binds, backends.Bind{Source: p, Target: p})
		}
	}
	if v.limits != nil {
		return append(binds, v.strict(below)...), links
	}
	zones := v.writable(fits)
	for _, list := range [][]string{v.zones, v.shown} {
		for _, d := range list {
			if slices.Contains(zones, d) || slices.ContainsFunc(binds, func(b backends.Bind) bool { _, ok := under(d, b.Target); return ok }) {
				continue
			}
			if real, err := realPath(d); err == nil {
				binds = append(binds, backends.Bind{Source: real, Target: d})
			}
		}
	}
	if v.elsewhere() && v.names == nil {
		binds = append(binds, backends.Bind{Source: v.base, Target: v.stand, Over: true})
	}
	for _, z := range zones {
		binds = append(binds, backends.Bind{Source: z, Target: z, Over: true})
		for _, m := range below {
			if _, ok := under(m, z); ok && m != z && !closer(zones, z, m) {
				over := slices.ContainsFunc(v.dirs, func(d string) bool { _, ok := under(d, m); return ok })
				binds = append(binds, backends.Bind{Source: m, Target: m, Over: over})
			}
		}
	}
	if v.names != nil { // in one of these
		binds = append(binds, backends.Bind{Source: v.base, Target: v.stand, Over: true})
		for _, m := range below {
			if rest, ok := under(m, v.base); ok && rest != "" {
				over := slices.ContainsFunc(v.dirs, func(d string) bool { _, ok := under(d, m); return ok })
				binds = append(binds, backends.Bind{Source: m, Target: v.stand + rest, Over: over})
			}
		}
		binds = append(binds, v.inner(v.files)...)
	}
	return binds, links
}

// closer says whether m is in another one of the zones, below z.
func closer(zones []string, z, m string) bool {
	return slices.ContainsFunc(zones, func(d string) bool {
		_, in := under(m, d)
		_, below := under(d, z)
		return in && below && d != z
	})
}

// strict returns the binds of a strict call besides the system's: fresh layers over
// nothing where it may write, and in them what it may see.
func (v *view) strict(below []string) (binds []backends.Bind) {
	for _, d := range topmost(slices.Clone(v.dirs)) {
		binds = append(binds, backends.Bind{Source: v.empty, Target: d, Over: true})
	}
	for _, d := range v.limits {
		over := slices.ContainsFunc(v.dirs, func(w string) bool { _, ok := under(w, d); return ok })
		binds = append(binds, backends.Bind{Source: d, Target: d, Over: over})
		for _, m := range below {
			if _, ok := under(m, d); ok && m != d && over {
				binds = append(binds, backends.Bind{Source: m, Target: m})
			}
		}
	}
	return binds
}
