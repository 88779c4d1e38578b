package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/staging"
)

// imageDefaults is what an image says of commands: images.Config, as 'rootfs
// import' has stored it.
type imageDefaults struct {
	Args, Env   []string
	Dir         string
	User, Group string // numbers, names, or empty
}

// ids returns the user and the group that the image wants, -1 where it has none
// that we take: names mean something only to the image's own passwd, and its root
// is not the host's, for which --uid 0 has to be said.
func (d *imageDefaults) ids() (user, group int) {
	number := func(s string) int {
		if n, err := strconv.ParseUint(s, 10, 31); err == nil && n > 0 {
			return int(n)
		}
		return -1
	}
	if user = number(d.User); user < 0 {
		return -1, -1
	}
	return user, number(d.Group)
}

// root finds what ROOTFS means and fills spec.Root. What it returns besides
// ends what the root needs.
func (f *sandboxFlags) root(ctx context.Context, source string, spec *backends.Spec, c backends.Capabilities, log *slog.Logger) (*imageDefaults, func(), error) {
	none := func() {}
	if info, err := os.Stat(source); err == nil && info.IsDir() && source != "host" {
		if err := notImage(source, func(name string) bool { _, err := os.Lstat(filepath.Join(source, name)); return err == nil }); err != nil {
			return nil, nil, err
		}
		owner := fileOwner(info)
		if c.Owner != backends.ID {
			owner = -1 // all files are the caller's
		}
		if c.Overlay && (owner < 0 || owner == backends.ID || c.Users) {
			dir, err := filepath.Abs(source)
			if err == nil {
				dir, err = filepath.EvalSymlinks(dir)
			}
			spec.Root.Lowers, f.dir = []backends.Layer{{Dir: dir}}, dir
			if owner >= 0 {
				spec.Root.As = &owner
			}
			return &imageDefaults{}, none, err
		}
		if f.commit {
			return nil, nil, errors.New("--commit: the backend cannot put a layer above the directory, or not run the command as its owner: take another one")
		}
		log.Info("the command gets a copy of the directory: the backend cannot put a layer above it, or not run the command as its owner")
	}
	f.rootfs = source
	p, err := f.open(ctx, action.BLAKE3, networkOf(f.network == "host"), false)
	if err != nil {
		return nil, nil, err
	}
	done := func() { p.Close() }
	defaults, err := f.stage(ctx, p, spec, c, log)
	if err != nil {
		done()
		return nil, nil, err
	}
	return defaults, done, nil
}

// stage makes the root of a tree or of the host.
func (f *sandboxFlags) stage(ctx context.Context, p *parts, spec *backends.Spec, c backends.Capabilities, log *slog.Logger) (*imageDefaults, error) {
	if err := p.keepRootfs(ctx); err != nil {
		return nil, err
	}
	empty, err := p.blobs.PutBytes(ctx, action.BLAKE3, (&action.Directory{}).Marshal())
	if err != nil {
		return nil, err
	}
	s := &staging.Stager{Blobs: p.blobs, Layers: p.store, Notes: p.store, Capabilities: c, WorkDir: "/tmp", Log: log}
	if spec.Root, err = s.Stage(ctx, staging.Input{Tree: empty}, p.rootfs); err != nil {
		return nil, err
	}
	return imageDefaultsOf(ctx, p.store, f.rootfs)
}

// imageDefaultsOf returns what is known of a named root file system.
func imageDefaultsOf(ctx context.Context, store *cache.Store, name string) (*imageDefaults, error) {
	d := &imageDefaults{}
	names := wiring.Rootfs{Store: store.Dir()}
	if names.Check(name) != nil {
		return d, nil
	}
	e, err := names.Lookup(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.Config.IsZero() {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := store.Open(ctx, e.Config)
	if err != nil {
		return nil, fmt.Errorf("what the image says of commands: %w: import it again", err)
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err == nil {
		err = json.Unmarshal(data, d)
	}
	if err != nil {
		return nil, fmt.Errorf("what the image says of commands: %w: import it again", err)
	}
	return d, nil
}
