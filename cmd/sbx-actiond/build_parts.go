package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/component"
	"github.com/sbx-action/sbx-action/integration/images"
	"github.com/sbx-action/sbx-action/staging"
)

// buildParts are what builds are made of. The sandbox is opened on the first
// miss.
type buildParts struct {
	store   *cache.Store
	log     *slog.Logger
	f       action.Function
	lazy    *wiring.Lazy
	hasher  *staging.FileHasher // with f
	sha256  *staging.FileHasher
	fetcher *component.Fetcher

	mu    sync.Mutex
	bases map[component.Base]*baseOnce // guarded by mu
}

// A baseOnce is a root file system that is looked for once.
type baseOnce struct {
	sync.Once
	tree *component.BaseTree
	err  error
}

func openBuildParts(o buildFlags) (*buildParts, error) {
	if err := wiring.CheckBackend(o.backend); err != nil {
		return nil, err
	}
	dir, err := wiring.CacheDir(o.cache)
	if err != nil {
		return nil, err
	}
	log := commandline.Log(os.Stderr, "sbx-action", slog.LevelWarn, o.verbose)
	store, err := cache.Open(dir, cache.Options{Warn: func(err error) { log.Warn("cache", "err", err) }})
	if err != nil {
		return nil, err
	}
	if store.ReadOnly() {
		return nil, errors.Join(fmt.Errorf("the store %s cannot be written, and what is built goes there: give another with --cache DIR", dir), store.Close())
	}
	// Logs and what is fetched are below it, and would make it a directory of
	// somebody else if they came first.
	if _, err := os.Stat(filepath.Join(store.Dir(), "VERSION")); errors.Is(err, fs.ErrNotExist) {
		key := action.Sum(o.digest.Function, []byte("component store\n"))
		if err := store.PutNote(context.Background(), key, nil); err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	store.Stay()
	stat := wiring.StatDir(store.Dir())
	p := &buildParts{
		store: store, log: log, f: o.digest.Function, bases: map[component.Base]*baseOnce{},
		hasher: staging.NewFileHasher(stat, o.digest.Function), sha256: staging.NewFileHasher(stat, action.SHA256),
	}
	p.lazy = &wiring.Lazy{Choice: o.backend, Open: func(begin func(backends.Backend)) (backends.Backend, error) {
		return wiring.Choice{Name: o.backend, Options: native.Options{}, Log: log, Begin: begin}.Open()
	}}
	p.fetcher = &component.Fetcher{
		Blobs: store, Notes: store, Function: p.f, Dir: filepath.Join(store.Dir(), "sources"), StatCache: stat, Files: p.sha256, Offline: o.offline,
	}
	return p, nil
}

func (p *buildParts) Close() error {
	return errors.Join(p.lazy.Close(), p.hasher.Close(), p.sha256.Close(), p.store.Close())
}

// runner returns the runner of every component, but for its stager.
func (p *buildParts) runner() *action.Runner {
	host := staging.HostRootfs(staging.HostOptions{})
	return &action.Runner{
		Cache: p.store, Blobs: p.store, Locks: p.store, Backend: p.lazy, Log: p.log,
		Witness: &staging.HostWitness{Notes: p.store, Host: host.HostPath, Made: host.Made, Hash: p.hasher, Log: p.log},
	}
}

// staging returns what makes roots, for the backend.
func (p *buildParts) staging() (*staging.Stager, error) {
	b, err := p.lazy.Opened()
	if err != nil {
		return nil, err
	}
	return &staging.Stager{Blobs: p.store, Layers: p.store, Notes: p.store, Capabilities: wiring.Basics(b), Log: p.log}, nil
}

// base finds a root file system: a name that an import gave it, a digest, a
// directory, or an archive, which is imported.
func (p *buildParts) base(ctx context.Context, b component.Base) (*component.BaseTree, error) {
	p.mu.Lock()
	once := p.bases[b]
	if once == nil {
		once = &baseOnce{}
		p.bases[b] = once
	}
	p.mu.Unlock()
	once.Do(func() {
		place, digest := b.SplitDigest()
		if once.tree, once.err = p.findBase(ctx, place, digest); once.err != nil {
			once.tree = nil
		}
	})
	return once.tree, once.err
}

func (p *buildParts) findBase(ctx context.Context, arg, digest string) (*component.BaseTree, error) {
	kind, rest, ok := strings.Cut(arg, ":")
	switch {
	case ok && (kind == "rootfs" || kind == "oci" || kind == "tar" || kind == "dir"):
		arg = rest
	default:
		kind = ""
	}
	if kind == "" || kind == "rootfs" {
		if d, err := action.ParseDigest(arg); err == nil {
			return &component.BaseTree{Tree: d}, checkBase(arg, digest, d.String())
		}
		names := wiring.Rootfs{Store: p.store.Dir()}
		if names.Check(arg) == nil {
			e, err := names.Lookup(arg)
			if err == nil {
				if err := checkBase(arg, digest, e.Tree.String()); err != nil {
					return nil, err
				}
				return p.named(e)
			}
			if !errors.Is(err, fs.ErrNotExist) || kind == "rootfs" {
				return nil, err
			}
		}
	}
	info, err := os.Stat(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("root file system %s is neither a directory nor an archive, a digest or a name: 'sbx-action rootfs list' lists the names", arg)
	}
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		if _, err := os.Stat(filepath.Join(arg, "oci-layout")); err != nil {
			tree, err := p.scanned(ctx, arg)
			if err == nil {
				err = checkBase(arg, digest, tree.Tree.String())
			}
			return tree, err
		}
		index := filepath.Join(arg, "index.json")
		if err := p.checkFile(arg, digest, index, manifestOf(index)...); err != nil {
			return nil, err
		}
		return p.imported(ctx, arg, index)
	}
	if err := p.checkFile(arg, digest, arg); err != nil {
		return nil, err
	}
	return p.imported(ctx, arg, arg)
}

// checkBase says that a root file system has none of the digests that it must have.
func checkBase(name, want string, is ...string) error {
	if want == "" {
		return nil
	}
	for _, d := range is {
		if hash, _, _ := strings.Cut(d, "/"); hash == want { // the size may follow
			return nil
		}
	}
	return fmt.Errorf("the root file system %s is not what was asked for: its digest is %s, not %s", name, strings.Join(is, " or "), want)
}

// checkFile is checkBase for what a file identifies, which may have other digests.
func (p *buildParts) checkFile(name, want, file string, others ...string) error {
	if want == "" {
		return nil
	}
	hasher := p.sha256
	if strings.HasPrefix(want, "blake3:") {
		hasher = staging.NewFileHasher("", action.BLAKE3)
		defer hasher.Close()
	}
	stamp, err := hasher.Digest(file)
	if err != nil {
		return err
	}
	return checkBase(name, want, append(others, stamp.Digest.String())...)
}

// manifestOf is the digest of the only image that the index of an OCI layout has.
func manifestOf(index string) []string {
	data, err := os.ReadFile(index)
	var list struct {
		Manifests []struct {
			Digest string `json:"digest"`
		} `json:"manifests"`
	}
	if err != nil || json.Unmarshal(data, &list) != nil || len(list.Manifests) != 1 {
		return nil
	}
	return []string{list.Manifests[0].Digest}
}

// named checks that the digests of an imported tree are of our function: a tree
// of one function cannot be put together with one of another.
func (p *buildParts) named(e wiring.RootfsEntry) (*component.BaseTree, error) {
	if e.Tree.Function() != p.f {
		return nil, fmt.Errorf("the root file system %s was imported with --digest %v: import it again with --digest %v, or build with the other", e.Name, e.Tree.Function(), p.f)
	}
	return &component.BaseTree{Tree: e.Tree, Owners: e.Owners}, nil
}

// scanned is the tree of a directory, which is stored when it is needed.
func (p *buildParts) scanned(ctx context.Context, dir string) (*component.BaseTree, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	snapshot, err := staging.Scan(ctx, staging.ScanConfig{
		Workspace: abs, Inputs: []string{".", "!./dev/**", "!./proc/**", "!./sys/**", "!./run/**", "!./tmp/**"},
		Function: p.f, StatCache: wiring.StatDir(p.store.Dir()), Files: p.hasher, Never: []string{p.store.Dir()},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w; or import it, which leaves out what a tree cannot hold: 'sbx-action rootfs import NAME %s'", dir, err, dir)
	}
	return &component.BaseTree{Tree: snapshot.Root, Save: func(ctx context.Context) error { return snapshot.Save(ctx, p.store, nil) }}, nil
}

// imported is the tree of an image, which the digest of a file identifies. It is
// imported once.
func (p *buildParts) imported(ctx context.Context, source, file string) (*component.BaseTree, error) {
	stamp, err := p.hasher.Digest(file)
	if err != nil {
		return nil, err
	}
	key := action.Sum(p.f, []byte("component base 1\n"+stamp.Digest.String()))
	if text, err := p.store.Note(ctx, key); err == nil {
		tree, owners, _ := strings.Cut(string(text), "\n")
		d, err := action.ParseDigest(tree)
		o, err1 := action.ParseDigest(owners)
		if err == nil && (err1 == nil || owners == "") && staging.KeepTree(ctx, p.store, d) == nil {
			return &component.BaseTree{Tree: d, Owners: o}, nil
		}
	}
	im, err := images.Import(ctx, p.store, source, images.Options{ImportOptions: staging.ImportOptions{Function: p.f}})
	if err != nil {
		return nil, err
	}
	text := im.Tree.String() + "\n"
	if !im.Owners.IsZero() {
		text += im.Owners.String()
	}
	return &component.BaseTree{Tree: im.Tree, Owners: im.Owners}, p.store.PutNote(ctx, key, []byte(text))
}
