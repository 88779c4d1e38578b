package component

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// # Caches
//
// A cache of a component is a directory that its commands may use to be faster,
// for example that of ccache. It cannot make a build less hermetic:
//
//   - Commands always find the directory. Unless caches are wanted
//     ([Builder.Caches]), it is empty, and what is in it is gone when they end.
//   - Where they are wanted, a result that was made without them is taken, if
//     there is one. Else the component is built under a key of its own, by the
//     salt, so that a build without caches never takes what one with them has
//     made.
//   - What comes out should be the same. If it is, those who need the component
//     do not see the difference; if it is not, the user is told, as soon as
//     there are both.
//   - A result that was made with caches stays on this machine.
//
// The directory belongs to one component of one project. Its builds take turns.
// It is not part of the store: one that is larger than mostOfCache when a build
// ends is emptied.

// cachesSalt is the salt of actions that have caches.
const cachesSalt = "caches"

// mostOfCache is how many bytes a cache may have.
const mostOfCache = 5 << 30

// withCaches makes p the plan of a build that has its caches, in dir.
func (p *plan) withCaches(c *Component, dir string) {
	a := *p.action
	a.Salt = []byte(cachesSalt)
	p.action, p.caches = &a, dir
	for _, x := range c.Caches {
		p.stager.binds = append(p.stager.binds, backends.Bind{Source: filepath.Join(dir, x.Name), Target: "/" + x.Path, Writable: true})
	}
}

// openCaches makes the directories of caches, and waits until no other build of
// the component uses them.
func (b *Builder) openCaches(ctx context.Context, c *Component, p *plan) (done func(), err error) {
	if p.caches == "" {
		return func() {}, nil
	}
	unlock, err := b.Runner.Locks.Lock(ctx, action.Sum(b.Function, []byte("caches of a component\n"+p.caches)))
	if err != nil {
		return nil, fmt.Errorf("lock its caches: %w", err)
	}
	st, err := b.Staging()
	for _, x := range c.Caches {
		dir := filepath.Join(p.caches, x.Name)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.Lchown(dir, st.Capabilities.Owner, st.Capabilities.Owner)
		}
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("make the directories of its caches: %w", err)
	}
	return func() {
		for _, x := range c.Caches {
			b.shrink(c, x, filepath.Join(p.caches, x.Name))
		}
		unlock()
	}, nil
}

// shrink empties a cache that is too large.
func (b *Builder) shrink(c *Component, x Cache, dir string) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err == nil && size <= mostOfCache {
		return
	}
	if err == nil {
		err = fmt.Errorf("it has %d bytes, more than %d", size, int64(mostOfCache))
	}
	b.Say("%s: its cache %s is emptied: %v", c.Name, x.Name, err)
	if err := removeAll(dir); err != nil {
		b.Say("%s: its cache %s: %v", c.Name, x.Name, err)
	}
}

// compareCaches says if a component that was built without its caches became
// something else than with them.
func (b *Builder) compareCaches(ctx context.Context, c *Component, p *plan, built *Built) {
	if len(c.Caches) == 0 || p.caches != "" || built.Cached {
		return
	}
	a := *p.action
	a.Salt = []byte(cachesSalt)
	res, err := b.Results.Result(ctx, a.Digest(b.Function))
	if err != nil || len(res.Directories) != 1 || res.Directories[0].Root == built.Tree {
		return
	}
	b.Say("warning: %s: without its caches it became something else than with them: either a cache changes what it installs, or it is never the same; builds take what was made without", c.Name)
}
