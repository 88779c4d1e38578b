package staging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// # Layers on disk, version 1
//
// A layer of a tree is known to [action.Layers] by the name
//
//	full|delta "1-" image|rtree|utree|ptree "-" place "-" function "-" hash "-" size
//
// where function, hash and size are those of the tree, and place says where in
// the root the tree is. Layers are written without waiting for the disk: it is
// for action.Layers to forget those that a power cut may have cut short.
//
// An image is one file (package erofs) whose first 1024 bytes are a header; a
// tree is a directory with the file "header" and the directory "tree". The
// header is text, filled up with zeros:
//
//	"sbx layer 1\n"
//	"files " number of entries of the whole tree "\n"
//	"data " 1 if files take their content from the store, else 0 "\n"
//	"below " digest "\n"    for each layer below this one, topmost first
//
// A full layer has no layers below it; a delta layer has one to maxLayers-1,
// of which the last is full. What a header says is true of the layer for as
// long as it exists; whoever uses a layer must find all that are below it.
const layerVersion = "1"

const maxLayers = 8

// A layerKind says what a layer is made of.
type layerKind int

const (
	noLayer        layerKind = iota
	imageLayer               // an EROFS image, with trusted.overlay attributes
	rootTreeLayer            // a directory tree that belongs to ID, with trusted.overlay attributes
	userTreeLayer            // a directory tree of this user, with user.overlay attributes
	plainTreeLayer           // a directory tree that belongs to ID, without attributes
	userCopyLayer            // as userTreeLayer, with the contents of all files: it may lie on another layer
)

func (k layerKind) String() string {
	return [...]string{"none", "image", "rtree", "utree", "ptree", "ucopy"}[k]
}

// A place is a directory of the root, with a short name for it.
type place struct{ dir, tag string }

func layerName(form string, k layerKind, p place, d action.Digest) string {
	return fmt.Sprintf("%s%s-%v-%s-%v-%s-%d", form, layerVersion, k, p.tag, d.Function(), d.Hash(), d.Size())
}

// A layerHeader is what a layer says of itself.
type layerHeader struct {
	files int
	data  bool
	below []action.Digest
}

func (h *layerHeader) marshal() []byte {
	var b strings.Builder
	data := 0
	if h.data {
		data = 1
	}
	fmt.Fprintf(&b, "sbx layer %s\nfiles %d\ndata %d\n", layerVersion, h.files, data)
	for _, d := range h.below {
		fmt.Fprintf(&b, "below %v\n", d)
	}
	return []byte(b.String())
}

func parseLayerHeader(b []byte) (*layerHeader, error) {
	text := strings.TrimRight(string(b), "\x00")
	h := &layerHeader{}
	var data int
	if _, err := fmt.Sscanf(text, "sbx layer "+layerVersion+"\nfiles %d\ndata %d\n", &h.files, &data); err != nil {
		return nil, fmt.Errorf("malformed header: %w", err)
	}
	h.data = data == 1
	lines := strings.Split(text, "\n") // the last one is empty
	for _, line := range lines[min(3, len(lines)-1) : len(lines)-1] {
		below, ok := strings.CutPrefix(line, "below ")
		if !ok {
			return nil, fmt.Errorf("malformed header line %q", line)
		}
		d, err := action.ParseDigest(below)
		if err != nil {
			return nil, err
		}
		h.below = append(h.below, d)
	}
	if string(h.marshal()) != text {
		return nil, errors.New("non-canonical header")
	}
	return h, nil
}

// openLayer returns a layer and its header. It marks the layer as used.
func (s *Stager) openLayer(ctx context.Context, name string, k layerKind) (backends.Layer, *layerHeader, error) {
	path, err := s.Layers.Layer(ctx, name)
	if err != nil {
		return backends.Layer{}, nil, err
	}
	layer, file := backends.Layer{Image: path}, path
	if k != imageLayer {
		layer, file = backends.Layer{Dir: filepath.Join(path, "tree")}, filepath.Join(path, "header")
	}
	b := make([]byte, erofs.HeaderSize)
	f, err := os.Open(file)
	if err != nil {
		return backends.Layer{}, nil, err
	}
	defer f.Close()
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		return backends.Layer{}, nil, fmt.Errorf("layer %s: %w", file, err)
	}
	h, err := parseLayerHeader(b[:n])
	if err != nil {
		return backends.Layer{}, nil, fmt.Errorf("layer %s: %w", file, err)
	}
	return layer, h, nil
}

// knownLayers returns the layers of a tree that has them all, or an error
// wrapping action.ErrMiss or what is wrong with one.
func (s *Stager) knownLayers(ctx context.Context, k layerKind, p place, d action.Digest) (piece, error) {
	out, _, err := s.chain(ctx, k, p, d)
	return out, err
}

// chain returns the layers of a tree, and the header of the topmost.
func (s *Stager) chain(ctx context.Context, k layerKind, p place, d action.Digest) (piece, *layerHeader, error) {
	top, h, err := s.openLayer(ctx, layerName("full", k, p, d), k)
	if err == nil {
		return piece{layers: []backends.Layer{top}, data: h.data}, h, nil
	}
	top, h, err = s.openLayer(ctx, layerName("delta", k, p, d), k)
	if err != nil {
		return piece{}, nil, err
	}
	out := piece{layers: []backends.Layer{top}, data: h.data}
	for i, below := range h.below {
		form := "delta"
		if i == len(h.below)-1 {
			form = "full"
		}
		l, lh, err := s.openLayer(ctx, layerName(form, k, p, below), k)
		if err != nil {
			return piece{}, nil, err
		}
		out.layers = append(out.layers, l)
		out.data = out.data || lh.data
	}
	return out, h, nil
}

// makeLayers makes a layer for a tree that has none: of its differences from
// an earlier one where that is little, else of all of it.
func (s *Stager) makeLayers(ctx context.Context, l *treeLoader, in Input, k layerKind, p place) (piece, error) {
	recent := s.recall(ctx, in, k, p)
	out, err := s.makeDelta(ctx, l, in.Tree, recent.trees, k, p)
	if errors.Is(err, errNoDelta) {
		out, err = s.makeFull(ctx, l, in.Tree, k, p)
	}
	if err != nil {
		return piece{}, err
	}
	recent.add(in.Tree)
	s.remember(ctx, recent)
	return out, nil
}

// makeFull makes a layer of a whole tree.
func (s *Stager) makeFull(ctx context.Context, l *treeLoader, d action.Digest, k layerKind, p place) (piece, error) {
	refs := refSet{blobPath: s.Layers.BlobPath, paths: map[action.Digest]string{}}
	l.count = 0
	nodes, err := l.expand(ctx, d, refs, 0)
	if err != nil {
		return piece{}, err
	}
	if p.dir == "" {
		nodes = slices.DeleteFunc(slices.Clone(nodes), func(n erofs.Node) bool { return s.ours(n.Name) })
	}
	b := &layerBuild{kind: k, name: layerName("full", k, p, d), refs: refs.list()}
	b.root = erofs.Node{Kind: erofs.Directory, Nodes: nodes, Opaque: p.dir != ""}
	b.header = layerHeader{files: l.count, data: s.takesFromStore(k, false, nodes)}
	return s.putLayer(ctx, l, d, b, p)
}

// errLayer says that a layer could not be stored: the tree may be all right.
var errLayer = errors.New("make a layer")

// A layerBuild is everything that a layer is made of.
type layerBuild struct {
	kind   layerKind
	name   string
	root   erofs.Node // what is at the place of the tree
	header layerHeader
	refs   []action.Digest
}

// putLayer makes a layer of the tree d and publishes it.
func (s *Stager) putLayer(ctx context.Context, l *treeLoader, d action.Digest, b *layerBuild, p place) (piece, error) {
	if lost := missing(ctx, s.Blobs, b.refs); !lost.IsZero() {
		return piece{}, inside(l.whereIs(ctx, d, lost), fmt.Errorf("blob %v is not in the store: %w", lost, action.ErrMiss))
	}
	if ctx.Err() != nil {
		return piece{}, context.Cause(ctx)
	}
	if p.dir != "" {
		parts := strings.Split(p.dir, "/")
		for i := len(parts) - 1; i >= 0; i-- {
			b.root.Name = parts[i]
			b.root = erofs.Node{Kind: erofs.Directory, Nodes: []erofs.Node{b.root}}
		}
	}
	path, err := s.Layers.PutLayer(ctx, b.name, b.refs, func(path string) error {
		if b.kind == imageLayer {
			return s.writeImage(path, b)
		}
		return s.writeTree(ctx, path, b)
	})
	if err != nil {
		return piece{}, fmt.Errorf("%w: %w", errLayer, err)
	}
	out := piece{layers: []backends.Layer{{Image: path}}, data: b.header.data}
	if b.kind != imageLayer {
		out.layers[0] = backends.Layer{Dir: filepath.Join(path, "tree")}
	}
	return out, nil
}

func (s *Stager) writeImage(path string, b *layerBuild) error {
	image, err := erofs.Build(&b.root, erofs.Options{
		UID: backends.ID, GID: backends.ID, MTime: MTime, Header: b.header.marshal(),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, image, 0o444)
}

func (s *Stager) writeTree(ctx context.Context, path string, b *layerBuild) error {
	tree := filepath.Join(path, "tree")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer dir.Close()
	w := &treeWriter{placer: newPlacer(s.owner()), blobDir: s.Layers.BlobDir(), attrs: s.overlayAttrs(b.kind), stubs: s.stubs(b.kind, len(b.header.below) > 0)}
	if err := w.write(ctx, int(dir.Fd()), &b.root); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(path, "header"), b.header.marshal(), 0o444)
}

// overlayAttrs is what the names of overlayfs's attributes begin with.
func (s *Stager) overlayAttrs(k layerKind) string {
	if k == userTreeLayer || k == userCopyLayer {
		return "user.overlay."
	}
	return "trusted.overlay."
}

// stubSize is from where on a file of a tree on the disk is a stub, whose
// content comes from the store: below it, a copy is as cheap.
const stubSize = 64 << 10

// stubs is from which size on files are stubs; 0 means none is. In what a user
// mounts, overlayfs takes contents from the store only for the lowest layer: it
// would have to look for what a stub says in the layers between, and refuses
// (EPERM). upper says that the layer is meant to lie on another one.
func (s *Stager) stubs(k layerKind, upper bool) int64 {
	switch {
	case k == userCopyLayer, k == userTreeLayer && upper:
		return 0
	case k == imageLayer:
		return 1
	case s.Capabilities.DataLayers && k != plainTreeLayer:
		return stubSize
	}
	return 0
}

// takesFromStore says whether a layer of nodes needs Root.Data.
func (s *Stager) takesFromStore(k layerKind, upper bool, nodes []erofs.Node) bool {
	least := s.stubs(k, upper)
	for i := range nodes {
		n := &nodes[i]
		if least > 0 && n.Kind == erofs.File && n.Size >= least || s.takesFromStore(k, upper, n.Nodes) {
			return true
		}
	}
	return false
}
