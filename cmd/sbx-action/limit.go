package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

// # How the store stays within a size
//
// After a miss [cache.Store.Outgrows] says whether it may be too large. If so, this
// process starts another one, 'sbx-action cache fit', and does not wait for it. That
// one trims, at the lowest priority, in a session of its own, and holds nothing of
// what we were given: neither a build nor who reads its output waits for it. It may be
// killed at any moment.

const limitName = "cache-max"

// A limit is the size of --cache-max: 0 is none.
type limit struct {
	bytes int64
	given bool
	from  string // who says so; "": the flag
}

func (l *limit) String() string {
	if l == nil || !l.given {
		return ""
	}
	return strconv.FormatInt(l.bytes, 10)
}

func (l *limit) Set(s string) error {
	var n size
	if s != "0" {
		if err := n.Set(s); err != nil {
			return errors.New("want a size, such as 5G or 500M, or 0 for no limit")
		}
	}
	*l = limit{bytes: int64(n), given: true}
	return nil
}

func (w *wiringFlags) declareLimit(flags *flag.FlagSet) {
	flags.Var(&w.max, limitName, "`SIZE` that the store stays within by itself: past it, what was not used for\nlongest goes; 0: no limit (default)")
}

// storeLimit returns how much the store may have, 0 for no limit, and who says so.
func (w *wiringFlags) storeLimit() (bytes int64, from string, err error) {
	if w.max.given {
		return w.max.bytes, cmp.Or(w.max.from, "--"+limitName), nil
	}
	v, err := commandline.OwnSetting(limitName)
	if err != nil {
		return 0, "", err
	}
	if v.Value != "" {
		var l limit
		if err := l.Set(v.Value); err != nil {
			return 0, "", fmt.Errorf("%s: %s = %q: %w", v.Origin, limitName, v.Value, err)
		}
		return l.bytes, v.Origin, nil
	}
	return 0, byDefault, nil
}

// byDefault is who says that there is no limit if nobody does.
const byDefault = "default"

// stayWithin has the store trimmed if what this process has written made it too large.
// Where it was only read, this costs nothing.
func (p *parts) stayWithin() {
	if p.max == nil || p.store.ReadOnly() {
		return
	}
	bytes := int64(0)
	outgrown := p.store.Outgrows(func() int64 {
		var err error
		if bytes, _, err = p.max.storeLimit(); err != nil { // no reason to fail, now that the command has run
			say("the store is not kept within a size: %v", err)
		}
		return bytes
	})
	if outgrown {
		startFit(p.store.Dir(), bytes)
	}
}

// startFit starts a process that trims the store. Where none can be started, one of the
// next misses does.
func startFit(dir string, bytes int64) {
	self, err := os.Executable()
	if err != nil {
		return
	}
	c := exec.Command(self, "cache", "fit", "--cache", dir, "--max-size", strconv.FormatInt(bytes, 10))
	c.Args[0], c.Dir = "sbx-action", "/"
	c.Env = append(os.Environ(), "GOMAXPROCS=1", "SBX_WARM=off")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.Start() == nil {
		go c.Wait() //nolint:errcheck // for a process that lives long, so that no zombie stays
	}
}

// humble is what a process of startFit does first: it makes way for everybody, and closes
// what it has inherited, such as a pipe at whose end somebody waits.
func humble() {
	_ = syscall.Setpriority(syscall.PRIO_PGRP, 0, 19)
	names, _ := os.ReadDir("/proc/self/fd")
	for _, n := range names {
		fd, err := strconv.Atoi(n.Name())
		if err != nil || fd <= 2 {
			continue
		}
		// All that is ours is closed when a program is executed.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// fit is 'cache fit'.
func (c *cacheFlags) fit(ctx context.Context, store *cache.Store) error {
	var o cache.FitOptions
	o.Keep = func(ctx context.Context) error { return (wiring.Rootfs{Store: store.Dir()}).Keep(ctx, store) }
	// One that a user has started is not the leader of a session, and is waited for.
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		humble()
		o.Rest = func(ctx context.Context, d time.Duration) {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
	}
	bytes := int64(c.maxSize)
	if bytes == 0 {
		var err error
		if bytes, _, err = c.storeLimit(); err != nil {
			return err
		}
	}
	if bytes == 0 {
		return errors.New("fit: there is no limit to keep: SBX_CACHE_MAX=20G, or cache-max in your settings, sets one, and --max-size 20G says one for this time")
	}
	r, err := store.Fit(ctx, bytes, o)
	if err != nil {
		return err
	}
	removed := r.Removed.Total()
	if after := r.After.Total().Bytes; after > bytes {
		say("%s stay, more than the limit of %s: they are in use, or were just now", commandline.HumanSize(after), commandline.HumanSize(bytes))
	}
	_, err = fmt.Printf("removed %d files, %s\n", removed.N, commandline.HumanSize(removed.Bytes))
	return err
}

// A storeSize is what programs are told of the size of the store.
type storeSize struct {
	Bytes     *int64 `json:"bytes"` // about; null: not known now
	Limit     int64  `json:"limit"` // 0: none
	From      string `json:"limit_from"`
	Trimmed   string `json:"trimmed,omitempty"`          // when the last trim for a limit was; RFC 3339
	Reach     int64  `json:"unused_seconds,omitempty"`   // for how long what that removed had not been used
	Unable    bool   `json:"limit_too_small,omitempty"`  // what is in use takes more
	HoldsLess bool   `json:"holds_under_hour,omitempty"` // it removed what was used within an hour

	size *cache.Size
}

func (w *wiringFlags) storeSize(store *cache.Store) (*storeSize, error) {
	z := &storeSize{}
	var err error
	if z.Limit, z.From, err = w.storeLimit(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(store.Dir()); errors.Is(err, fs.ErrNotExist) {
		z.size, z.Bytes = &cache.Size{Known: true}, new(int64)
		return z, nil
	}
	if z.size, err = store.Size(); err != nil {
		return nil, err
	}
	if z.size.Known {
		z.Bytes = &z.size.Bytes
	}
	if !z.size.Trimmed.IsZero() {
		z.Trimmed, z.Reach = z.size.Trimmed.Format(time.RFC3339), int64(z.size.Reach/time.Second)
		z.HoldsLess = z.size.Reach < time.Hour && z.size.Limit == z.Limit
	}
	z.Unable = z.size.Unable && z.size.Limit == z.Limit
	return z, nil
}

// lines are what users are told; the first one is about the size.
func (z *storeSize) lines() []string {
	if z == nil {
		return nil
	}
	about := "not known before the next trim or 'sbx-action cache stat'"
	if z.Bytes != nil {
		about = "about " + commandline.HumanSize(*z.Bytes)
	}
	if z.Limit == 0 {
		return []string{about + ", no limit (" + z.From + "): SBX_CACHE_MAX=20G, or cache-max in your settings, sets one"}
	}
	lines := []string{fmt.Sprintf("%s of at most %s (%s)", about, commandline.HumanSize(z.Limit), z.From)}
	if !z.size.Trimmed.IsZero() {
		lines = append(lines, fmt.Sprintf("last trimmed %s, of what had not been used for %v",
			z.size.Trimmed.Format(time.DateTime), z.size.Reach.Round(time.Second)))
	}
	switch {
	case z.Unable:
		lines = append(lines, "this limit is too small: what is in use takes more, and stays; set SBX_CACHE_MAX to more")
	case z.HoldsLess:
		lines = append(lines, "this limit has no room for the work of an hour: more can come from the cache if SBX_CACHE_MAX is larger")
	}
	return lines
}
