package component

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// A BuiltSystem is what a system is made of, in the end.
type BuiltSystem struct {
	*System
	Tree   action.Digest
	Owners staging.Owners
	Origin map[string]string // of each path, whose it is: a component, the base, or "integration"
	Cached bool

	based bool // what is below the components is a root file system
}

// BaseOrigin and IntegrationOrigin are who files are of that no component has
// installed.
const (
	BaseOrigin        = "(base)"
	IntegrationOrigin = "(integration)"
)

// A SystemRequest is a system to be put together.
type SystemRequest struct {
	*System
	Built   map[*Component]*Built
	Log     io.Writer
	Rebuild bool
}

// System puts a system together and runs its integration.
func (b *Builder) System(ctx context.Context, req *SystemRequest) (*BuiltSystem, error) {
	out := &BuiltSystem{System: req.System, Owners: staging.Owners{}, Origin: map[string]string{}, Cached: true}
	root, saves, err := b.compose(ctx, req, out)
	if err != nil {
		return nil, err
	}
	if len(req.Integration) > 0 || !req.Raw && root.has(ctx, "etc/ld.so.conf") {
		if err := b.integrate(ctx, req, out, root, saves); err != nil {
			return nil, err
		}
		return out, nil
	}
	var seal sealer
	out.Tree = root.seal(&seal)
	for _, save := range saves {
		if err := save(ctx); err != nil {
			return nil, err
		}
	}
	return out, seal.save(ctx, b.Blobs, b.Function)
}

// LinkTarget returns where the link at p in a tree leads, as it is written; it is
// empty if there is none.
func LinkTarget(ctx context.Context, blobs action.Blobs, tree action.Digest, p string) (string, error) {
	t := newTree(blobs, tree.Function(), tree)
	d, err := t.directory(ctx, path.Dir(p), false)
	if err != nil || d == nil {
		return "", err
	}
	if err := t.load(ctx, d); err != nil {
		return "", err
	}
	if n := d.names[path.Base(p)]; n != nil && n.link != nil {
		return n.link.Target, nil
	}
	return "", nil
}

func (t *tree) has(ctx context.Context, p string) bool {
	d, err := t.directory(ctx, path.Dir(p), false)
	return err == nil && d != nil && t.load(ctx, d) == nil && d.names[path.Base(p)] != nil
}

// compose lays the components over the base, each with the artifacts that the
// system has of it.
func (b *Builder) compose(ctx context.Context, req *SystemRequest, out *BuiltSystem) (*tree, []func(context.Context) error, error) {
	root, saves, err := b.systemBase(ctx, req, out)
	if err != nil {
		return nil, nil, err
	}
	root.owners, root.origin = out.Owners, out.Origin
	for _, c := range req.Contents {
		built := req.Built[c.Component]
		if built == nil {
			return nil, nil, fmt.Errorf("it contains %s, which was not built", c.Name)
		}
		if c.Tree != "" && root.empty() { // as a base: taken over as it is
			root = newTree(b.Blobs, b.Function, built.Tree)
			root.owners, root.origin, out.based = out.Owners, out.Origin, true
			if err := b.addOwners(ctx, out.Owners, built.Owners); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err := b.layOver(ctx, req, root, c); err != nil {
			return nil, nil, err
		}
	}
	return root, saves, nil
}

// systemBase is the tree that a system begins with, and what stores it.
func (b *Builder) systemBase(ctx context.Context, req *SystemRequest, out *BuiltSystem) (*tree, []func(context.Context) error, error) {
	if req.Base == "" {
		return newTree(b.Blobs, b.Function, action.Digest{}), nil, nil
	}
	base, err := b.Bases(ctx, req.Base)
	if err != nil {
		return nil, nil, err
	}
	var saves []func(context.Context) error
	if base.Save != nil {
		saves = append(saves, base.Save)
		if err := base.Save(ctx); err != nil {
			return nil, nil, err
		}
	}
	out.based = true
	return newTree(b.Blobs, b.Function, base.Tree), saves, b.addOwners(ctx, out.Owners, base.Owners)
}

// layOver lays what the system has of one component over root.
func (b *Builder) layOver(ctx context.Context, req *SystemRequest, root *tree, c Content) error {
	built := req.Built[c.Component]
	over, err := b.selected(ctx, c, built)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	name := c.Name
	if c.Tree != "" {
		name = BaseOrigin
	}
	met, err := root.overlay(ctx, over, name)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := b.overlaps(req.Name, c.Name, met); err != nil {
		return err
	}
	if err := b.addOwners(ctx, root.owners, built.Owners); err != nil {
		return err
	}
	if req.Meta {
		if err := b.addMeta(ctx, root, c, built, over); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return root.addDevices(ctx, c)
}

func (b *Builder) addOwners(ctx context.Context, to staging.Owners, d action.Digest) error {
	more, err := staging.ReadOwners(ctx, b.Blobs, d)
	maps.Copy(to, more)
	return err
}

// addDevices notes the devices of a component that are of the artifacts that are
// meant, and makes their directories.
func (t *tree) addDevices(ctx context.Context, c Content) error {
	for _, dev := range c.Devices {
		if !c.All && c.Tree == "" && c.Split != nil && !slices.Contains(c.Artifacts, c.Split(dev.Path)) {
			continue
		}
		if _, err := t.directory(ctx, path.Dir(dev.Path), true); err != nil {
			return fmt.Errorf("device %s of %s: %w", dev.Path, c.Name, err)
		}
		kind := staging.TypeChar
		if dev.Type == 'b' {
			kind = staging.TypeBlock
		}
		t.origin[dev.Path] = c.Name
		t.owners[dev.Path] = staging.Owner{
			Type: kind, Mode: dev.Mode, UID: int(dev.UID), GID: int(dev.GID), Major: int64(dev.Major), Minor: int64(dev.Minor),
		}
	}
	return nil
}

// addMeta writes what a component has in the system: for each artifact the
// paths, sorted, in YAML.
func (b *Builder) addMeta(ctx context.Context, root *tree, c Content, built *Built, over *tree) error {
	paths := map[string][]string{}
	err := over.visit(ctx, func(p string, _ *node) error {
		artifact := c.Short
		if c.Split != nil {
			artifact = c.Split(p)
		}
		paths[artifact] = append(paths[artifact], p)
		return nil
	})
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "cache: %s\nproducts:\n", built.Tree.Hash())
	for _, artifact := range slices.Sorted(maps.Keys(paths)) {
		slices.Sort(paths[artifact])
		fmt.Fprintf(&text, "- artifact: %s\n  components:\n", yamlText(artifact))
		for _, p := range paths[artifact] {
			fmt.Fprintf(&text, "  - %s\n", yamlText(p))
		}
	}
	if c.Source != nil {
		fmt.Fprintf(&text, "ref: %s\nrepo: %s\n", yamlText(c.Source.Ref), yamlText(c.Source.At))
	}
	d, err := b.Blobs.PutBytes(ctx, b.Function, []byte(text.String()))
	if err != nil {
		return err
	}
	root.origin["baserock/"+c.Short+".meta"] = c.Name
	return root.put(ctx, "baserock/"+c.Short+".meta", &node{file: &action.FileNode{Digest: d}})
}

// selected is what a component has installed of the artifacts that are meant.
func (b *Builder) selected(ctx context.Context, c Content, built *Built) (*tree, error) {
	all := newTree(b.Blobs, b.Function, built.Tree)
	if c.All || c.Tree != "" || c.Split == nil {
		return all, nil
	}
	some := newTree(b.Blobs, b.Function, action.Digest{})
	err := all.visit(ctx, func(p string, n *node) error {
		if !slices.Contains(c.Artifacts, c.Split(p)) {
			return nil
		}
		if n.dir == nil {
			return some.put(ctx, p, n)
		}
		d, err := some.directory(ctx, p, true)
		if err == nil {
			d.props = n.dir.props
		}
		return err
	})
	return some, err
}

// integrate runs the commands of integration in the system, and makes it what
// they have made of it.
func (b *Builder) integrate(ctx context.Context, req *SystemRequest, out *BuiltSystem, root *tree, saves []func(context.Context) error) error {
	if !root.has(ctx, "bin/sh") {
		if len(req.Integration) == 0 {
			b.Say("%s has an /etc/ld.so.conf but no /bin/sh: ldconfig was not run", req.Name)
			var seal sealer
			out.Tree = root.seal(&seal)
			return seal.save(ctx, b.Blobs, b.Function)
		}
		return fmt.Errorf("it has %d commands of system-integration, and no /bin/sh that could run them", len(req.Integration))
	}
	var seal sealer
	d := root.seal(&seal)
	script := integrationScript(req.System)
	input := newTree(b.Blobs, b.Function, action.Digest{})
	input.root.names[scriptName] = &node{file: &action.FileNode{Digest: action.Sum(b.Function, []byte(script))}}
	rootfs := staging.TreeRootfs(d)
	p := &plan{stager: &buildStager{open: b.Staging, scratch: b.newScratch, blobs: b.Blobs, f: b.Function, rootfs: rootfs, root: root, whole: true}}
	p.command = &action.Command{
		Arguments: []string{"/bin/sh", scriptName}, OutputPaths: []string{""}, OutputDirectoryFormat: 1,
		Environment: []action.EnvironmentVariable{{Name: "LC_ALL", Value: "C"}, {Name: "PATH", Value: integrationPath}},
	}
	p.action = &action.Action{
		Command: p.command.Digest(b.Function), InputRoot: input.seal(&seal),
		Platform: []action.Property{
			{Name: "ISA", Value: b.ISA},
			{Name: "OSFamily", Value: "linux"},
			{Name: "output", Value: "root"}, // not the directory of the command: see buildStager
			{Name: staging.RootfsProperty, Value: rootfs.ID()},
		},
	}
	b.emulate(p)
	if b.Owners {
		p.record(b.Function, known(out.Owners))
	}
	p.save = b.saver(saves, script, &seal)
	// settle reads it, also where the result came from elsewhere.
	if err := seal.save(ctx, b.Blobs, b.Function); err != nil {
		return err
	}
	c := &Component{Name: req.Name}
	res, err := b.run(ctx, p, &Request{Component: c, Log: req.Log, Rebuild: req.Rebuild})
	if err != nil {
		return err
	}
	if err := p.verdict(c, res); err != nil {
		return err
	}
	if len(res.Result.Directories) != 1 {
		return errors.New("the result in the cache is not one of a system")
	}
	out.Cached = res.Cached
	return b.settle(ctx, out, d, res.Result.Directories[0].Root)
}

// settle makes d, which before has become, the tree of the system: modes become
// part of its owners, and what is new is of the integration. A file that was
// changed keeps the owner and the mode that it had.
func (b *Builder) settle(ctx context.Context, out *BuiltSystem, before, d action.Digest) error {
	s := &settling{ctx: ctx, out: out, is: newTree(b.Blobs, b.Function, d), was: newTree(b.Blobs, b.Function, before)}
	if err := s.directory(s.is.root, s.was.root, ""); err != nil {
		return err
	}
	out.Tree = d
	if len(s.devices) == 0 {
		return nil
	}
	for _, p := range s.devices { // only the owners have them
		dir, err := s.is.directory(ctx, path.Dir(p), true)
		if err != nil {
			return err
		}
		delete(dir.names, path.Base(p))
	}
	var seal sealer
	out.Tree = s.is.seal(&seal)
	return seal.save(ctx, b.Blobs, b.Function)
}

type settling struct {
	ctx     context.Context
	out     *BuiltSystem
	is, was *tree
	devices []string
}

// directory settles the directory d at p. was is nil if it is new.
func (s *settling) directory(d, was *dir, p string) error {
	if was != nil && d.digest == was.digest {
		return nil
	}
	if was == nil {
		was = newDir()
	}
	if err := errors.Join(s.is.load(s.ctx, d), s.was.load(s.ctx, was)); err != nil {
		return err
	}
	for name, n := range d.names {
		at, old := path.Join(p, name), was.names[name]
		if old == nil {
			s.out.Origin[at] = IntegrationOrigin
		}
		switch {
		case n.file != nil && (old == nil || !old.same(n) || saysOwner(n.file.Properties)):
			if err := s.mode(at, staging.TypeFile, n.file.Properties); err != nil {
				return err
			}
		case n.link != nil:
			if err := s.mode(at, staging.TypeLink, n.link.Properties); err != nil {
				return err
			}
		case n.dir != nil:
			var below *dir
			if old != nil {
				below = old.dir
			}
			if err := s.directory(n.dir, below, at); err != nil {
				return err
			}
			if err := s.mode(at, staging.TypeDir, n.dir.props); err != nil {
				return err
			}
		}
	}
	for name := range was.names {
		if d.names[name] == nil {
			s.forget(path.Join(p, name))
		}
	}
	return nil
}

// mode notes mode and owner of what integration has made or changed.
func (s *settling) mode(p string, t staging.NodeType, props *action.NodeProperties) error {
	if props == nil {
		return nil
	}
	o, had := s.out.Owners[p]
	usual := map[staging.NodeType]uint32{staging.TypeDir: 0o755, staging.TypeLink: 0o777, staging.TypeFile: 0o644}[t]
	if n, err := s.is.directory(s.ctx, path.Dir(p), false); err == nil && n != nil && t == staging.TypeFile && n.names[path.Base(p)].file.Executable {
		usual = 0o755
	}
	if had {
		usual = o.Mode
	}
	now, err := staging.OwnerOf(props, t, usual)
	if err != nil {
		return fmt.Errorf("/%s: %w", p, err)
	}
	o.Type, o.Mode = t, now.Mode
	if saysOwner(props) {
		o = now
	}
	s.out.Owners[p] = o
	if !o.InTree() {
		s.devices = append(s.devices, p)
	}
	return nil
}

// forget removes what is known of a path that is gone, and of all below it.
func (s *settling) forget(p string) {
	below := func(q string) bool { return q == p || strings.HasPrefix(q, p+"/") }
	maps.DeleteFunc(s.out.Owners, func(q string, o staging.Owner) bool { return o.InTree() && below(q) })
	maps.DeleteFunc(s.out.Origin, func(q, _ string) bool { return below(q) })
}

const integrationPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// integrationScript runs the commands of integration in the order of their
// labels, each in the root directory.
func integrationScript(s *System) string {
	list := sorted(s.Integration)
	env := slices.Clone(s.Env)
	if len(env) == 0 {
		env = []Variable{{"HOME", "/tmp"}, {"LC_ALL", "C"}, {"PATH", integrationPath}, {"TZ", "UTC"}}
	}
	env = append(env, Variable{"SOURCE_DATE_EPOCH", strconv.FormatInt(staging.MTime, 10)})
	var b strings.Builder
	b.WriteString("exec 2>&1\nset -e\numask 022\n" + killFirst + "cd /\nif [ -e /etc/ld.so.conf ] && [ -x /sbin/ldconfig ]; then /sbin/ldconfig; fi\n")
	b.WriteString(tryFunction(env))
	for _, i := range list {
		for n, command := range i.Commands {
			fmt.Fprintf(&b, "try %s sh -c -e %s\n", quote(fmt.Sprintf("%s %d", i.Label, n+1)), quote(command))
		}
	}
	// ldconfig notes inode numbers and times there, which differ each time.
	b.WriteString("rm -f /var/cache/ldconfig/aux-cache\n")
	return b.String()
}
