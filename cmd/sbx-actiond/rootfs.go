package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/cache"
	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/cmd/wiring"
	"github.com/sbx-action/sbx-action/integration/images"
	"github.com/sbx-action/sbx-action/staging"
)

func rootfsCommand() commandline.Command {
	return commandline.Command{
		Name: "rootfs", Settings: true, Words: rootfsWords, Args: "[FLAGS] import NAME SOURCE | list | show NAME |\n                         export NAME FILE | rm NAME",
		Short: "import, list, export and remove root file systems",
		Long: `
import  stores a root file system and gives it a name for --rootfs; the same
        source twice is the same tree. SOURCE is
          a directory, such as debootstrap makes
          a tar archive: plain, gzip, bzip2, xz or zstd
          an OCI image: a layout's directory, or an archive of one
          an archive of 'docker save' or 'podman save'
          an App Container image (.aci)
          schroot:NAME, what a definition in /etc/schroot names
          host, the system directories of this machine
list    the names, with the digests of the trees
show    the digest of one; where it came from and what else is known, as JSON
export  writes one as a tar archive, with owners, modes and device nodes; - is
        standard output
rm      forgets a name; the next 'cache trim' may remove what it named

  sbx-action rootfs import bookworm bookworm.tar.zst
  sbx-action run --rootfs bookworm -i hello.c -o hello -- gcc -o hello hello.c

A root file system has a digest, and that is all of it that is in the key:
names, contents, links, and the right to execute. Owners, modes, extended
attributes and device nodes are recorded beside the tree and come out of export
again; a command sees its files as those of one user, and the sandbox's own /dev.
`,
		Setup: func(flags *flag.FlagSet) func(context.Context, []string) error {
			r := rootfsFlags{flags: flags, digest: commandline.Function{Function: action.BLAKE3}}
			flags.Var((*commandline.Given)(&r.cache), "cache", "`DIR` of the store (default: $SBX_CACHE, else $XDG_CACHE_HOME/sbx-action)")
			flags.Var(&r.digest, "digest", "`FUNCTION` of the tree: blake3 or sha256")
			flags.StringVar(&r.platform, "platform", "", "`OS/ARCH` of the image to import, of several (default: this machine's)")
			flags.StringVar(&r.tag, "tag", "", "`NAME` of the image to import, of several")
			flags.Var(&r.maxSize, "max-size", "`SIZE` that all files of an import may have together (default 64G)")
			flags.Var(&r.maxFiles, "max-files", "`N`: most files, links and directories of an import (default 1000000)")
			return r.run
		},
	}
}

var rootfsWords = []commandline.Command{
	{Name: "import", Args: "NAME SOURCE", Short: "store a root file system and give it a name"},
	{Name: "list", Short: "print the names, with the digests of the trees"},
	{Name: "show", Args: "NAME", Short: "print the digest of one, and what is known of it"},
	{Name: "export", Args: "NAME FILE", Short: "write one as a tar archive"},
	{Name: "rm", Args: "NAME", Short: "forget a name"},
}

type rootfsFlags struct {
	flags                *flag.FlagSet
	cache, platform, tag string
	digest               commandline.Function
	maxSize              commandline.Size
	maxFiles             commandline.Count

	store *cache.Store
	names wiring.Rootfs
}

// words takes the flags out that stand between and after the words.
func (r *rootfsFlags) words(args []string) (words []string, err error) {
	for len(args) > 0 {
		words = append(words, args[0])
		if err := commandline.ParseFlags(r.flags, args[1:]); err != nil {
			return nil, err
		}
		args = r.flags.Args()
	}
	return words, nil
}

// run opens the store and does what the first word says.
func (r *rootfsFlags) run(ctx context.Context, args []string) error {
	args, err := r.words(args)
	if err != nil {
		return err
	}
	steps := map[string]struct {
		n  int
		do func(context.Context, []string) error
	}{
		"import": {2, r.importFrom}, "list": {0, r.list}, "show": {1, r.show},
		"export": {2, r.export}, "rm": {1, r.remove},
	}
	if len(args) == 0 {
		return errors.New("say what to do: import NAME SOURCE, list, show NAME, export NAME FILE or rm NAME")
	}
	step, ok := steps[args[0]]
	if !ok {
		return fmt.Errorf("unknown word %q: want import, list, show, export or rm", args[0])
	}
	if len(args)-1 != step.n {
		return fmt.Errorf("%s: want %d arguments, have %d: see 'sbx-action rootfs --help'", args[0], step.n, len(args)-1)
	}
	if args[0] != "import" && (r.platform != "" || r.tag != "" || r.maxSize != 0 || r.maxFiles != 0) {
		return fmt.Errorf("%s: --platform, --tag, --max-size and --max-files are for import", args[0])
	}
	dir, err := wiring.CacheDir(r.cache)
	if err != nil {
		return err
	}
	warn := func(err error) { fmt.Fprintf(os.Stderr, "sbx-action: cache: %s\n", commandline.Visible(err.Error())) }
	if r.store, err = cache.Open(dir, cache.Options{Warn: warn}); err != nil {
		return err
	}
	r.store.Stay()
	r.names = wiring.Rootfs{Store: r.store.Dir()}
	return errors.Join(step.do(ctx, args[1:]), r.store.Close())
}

func (r *rootfsFlags) importFrom(ctx context.Context, args []string) error {
	name, source := args[0], args[1]
	if err := r.names.Check(name); err != nil {
		return err
	}
	im, err := images.Import(ctx, r.store, source, images.Options{
		ImportOptions: staging.ImportOptions{Function: r.digest.Function, MaxBytes: int64(r.maxSize), MaxFiles: int(r.maxFiles)},
		Platform:      r.platform, Tag: r.tag,
	})
	if errors.Is(err, staging.ErrTooMuch) {
		return fmt.Errorf("%w: --max-size and --max-files allow more", err)
	}
	if err != nil {
		return err
	}
	for _, note := range im.Notes {
		fmt.Fprintf(os.Stderr, "sbx-action: %s\n", commandline.Visible(note))
	}
	e := wiring.RootfsEntry{Name: name, Tree: im.Tree, Owners: im.Owners, Source: im.Kind + " " + source}
	if im.Config != nil {
		data, err := json.Marshal(im.Config)
		if err != nil {
			return err
		}
		if e.Config, err = r.store.PutBytes(ctx, r.digest.Function, data); err != nil {
			return err
		}
	}
	if err := r.names.Put(e); err != nil {
		return err
	}
	fmt.Printf("%s %v: %d files, %s\n", name, im.Tree, im.Files, commandline.HumanSize(im.Bytes))
	return nil
}

func (r *rootfsFlags) list(context.Context, []string) error {
	list, err := r.names.List()
	for _, e := range list {
		fmt.Println(e.Name, e.Tree)
	}
	return err
}

// show prints the digest on the first line, for scripts, and then what else is
// known.
func (r *rootfsFlags) show(ctx context.Context, args []string) error {
	e, err := r.names.Lookup(args[0])
	if err != nil {
		return err
	}
	about := struct {
		Source string          `json:"source,omitempty"`
		Owners string          `json:"owners,omitempty"`
		Config json.RawMessage `json:"config,omitempty"`
	}{Source: e.Source}
	if !e.Owners.IsZero() {
		about.Owners = e.Owners.String()
	}
	if !e.Config.IsZero() {
		f, err := r.store.Open(ctx, e.Config)
		if err != nil {
			return fmt.Errorf("what the image says of commands: %w: import it again", err)
		}
		defer f.Close()
		if err := json.NewDecoder(f).Decode(&about.Config); err != nil {
			return fmt.Errorf("what the image says of commands: %w: import it again", err)
		}
	}
	text, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%v\n%s\n", e.Tree, text)
	return err
}

func (r *rootfsFlags) export(ctx context.Context, args []string) error {
	e, err := r.names.Lookup(args[0])
	if err != nil {
		return err
	}
	owners, err := staging.ReadOwners(ctx, r.store, e.Owners)
	if err != nil {
		return err
	}
	err = commandline.WriteWhole(args[1], func(w io.Writer) error { return staging.ExportTar(ctx, r.store, e.Tree, owners, w) })
	if err != nil {
		return fmt.Errorf("export %s: %w", args[1], err)
	}
	return nil
}

func (r *rootfsFlags) remove(_ context.Context, args []string) error { return r.names.Remove(args[0]) }
