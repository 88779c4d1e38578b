package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/internal/durable"
	"github.com/sbx-action/sbx-action/staging"
)

func rootfsCommand() command {
	return command{
		Name: "rootfs", Args: "import NAME SOURCE | list | show NAME | rm NAME",
		Short: "import, list and remove root file systems",
		Long: `
import  stores a directory or a tar archive (plain or gzip) as a tree, and gives
        it a name for --rootfs; the same source twice is the same tree
list    the names, with the digests of the trees
show    the digest of one
rm      forgets a name; the next 'cache trim' may remove what it named

  sbx-action rootfs import bookworm bookworm.tar.gz
  sbx-action run --rootfs bookworm -i hello.c -o hello -- gcc -o hello hello.c

A root file system has a digest, and that is all of it that is in the key. The
default, host, is the host's system directories, read-only; what a command saw
of them is in the key.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			r := rootfsFlags{digest: function{Function: action.BLAKE3}}
			r.declareCache(flags)
			flags.Var(&r.digest, "digest", "`FUNCTION` of the tree: blake3 or sha256")
			return r.run
		},
	}
}

type rootfsFlags struct {
	wiringFlags
	digest function
}

func (r *rootfsFlags) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say what to do: import NAME SOURCE, list, show NAME or rm NAME")
	}
	word, args := args[0], args[1:]
	want := map[string]int{"import": 2, "list": 0, "show": 1, "rm": 1}
	n, ok := want[word]
	if !ok {
		return fmt.Errorf("unknown word %q: want import, list, show or rm", word)
	}
	if len(args) != n {
		return fmt.Errorf("%s: want %d arguments, have %d: see 'sbx-action rootfs --help'", word, n, len(args))
	}
	store, err := r.openStore(cache.Options{Warn: func(err error) { say("cache: %v", err) }})
	if err != nil {
		return err
	}
	defer store.Close()
	names := rootfsNames{store}
	if n > 0 {
		if err := names.check(args[0]); err != nil {
			return err
		}
	}
	switch word {
	case "import":
		return names.importFrom(ctx, args[0], args[1], r.digest.Function)
	case "list":
		return names.list()
	case "show":
		d, err := names.lookup(args[0])
		if err == nil {
			_, err = fmt.Println(d)
		}
		return err
	}
	return names.remove(args[0])
}

// rootfsNames are the names of root file systems: a file in the store's
// directory for each, which holds the digest of its tree.
type rootfsNames struct{ store *cache.Store }

func (n rootfsNames) file(name string) string { return filepath.Join(n.store.Dir(), "rootfs", name) }

func (n rootfsNames) check(name string) error {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._+-", r))
	}
	if name == "" || name == "host" || len(name) > 100 || strings.ContainsFunc(name, odd) || strings.ContainsAny(name[:1], "._+-") {
		return fmt.Errorf("%q cannot be the name of a root file system: use letters, digits and ._+-; host is taken", name)
	}
	return nil
}

func (n rootfsNames) importFrom(ctx context.Context, name, source string, f action.Function) error {
	imported, err := importRootfs(ctx, n.store, source, f)
	if err != nil {
		return err
	}
	for _, note := range imported.Notes {
		say("%s", note)
	}
	file := n.file(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := new(durable.Disk).WriteSynced(file, file+".new", []byte(imported.Tree.String()+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s %v: %d files, %s\n", name, imported.Tree, imported.Files, commandline.HumanSize(imported.Bytes))
	return nil
}

// importRootfs stores a directory or a tar.
func importRootfs(ctx context.Context, store *cache.Store, source string, f action.Function) (*staging.Import, error) {
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return staging.ImportDir(ctx, store, source, staging.ImportOptions{Function: f})
	}
	file, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	imported, err := staging.ImportTar(ctx, store, file, staging.ImportOptions{Function: f})
	if err != nil {
		return nil, fmt.Errorf("%s: want a directory or a tar archive, plain or gzip: %w", source, err)
	}
	return imported, nil
}

func (n rootfsNames) list() error {
	entries, err := os.ReadDir(filepath.Dir(n.file("x")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		d, err := n.lookup(e.Name())
		if err != nil {
			return err
		}
		fmt.Println(e.Name(), d)
	}
	return nil
}

// lookup returns the tree of a name. The error wraps fs.ErrNotExist if nobody
// gave it.
func (n rootfsNames) lookup(name string) (action.Digest, error) {
	data, err := os.ReadFile(n.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return action.Digest{}, fmt.Errorf("no root file system is called %q: 'sbx-action rootfs list' lists them: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return action.Digest{}, err
	}
	d, err := action.ParseDigest(strings.TrimSpace(string(data)))
	if err != nil {
		return d, fmt.Errorf("%s: %w: import it again", n.file(name), err)
	}
	return d, nil
}

func (n rootfsNames) remove(name string) error {
	err := os.Remove(n.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = n.lookup(name)
	}
	return err
}

// openRootfs finds what --rootfs means: host, a digest, a name, a directory or
// a tar. What is neither named nor a digest is looked at now, and what save
// returns stores it, on a miss.
func (p *parts) openRootfs(ctx context.Context, arg string, f action.Function, network backends.Network) (err error) {
	if arg == "host" {
		p.rootfs = staging.HostRootfs(staging.HostOptions{Network: network == backends.NetworkHost})
		return nil
	}
	d, err := action.ParseDigest(arg)
	names := rootfsNames{p.store}
	if err != nil && names.check(arg) == nil {
		if d, err = names.lookup(arg); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err != nil {
		d, err = p.unnamedRootfs(ctx, arg, f)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--rootfs %s is neither a directory nor a tar, a digest or a name: 'sbx-action rootfs list' lists the names", arg)
	}
	if err != nil {
		return fmt.Errorf("--rootfs: %w", err)
	}
	p.rootfs = staging.TreeRootfs(d)
	return nil
}

// unnamedRootfs returns the tree of a directory or a tar. A directory is
// scanned, with a stat cache, and saved on a miss; a tar that was imported
// before is known by its digest.
func (p *parts) unnamedRootfs(ctx context.Context, source string, f action.Function) (action.Digest, error) {
	info, err := os.Stat(source)
	if err != nil {
		return action.Digest{}, err
	}
	if info.IsDir() {
		return p.scanRootfs(ctx, source, f)
	}
	tar, err := p.hasher.Digest(source)
	if err != nil {
		return action.Digest{}, err
	}
	key := action.Sum(f, []byte("tree of the tar "+tar.Digest.String()))
	if text, err := p.store.Note(ctx, key); err == nil {
		if d, err := action.ParseDigest(string(text)); err == nil && p.store.Has(ctx, d) {
			return d, nil
		}
	}
	imported, err := importRootfs(ctx, p.store, source, f)
	if err != nil {
		return action.Digest{}, err
	}
	return imported.Tree, p.store.PutNote(ctx, key, []byte(imported.Tree.String()))
}

func (p *parts) scanRootfs(ctx context.Context, dir string, f action.Function) (action.Digest, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return action.Digest{}, err
	}
	// What is in these is of the machine; the sandbox has its own.
	snapshot, err := staging.Scan(ctx, staging.ScanConfig{
		Workspace: dir, Inputs: []string{".", "!./dev/**", "!./proc/**", "!./sys/**", "!./run/**", "!./tmp/**"},
		Function: f, StatCache: statDir(p.store), Files: p.hasher, Never: []string{p.store.Dir()},
	})
	if err != nil {
		return action.Digest{}, fmt.Errorf("%s: %w; or import it, which leaves out what a tree cannot hold: 'sbx-action rootfs import NAME %s'", dir, err, dir)
	}
	p.saveRootfs = func(ctx context.Context, blobs action.Blobs) error { return snapshot.Save(ctx, blobs, nil) }
	return snapshot.Root, nil
}
