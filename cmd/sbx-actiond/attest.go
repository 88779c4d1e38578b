package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/history"
)

const (
	payloadType   = "application/vnd.in-toto+json"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://github.com/sbx-action/sbx-action/run/v1"
	builderID     = "https://github.com/sbx-action/sbx-action"
)

type attestFlags struct {
	cache, key, out string
	verify          bool
}

func attestCommand() commandline.Command {
	return commandline.Command{
		Name: "attest", Settings: true, Args: "[FLAGS] OUTPUT|DIGEST\n       sbx-action attest --verify --key KEY.pub FILE [OUTPUT…]",
		Short: "sign where an output comes from (SLSA), or check it",
		Long: `
Writes an in-toto statement with SLSA v1 provenance of what an action made: its
outputs, the command, every input and the root file system with their digests,
and the isolation that was in force; in a DSSE envelope that an ed25519 key signs:
one of SSH (~/.ssh/id_ed25519), or a PEM file.

With --verify it checks the signature of FILE with the public key, and that each
OUTPUT, or without one each that the statement names, is in the current directory
as the statement says.

  sbx-action attest --key ~/.ssh/id_ed25519 -o app.intoto.json build/app
  sbx-action attest --verify --key ~/.ssh/id_ed25519.pub app.intoto.json
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			var f attestFlags
			flags.Var((*commandline.Given)(&f.cache), "cache", "`DIR` of the store (default: $SBX_CACHE, else $XDG_CACHE_HOME/sbx-action)")
			flags.Var((*commandline.Given)(&f.key), "key", "`FILE` with the ed25519 key: a private one to sign, a public one to verify")
			flags.StringVar(&f.out, "o", "", "`FILE` to write (default: standard output)")
			flags.BoolVar(&f.verify, "verify", false, "check instead of signing")
			return func(ctx context.Context, args []string) error {
				if f.key == "" {
					return errors.New("no key: give --key FILE; 'ssh-keygen -t ed25519' makes one")
				}
				if f.verify {
					return f.check(ctx, args)
				}
				return f.sign(ctx, args)
			}
		},
	}
}

func (f *attestFlags) sign(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want one output, or the digest of an action")
	}
	signer, err := readSigner(f.key)
	if err != nil {
		return err
	}
	dir, err := wiring.CacheDir(f.cache)
	if err != nil {
		return err
	}
	store, err := cache.Open(dir, cache.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer store.Close()
	statement, err := describe(ctx, store, args[0])
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	payload, err := protojson.Marshal(statement)
	if err != nil {
		return err
	}
	envelope, err := dsse.NewEnvelopeSigner(signer)
	if err != nil {
		return err
	}
	signed, err := envelope.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return err
	}
	data, err := json.Marshal(signed)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if f.out == "" {
		f.out = "-"
	}
	return commandline.WriteWhole(f.out, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// describe makes the statement about the last run that name means, or, if that is a
// file, that made it as it is.
func describe(ctx context.Context, store *cache.Store, name string) (*intoto.Statement, error) {
	book, err := history.Open(store)
	if err != nil {
		return nil, err
	}
	here, err := history.Here()
	if err != nil {
		return nil, err
	}
	thing, err := book.Find(ctx, name, here)
	if err != nil {
		return nil, err
	}
	if thing.Run == nil {
		return nil, errors.New("it is a blob, and not an action")
	}
	s, err := describeRun(ctx, store, book, thing.Run, thing.File)
	if !errors.Is(err, errChanged) {
		return s, err
	}
	// A hit may have brought back what an earlier action had made.
	tried := map[action.Digest]bool{thing.Run.Key: true}
	for _, run := range slices.Backward(thing.Runs) {
		if tried[run.Key] {
			continue
		}
		tried[run.Key] = true
		if s, err := describeRun(ctx, store, book, run, thing.File); err == nil {
			return s, nil
		}
	}
	return nil, err
}

var errChanged = errors.New("the file is not what the action made: it was changed since, or is gone")

// describeRun makes the statement about a run, which made file if that is not empty.
func describeRun(ctx context.Context, store *cache.Store, book *history.Book, run *history.Run, file string) (*intoto.Statement, error) {
	a, c, err := book.Origin(ctx, run)
	if err != nil {
		return nil, err
	}
	res, err := store.Peek(run.Key)
	if err != nil {
		return nil, fmt.Errorf("its result is not in the store (%w): run it again", err)
	}
	d := &describer{ctx: ctx, store: store, workspace: run.Workspace}
	subjects, err := d.subjects(c, res, file)
	if err != nil {
		return nil, err
	}
	predicate, err := d.predicate(run.Key, a, c, res)
	if err != nil {
		return nil, err
	}
	s := &intoto.Statement{Type: intoto.StatementTypeUri, Subject: subjects, PredicateType: predicateType, Predicate: predicate}
	return s, s.Validate()
}

type describer struct {
	ctx       context.Context
	store     *cache.Store
	workspace string
}

// digests are those of a blob that others can check.
func (d *describer) digests(x action.Digest) (map[string]string, error) {
	if x.Function() == action.SHA256 {
		return map[string]string{"sha256": x.Hash()}, nil
	}
	f, err := d.store.Open(d.ctx, x)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return map[string]string{"sha256": hex.EncodeToString(h.Sum(nil)), x.Function().String(): x.Hash()}, nil
}

// subjects are all files that the action made. One that the user has named must
// still be what it made.
func (d *describer) subjects(c *action.Command, res *action.Result, named string) (list []*intoto.ResourceDescriptor, err error) {
	add := func(p string, x action.Digest) error {
		sums, err := d.digests(x)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		list = append(list, &intoto.ResourceDescriptor{Name: p, Digest: sums})
		if filepath.Join(d.workspace, p) != named {
			return nil
		}
		if have, err := fileSum(named); err != nil || have != sums["sha256"] {
			return errChanged
		}
		return nil
	}
	for _, f := range res.Files {
		if err := add(path.Join(c.WorkingDirectory, f.Path), f.Digest); err != nil {
			return nil, err
		}
	}
	for _, dir := range res.Directories {
		data, err := d.read(dir.Tree)
		if err != nil {
			return nil, err
		}
		tree, err := action.ParseTree(data, dir.Tree.Function())
		if err != nil {
			return nil, err
		}
		known := map[action.Digest]*action.Directory{}
		for i := range tree.Children {
			known[tree.Children[i].Digest(dir.Tree.Function())] = &tree.Children[i]
		}
		load := func(x action.Digest) (*action.Directory, error) {
			if m := known[x]; m != nil {
				return m, nil
			}
			return nil, fmt.Errorf("output directory %s is incomplete", dir.Path)
		}
		if err := walk(&tree.Root, path.Join(c.WorkingDirectory, dir.Path), load, add); err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, errors.New("the action made no file")
	}
	return list, nil
}

func (d *describer) read(x action.Digest) ([]byte, error) {
	f, err := d.store.Open(d.ctx, x)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// walk calls each with the files below a directory.
func walk(m *action.Directory, dir string, load func(action.Digest) (*action.Directory, error), each func(string, action.Digest) error) error {
	for _, f := range m.Files {
		if err := each(path.Join(dir, f.Name), f.Digest); err != nil {
			return err
		}
	}
	for _, c := range m.Directories {
		child, err := load(c.Digest)
		if err != nil {
			return err
		}
		if err := walk(child, path.Join(dir, c.Name), load, each); err != nil {
			return err
		}
	}
	return nil
}

func (d *describer) predicate(key action.Digest, a *action.Action, c *action.Command, res *action.Result) (*structpb.Struct, error) {
	materials, err := d.materials(a)
	if err != nil {
		return nil, fmt.Errorf("the inputs: %w; run it again", err)
	}
	env := map[string]any{}
	for _, v := range c.Environment {
		env[v.Name] = v.Value
	}
	external, err := structpb.NewStruct(map[string]any{
		"command": texts(c.Arguments), "environment": env, "workingDirectory": c.WorkingDirectory, "outputs": texts(c.OutputPaths),
	})
	if err != nil {
		return nil, err
	}
	platform, network := map[string]any{}, "none"
	for _, p := range a.Platform {
		platform[p.Name] = p.Value
		if p.Name == "network" {
			network = p.Value
		}
	}
	inside := map[string]any{
		"platform": platform,
		"isolation": map[string]any{
			"network": network, "workspace": "declared inputs only, copied", "namespaces": "mount pid ipc uts user-or-root net",
			"privileges": "none", "backend": ranOn(res),
		},
	}
	if v := res.Verification(); v != nil {
		inside["verification"] = map[string]any{"runs": v.Runs, "varied": texts(v.Varied), "differences": texts(v.Differences)}
	}
	internal, err := structpb.NewStruct(inside)
	if err != nil {
		return nil, err
	}
	p := &provenance.Provenance{
		BuildDefinition: &provenance.BuildDefinition{
			BuildType: buildType, ExternalParameters: external, InternalParameters: internal, ResolvedDependencies: materials,
		},
		RunDetails: &provenance.RunDetails{
			Builder:  &provenance.Builder{Id: builderID, Version: map[string]string{"sbx-action": commandline.Version()}},
			Metadata: &provenance.BuildMetadata{InvocationId: key.String()},
		},
	}
	if m := res.Metadata; m != nil && m.ExecutionStart != nil && m.ExecutionCompleted != nil {
		p.RunDetails.Metadata.StartedOn = &timestamppb.Timestamp{Seconds: m.ExecutionStart.Seconds, Nanos: m.ExecutionStart.Nanos}
		p.RunDetails.Metadata.FinishedOn = &timestamppb.Timestamp{Seconds: m.ExecutionCompleted.Seconds, Nanos: m.ExecutionCompleted.Nanos}
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	data, err := protojson.Marshal(p)
	if err != nil {
		return nil, err
	}
	s := &structpb.Struct{}
	return s, protojson.Unmarshal(data, s)
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func ranOn(res *action.Result) string {
	if res.Metadata == nil {
		return ""
	}
	return res.Metadata.Worker
}

// materials are the inputs, file by file, their tree as a whole, and the root
// file system.
func (d *describer) materials(a *action.Action) (list []*intoto.ResourceDescriptor, err error) {
	load := func(x action.Digest) (*action.Directory, error) {
		data, err := d.read(x)
		if err != nil {
			return nil, err
		}
		return action.ParseDirectory(data, x.Function())
	}
	sums, err := d.digests(a.InputRoot)
	if err != nil {
		return nil, err
	}
	list = append(list, &intoto.ResourceDescriptor{Name: "input root", Digest: sums})
	root, err := load(a.InputRoot)
	if err != nil {
		return nil, err
	}
	err = walk(root, "", load, func(p string, x action.Digest) error {
		sums, err := d.digests(x)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		list = append(list, &intoto.ResourceDescriptor{Name: p, Digest: sums})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, p := range a.Platform {
		if p.Name != "rootfs" {
			continue
		}
		// Of the host's, the digest is that of the list of what was seen of it.
		name, text := "root file system", p.Value
		if view, seen, ok := strings.Cut(p.Value, ":"); ok && strings.HasPrefix(view, "host") {
			name, text = "root file system: what was seen of "+view, seen
		}
		if x, err := action.ParseDigest(text); err == nil {
			list = append(list, &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{x.Function().String(): x.Hash()}})
		}
	}
	return list, nil
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
