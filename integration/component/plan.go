package component

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/staging"
)

// A plan is an action, and what it takes to run it.
type plan struct {
	action  *action.Action
	command *action.Command
	stager  *buildStager
	inputs  Inputs
	save    func(context.Context) error
	caches  string // the directory of the caches; empty: none is kept

	limits backends.Limits // that it ran with
	short  bool            // meanwhile memory was short
}

// plan makes the action of a component.
func (b *Builder) plan(ctx context.Context, req *Request) (*plan, error) {
	return b.planScript(ctx, req, req.script(b.environment(req)))
}

// planScript makes an action that runs a script in the root of a component.
func (b *Builder) planScript(ctx context.Context, req *Request, script string) (*plan, error) {
	c := req.Component
	p := &plan{inputs: Inputs{Needs: map[string]string{}, Pinned: true}}
	base, err := b.base(ctx, c)
	if err != nil {
		return nil, err
	}
	var saves []func(context.Context) error
	if base.Save != nil {
		saves = append(saves, base.Save)
	}
	if c.Base != "" {
		p.inputs.Base = base.Tree.String()
	}
	root := newTree(b.Blobs, b.Function, base.Tree)
	root.origin, root.owners, root.devices = map[string]string{}, staging.Owners{}, true
	if err := b.stageNeeds(ctx, req, root, p); err != nil {
		return nil, err
	}
	if err := b.stageSource(ctx, req, root, p, &saves); err != nil {
		return nil, err
	}
	if err := placesOf(ctx, c.Caches, root); err != nil {
		return nil, err
	}
	var seal sealer
	p.stager = &buildStager{open: b.Staging, scratch: b.newScratch, blobs: b.Blobs, f: b.Function, own: []string{c.Short + ".build", c.Short + ".inst", c.Short + ".patches"}, caches: c.Caches}
	p.inputs.Script = script
	input := newTree(b.Blobs, b.Function, action.Digest{})
	rootfs := staging.HostRootfs(staging.HostOptions{})
	if c.HostTools {
		input = root
		p.inputs.Root = "host"
	} else {
		d := root.seal(&seal)
		rootfs = staging.TreeRootfs(d)
		p.stager.root, p.inputs.Root = root, d.String()
	}
	if err := input.put(ctx, scriptName, &node{file: &action.FileNode{Digest: action.Sum(b.Function, []byte(script))}}); err != nil {
		return nil, err
	}
	p.stager.rootfs = rootfs
	p.command = &action.Command{
		Arguments: []string{"/bin/sh", scriptName}, Environment: b.commandEnv(c),
		OutputPaths: []string{outputName}, OutputDirectoryFormat: 1,
		OutputNodeProperties: []string{"unix_mode"}, // for other machines; see Plain
	}
	p.action = &action.Action{
		Command: p.command.Digest(b.Function), InputRoot: input.seal(&seal), Timeout: c.Limits.Timeout,
		Platform: []action.Property{{Name: "ISA", Value: b.ISA}, {Name: "OSFamily", Value: "linux"}, {Name: staging.RootfsProperty, Value: rootfs.ID()}},
	}
	if !c.HostTools {
		b.emulate(p)
	}
	if b.Owners && c.Owners && !c.HostTools {
		p.record(b.Function, known(root.owners))
	}
	p.save = b.saver(saves, script, &seal)
	return p, p.command.Check()
}

// placesOf makes the directories in the root that the caches will be in.
func placesOf(ctx context.Context, caches []Cache, root *tree) error {
	for _, x := range caches {
		if _, err := root.directory(ctx, x.Path, true); err != nil {
			return fmt.Errorf("the cache %v: %w", x, err)
		}
	}
	return nil
}

// saver returns what stores the inputs of a script: what others save, the script itself,
// and the directories that were sealed.
func (b *Builder) saver(others []func(context.Context) error, script string, seal *sealer) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, save := range others {
			if err := save(ctx); err != nil {
				return err
			}
		}
		if _, err := b.Blobs.PutBytes(ctx, b.Function, []byte(script)); err != nil {
			return err
		}
		return seal.save(ctx, b.Blobs, b.Function)
	}
}

// emulate has the programs of a plan executed by the emulator, where the builder has
// another machine's.
func (b *Builder) emulate(p *plan) {
	if b.Machine == nil {
		return
	}
	p.stager.machine = true
	p.action.Platform = append(p.action.Platform, b.emulator())
	slices.SortFunc(p.action.Platform, func(a, b action.Property) int { return strings.Compare(a.Name, b.Name) })
}

func (b *Builder) base(ctx context.Context, c *Component) (*BaseTree, error) {
	if c.Base == "" {
		return &BaseTree{}, nil
	}
	base, err := b.Bases(ctx, c.Base)
	if err == nil && base.Save != nil && !b.loadable(ctx, base.Tree) {
		// Its directories are read when something is laid over it.
		if err = base.Save(ctx); err == nil {
			base = &BaseTree{Tree: base.Tree, Owners: base.Owners}
		}
	}
	return base, err
}

func (b *Builder) loadable(ctx context.Context, d action.Digest) bool {
	_, err := readDirectory(ctx, b.Blobs, d)
	return err == nil
}

// stageNeeds lays what the needed components have installed over root.
func (b *Builder) stageNeeds(ctx context.Context, req *Request, root *tree, p *plan) error {
	for _, need := range req.Component.Needs {
		built := req.Needs[need]
		if built == nil {
			return fmt.Errorf("it needs %s, which was not built", need.Name)
		}
		p.inputs.Needs[need.Name] = built.Tree.String()
		over := newTree(b.Blobs, b.Function, built.Tree)
		if need.Tree != "" && root.empty() { // a toolchain comes first, and is taken over whole
			root.root = over.root // and, as a base, without owners of its files
			continue
		}
		met, err := root.overlay(ctx, over, need.Name)
		if err != nil {
			return fmt.Errorf("stage %s: %w", need.Name, err)
		}
		if err := b.overlaps(req.Name, need.Name, met); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) empty() bool { return t.root.loaded && len(t.root.names) == 0 }

// overlaps applies the policy to files of other components that one replaces.
// Root file systems are there to be changed.
func (b *Builder) overlaps(where, by string, met []meeting) error {
	met = slices.DeleteFunc(met, func(m meeting) bool { return m.was == "" || m.was == BaseOrigin })
	if len(met) == 0 || b.Overlaps == IgnoreOverlaps || b.Overlaps == "" {
		return nil
	}
	var list []string
	for _, m := range met[:min(len(met), 5)] {
		list = append(list, fmt.Sprintf("/%s of %s", m.path, m.was))
	}
	if more := len(met) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	text := fmt.Sprintf("%s: %s replaces %s", where, by, strings.Join(list, ", "))
	if b.Overlaps == RefuseOverlaps {
		return errors.New(text + "; --overlaps warn accepts that")
	}
	b.Say("warning: %s", text)
	return nil
}

// stageSource puts the source and its patches into root.
func (b *Builder) stageSource(ctx context.Context, req *Request, root *tree, p *plan, saves *[]func(context.Context) error) error {
	c := req.Component
	if req.Source == nil {
		return nil
	}
	p.inputs.Source, p.inputs.Pinned = req.Source.ID, req.Source.Pinned
	*saves = append(*saves, func(ctx context.Context) error { return b.Fetcher.Save(ctx, req.Source) })
	if err := root.put(ctx, c.Short+".build", &node{dir: &dir{digest: req.Source.Tree}}); err != nil {
		return err
	}
	if len(c.Source.Patches) == 0 {
		return nil
	}
	patches, err := b.Fetcher.patchesDir(ctx, c.Source)
	if err != nil {
		return err
	}
	return root.put(ctx, c.Short+".patches", &node{dir: patches})
}

// environment is what commands of the component see, but for MAKEFLAGS.
func (b *Builder) environment(req *Request) []Variable {
	env := slices.Clone(req.Env)
	if !slices.ContainsFunc(env, func(v Variable) bool { return v.Name == "SOURCE_DATE_EPOCH" }) {
		epoch := int64(staging.MTime)
		if req.Source != nil && req.Source.Epoch != 0 {
			epoch = req.Source.Epoch
		}
		env = append(env, Variable{"SOURCE_DATE_EPOCH", strconv.FormatInt(epoch, 10)})
	}
	slices.SortFunc(env, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	return env
}

// commandEnv is the environment of the script that runs the commands.
func (b *Builder) commandEnv(c *Component) []action.EnvironmentVariable {
	p := "/usr/bin:/bin:/usr/sbin:/sbin"
	for _, v := range c.Env {
		if v.Name == "PATH" {
			p = v.Value
		}
	}
	return []action.EnvironmentVariable{{Name: "LC_ALL", Value: "C"}, {Name: "PATH", Value: p}}
}
