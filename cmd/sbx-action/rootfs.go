package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/staging"
)

// openRootfs finds what --rootfs means: host, a digest, a name, a directory or
// a tar. What is neither named nor a digest is looked at now, and what save
// returns stores it, on a miss.
func (p *parts) openRootfs(ctx context.Context, arg string, f action.Function, network backends.Network) (err error) {
	if arg == "host" {
		p.rootfs = staging.HostRootfs(staging.HostOptions{Network: network == backends.NetworkHost})
		return nil
	}
	d, err := action.ParseDigest(arg)
	names := wiring.Rootfs{Store: p.store.Dir()}
	if err != nil && names.Check(arg) == nil {
		var named wiring.RootfsEntry
		if named, err = names.Lookup(arg); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		d = named.Tree
		p.anewRootfs = func(ctx context.Context) error { return p.importNamed(ctx, named) }
	} else if err == nil {
		p.anewRootfs = func(context.Context) error {
			return fmt.Errorf("import what --rootfs %s is the tree of again, with 'sbx-action rootfs import'", arg)
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
		if err := notImage(source, func(name string) bool { _, err := os.Lstat(filepath.Join(source, name)); return err == nil }); err != nil {
			return action.Digest{}, err
		}
		return p.scanRootfs(ctx, source, f)
	}
	tar, err := p.hasher.Digest(source)
	if err != nil {
		return action.Digest{}, err
	}
	p.anewRootfs = func(ctx context.Context) error { return p.importAgain(ctx, source, p.rootfs.Tree()) }
	key := action.Sum(f, []byte("tree of the tar "+tar.Digest.String()))
	if text, err := p.store.Note(ctx, key); err == nil {
		if d, err := action.ParseDigest(string(text)); err == nil && p.store.Has(ctx, d) {
			return d, nil
		}
	}
	file, err := os.Open(source)
	if err != nil {
		return action.Digest{}, err
	}
	defer file.Close()
	imported, err := staging.ImportTar(ctx, p.store, file, staging.ImportOptions{Function: f})
	if err != nil {
		return action.Digest{}, fmt.Errorf("%s: want a directory or a tar archive: %w; 'sbx-action rootfs import' takes images, too", source, err)
	}
	if err := p.noImageTree(ctx, source, imported.Tree); err != nil {
		return action.Digest{}, err
	}
	return imported.Tree, p.store.PutNote(ctx, key, []byte(imported.Tree.String()))
}

// noImageTree is notImage for what was in a tar.
func (p *parts) noImageTree(ctx context.Context, source string, tree action.Digest) error {
	file, err := p.store.Open(ctx, tree)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	root, err := action.ParseDirectory(data, tree.Function())
	if err != nil {
		return err
	}
	return notImage(source, func(name string) bool {
		return slices.ContainsFunc(root.Files, func(n action.FileNode) bool { return n.Name == name }) ||
			slices.ContainsFunc(root.Directories, func(n action.DirectoryNode) bool { return n.Name == name })
	})
}

// notImage returns an error if what has these names at its top is an image, which
// holds a root file system and is none.
func notImage(source string, has func(name string) bool) error {
	kind := ""
	switch {
	case has("bin") || has("usr"):
		return nil
	case has("oci-layout"):
		kind = "an OCI image layout"
	case has("manifest.json"):
		kind = "an archive of 'docker save'"
	case has("manifest") && has("rootfs"):
		kind = "an App Container image"
	default:
		return nil
	}
	return fmt.Errorf("%s is %s, and no root file system: give it a name with 'sbx-action rootfs import NAME %s', and use that", source, kind, shellQuote(source))
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
	p.anewRootfs = func(ctx context.Context) error { return snapshot.Save(ctx, p.blobs, nil) }
	return snapshot.Root, nil
}

// restoreRootfs stores the root file system again, of which the store has lost
// something. The error says what the user can do.
func (p *parts) restoreRootfs(ctx context.Context) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	if p.anewRootfs == nil { // the host: nothing of it is in the store
		return nil
	}
	return p.anewRootfs(ctx)
}

// importAgain imports a tar whose tree is known.
func (p *parts) importAgain(ctx context.Context, source string, tree action.Digest) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	imported, err := staging.ImportTar(ctx, p.store, file, staging.ImportOptions{Function: tree.Function()})
	if err == nil && imported.Tree != tree {
		err = errors.New("it has been changed since: run it again")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// importNamed imports again what a name was given to, where that was a tar that is
// still there.
func (p *parts) importNamed(ctx context.Context, e wiring.RootfsEntry) error {
	if source, ok := strings.CutPrefix(e.Source, "tar "); ok && p.importAgain(ctx, source, e.Tree) == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	from := "SOURCE"
	if e.Source != "" {
		from = "SOURCE', where SOURCE was '" + e.Source
	}
	return fmt.Errorf("import it again: 'sbx-action rootfs import --digest %v %s %s'", e.Tree.Function(), e.Name, from)
}
