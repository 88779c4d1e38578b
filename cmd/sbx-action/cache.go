package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cache/pack"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
)

func cacheCommand() command {
	return command{
		Name: "cache", Args: "stat | trim FLAGS | fit | verify | path",
		Short: "show, trim, verify or locate the store",
		Long: `
stat    how much there is of each kind, and how much disk it takes; packs are
        of 'sbx-action serve', and are not in the total: trim leaves them alone
trim    removes what was not used for longest until the limits are kept; what
        was used within the last hour stays, and so do root file systems that
        have a name; builds may run meanwhile; a server does it by itself,
        with 'sbx-action serve --max-size'
fit     what 'run' and 'cc' have done by themselves, in the background, when the
        store exceeds the limit that you have set: SBX_CACHE_MAX, or 'cache-max'
        in your settings; it trims to nine tenths of that, or of --max-size; what
        was used within the last seconds stays, and what an action that runs may
        need
verify  reads everything, compares it with its digests, and removes what is
        damaged, so that the next run makes it again; exits with 1 if it found any;
        what is damaged in packs stays, and is given to nobody
path    prints the directory of the store

A store is its owner's. One for a group, whose members then get each other's results,
and trust each other as far as that goes, is an empty directory to begin with:

  install -d -m 2770 -g GROUP DIR

  sbx-action cache trim --max-size 20G
  sbx-action cache trim --max-age 14d
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var c cacheFlags
			c.declareCache(flags)
			flags.Var(&c.maxSize, "max-size", "trim to `SIZE` on the disk, such as 20G")
			flags.Var(&c.maxCount, "max-count", "trim to `N` files")
			flags.Var(&c.maxAge, "max-age", "trim what was last used `DURATION` ago or earlier, such as 14d")
			return func(ctx context.Context, args []string) error { return c.run(ctx, flags, args) }
		},
	}
}

// cacheFlags are the flags of cache and its words.
type cacheFlags struct {
	wiringFlags
	maxSize  size
	maxCount count
	maxAge   span
}

func (c *cacheFlags) run(ctx context.Context, flags *flag.FlagSet, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to do: stat, trim, fit, verify or path")
	}
	steps := map[string]func(context.Context, *cache.Store) error{
		"stat": c.stat, "trim": c.trim, "fit": c.fit, "verify": c.verify, "path": c.path,
	}
	step, ok := steps[args[0]]
	if !ok {
		return fmt.Errorf("unknown word %q: want stat, trim, fit, verify or path", args[0])
	}
	if err := commandline.ParseFlags(flags, args[1:]); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: unexpected argument %q", args[0], flags.Arg(0))
	}
	if args[0] != "trim" && (c.maxSize != 0 && args[0] != "fit" || c.maxCount != 0 || c.maxAge != 0) {
		return fmt.Errorf("%s: --max-size, --max-count and --max-age are for trim, and the first one for fit", args[0])
	}
	store, err := c.openStore(cache.Options{Warn: func(err error) { say("cache: %v", err) }})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := storeProblem(store.Dir()); errors.Is(err, errStore) {
		return err
	}
	return step(ctx, store)
}

func (c *cacheFlags) path(_ context.Context, store *cache.Store) error {
	_, err := fmt.Println(store.Dir())
	return err
}

func (c *cacheFlags) stat(ctx context.Context, store *cache.Store) error {
	u, err := store.Stat(ctx)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(w, "store %s\n", store.Dir())
	printUsage(w, u)
	fmt.Fprintf(w, "%-8s %8s  %10s\n", "history", "", commandline.HumanSize(store.HistorySize()))
	files, bytes, err := pack.Usage(packDir(store))
	if files > 0 {
		fmt.Fprintf(w, "%-8s %8d  %10s\n", "packs", files, commandline.HumanSize(bytes))
	}
	if err != nil {
		return errors.Join(err, w.Flush())
	}
	z, err := c.storeSize(store)
	if err != nil {
		return errors.Join(err, w.Flush())
	}
	for i, line := range z.lines() {
		fmt.Fprintf(w, "%-8s %s\n", []string{"limit", ""}[min(i, 1)], line)
	}
	return w.Flush()
}

// packDir is where 'sbx-action serve' keeps small blobs of clients.
func packDir(store *cache.Store) string { return filepath.Join(store.Dir(), "serve", "pack") }

func printUsage(w io.Writer, u *cache.Usage) {
	for _, k := range []struct {
		name  string
		count cache.Count
	}{
		{"results", u.Results},
		{"blobs", u.Blobs},
		{"notes", u.Notes},
		{"layers", u.Layers},
		{"total", u.Total()},
	} {
		fmt.Fprintf(w, "%-8s %8d  %10s\n", k.name, k.count.N, commandline.HumanSize(k.count.Bytes))
	}
}

func (c *cacheFlags) trim(ctx context.Context, store *cache.Store) error {
	policy := cache.Policy{MaxSize: int64(c.maxSize), MaxCount: int64(c.maxCount), MaxAge: time.Duration(c.maxAge)}
	if policy == (cache.Policy{}) {
		return fmt.Errorf("trim: say to what: --max-size, --max-age or --max-count")
	}
	// What is left was wanted; from now on it need not be verified after a
	// power cut. A full disk, which may be why we are called, cannot note that.
	unsynced := store.Sync(ctx)
	if unsynced != nil && !errors.Is(unsynced, cache.ErrUnwritable) {
		return unsynced
	}
	if err := (wiring.Rootfs{Store: store.Dir()}).Keep(ctx, store); err != nil {
		say("%v", err)
	}
	r, err := store.Trim(ctx, policy)
	if err != nil {
		return err
	}
	if unsynced != nil {
		if err := store.Sync(ctx); errors.Is(err, cache.ErrUnwritable) {
			say("cache: there was no room to note that all this is on the disk: after a power cut each file is checked before it is used")
		} else if err != nil {
			say("cache: %v", err)
		}
	}
	removed := r.Removed.Total()
	fmt.Printf("removed %d files, %s; kept %d files, %s\n",
		removed.N, commandline.HumanSize(removed.Bytes), r.After.Total().N, commandline.HumanSize(r.After.Total().Bytes))
	if r.Spared.N > 0 {
		say("%d files (%s) were used within the last hour and stay, although the limit is exceeded", r.Spared.N, commandline.HumanSize(r.Spared.Bytes))
	}
	return nil
}

func (c *cacheFlags) verify(ctx context.Context, store *cache.Store) error {
	progress, done := progressLine("verified")
	r, err := store.Verify(ctx, progress)
	done()
	if err != nil {
		return err
	}
	for _, d := range r.Damaged {
		what := "removed"
		if !d.Removed {
			what = "still there"
		}
		fmt.Printf("%v %s: %s (%s)\n", d.Kind, d.Name, d.Reason, what)
	}
	p, err := pack.Verify(ctx, packDir(store))
	if err != nil {
		return err
	}
	for _, d := range p.Damaged {
		fmt.Printf("pack %s, from byte %d: its content is another (not given out)\n", d.File, d.Offset)
	}
	t := r.Checked.Total()
	damaged := len(r.Damaged) + len(p.Damaged)
	fmt.Printf("checked %d files, %s: %d damaged\n", t.N+int64(p.Files), commandline.HumanSize(t.Bytes+p.Bytes), damaged)
	if damaged > 0 {
		return exitCode(1)
	}
	return nil
}

// progressLine returns a function that shows on a terminal how far something
// is, and one that removes it again. Elsewhere both do nothing.
func progressLine(verb string) (progress func(files, bytes int64), done func()) {
	if !isTerminal(os.Stderr) {
		return nil, func() {}
	}
	var last time.Time
	progress = func(files, bytes int64) {
		if now := time.Now(); now.Sub(last) > 100*time.Millisecond {
			last = now
			fmt.Fprintf(os.Stderr, "\r%s %d files, %s\033[K", verb, files, commandline.HumanSize(bytes))
		}
	}
	return progress, func() { fmt.Fprint(os.Stderr, "\r\033[K") }
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}
