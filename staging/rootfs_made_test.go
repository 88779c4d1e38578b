package staging

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// TestMadeDirectories changes what the host has for each directory that staging
// makes, and sees that an action which listed the directory, and no other, is
// another one then.
func TestMadeDirectories(t *testing.T) {
	for _, c := range []struct {
		dir     string // listed
		op      backends.Op
		appears string // on the host; a name that ends in / is a directory
		seen    bool
	}{
		{"/", backends.Open, "gnu/store/", true},
		{"/../.", backends.Open, "gnu/store/", true},
		{"/", backends.Open, "srv/", false},
		{"/", backends.Stat, "gnu/store/", false}, // it always is there
		{"/etc", backends.Open, "etc/java-99/", true},
		{"/etc/", backends.Open, "etc/papersize", true},
		{"/etc", backends.Open, "etc/shadow", false},
		{"/etc", backends.Open, "gnu/store/", false},
		{"/etc/ssl", backends.Open, "etc/ssl/openssl.cnf", true},
		{"/etc/ssl", backends.Stat, "etc/ssl/openssl.cnf", true}, // it was not there
		{"/var", backends.Open, "var/lib/ghc/", true},
		{"/var/lib", backends.Open, "var/lib/ghc/", true},
		{"/var/lib", backends.Stat, "var/lib/ghc/", true},
		{"/home", backends.Open, "home/user/", false},
	} {
		t.Run(c.dir+" "+c.appears, func(t *testing.T) {
			h := newHostTest(t)
			h.status.Lookups = append(h.status.Lookups, backends.Lookup{Path: c.dir, Op: c.op})
			start := func() { // as a new process does, which looks at the host anew
				r := Rootfs{host: &hostView{root: h.dir}}
				h.witness.Host, h.witness.Made = r.HostPath, r.Made
			}
			h.check(os.MkdirAll(filepath.Join(h.dir, "etc"), 0o755))
			start()
			before := h.seal()
			start()
			if got, err := h.recall(); err != nil || got != before {
				t.Fatalf("control: an unchanged host gives %v, %v; want %v", got, err, before)
			}
			if name, dir := c.appears, c.appears[len(c.appears)-1] == '/'; dir {
				h.check(os.MkdirAll(filepath.Join(h.dir, name), 0o755))
			} else {
				h.write(name, "new")
			}
			start()
			if got, err := h.recall(); (err != nil) != c.seen {
				t.Errorf("recall: %v, %v", got, err)
			}
			if got := h.seal(); (got != before) != c.seen {
				t.Errorf("sealed as %v, before as %v", got, before)
			}
		})
	}
	if _, ok := TreeRootfs(action.Sum(action.SHA256, nil)).Made("/"); ok {
		t.Error("a tree has directories of the host")
	}
}

// TestLinksOutOfEtc changes what a link in /etc shows that is replaced by it.
func TestLinksOutOfEtc(t *testing.T) {
	for name, change := range map[string]func(h *hostTest){
		"Edited":  func(h *hostTest) { h.write("srv/magic", "new") },
		"Removed": func(h *hostTest) { h.check(os.Remove(h.dir + "/srv/magic")) },
		"Moved": func(h *hostTest) {
			h.write("srv/other", "new")
			h.check(errors.Join(os.Remove(h.dir+"/srv/magic"), os.Symlink("other", h.dir+"/srv/magic")))
		},
		"Into/usr": func(h *hostTest) {
			h.check(errors.Join(os.Remove(h.dir+"/etc/magic"), os.Symlink("/usr/include/a.h", h.dir+"/etc/magic")))
		},
		"Appeared": func(h *hostTest) { h.write("nowhere", "now") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostTest(t)
			r := Rootfs{host: &hostView{root: h.dir}}
			h.witness.Host, h.witness.Made = r.HostPath, r.Made
			h.write("srv/magic", "old")
			h.check(os.MkdirAll(h.dir+"/etc", 0o755))
			h.check(errors.Join(os.Symlink(h.dir+"/srv/magic", h.dir+"/etc/magic"), os.Symlink(h.dir+"/nowhere", h.dir+"/etc/papersize")))
			h.status.Lookups = append(h.status.Lookups, backends.Lookup{Path: "/etc/magic", Op: backends.Open}, backends.Lookup{Path: "/etc/papersize", Op: backends.Open})
			before := h.seal()
			if got, err := h.recall(); err != nil || got != before {
				t.Fatalf("control: an unchanged host gives %v, %v; want %v", got, err, before)
			}
			change(h)
			if got, err := h.recall(); err == nil {
				t.Errorf("recalled as %v", got)
			}
			if got := h.seal(); got == before {
				t.Errorf("sealed as %v again", got)
			}
		})
	}
}
