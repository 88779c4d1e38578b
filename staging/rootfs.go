package staging

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// A Rootfs is what a command sees outside WorkDir: a view of the host, or a
// tree in the store. It is a value; the zero Rootfs is empty.
//
// A tree may be written to, as far as the command is concerned: it lies below
// the scratch. (A backend without overlayfs shows it read-only.) What a tree
// holds at WorkDir and in /dev, /proc and /tmp is not shown.
type Rootfs struct {
	tree action.Digest
	host *hostView
}

// TreeRootfs is the tree of the Directory d. [ImportDir] and [ImportTar] make
// such trees.
func TreeRootfs(d action.Digest) Rootfs { return Rootfs{tree: d} }

// ID names the root file system in an action's key. For a tree it says
// everything. For the host it names the view, with the files that are the same
// on every host; what a command sees of the others must get into the key by
// observation.
func (r Rootfs) ID() string {
	switch {
	case r.host != nil:
		return r.host.id()
	case r.tree.IsZero():
		return "empty"
	}
	return r.tree.String()
}

// Tree is the digest of the tree; zero for the host.
func (r Rootfs) Tree() action.Digest { return r.tree }

// HostPath returns the path on the host of what the root shows at p. It says
// false where the root shows something of its own, or nothing, on every host.
//
// p is absolute and must hold no "..", because that depends on what the names
// before it are: for such a path, and for any other that is not clean, HostPath
// says false.
func (r Rootfs) HostPath(p string) (string, bool) {
	if r.host == nil || !clean(p) {
		return "", false
	}
	return r.host.path(p)
}

// clean says whether p is absolute, and path.Clean(p).
func clean(p string) bool {
	rest, absolute := strings.CutPrefix(p, "/")
	for more := rest != ""; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return absolute
}

// ours says whether a name in the root directory is of the sandbox and not of
// the root file system.
func (s *Stager) ours(name string) bool {
	work, _, _ := strings.Cut(strings.TrimPrefix(s.workDir(), "/"), "/")
	return name == "dev" || name == "proc" || name == "tmp" || name == work
}

// stageRootfs returns what shows r.
func (s *Stager) stageRootfs(ctx context.Context, r Rootfs) (piece, error) {
	switch {
	case r.host != nil:
		return s.stageHost(ctx, r.host)
	case r.tree.IsZero():
		return piece{}, nil
	case s.Layers == nil:
		return s.copiedRootfs(ctx, r.tree)
	}
	kind := s.layerKind()
	if kind == noLayer {
		kind = plainTreeLayer
	}
	at := place{tag: "root"}
	p, err := s.knownLayers(ctx, kind, at, r.tree)
	if err != nil {
		if l := newTreeLoader(s.Blobs); kind == plainTreeLayer {
			p, err = s.makeFull(ctx, l, r.tree, kind, at)
		} else { // a root file system may be one that differs little from another
			p, err = s.makeLayers(ctx, l, Input{Tree: r.tree}, kind, at)
		}
	}
	if err != nil || kind != plainTreeLayer {
		return p, err
	}
	return bindAll(p.layers[0].Dir)
}

// bindAll shows a directory by binding what is in it: without overlayfs.
func bindAll(dir string) (piece, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return piece{}, err
	}
	var p piece
	for _, e := range list {
		if e.Type() != os.ModeSymlink {
			p.binds = append(p.binds, backends.Bind{Source: filepath.Join(dir, e.Name()), Target: "/" + e.Name()})
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			return piece{}, err
		}
		p.fill = append(p.fill, fillNode{kind: erofs.Symlink, target: target}.at("/"+e.Name()))
	}
	return p, nil
}

// copiedRootfs copies a tree into the scratch: there is no place for a layer.
func (s *Stager) copiedRootfs(ctx context.Context, d action.Digest) (piece, error) {
	content, err := newTreeLoader(s.Blobs).contents(ctx, d, defaultPreload)
	if err != nil {
		return piece{}, err
	}
	var p piece
	for _, n := range content.kids {
		if !s.ours(n.name) {
			p.fill = append(p.fill, n.at("/"+n.name))
		}
	}
	return p, nil
}

// defaultPreload is how many bytes of a tree are kept in memory until the
// scratch is there.
const defaultPreload = 8 << 20
